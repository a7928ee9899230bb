"""Facts 1 to 3, on the graphs themselves, are in tests/test_graphs.py; here they are checked in the model."""

from __future__ import annotations

import math

import pytest
import torch
from tiny import DIM, ITEMS, USERS, WIDTHS, batch, context, made, same, tables, total, train, with_raw
from torch import Tensor
from torch.nn import functional as F

from prismrec.assembly import Assembly
from prismrec.errors import PrismError
from prismrec.models import FREEDOM, Context, LightGCN
from prismrec.nn import Raw
from prismrec.sampling import generator


def item_graph(ctx: Context, k: int, weights: dict[str, float]) -> Tensor:
    """S by its definition, one item and modality after the other, in double precision."""
    s = torch.zeros(ITEMS, ITEMS, dtype=torch.float64)
    for m, raw in ctx.raw.items():
        x = F.normalize(raw.values.double(), dim=1)
        for i, row in enumerate(x @ x.T):
            s[i, row.topk(k).indices] += weights[m] / k
    return s


def thinned(assembly: Assembly) -> Tensor:
    """Rows and columns of the edges kept this epoch, (n, 2)."""
    return assembly.model.pruned.to_user.dense().nonzero()


def test_fact_1_the_item_graph_has_entries_of_one_over_k_rows_of_one_and_itself() -> None:
    ctx = context()
    s = made(FREEDOM, ctx, neighbours=4).model.similar.matrix.dense()
    expected = item_graph(ctx, 4, {"image": 0.1, "text": 0.9})
    assert torch.allclose(s.double(), expected, atol=1e-6)
    assert torch.allclose(s.sum(1), torch.ones(ITEMS), atol=1e-6) and (s.diagonal() >= 0.25 - 1e-6).all()
    one = made(FREEDOM, context(1), neighbours=4).model.similar.matrix
    assert torch.allclose(one.values, torch.tensor(0.25))


@pytest.mark.parametrize("prune", [0.5, 0.8, 0.9])
def test_fact_2_an_epoch_has_exactly_so_many_of_the_training_edges_and_other_ones_the_next(prune: float) -> None:
    ctx = context()
    assembly = made(FREEDOM, ctx, prune=prune)
    full = set(zip(ctx.user.tolist(), ctx.item.tolist(), strict=True))
    kept = []
    for epoch in range(3):
        assembly.start_epoch(epoch, generator(0, epoch))
        kept.append({tuple(edge) for edge in thinned(assembly).tolist()})
        assert len(kept[-1]) == math.floor(len(full) * (1 - prune) + 1e-9) and kept[-1] <= full
    assert kept[0] != kept[1] or kept[1] != kept[2]


def test_fact_2_the_thinned_graph_is_normalised_by_its_own_degrees() -> None:
    assembly = made(FREEDOM, context(), prune=0.5)
    assembly.start_epoch(0, generator(0))
    matrix = assembly.model.pruned.to_user.dense()
    edges = (matrix > 0).float()
    d_user, d_item = edges.sum(1, keepdim=True), edges.sum(0)
    expected = edges / (d_user * d_item).clamp(min=1).sqrt()
    assert torch.allclose(matrix, expected, atol=1e-6)
    assert torch.equal(matrix.T, assembly.model.pruned.to_item.dense())


def test_fact_3_edges_of_rare_users_and_items_are_kept_more_often() -> None:
    user = torch.tensor([0] + [1] * 16)
    item = torch.tensor([0, *range(16)])
    assembly = made(FREEDOM, Context(2, ITEMS, user, item, None, context().raw), prune=0.8)
    rng, kept = generator(0), torch.zeros(2)
    for epoch in range(300):
        assembly.start_epoch(epoch, rng)
        kept += assembly.model.pruned.to_user.dense()[:, 0] > 0
    assert kept[0] > 1.5 * kept[1]


def test_fact_4_without_the_modality_terms_projections_and_features_get_no_gradient() -> None:
    ctx = context()
    assembly = made(FREEDOM, ctx, reg=0.0, train_features=True)
    assembly.start_epoch(0, generator(0))
    terms = assembly.loss(batch(ctx))
    assert set(terms) == {"rank"}
    total(terms).backward()
    moved = {name for name, p in assembly.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"model.user", "model.item"}
    with_terms = made(FREEDOM, ctx, reg=0.1, train_features=True)
    total(with_terms.loss(batch(ctx))).backward()
    assert all(p.grad is not None and p.grad.any() for p in with_terms.parameters())


def test_fact_5_inference_is_on_the_full_graph_whatever_was_pruned() -> None:
    ctx = context()
    thin, whole = made(FREEDOM, ctx, prune=0.9), made(FREEDOM, ctx, prune=0.0)
    thin.start_epoch(0, generator(0))
    assert same(tables(thin.represent()), tables(whole.represent()))
    feats = thin.model.project(ctx.raw, None)
    assert not torch.allclose(thin.model(feats).user, whole.model(feats).user)  # in training they differ


@pytest.mark.parametrize("item_layers", [0, 1, 2])
def test_fact_6_items_are_lightgcns_plus_their_smoothed_ids(item_layers: int) -> None:
    ctx = context()
    freedom, lightgcn = made(FREEDOM, ctx, layers=2, item_layers=item_layers), made(LightGCN, ctx, layers=2)
    with torch.no_grad():
        lightgcn.model.user.copy_(freedom.model.user)
        lightgcn.model.item.copy_(freedom.model.item)
    a, b = freedom.represent(), lightgcn.represent()
    s = torch.linalg.matrix_power(freedom.model.similar.matrix.dense(), item_layers)
    assert torch.equal(a.user, b.user)
    assert torch.allclose(a.item.values, b.item.values + s @ freedom.model.item, atol=1e-6)


def test_the_loss_is_that_of_the_equations_on_dense_matrices() -> None:
    ctx = context()
    assembly = made(FREEDOM, ctx, reg=0.01, neighbours=4, prune=0.5)
    assembly.start_epoch(0, generator(3))
    rows, model = batch(ctx), assembly.model
    r = torch.zeros(USERS, ITEMS, dtype=torch.float64)
    r[tuple(thinned(assembly).T)] = 1
    d_user, d_item = r.sum(1).clamp(min=1).rsqrt(), r.sum(0).clamp(min=1).rsqrt()
    r = d_user[:, None] * r * d_item
    e_u, e_i = model.user.double(), model.item.double()
    user = (e_u + r @ e_i + r @ (r.T @ e_u)) / 3
    item = (e_i + r.T @ e_u + r.T @ (r @ e_i)) / 3 + item_graph(ctx, 4, {"image": 0.1, "text": 0.9}) @ e_i

    def rank(items: Tensor) -> Tensor:
        s = user @ items.T
        return F.softplus(s[rows.user, rows.neg[:, 0]] - s[rows.user, rows.pos]).mean()

    expected = rank(item)
    for m, phi in model.phi.items():
        projected = ctx.raw[m].values.double() @ phi.net.weight.double().T + phi.net.bias.double()
        expected = expected + 0.01 * rank(projected)
    assert torch.allclose(total(assembly.loss(rows)).double(), expected, atol=1e-6)


def test_parameters_are_as_many_as_published() -> None:
    """1,982,528 on Baby without the feature tables; 33,566,528 with them."""

    def count(users: int, items: int, widths: tuple[int, ...], dim: int, tables: bool) -> int:
        return (users + items) * dim + sum(w * dim + dim + tables * items * w for w in widths)

    assert count(19_445, 7_050, (4096, 384), 64, False) == 1_982_528
    assert count(19_445, 7_050, (4096, 384), 64, True) == 33_566_528
    widths = (WIDTHS["image"], WIDTHS["text"])
    for trained in (False, True):
        assembly = made(FREEDOM, context(), train_features=trained)
        assert sum(p.numel() for p in assembly.parameters()) == count(USERS, ITEMS, widths, DIM, trained)


def test_departure_1_raw_features_are_frozen_by_default() -> None:
    assert not FREEDOM.Config().train_features


@pytest.mark.parametrize(
    ("modalities", "given", "expected"),
    [
        (["image", "text"], {}, {"image": 0.1, "text": 0.9}),
        (["text", "image"], {}, {"image": 0.1, "text": 0.9}),
        (["audio", "text"], {}, {"audio": 0.5, "text": 0.5}),
        (["text"], {}, {"text": 1.0}),
        (["image", "text"], {"text": 0.5}, {"image": 0.0, "text": 0.5}),
        (["image", "text", "audio"], {}, dict.fromkeys(WIDTHS, 1 / 3)),
    ],
)
def test_departure_2_graphs_are_weighted_as_given_or_as_published_or_equally(
    modalities: list[str], given: dict[str, float], expected: dict[str, float]
) -> None:
    ctx = context(modalities)
    s = made(FREEDOM, ctx, neighbours=4, weights=given).model.similar.matrix.dense()
    assert torch.allclose(s.double(), item_graph(ctx, 4, expected), atol=1e-6)


def test_departure_3_a_missing_modality_makes_no_neighbour_and_hands_on_its_weight() -> None:
    ctx = context(missing=True)  # item 4 lacks both, items 0, 3 and 15 the image
    s = made(FREEDOM, ctx, neighbours=4).model.similar.matrix.dense()
    known = torch.arange(ITEMS) != 4
    assert torch.allclose(s.sum(1), known.float(), atol=1e-6)
    assert not s[:, 4].any()
    by_text = made(FREEDOM, with_raw(ctx, {"text": ctx.raw["text"]}), neighbours=4).model.similar.matrix.dense()
    assert torch.allclose(s[[0, 3, 15]], by_text[[0, 3, 15]], atol=1e-6)


def test_a_weight_for_a_modality_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        PrismError, match=r"model\.weights names the modality 'txt', which the data lacks\. Did you mean 'text'"
    ):
        made(FREEDOM, context(), weights={"txt": 1.0})


def test_features_that_nobody_has_leave_the_items_to_their_ids() -> None:
    ctx = context(1)
    nothing = with_raw(ctx, {"image": Raw(torch.zeros(ITEMS, 9), torch.zeros(ITEMS, dtype=torch.bool))})
    assembly = train(made(FREEDOM, nothing), nothing)
    assert not assembly.model.similar.matrix.dense().any()
    assert assembly.represent().item.values.isfinite().all()
