from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import ITEMS, USERS, context, made
from torch import Tensor

from prismrec.assembly import Assembly
from prismrec.errors import PrismError
from prismrec.models import EASE, Context, ItemKNN, MostPop, floors
from prismrec.models.floors import training_matrix


def scores(assembly: Assembly) -> Tensor:
    reps = assembly.represent()
    user, item = (t.to_dense() if t.layout == torch.sparse_csr else t for t in (reps.user, reps.item.values))
    return user.double() @ item.double().T


def doubled(ctx: Context) -> Context:
    """The same catalogue with its first ten rows given twice."""
    weight = None if ctx.weight is None else torch.cat([ctx.weight, ctx.weight[:10]])
    return replace(
        ctx, user=torch.cat([ctx.user, ctx.user[:10]]), item=torch.cat([ctx.item, ctx.item[:10]]), weight=weight
    )


def matrix_of(ctx: Context) -> np.ndarray:
    x = np.zeros((USERS, ITEMS))
    if ctx.weight is None:
        x[ctx.user, ctx.item] = 1
    else:
        np.add.at(x, (ctx.user.numpy(), ctx.item.numpy()), ctx.weight.numpy())
    return x


@pytest.mark.parametrize("weights", [False, True])
def test_a_row_given_twice_is_one_entry_unless_rows_have_weights(weights: bool) -> None:
    ctx = doubled(context(weights=weights))
    assert np.allclose(training_matrix(ctx).toarray(), matrix_of(ctx))


@pytest.mark.parametrize("weights", [False, True])
def test_mostpop_scores_everybody_by_rows_or_their_weight(weights: bool) -> None:
    ctx = context(weights=weights)
    expected = matrix_of(ctx).sum(0)
    assert np.allclose(scores(made(MostPop, ctx)).numpy(), np.tile(expected, (USERS, 1)))


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize(("k", "shrink"), [(1, 0.0), (4, 3.0), (100, 10.0)])
def test_itemknn_sums_shrunk_cosines_of_the_nearest_items_that_the_user_has(
    k: int, shrink: float, weights: bool
) -> None:
    ctx = context(weights=weights)
    x = matrix_of(ctx).astype(np.float32).astype(float)
    norm = np.sqrt((x**2).sum(0))
    expected = np.zeros((USERS, ITEMS))
    for i in range(ITEMS):
        similar = {
            j: float(x[:, i] @ x[:, j] / (norm[i] * norm[j] + shrink))
            for j in range(ITEMS)
            if j != i and x[:, i] @ x[:, j]
        }
        for j in sorted(similar, key=lambda j: (-np.float32(round(similar[j], 6)), j))[:k]:
            expected[:, i] += x[:, j] * similar[j]
    assert np.allclose(scores(made(ItemKNN, ctx, neighbours=k, shrink=shrink)).numpy(), expected, atol=1e-5)


def test_itemknn_in_blocks_of_items_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, [40, 1500], (6000, 2)), axis=0)
    ctx = Context(40, 1500, torch.from_numpy(pairs[:, 0]), torch.from_numpy(pairs[:, 1]), None, {})
    model = made(ItemKNN, ctx, neighbours=7, shrink=1.0).model
    assert isinstance(model, ItemKNN)
    similar = model.similar.to_dense()
    x = np.zeros((40, 1500))
    x[pairs[:, 0], pairs[:, 1]] = 1
    norm = np.sqrt(x.sum(0))
    full = x.T @ x / (np.outer(norm, norm) + 1)
    np.fill_diagonal(full, 0)
    best = -np.sort(-full, axis=1)[:, :7]
    assert np.allclose(-np.sort(-similar.numpy(), axis=1)[:, :7], best, atol=1e-6)
    assert ((similar > 0).sum(1) <= 7).all() and not similar.diagonal().any()


@pytest.mark.parametrize("weights", [False, True])
def test_ease_is_the_closed_form_of_equation_8(weights: bool) -> None:
    ctx = context(weights=weights)
    x = matrix_of(ctx)
    p = np.linalg.inv(x.T @ x + 5.0 * np.eye(ITEMS))
    b = np.eye(ITEMS) - p / np.diag(p)
    np.fill_diagonal(b, 0)
    assert np.allclose(scores(made(EASE, ctx, reg=5.0)).numpy(), x @ b, atol=1e-5)


def test_ease_minimises_the_squared_error_among_matrices_of_zero_diagonal() -> None:
    ctx = context()
    x = torch.from_numpy(matrix_of(ctx))
    b = made(EASE, ctx, reg=5.0).represent().item.values.double().T

    def error(weights: Tensor) -> float:
        return float((x - x @ weights).square().sum() + 5.0 * weights.square().sum())

    rng = torch.Generator().manual_seed(0)
    for _ in range(20):
        step = 1e-2 * torch.randn(ITEMS, ITEMS, generator=rng, dtype=torch.float64)
        assert error(b + step.fill_diagonal_(0)) > error(b)


def test_ease_refuses_a_catalogue_whose_inverse_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floors, "_EASE_LIMIT", ITEMS - 1)
    with pytest.raises(PrismError, match=f"dense matrix of items × items; {ITEMS} items"):
        made(EASE, context())
