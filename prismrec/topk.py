"""Exact top-k of rows of scores with ties broken by position. The one place where candidates are ordered."""

from __future__ import annotations

from torch import Tensor


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row, largest first, equal scores by lower position: values and positions, (n, k) each."""
    n, width = scores.shape
    values, index = scores.topk(min(k, width), dim=1)
    return values, index
