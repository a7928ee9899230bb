from __future__ import annotations

import numpy as np
import pytest
import torch

from prismrec import topk as torch_topk
from prismrec.export import topk


def padded(scores: np.ndarray, k: int) -> tuple[np.ndarray, int]:
    levels, width = topk.layout(scores.shape[1], k)
    block = np.full((len(scores), width), -np.inf, np.float32)
    block[:, : scores.shape[1]] = scores
    return block, levels


@pytest.mark.parametrize(("n", "k"), [(1, 1), (5, 5), (40, 3), (333, 2), (1500, 20), (6000, 1)])
def test_the_k_best_in_order_ties_by_position(n: int, k: int) -> None:
    scores = np.random.default_rng(n).standard_normal((9, n)).astype(np.float32)
    scores[3:6] = np.round(scores[3:6] * 2) / 2  # many ties
    scores[6] = 1  # nothing but ties
    scores[7, n // 2 :] = -np.inf
    scores[8] = -np.inf
    block, levels = padded(scores, k)
    columns, values = topk.best(block, n, k, levels)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    expected = np.take_along_axis(scores, order, 1)
    assert np.array_equal(values, expected)
    assert np.array_equal(columns, np.where(expected > -np.inf, order, -1))


def test_it_is_what_training_and_evaluation_use() -> None:
    scores = np.round(np.random.default_rng(0).standard_normal((20, 2000)).astype(np.float32), 2)
    block, levels = padded(scores, 10)
    assert (levels, block.shape[1]) == torch_topk.layout(2000, 10)
    values, at = torch_topk.best(torch.from_numpy(block), 2000, 10, levels)
    columns, mine = topk.best(block, 2000, 10, levels)
    assert np.array_equal(columns, at.numpy()) and np.array_equal(mine, values.numpy())
