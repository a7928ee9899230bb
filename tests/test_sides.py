"""The side of a user of whom a few items are known."""

from __future__ import annotations

import pytest
import torch

from prismrec.errors import PrismError
from prismrec.folding import NOTHING, PENALTY
from prismrec.ranking import Csr
from prismrec.sides import folded, gram, stacked

RNG = torch.Generator().manual_seed(4)
ITEM = torch.randn(30, 5, generator=RNG)
TAKEN = torch.tensor([3, 7, 21])


def test_a_folded_user_minimises_what_is_documented() -> None:
    u = folded(torch.empty(0, 5), ITEM, TAKEN, gram(ITEM))[0].double().requires_grad_()
    y = ITEM.double()
    size = y.square().sum(1).mean() / 5
    loss = (1 - y[TAKEN] @ u).square().sum() + NOTHING / 30 * (y @ u).square().sum() + PENALTY * size * u.square().sum()
    (slope,) = torch.autograd.grad(loss, u)
    assert slope.abs().max() < 1e-5


def test_what_was_taken_comes_first_where_the_items_allow_it() -> None:
    scores = folded(torch.empty(0, 5), ITEM, TAKEN[:1], gram(ITEM)) @ ITEM.T
    assert int(scores.argmax()) == 3
    assert folded(torch.empty(0, 5), torch.zeros(30, 5), TAKEN, gram(torch.zeros(30, 5))).eq(0).all()


def test_scale_of_the_items_does_not_change_their_order() -> None:
    one, other = (folded(torch.empty(0, 5), s * ITEM, TAKEN, gram(s * ITEM)) @ (s * ITEM).T for s in (1.0, 40.0))
    assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_row_of_the_training_matrix_is_made_of_its_items() -> None:
    user = Csr(torch.tensor([0, 1]), torch.tensor([2])).tensor(30)
    row = folded(user, ITEM, torch.tensor([21, 3, 7]), gram(user))
    assert row.shape == (1, 30) and row.to_dense()[0].nonzero().flatten().tolist() == [3, 7, 21]
    with pytest.raises(PrismError, match="added since"):
        folded(user, ITEM, torch.tensor([3, 30]), gram(user))


def test_sides_are_stacked_dense_and_sparse() -> None:
    assert torch.equal(stacked(ITEM, ITEM[:2])[30:], ITEM[:2])
    above, below = Csr(torch.tensor([0, 1]), torch.tensor([2])), Csr(torch.tensor([0, 2]), torch.tensor([0, 1]))
    assert stacked(above.tensor(3), below.tensor(5)).to_dense().tolist() == [[0, 0, 1], [1, 1, 0]]
