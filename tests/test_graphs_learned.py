"""The learned item graph against the dense matrices that it stands for."""

from __future__ import annotations

import pytest
import torch
from tiny import ITEMS, USERS, context
from torch import Tensor

from prismrec import graphs
from prismrec.graphs.items import Scaling
from prismrec.types import Rows

K = 4
WIDTHS = {"image": 5, "text": 3}


def drawn(seed: int, n: int = 12) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Projected features of two modalities and who has them: items 0 and 3 lack the first, item 3 both."""
    rng = torch.Generator().manual_seed(seed)
    x = {m: torch.randn(n, width, generator=rng, dtype=torch.float64) for m, width in WIDTHS.items()}
    present = {m: torch.ones(n, dtype=torch.bool) for m in x}
    present["image"][[0, 3]] = False
    present["text"][3] = False
    return x, present


def kept(x: Tensor, present: Tensor, k: int) -> Tensor:
    """K(cos), dense, in double precision and with its gradient: an item's own entry is 1, negative ones are 0."""
    rows = x.double() / x.double().norm(dim=1, keepdim=True)
    cosine = rows @ rows.T
    mask = torch.zeros_like(cosine, dtype=torch.bool)
    for i in range(len(x)):
        order = cosine[i].masked_fill(~present, -torch.inf).detach().clone()
        order[i] = 2
        mask[i, order.topk(k).indices if present[i] else i] = True
    own = torch.eye(len(x), dtype=torch.float64)
    return torch.where(mask & (own == 0), cosine.clamp(min=0), own)


def scaled(s: Tensor, scaling: Scaling) -> Tensor:
    total = s.sum(1)
    return s / (total[:, None] * total).sqrt() if scaling == "symmetric" else s / total[:, None]


def module(present: dict[str, Tensor], raw: dict[str, Tensor], **settings: object) -> graphs.LearnedGraphs:
    """``raw``: features (n, r) whose frozen graphs keep three."""
    near = {m: graphs.knn(values, present[m], 3) for m, values in raw.items()}
    options = {"blend": 0.7, "every": True, **settings}
    return graphs.LearnedGraphs(near, present, K, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("scaling", ["symmetric", "rows"])
def test_what_is_spread_and_all_gradients_are_those_of_the_dense_matrices(
    scaling: Scaling, weighed: bool, layers: int
) -> None:
    x, present = drawn(1)
    raw = {m: torch.randn(12, 4) for m in x}
    frozen = {m: scaled(kept(values, present[m], 3), scaling) for m, values in raw.items()}
    learned = module(present, raw, scaling=scaling, weighed=weighed)
    e = torch.randn(12, 6, requires_grad=True)
    inputs = {m: value.float().requires_grad_() for m, value in x.items()}
    parts = learned({m: Rows(value) for m, value in inputs.items()})
    h = learned.spread(parts, e, layers)

    weights = learned.weight.detach().double().requires_grad_() if learned.weight is not None else None
    dense_e = e.detach().double().requires_grad_()
    dense_x = {m: value.detach().double().requires_grad_() for m, value in inputs.items()}
    shares = dict.fromkeys(x, 1.0) if weights is None else dict(zip(x, weights.softmax(0), strict=True))
    s = sum(shares[m] * kept(dense_x[m], present[m], K) for m in x)
    g = 0.3 * scaled(s, scaling) + 0.7 * sum(shares[m] * frozen[m] for m in x)
    expected = torch.linalg.matrix_power(g, layers) @ dense_e
    assert torch.allclose(h.double(), expected, atol=1e-5)

    upstream = torch.randn(12, 6)
    wanted = [e, *inputs.values(), *learned.parameters()]
    dense = [dense_e, *dense_x.values(), *([] if weights is None else [weights])]
    found = torch.autograd.grad((h * upstream).sum(), wanted)
    exact = torch.autograd.grad((expected * upstream).sum(), dense)
    assert all(torch.allclose(a.double(), b, atol=1e-5) for a, b in zip(found, exact, strict=True))
    assert all(a.abs().max() > 1e-3 for a in found)


def test_every_row_keeps_k_entries_of_which_its_own_is_one() -> None:
    x, present = drawn(2)
    near = graphs.Neighbours.of(x["image"], present["image"], K)
    s = near.matrix(near.cosines(x["image"])).dense()
    assert torch.equal(s.diagonal(), torch.ones(12))
    assert torch.equal(near.kept.sum(1), torch.where(present["image"], K, 1))
    assert not s[:, ~present["image"]].fill_diagonal_(0)[1:3].any()
    assert torch.equal(near.transposed(near.cosines(x["image"])).dense(), s.T)
    assert not graphs.Neighbours.of(torch.zeros(5, 2), torch.ones(5, dtype=torch.bool), 3).kept[:, 1:].any()


def test_the_scaled_graph_has_spectral_radius_one_although_it_is_not_symmetric() -> None:
    x, present = drawn(7)
    learned = module(present, x, blend=0.0)
    parts = learned({m: Rows(value.float()) for m, value in x.items()})
    n = learned.spread(parts, torch.eye(12)).detach().double()
    assert not torch.allclose(n, n.T, atol=1e-3)
    root = sum(g.weights for g in parts.values()).sum(1).double().sqrt()  # of D
    assert torch.allclose(n @ root, root, atol=1e-5)
    assert torch.linalg.eigvals(n).abs().max().item() == pytest.approx(1, abs=1e-5)


def test_the_gradient_of_cosines_is_that_of_the_quotient() -> None:
    x, present = drawn(3)
    near = graphs.Neighbours.of(x["text"], present["text"], 12)
    start = x["text"].float().requires_grad_()
    upstream = torch.randn(near.ids.shape)
    (found,) = torch.autograd.grad((near.cosines(start) * upstream).sum(), start)
    again = x["text"].clone().requires_grad_()
    rows = again / again.norm(dim=1, keepdim=True)
    cosine = (rows @ rows.T).gather(1, near.ids)
    other = torch.arange(12) > 0
    (exact,) = torch.autograd.grad((cosine.clamp(min=0) * upstream * near.kept * other).sum(), again)
    assert torch.allclose(found.double(), exact, atol=1e-5)


@pytest.mark.parametrize("every", [True, False])
def test_neighbours_are_chosen_once_an_epoch_and_afresh_outside_training(every: bool) -> None:
    x, present = drawn(4)
    learned = module(present, x, every=every, weighed=True)

    def edges() -> dict[str, graphs.Learned]:
        return learned({m: Rows(value.float().requires_grad_()) for m, value in x.items()})

    first = edges()
    x = {m: value.flip(0) for m, value in x.items()}
    learned.eval()
    outside = edges()
    learned.train()
    second = edges()
    learned.restart()
    third = edges()
    for m in x:
        assert first[m].weights.requires_grad and third[m].weights.requires_grad
        assert torch.equal(first[m].near.ids, second[m].near.ids)
        assert torch.equal(outside[m].near.ids, third[m].near.ids)
        assert not torch.equal(first[m].near.ids, third[m].near.ids)
        assert second[m].weights.requires_grad == every
        assert torch.equal(first[m].weights, second[m].weights) != every
        share = second[m].share
        assert isinstance(share, Tensor) and share.requires_grad == every and second[m].alone().share == 1.0


def test_a_held_graph_reads_no_features_and_a_single_modality_has_no_weight() -> None:
    x, present = drawn(5)
    learned = module({"text": present["text"]}, {"text": x["text"]}, every=False, weighed=True)
    assert learned.weight is None
    learned({"text": Rows(x["text"].float())})
    learned({})


def test_the_walk_over_users_and_items_has_rows_of_sum_one_and_stays_where_nobody_is_near() -> None:
    ctx = context()
    b = graphs.walk(graphs.Edges(ctx.user, ctx.item, USERS, ITEMS)).matrix.dense()
    a = torch.eye(USERS + ITEMS)
    a[ctx.user, USERS + ctx.item] = a[USERS + ctx.item, ctx.user] = 1
    assert torch.allclose(b, a / a.sum(1, keepdim=True)) and torch.allclose(b.sum(1), torch.ones(USERS + ITEMS))
    assert b[USERS - 1, USERS - 1] == 1 and b[-1, -1] == 1


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_the_mean_of_powers_and_its_gradient(layers: int) -> None:
    ctx = context()
    walk = graphs.walk(graphs.Edges(ctx.user, ctx.item, USERS, ITEMS))
    b = walk.matrix.dense().double()
    x = torch.randn(USERS + ITEMS, 3, requires_grad=True)
    mean = sum(torch.linalg.matrix_power(b, n) for n in range(layers + 1)) / (layers + 1)
    found = graphs.powers_mean(walk, layers, x)
    assert torch.allclose(found.double(), mean @ x.detach().double(), atol=1e-6)
    upstream = torch.randn(USERS + ITEMS, 3)
    (gradient,) = torch.autograd.grad((found * upstream).sum(), x)
    assert torch.allclose(gradient.double(), mean.T @ upstream.double(), atol=1e-6)


def test_rows_of_a_frozen_graph_may_be_scaled_to_sum_one() -> None:
    raw = context(missing=True).raw["image"]
    s = graphs.similarity_matrix(*graphs.knn(raw.values, raw.present, 5), "rows").dense()
    assert torch.allclose(s.sum(1), torch.ones(ITEMS))
    plain = graphs.similarity_matrix(*graphs.knn(raw.values, raw.present, 5)).dense()
    assert torch.equal(s > 0, plain > 0)
