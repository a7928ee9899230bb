from __future__ import annotations

import math

import pytest
import torch

from prismrec.graphs import dropout


@pytest.mark.parametrize("shape", [(), (0,), (3,), (5, 7), (101, 3)])
def test_outside_training_and_without_a_share_nothing_is_drawn_or_changed(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    before = torch.get_rng_state()
    assert dropout(x, 0.5, training=False) is x and dropout(x, 0.0) is x
    assert torch.equal(torch.get_rng_state(), before)
    assert dropout(x, 0.5).shape == shape


@pytest.mark.parametrize("share", [1e-9, 7e-6, 8e-6, 0.99999, 1 - 1e-9])
def test_a_share_next_to_nothing_or_all_is_taken(share: float) -> None:
    left = dropout(torch.ones(1000), share)
    assert torch.isfinite(left).all() and (left == 0).float().mean() == pytest.approx(round(share), abs=0.01)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_numbers_are_left_out_as_often_as_asked_and_the_mean_stays(share: float) -> None:
    torch.manual_seed(0)
    x, n = torch.rand(1_000_003) + 1, 1_000_003
    left = dropout(x, share)
    gone = left == 0
    assert abs(float(gone.float().mean()) - share) < 4.5 * math.sqrt(share * (1 - share) / n) + 1e-5
    assert torch.allclose(left[~gone], x[~gone] / (1 - share), rtol=0.01 if share > 0.9 else 1e-4)
    assert abs(float(left.double().mean() / x.double().mean()) - 1) < 6 * math.sqrt(share / (1 - share) / n)


def test_numbers_that_one_draw_decides_have_nothing_to_do_with_each_other() -> None:
    torch.manual_seed(1)
    gone = (dropout(torch.ones(400_000), 0.3) == 0).float().view(-1, 4)
    correlation = torch.corrcoef(gone.T) - torch.eye(4)
    assert correlation.abs().max() < 5 / math.sqrt(len(gone))


def test_the_gradient_goes_to_what_is_left_and_the_same_seed_gives_the_same_bits() -> None:
    x = torch.randn(11, 5, requires_grad=True)
    torch.manual_seed(2)
    first = dropout(x, 0.4)
    torch.manual_seed(2)
    assert torch.equal(first, dropout(x, 0.4)) and not torch.equal(first, dropout(x, 0.4))
    (gradient,) = torch.autograd.grad(first.sum(), x)
    assert torch.equal(gradient == 0, first == 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_type_of_the_numbers_stays(dtype: torch.dtype) -> None:
    assert dropout(torch.ones(9, dtype=dtype), 0.5).dtype == dtype
