"""The softmax over edges and its gradient are also in tests/test_graphs_attention.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import DIM, ITEMS, USERS, WIDTHS, batch, context, made, total
from torch import Tensor
from torch.nn import functional as F

from prismrec.assembly import Assembly
from prismrec.models import GRCN, Context

N = USERS + ITEMS
CONTENT = 5


def built(ctx: Context, seed: int = 0, **settings: Any) -> Assembly:
    """With confidences told from each other, so that which modality is the largest differs between edges."""
    assembly = made(GRCN, ctx, seed=seed, **({"content": CONTENT} | settings))
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for trust in (assembly.model.user_trust, assembly.model.item_trust):
            trust.copy_(torch.randn(trust.shape, generator=rng))
    return assembly


def taken(ctx: Context) -> Tensor:
    """Whether k and j have an edge, (N, N)."""
    a = torch.zeros(N, N, dtype=torch.bool)
    a[ctx.user, USERS + ctx.item] = True
    return a | a.T


def attention(near: Tensor, edges: Tensor) -> Tensor:
    """Softmax over the edges into each row's node; 0 elsewhere."""
    return near.masked_fill(~edges, -torch.inf).softmax(1).nan_to_num(0.0)


def expected(assembly: Assembly, ctx: Context) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Z (N, d + M c), x of each modality (N, c), and the refined weights (N, N), entry (k, j) of the edge from j into k."""
    model, edges = assembly.model, taken(ctx)
    contents, starts, weights = [], {}, []
    trust = torch.cat([model.user_trust, model.item_trust]).double()
    for column, (m, phi) in enumerate(model.phi.items()):
        linear = phi.net[0]
        f = F.leaky_relu(ctx.raw[m].values.double() @ linear.weight.double().T + linear.bias.double(), 0.01)
        f, p = F.normalize(f, dim=1), F.normalize(model.taste[m].double(), dim=1)
        for _ in range(0 if model.cfg.faithful else model.cfg.rounds):
            p = F.normalize(p + attention(p @ f.T, edges[:USERS, USERS:]) @ f, dim=1)
        x = starts[m] = torch.cat([p, f])
        alpha = attention(x @ x.T, edges)
        contents.append(x + alpha @ x)
        weights.append(alpha * trust[:, column])  # that of the source
    w = torch.stack(weights).amax(0)
    w = w.relu() if model.cfg.prune else w
    e = F.normalize(torch.cat([model.user, model.item]).double(), dim=1)
    states = [e]
    for _ in range(model.cfg.layers):
        states.append(w @ states[-1])
    return torch.cat([torch.stack(states).sum(0), *contents], 1), starts, w


def nodes(assembly: Assembly) -> Tensor:
    reps = assembly.represent()
    return torch.cat([reps.user, reps.item.values]).double()


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize(
    "settings", [{}, {"faithful": True}, {"prune": False}, {"layers": 0}, {"layers": 3, "rounds": 0}, {"rounds": 1}]
)
def test_representations_are_those_of_the_equations_on_dense_matrices(
    modalities: int, settings: dict[str, Any]
) -> None:
    ctx = context(modalities)
    assembly = built(ctx, **settings)
    z, _, _ = expected(assembly, ctx)
    assert torch.allclose(nodes(assembly), z, atol=1e-5)


@pytest.mark.parametrize("faithful", [False, True])
def test_the_loss_and_its_gradients_are_those_of_the_equations(faithful: bool) -> None:
    ctx = context()
    assembly, rows = built(ctx, reg=0.3, faithful=faithful), batch(ctx)
    model = assembly.model
    z, _, _ = expected(assembly, ctx)
    u, i, j = rows.user, USERS + rows.pos, USERS + rows.neg[:, 0]
    rank = F.softplus((z[u] * z[j]).sum(1) - (z[u] * z[i]).sum(1)).mean()
    # the published form: every row twice, with the positive and with the negative item
    users, items = torch.cat([rows.user, rows.user]), torch.cat([rows.pos, rows.neg[:, 0]])
    size = (model.user[users].square() + model.item[items].square()).mean()
    size = size + sum(model.taste[m][users].square().mean() for m in model.taste)
    if faithful:
        size = size + model.taste["image"].square().mean()
    reference = rank + 0.3 * size
    terms = assembly.loss(rows)
    assert torch.allclose(terms["rank"].double(), rank, atol=1e-5)
    assert torch.allclose(terms["reg"], 0.3 * size, atol=1e-6)
    parameters = dict(assembly.named_parameters())
    found, wanted = (torch.autograd.grad(loss, list(parameters.values())) for loss in (total(terms), reference))
    for name, a, b in zip(parameters, found, wanted, strict=True):
        assert torch.allclose(a, b, atol=2e-6), name


def test_fact_1_attention_into_a_node_sums_to_one_so_that_contents_move_by_at_most_one() -> None:
    ctx = context()
    assembly = built(ctx)
    _, starts, _ = expected(assembly, ctx)
    found = nodes(assembly)
    for place, x in enumerate(starts.values()):
        block = found[:, DIM + place * CONTENT :][:, :CONTENT]
        assert ((block - x).norm(dim=1) <= 1 + 1e-5).all()
        alpha = attention(x @ x.T, taken(ctx))
        assert torch.allclose(alpha.sum(1), taken(ctx).any(1).double())


def test_fact_2_routing_does_nothing_as_published_and_gathers_users_items_as_in_the_paper() -> None:
    ctx = context()
    published = [nodes(built(ctx, faithful=True, rounds=rounds)) for rounds in (0, 1, 3)]
    assert torch.equal(published[0], published[1]) and torch.equal(published[0], published[2])
    assert not torch.allclose(nodes(built(ctx, rounds=0)), nodes(built(ctx, rounds=3)), atol=1e-3)


def test_fact_2_a_user_of_one_item_ends_between_his_prototype_and_it() -> None:
    user, item = torch.tensor([0, 1, 1]), torch.tensor([4, 4, 5])
    model = built(Context(USERS, ITEMS, user, item, None, context().raw), rounds=1).model
    p, f = (F.normalize(torch.randn(n, CONTENT), dim=1) for n in (USERS, ITEMS))
    routed = model.route(p, f)
    assert torch.allclose(routed[0], F.normalize(p[0] + f[4], dim=0), atol=1e-6)
    assert torch.allclose(routed[2:], p[2:], atol=1e-6)  # who took nothing stays


@pytest.mark.parametrize("faithful", [False, True])
def test_fact_3_pruned_weights_are_never_negative_and_without_trust_ids_stay_where_they_are(faithful: bool) -> None:
    ctx = context()
    assembly = built(ctx, faithful=faithful)
    assert (expected(assembly, ctx)[2] >= 0).all()
    with torch.no_grad():
        for trust in (assembly.model.user_trust, assembly.model.item_trust):
            trust.abs_().neg_()
    e = F.normalize(torch.cat([assembly.model.user, assembly.model.item]), dim=1).double()
    assert torch.allclose(nodes(assembly)[:, :DIM], e, atol=1e-6)


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_fact_4_ids_and_contents_stand_side_by_side_and_contents_know_neither_ids_nor_trust(modalities: int) -> None:
    ctx = context(modalities)
    assembly = built(ctx)
    before = nodes(assembly)
    assert before.shape == (N, DIM + modalities * CONTENT)
    with torch.no_grad():
        for name in ("user", "item", "user_trust", "item_trust"):
            getattr(assembly.model, name).add_(0.3)
    after = nodes(assembly)
    assert torch.equal(before[:, DIM:], after[:, DIM:]) and not torch.allclose(before[:, :DIM], after[:, :DIM])


def test_the_score_is_the_sum_of_those_of_ids_and_of_each_modality() -> None:
    ctx = context()
    reps, rows = built(ctx).represent(), batch(ctx)
    ids = (reps.user[rows.user, :DIM] * reps.item.values[rows.pos, :DIM]).sum(1)
    parts = torch.stack([ids, *(reps.score(rows.user, rows.pos, m) for m in reps.modal)])
    assert list(reps.modal) == ["image", "text"]
    assert torch.allclose(reps.score(rows.user, rows.pos), parts.sum(0), atol=1e-6)


def test_fact_5_attention_is_not_symmetric_though_the_affinities_are() -> None:
    ctx = context()
    model = built(ctx).model
    x, y = F.normalize(torch.randn(USERS, CONTENT), dim=1), F.normalize(torch.randn(ITEMS, CONTENT), dim=1)
    near = model.to_user.dots(x, y)
    assert torch.allclose(near[model.to_user.order], model.to_item.dots(y, x), atol=1e-6)
    into_user, into_item = model.to_user.softmax(near), model.to_item.softmax(near[model.to_user.order])
    assert not torch.allclose(into_user[model.to_user.order], into_item, atol=1e-2)


def test_fact_6_a_node_without_an_edge_has_its_own_id_and_content() -> None:
    ctx = context()
    assembly = built(ctx)
    _, starts, _ = expected(assembly, ctx)
    found = nodes(assembly)
    alone = ~taken(ctx).any(1)
    ids = F.normalize(torch.cat([assembly.model.user, assembly.model.item]), dim=1)
    assert torch.allclose(found[alone], torch.cat([ids, *starts.values()], 1)[alone], atol=1e-6)


def test_departure_2_all_sources_are_trusted_at_the_start_but_as_published() -> None:
    ctx = context()
    model, published = made(GRCN, ctx, trust=0.25).model, made(GRCN, ctx, faithful=True).model
    assert (model.user_trust == 0.25).all() and (model.item_trust == 0.25).all()
    trust = torch.cat([published.user_trust, published.item_trust])
    assert trust.shape == (N, 2) and 0.2 < float((trust < 0).float().mean()) < 0.8


def test_parameters_are_as_many_as_published() -> None:
    def count(users: int, items: int, widths: list[int], dim: int, content: int) -> int:
        m = len(widths)
        return (users + items) * (dim + m) + m * users * content + sum((w + 1) * content for w in widths)

    assembly = made(GRCN, context(3))
    assert sum(p.numel() for p in assembly.parameters()) == count(USERS, ITEMS, list(WIDTHS.values()), DIM, 64)
