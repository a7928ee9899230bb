from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prismrec import topk


def block_of(scores: Tensor, k: int) -> tuple[Tensor, int]:
    """Scores (rows, n) laid into a block of the width that a search wants, and its levels."""
    n = scores.shape[1]
    levels, width = topk.layout(n, k)
    block = torch.full((len(scores), width), -torch.inf, dtype=scores.dtype)
    block[:, :n] = scores
    return block, levels


def naive(scores: Tensor, k: int) -> list[list[int]]:
    return [sorted(range(len(row)), key=lambda j: (-row[j], j))[:k] for row in scores.tolist()]


@settings(max_examples=80)
@given(
    st.integers(0, 2**31),
    st.sampled_from([1, 2, 7, 64, 65, 300, 1300]),
    st.integers(1, 30),
    st.sampled_from([1, 3, 9, 1000]),
)
def test_the_best_columns_are_those_of_a_full_sort(seed: int, n: int, k: int, values: int) -> None:
    k = min(k, n)
    scores = torch.randint(values, (5, n), generator=torch.Generator().manual_seed(seed)).float()
    block, levels = block_of(scores, k)
    found, at = topk.best(block, n, k, levels)
    assert at.tolist() == naive(scores, k)
    assert torch.equal(found, scores.gather(1, at))


def test_the_block_is_left_as_it_was() -> None:
    block, levels = block_of(torch.randint(3, (4, 900)).float(), 10)
    copy = block.clone()
    topk.best(block, 900, 10, levels)
    assert torch.equal(block, copy)


def test_rows_with_few_candidates_end_in_minus_infinity() -> None:
    scores = torch.full((2, 500), -torch.inf)
    scores[0, [7, 400, 3]] = torch.tensor([1.0, 2.0, 1.0])
    found, at = topk.best(*(lambda b: (b[0], 500, 5, b[1]))(block_of(scores, 5)))
    assert found[0].tolist() == [2.0, 1.0, 1.0, -torch.inf, -torch.inf]
    assert at[0, :3].tolist() == [400, 3, 7]
    assert (found[1] == -torch.inf).all()


def test_plus_infinity_comes_first_and_negative_zero_is_zero() -> None:
    scores = torch.tensor([[0.0, -0.0, torch.inf, 0.0]])
    found, at = topk.best(scores, 4, 3, 0)
    assert at.tolist() == [[2, 0, 1]] and found[0, 0] == torch.inf


def test_double_precision_is_compared_in_double_precision() -> None:
    scores = torch.ones(1, 300, dtype=torch.float64)
    scores[0, 200] += 1e-12
    block, levels = block_of(scores, 2)
    assert topk.best(block, 300, 2, levels)[1].tolist() == [[200, 0]]


@pytest.mark.parametrize(("n", "k"), [(1, 1), (10, 10), (63, 3), (64, 3), (7050, 50), (250_000, 10)])
def test_blocks_are_wide_enough_and_hardly_wider(n: int, k: int) -> None:
    levels, width = topk.layout(n, k)
    assert n <= width < n + 4**levels <= n + max(n // (4 * k), 1)
    assert width % 4**levels == 0
    assert width // 4**levels >= k + 1 or levels == 0
