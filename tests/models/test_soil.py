"""Facts 1 and 2, on the graphs themselves, are in tests/test_graphs_interests.py."""

from __future__ import annotations

import pytest
import torch
from tiny import DIM, ITEMS, USERS, WIDTHS, batch, context, made, total
from torch import Tensor
from torch.nn import functional as F

from prismrec import graphs
from prismrec.errors import PrismError
from prismrec.models import SOIL, Context
from prismrec.nn import Raw


def dense(graph: graphs.Bipartite) -> Tensor:
    users, items = graph.to_user.rows, graph.to_item.rows
    a = torch.zeros(users + items, users + items, dtype=torch.float64)
    a[:users, users:], a[users:, :users] = graph.to_user.dense().double(), graph.to_item.dense().double()
    return a


def scaled(w: Tensor) -> Tensor:
    """N(W), by the sums of rows, of weights of which negative ones count as none."""
    w = w.clamp(min=0)
    root = torch.where(w.sum(1) > 0, w.sum(1).rsqrt(), 0.0)
    return root[:, None] * w * root


def symmetric(block: Tensor) -> Tensor:
    """[[0, W], [Wᵀ, 0]]."""
    users, items = block.shape
    out = torch.zeros(users + items, users + items, dtype=torch.float64)
    out[:users, users:], out[users:, :users] = block, block.T
    return out


def parts(ctx: Context, extra: int) -> tuple[Tensor, Tensor]:
    """R and R_a, in double precision."""
    edges = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items)
    tables = [graphs.Cosines(raw.values, raw.present) for raw in ctx.raw.values()]
    r = torch.zeros(ctx.n_users, ctx.n_items, dtype=torch.float64)
    r[ctx.user, ctx.item] = 1
    return r, graphs.second_order(edges, tables, extra).dense().double()


def many_users() -> Context:
    """Twenty users, of whom the last took nothing, and six items."""
    rng = torch.Generator().manual_seed(1)
    user, item = (torch.rand(19, 6, generator=rng) < 0.4).nonzero(as_tuple=True)
    raw = {m: Raw(torch.randn(6, 5, generator=rng), torch.ones(6, dtype=torch.bool)) for m in ("image", "text")}
    return Context(20, 6, user, item, None, raw)


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("side", ["user", "item"])
def test_fact_3_the_side_is_what_attention_leaves_of_each_view(modalities: int, side: str) -> None:
    assembly = made(SOIL, context(modalities))
    reps = assembly.represent()
    views = [user if side == "user" else rows.values for user, rows in reps.modal.values()]
    with torch.no_grad():
        weights = assembly.model.common.weights(views).split(1, dim=1)
    left = sum((1 - a) * view for a, view in zip(weights, views, strict=True))
    assert torch.allclose(reps.views[f"{side}.side"], left / (modalities + 1), atol=1e-7)
    fused = reps.user if side == "user" else reps.item.values
    assert torch.equal(fused, reps.views[f"{side}.behaviour"] + reps.views[f"{side}.side"])


@pytest.mark.parametrize("second", [0.5, 1.0])
def test_fact_4_second_order_edges_are_added_symmetrically_at_half_their_weight(second: float) -> None:
    ctx = context()
    r, wider = parts(ctx, 3)
    added = dense(made(SOIL, ctx, extra=3, second=second).model.graph) - scaled(symmetric(r))
    assert torch.equal(added, added.T) or torch.allclose(added, added.T, atol=1e-7)
    assert torch.allclose(added, second * scaled(symmetric(wider)), atol=1e-6)
    assert ((wider > 0) & (r == 0)).any()


def test_fact_5_users_gather_over_the_same_graph_but_for_the_published_slip() -> None:
    ctx = many_users()
    fixed, published = made(SOIL, ctx).model, made(SOIL, ctx, faithful=True).model
    assert torch.equal(dense(fixed.gather), dense(fixed.graph)) and torch.equal(
        dense(published.graph), dense(fixed.graph)
    )
    r, wider = parts(ctx, 2)
    first = scaled(symmetric(r))[:20, 20:]
    degree = wider.sum(1)
    wrong = torch.zeros_like(wider)
    for u, j in wider.nonzero().tolist():
        if degree[j] > 0:  # the degree of *user* j
            wrong[u, j] = wider[u, j] / (degree[u] * degree[j]).sqrt()
    block = dense(published.gather)[:20, 20:]
    assert torch.allclose(block, first + wrong / 2, atol=1e-6)
    assert not torch.allclose(block, dense(fixed.gather)[:20, 20:], atol=1e-3)


def test_the_published_slip_needs_more_users_than_items() -> None:
    with pytest.raises(PrismError, match="17 items and 11 users"):
        made(SOIL, context(), faithful=True)


def test_the_item_graph_is_that_of_interests_and_of_likeness() -> None:
    ctx = context()
    model = made(SOIL, ctx, neighbours=4, drawn=3).model
    edges = graphs.Edges(ctx.user, ctx.item, USERS, ITEMS)
    tables = [graphs.Cosines(raw.values, raw.present) for raw in ctx.raw.values()]
    for (m, raw), interest in zip(ctx.raw.items(), graphs.interest_weights(edges, tables, 3), strict=True):
        x = F.normalize(raw.values.double(), dim=1)
        likeness = torch.zeros(ITEMS, ITEMS, dtype=torch.float64)
        for i, row in enumerate(x @ x.T):
            best = row.topk(4).indices
            likeness[i, best] = row[best]
        weights = interest.dense().double().clamp(min=0)
        expected = scaled(likeness) + scaled(weights)
        assert torch.allclose(model.similar[m].matrix.dense().double(), expected, atol=1e-5)


@pytest.mark.parametrize("faithful", [False, True])
def test_the_loss_is_that_of_the_equations_on_dense_matrices(faithful: bool) -> None:
    ctx = many_users()
    assembly = made(SOIL, ctx, views=0.3, pairs=0.2, faithful=faithful)
    rows, model = batch(ctx), assembly.model
    weights = {name: value.double() for name, value in model.named_parameters()}

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", torch.zeros((), dtype=torch.float64))

    b = dense(model.graph)
    e = torch.cat([weights["user"], weights["item"]])
    c = (e + b @ e + b @ (b @ e)) / 3
    views = []
    for m, raw in ctx.raw.items():
        gate = torch.sigmoid(linear(f"purify.{m}", linear(f"phi.{m}.net", raw.values.double())))
        item = model.similar[m].matrix.dense().double() @ (weights["item"] * gate)
        views.append(torch.cat([dense(model.gather)[:20, 20:] @ item, item]))
    logit = [linear("common.query.2", torch.tanh(linear("common.query.0", v))) for v in views]
    a = torch.cat(logit, 1).softmax(1).split(1, 1)
    z = (views[0] + views[1] - a[0] * views[0] - a[1] * views[1]) / 3
    f = c + z
    u, p, n = rows.user, 20 + rows.pos, 20 + rows.neg[:, 0]

    def nce(query: Tensor, key: Tensor) -> Tensor:
        alike = F.cosine_similarity(query[:, None], key[None], dim=2) / 0.2
        return F.cross_entropy(alike, torch.arange(len(alike)))

    terms = assembly.loss(rows)
    assert set(terms) == {"rank", "soil.views", "soil.pairs"}
    rank = F.softplus((f[u] * f[n]).sum(1) - (f[u] * f[p]).sum(1)).mean()
    between_views = 0.3 * (nce(z[p], c[p]) + nce(z[u], c[u]))
    between_pairs = 0.2 * (nce(f[u], c[p]) + nce(f[u], z[p]))
    assert torch.allclose(terms["soil.views"].double(), between_views, atol=1e-6)
    assert torch.allclose(terms["soil.pairs"].double(), between_pairs, atol=1e-6)
    assert torch.allclose(total(terms).double(), rank + between_views + between_pairs, atol=1e-6)


def test_without_the_weights_of_the_contrasts_only_the_ranking_is_left() -> None:
    ctx = context()
    assert set(made(SOIL, ctx, views=0.0, pairs=0.0).loss(batch(ctx))) == {"rank"}


def test_an_item_without_a_modality_keeps_its_gated_id_and_gets_no_second_order_edges() -> None:
    ctx = context(missing=True)
    assembly = made(SOIL, ctx)
    model, feats = assembly.model, assembly.model.project(ctx.raw, None)
    with torch.no_grad():
        pure = model.item * torch.sigmoid(model.purify["image"](feats["image"].values))
        view = model(feats).modal["image"][1].values
    gone = ~ctx.raw["image"].present
    assert torch.allclose(view[gone], pure[gone]) and not torch.allclose(view[~gone], pure[~gone])
    r, wider = parts(ctx, 3)
    assert torch.equal(wider[:, gone], r[:, gone])


def test_fact_6_parameters_are_as_many_as_published() -> None:
    """1,995,072 on Baby, without the feature tables, which are frozen."""

    def count(users: int, items: int, widths: tuple[int, ...], dim: int) -> int:
        square = dim * dim + dim
        return (users + items) * dim + sum(w * dim + dim + square for w in widths) + square + dim

    assert count(19_445, 7_050, (4096, 384), 64) == 1_995_072
    widths = (WIDTHS["image"], WIDTHS["text"])
    assembly = made(SOIL, context())
    assert sum(p.numel() for p in assembly.parameters()) == count(USERS, ITEMS, widths, DIM)
