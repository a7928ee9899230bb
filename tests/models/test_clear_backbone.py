from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny import DIM, ITEMS, USERS, batch, context, made, same, tables, total, train, with_raw
from torch import Tensor
from torch.nn import functional as F

from prismrec.assembly import Assembly
from prismrec.errors import PrismError
from prismrec.models import CLEARBackbone, Context
from prismrec.plugins import CLEAR
from prismrec.sampling import generator
from prismrec.types import Reps, Rows

SETTINGS: list[dict[str, Any]] = [
    {},
    {"projection": "linear"},
    {"fusion": "sum"},
    {"readout": "mean", "normalize": False},
    {"readout": "sum", "normalize": True},
    {"layers": 0},
    {"layers": 3, "item_layers": 2},
    {"item_layers": 0},
    {"reg_on": "propagated"},
    {"reg": 0.0},
    {"drop": 0.0},
]


def thinned(assembly: Assembly) -> Tensor:
    """Rows and columns of the edges kept this epoch, (n, 2)."""
    return assembly.model.thinned.to_user.dense().nonzero()


def adjacency(edges: Tensor) -> Tensor:
    """D^-1/2 A D^-1/2 of users and items, (U+I, U+I), in double precision."""
    a = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.float64)
    a[edges[:, 0], USERS + edges[:, 1]] = 1
    a = a + a.T
    scale = a.sum(1).clamp(min=1).rsqrt()
    return scale[:, None] * a * scale


def by_definition(assembly: Assembly, ctx: Context, edges: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The paper's algorithm on dense matrices: H of each modality (U+I, d), users and items."""
    model, cfg = assembly.model, assembly.model.cfg
    a, s = adjacency(edges), model.similar.matrix.dense().double()
    w = model.weight.double().softmax(1)
    hidden, users, items = {}, [], []
    for j, (m, raw) in enumerate(ctx.raw.items()):
        x = raw.values.double()
        linear = [layer for layer in model.phi[m].modules() if isinstance(layer, torch.nn.Linear)]
        for depth, layer in enumerate(linear):
            x = F.leaky_relu(x) if depth else x
            x = x @ layer.weight.double().T + layer.bias.double()
        x = torch.cat([model.user[:, j * DIM : (j + 1) * DIM].double(), x])
        x = F.normalize(x) if cfg.normalize else x
        powers = [torch.linalg.matrix_power(a, layer) @ x for layer in range(cfg.layers + 1)]
        hidden[m] = torch.stack(powers).sum(0) / (cfg.layers + 1 if cfg.readout == "mean" else 1)
        users.append(w[:, j : j + 1] * hidden[m][:USERS])
        items.append(hidden[m][USERS:] + torch.linalg.matrix_power(s, cfg.item_layers) @ hidden[m][USERS:])
    if cfg.fusion == "sum":
        return hidden, torch.stack(users).sum(0), torch.stack(items).sum(0)
    return hidden, torch.cat(users, 1), torch.cat(items, 1)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_loss_is_that_of_the_equations_on_dense_matrices(settings: dict[str, Any]) -> None:
    ctx = context()
    assembly = made(CLEARBackbone, ctx, **{"reg": 0.1, "drop": 0.5, "neighbours": 4, **settings})
    assembly.start_epoch(0, generator(3))
    rows, model = batch(ctx), assembly.model
    hidden, user, item = by_definition(assembly, ctx, thinned(assembly))
    scores = user @ item.T
    rank = F.softplus(scores[rows.user, rows.neg[:, 0]] - scores[rows.user, rows.pos]).mean()
    terms = assembly.loss(rows)
    assert torch.allclose(terms["rank"].double(), rank, atol=1e-6)
    if model.cfg.reg == 0:
        assert set(terms) == {"rank"}
        return
    tables_ = [model.user.double()] if model.cfg.reg_on == "embedding" else [h[:USERS] for h in hidden.values()]
    size = sum(table[rows.user].square().sum() for table in (*tables_, model.weight.double()))
    assert torch.allclose(terms["reg"].double(), model.cfg.reg * size / (2 * len(rows.user)), atol=1e-6)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_everybody_is_ranked_on_all_edges_whatever_was_left_out(settings: dict[str, Any]) -> None:
    ctx = context()
    assembly = made(CLEARBackbone, ctx, **{"drop": 0.5, "neighbours": 4, **settings})
    assembly.start_epoch(0, generator(3))
    _, user, item = by_definition(assembly, ctx, torch.stack([ctx.user, ctx.item], 1))
    reps = assembly.represent()
    assert torch.allclose(reps.user.double(), user, atol=1e-6)
    assert torch.allclose(reps.item.values.double(), item, atol=1e-6)


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_side_by_side_the_score_is_the_sum_of_the_modalities_own_but_for_the_item_graph(modalities: int) -> None:
    ctx = context(modalities)
    reps = train(made(CLEARBackbone, ctx, item_layers=0), ctx).represent()  # q + S⁰q = 2q
    user, item = torch.arange(USERS), torch.arange(USERS)
    parts = [reps.score(user, item, m) for m in ctx.raw]
    assert reps.user.shape[1] == modalities * DIM and len(parts) == modalities
    assert torch.allclose(reps.score(user, item), 2 * torch.stack(parts).sum(0), atol=1e-5)


def test_added_up_the_score_has_all_pairs_of_modalities() -> None:
    ctx = context()
    reps = train(made(CLEARBackbone, ctx, fusion="sum", item_layers=0), ctx).represent()
    assert reps.user.shape[1] == DIM
    pairs = [u @ i.values.T for u, _ in reps.modal.values() for _, i in reps.modal.values()]
    assert torch.allclose(reps.user @ reps.item.values.T, 2 * torch.stack(pairs).sum(0), atol=1e-4)


def test_a_modality_has_its_own_propagation_for_sides() -> None:
    ctx = context()
    assembly = made(CLEARBackbone, ctx)
    hidden, _, _ = by_definition(assembly, ctx, torch.stack([ctx.user, ctx.item], 1))
    w = assembly.model.weight.softmax(1)
    for j, (user, item) in enumerate(assembly.represent().modal.values()):
        h = list(hidden.values())[j]
        assert torch.allclose(user.double(), w[:, j : j + 1] * h[:USERS], atol=1e-6)
        assert torch.allclose(item.values.double(), h[USERS:], atol=1e-6)


def test_weights_of_a_user_are_a_softmax_and_change_nobody_elses_scores() -> None:
    ctx = context()
    assembly = made(CLEARBackbone, ctx)
    before = assembly.represent()
    with torch.no_grad():
        assembly.model.weight[3] += torch.tensor([2.0, 2.0])  # the same for all modalities: nothing
        assembly.model.weight[4] = torch.tensor([50.0, -50.0])  # all on the first
    after = assembly.represent()
    still = torch.arange(USERS) != 4
    assert torch.allclose(before.user[still], after.user[still], atol=1e-6)
    image, text = after.modal["image"][0][4], after.modal["text"][0][4]
    assert image.any() and text.abs().max() < 1e-30


@pytest.mark.parametrize("drop", [0.2, 0.5, 0.8])
def test_an_epoch_leaves_out_so_many_edges_and_others_the_next(drop: float) -> None:
    ctx = context()
    assembly = made(CLEARBackbone, ctx, drop=drop)
    full = set(zip(ctx.user.tolist(), ctx.item.tolist(), strict=True))
    kept = []
    for epoch in range(3):
        assembly.start_epoch(epoch, generator(0, epoch))
        kept.append({tuple(edge) for edge in thinned(assembly).tolist()})
        assert len(kept[-1]) == math.floor(len(full) * (1 - drop) + 1e-9) and kept[-1] <= full
    assert kept[0] != kept[1] or kept[1] != kept[2]


def test_the_penalty_moves_the_users_of_the_batch_alone() -> None:
    ctx = context()
    assembly = made(CLEARBackbone, ctx, reg=0.1)
    rows = batch(ctx, size=3)
    (user, weight) = torch.autograd.grad(assembly.loss(rows)["reg"], [assembly.model.user, assembly.model.weight])
    others = torch.ones(USERS, dtype=torch.bool)
    others[rows.user] = False
    assert user[rows.user].any() and weight[rows.user].any()
    assert not user[others].any() and not weight[others].any()


def test_raw_features_travel_through_both_graphs() -> None:
    """An item's features move the representations of users two steps away, and of items it resembles."""
    ctx = context()
    assembly = made(CLEARBackbone, ctx, layers=1, neighbours=4)
    feats = assembly.model.project(ctx.raw, None)
    other = {m: Rows(rows.values.clone()) for m, rows in feats.items()}
    other["image"].values[2] += 1.0

    def changed(a: Reps, b: Reps) -> tuple[set[int], set[int]]:
        tables_ = (a.user, b.user), (a.item.values, b.item.values)
        first, second = (set((x - y).abs().amax(1).gt(1e-7).nonzero().flatten().tolist()) for x, y in tables_)
        return first, second

    assembly.eval()
    with torch.no_grad():
        users, items = changed(assembly.model(feats), assembly.model(other))
    s = assembly.model.similar.matrix.dense()
    assert users == set(ctx.user[ctx.item == 2].tolist())
    assert items == {2, *s[:, 2].nonzero().flatten().tolist()}


def test_the_mlp_has_the_papers_widths_and_xavier_starts_with_biases_at_zero() -> None:
    ctx = context()
    for projection, widths in (("mlp", [(9, 4 * DIM), (4 * DIM, DIM)]), ("linear", [(9, DIM)])):
        net = made(CLEARBackbone, ctx, projection=projection).model.phi["image"].net
        linear = [layer for layer in net.modules() if isinstance(layer, torch.nn.Linear)]
        assert [(layer.in_features, layer.out_features) for layer in linear] == widths
        for layer in linear:
            bound = math.sqrt(6 / (layer.in_features + layer.out_features))
            assert not layer.bias.any() and 0.8 * bound < layer.weight.abs().max() <= bound


def test_parameters_are_as_many_as_the_equations_say() -> None:
    ctx = context()
    assembly = made(CLEARBackbone, ctx)
    mlp = sum(r.width * 4 * DIM + 4 * DIM + 4 * DIM * DIM + DIM for r in ctx.raw.values())
    assert sum(p.numel() for p in assembly.parameters()) == USERS * (2 * DIM + 2) + mlp
    assert made(CLEARBackbone, context(1)).model.weight is None


def test_with_the_plugin_it_is_the_papers_model_and_without_strength_it_is_the_backbone() -> None:
    ctx = context()
    plain, off, on = (
        train(made(CLEARBackbone, ctx, plugins), ctx, epochs=3)
        for plugins in ([], [(CLEAR, CLEAR.Config(strength=0.0))], [(CLEAR, CLEAR.Config(rank=3))])
    )
    assert same(tables(plain.represent()), tables(off.represent()))
    assert not same(tables(plain.represent()), tables(on.represent()))
    assert on.chain[0].get_buffer("basis_text").any()


def test_the_plugin_damps_what_is_propagated() -> None:
    """H of ``V P`` through the plug-in is the propagation of the projected features, by definition."""
    ctx = context()
    assembly = made(CLEARBackbone, ctx, [(CLEAR, CLEAR.Config(rank=2))], layers=0, item_layers=0, normalize=False)
    assembly.start_epoch(0, generator(0))
    reps, raw = assembly.represent(), assembly.model.project(ctx.raw, None)
    for m, rows in raw.items():
        basis = assembly.chain[0].get_buffer(f"basis_{m}")
        damped = rows.values @ (torch.eye(DIM) - 0.9 * basis @ basis.T)
        assert torch.allclose(reps.modal[m][1].values, damped, atol=1e-6)


def test_all_modalities_of_an_item_may_be_missing() -> None:
    ctx = context(missing=True)
    terms = train(made(CLEARBackbone, ctx), ctx).loss(batch(ctx))
    assert total(terms).isfinite()


def test_a_weight_for_a_modality_that_is_not_there_is_refused() -> None:
    with pytest.raises(PrismError, match=r"model\.weights names the modality 'txt'.*Did you mean 'text'"):
        made(CLEARBackbone, context(), weights={"txt": 1.0})
    with pytest.raises(PrismError, match="clear-backbone needs at least 1 modality; the data offers none"):
        made(CLEARBackbone, with_raw(context(), {}))
