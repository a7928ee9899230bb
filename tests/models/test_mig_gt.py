from __future__ import annotations

import math

import pytest
import torch
from tiny import DIM, ITEMS, USERS, WIDTHS, batch, context, loss, made, same, tables, train, with_raw
from torch import Tensor
from torch.nn import functional as F

from prismrec import graphs
from prismrec.errors import PrismError
from prismrec.models import MIGGT, Context
from prismrec.nn import Raw

QUIET = {f"{what}drop": 0.0 for what in ("feature_", "hidden_", "user_", "item_", "edge_", "")}


def looped(ctx: Context) -> Tensor:
    """D'^-½ (A + I) D'^-½ (U+I, U+I), in double precision."""
    a = torch.eye(USERS + ITEMS, dtype=torch.float64)
    a[ctx.user, USERS + ctx.item] = a[USERS + ctx.item, ctx.user] = 1
    root = a.sum(1).rsqrt()
    return root[:, None] * a * root


def diffused(a: Tensor, hops: int, x: Tensor) -> Tensor:
    h = x
    for _ in range(hops):
        h = 0.9 * a @ h + 0.1 * x
    return h


def summed(model: MIGGT, ctx: Context) -> tuple[Tensor, dict[str, Tensor]]:
    """H and H_m of all nodes by the equations."""
    a = looped(ctx)
    feats = model.project(ctx.raw, None)
    total = diffused(a, model.cfg.layers, F.pad(model.user.double(), (0, 0, 0, ITEMS)))
    parts = {m: diffused(a, model.hops[m], F.pad(rows.values.double(), (0, 0, USERS, 0))) for m, rows in feats.items()}
    return total + sum(parts.values()), parts


def attended(model: MIGGT, own: Tensor, drawn: Tensor) -> Tensor:
    """Tokens (n, 1 + C, d) after attention, from H of the nodes (n, d) and of what they drew (n, C, d), by the equations."""
    tokens = torch.cat([own[:, None], drawn], dim=1)
    q = tokens @ model.query.weight.T.double() + model.query.bias.double()
    k = tokens @ model.key.weight.T.double()
    return 0.9 * tokens + 0.1 * (q @ k.transpose(1, 2) / 2).softmax(2) @ tokens


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("draws", [1, 3])
def test_representations_are_those_of_the_equations_on_dense_matrices(modalities: int, draws: int) -> None:
    ctx = context(modalities)
    assembly = made(MIGGT, ctx, draws=draws, samples=6, sketch=0)
    reps, model = assembly.represent(), assembly.model.eval()
    with torch.no_grad():
        h, parts = summed(model, ctx)
        rng = torch.Generator().manual_seed(2025)
        drawn = torch.randint(ITEMS, (draws, USERS + ITEMS, 6), generator=rng)
        z = sum(attended(model, h, h[USERS + ids])[:, 0] for ids in drawn) / draws
    assert torch.allclose(torch.cat([reps.user, reps.item.values]).double(), z, atol=1e-5)
    for m, (user, rows) in reps.modal.items():
        assert torch.allclose(torch.cat([user, rows.values]).double(), parts[m], atol=1e-5)


def test_the_loss_is_that_of_the_equations_over_the_rows_of_the_batch() -> None:
    ctx = context()
    assembly = made(MIGGT, ctx, draws=1, reg=0.3, unsmooth=0.7).eval()
    rows = batch(ctx)
    with torch.no_grad():
        terms, reps = assembly.loss(rows), assembly.represent()
        h, _ = summed(assembly.model, ctx)
        drawn = reps.views["item.drawn"]
        tokens = attended(assembly.model, h[USERS:], h[USERS:][drawn])
    z = torch.cat([reps.user, reps.item.values]).double()
    assert torch.allclose(tokens[:, 0], z[USERS:], atol=1e-5)
    u, p, n = z[rows.user], z[USERS + rows.pos], z[USERS + rows.neg[:, 0]]
    s = torch.stack([(u * p).sum(1), (u * n).sum(1)], dim=1)
    first = torch.zeros(16, dtype=torch.int64)
    assert torch.allclose(terms["rank"].double(), F.cross_entropy(s, first), atol=1e-5)
    assert torch.allclose(terms["reg"].double(), 0.3 * z.square().sum() / 2 / 16, atol=1e-5)
    own = torch.einsum("bd,bcd->bc", u, tokens[rows.pos])
    assert torch.allclose(terms["mig-gt.unsmooth"].double(), 0.7 * F.cross_entropy(own, first), atol=1e-5)
    assert set(terms) == {"rank", "reg", "mig-gt.unsmooth"}
    assert set(made(MIGGT, ctx, reg=0.0, unsmooth=0.0).loss(rows)) == {"rank"}


def test_fact_1_the_constant_is_one_with_the_published_weights() -> None:
    hop = made(MIGGT, context()).model.graph.hop()
    x = torch.randn(USERS + ITEMS, 3)
    for hops in range(5):
        expected = diffused(looped(context()), hops, x.double())
        assert torch.allclose(graphs.diffuse(hop, hops, 0.1, 0.9, x).double(), expected, atol=1e-6)


def test_fact_2_without_hops_users_know_nothing_of_a_modality_and_items_their_own() -> None:
    ctx = context()
    assembly = made(MIGGT, ctx, modal_layers={"image": 0})
    user, rows = assembly.represent().modal["image"]
    assert not user.any()
    assert torch.equal(rows.values, assembly.eval().model.project(ctx.raw, None)["image"].values)


def test_fact_3_the_graph_has_both_directions_of_every_edge_and_a_loop_at_every_node() -> None:
    ctx = context()
    edges = len(torch.unique(ctx.user * ITEMS + ctx.item))
    assert len(made(MIGGT, ctx).model.graph.matrix.values) == 2 * edges + USERS + ITEMS


def test_fact_4_attention_to_ones_own_like_changes_nothing() -> None:
    model = made(MIGGT, context()).model
    h = torch.randn(1, DIM).expand(USERS + ITEMS, DIM)
    drawn = torch.randint(ITEMS, (USERS + ITEMS, 10))
    assert torch.allclose(model.attend(h, drawn), h, atol=1e-6)


def test_fact_5_the_loss_where_all_are_equal() -> None:
    ctx = context()
    assembly = made(MIGGT, ctx, samples=10)
    with torch.no_grad():
        assembly.model.user.zero_()
        for phi in assembly.model.phi.values():
            phi.net[6].weight.zero_()  # of the last normalisation
    terms = assembly.loss(batch(ctx))
    assert terms["rank"].item() == pytest.approx(math.log(2))
    assert terms["mig-gt.unsmooth"].item() == pytest.approx(math.log(11))
    assert terms["reg"].item() == 0


def test_fact_6_draws_of_one_seed_are_the_same_at_inference_and_others_in_training() -> None:
    ctx = context()
    assembly = made(MIGGT, ctx, **QUIET)
    assert same(tables(assembly.represent()), tables(assembly.represent()))
    model, h = assembly.model, torch.randn(USERS + ITEMS, DIM)
    ids = [torch.randint(ITEMS, (USERS + ITEMS, 4), generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    first, again, other = (model.attend(h, drawn) for drawn in ids)
    assert torch.equal(first, again) and not torch.equal(first, other)
    rows = batch(ctx)
    assert not torch.equal(loss(assembly, rows, 0)["rank"], loss(assembly, rows, 1)["rank"])


@pytest.mark.parametrize("what", [*QUIET])
def test_each_dropout_is_there_in_training_alone(what: str) -> None:
    ctx = context()
    off, on = made(MIGGT, ctx, **QUIET), made(MIGGT, ctx, **QUIET | {what: 0.5})
    assert same(tables(off.represent()), tables(on.represent()))
    with torch.no_grad():
        before = [a.model(a.model.project(ctx.raw, None)).views["item.own"] for a in (off, on)]
    assert not torch.allclose(*before)


def test_wide_features_are_sketched_once_and_by_the_matrix_at_hand() -> None:
    ctx = context(missing=True)
    assembly = made(MIGGT, ctx, sketch=8)  # image has 9, text 7
    model = assembly.model
    assert set(model.sketch) == {"image"} and model.phi["text"].net[1].in_features == WIDTHS["text"]
    first = model.sketch["image"](ctx.raw["image"])
    assert first is model.sketch["image"](ctx.raw["image"]) and first.present is ctx.raw["image"].present
    assert torch.allclose(first.values, F.normalize(ctx.raw["image"].values @ model.sketch["image"].matrix), atol=1e-6)
    other = made(MIGGT, ctx, seed=5, sketch=8)
    assert not torch.equal(other.model.sketch["image"](ctx.raw["image"]).values, first.values)
    other.load_state_dict(assembly.state_dict())
    assert torch.equal(other.model.sketch["image"](ctx.raw["image"]).values, first.values)
    turned = with_raw(ctx, {m: Raw(raw.values.flip(0), raw.present) for m, raw in ctx.raw.items()})
    assert torch.equal(model.sketch["image"](turned.raw["image"]).values, first.values.flip(0))


def test_hops_of_a_modality_that_is_not_there_are_refused() -> None:
    with pytest.raises(PrismError, match="'audio', which the data lacks"):
        made(MIGGT, context(), modal_layers={"audio": 2})
    assert made(MIGGT, context(3)).model.hops == {"image": 1, "text": 2, "audio": 2}


def test_parameters_are_as_many_as_published_but_for_the_idle_biases() -> None:
    def count(users: int, widths: tuple[int, ...], hidden: int, d: int, keys: int) -> int:
        idle = len(widths) * (hidden + d) + keys
        mlp = sum(r * hidden + 3 * hidden + 1 + hidden * d + 3 * d + 1 for r in widths)
        return users * d + mlp + 2 * (d + 1) * keys - idle

    assert count(19_445, (384, 384), 512, 64, 4) == 1_707_212 - 2 * (512 + 64) - 4
    assembly = train(made(MIGGT, context(), hidden=5), context())
    expected = count(USERS, (WIDTHS["image"], WIDTHS["text"]), 5, DIM, 4)
    assert sum(p.numel() for p in assembly.parameters()) == expected
