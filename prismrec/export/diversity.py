"""Lists whose items are less alike: maximal marginal relevance.

J. Carbonell, J. Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing Summaries", SIGIR
1998, doi 10.1145/290941.291025.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

POOL = 5
"""A list is chosen among this many times as many candidates."""
_BLOCK = 64  # users at a time


def rearranged(
    items: np.ndarray, scores: np.ndarray, k: int, share: float, alike: Callable[[np.ndarray], list[np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """``k`` of the candidates (n, p), picked one after the other, and their scores (n, k).

    Each pick maximises (1 − share) · relevance(i) − share · max over those picked of likeness(i, j). Relevance is the score,
    likeness the mean cosine over ``alike(items)`` (unit vectors (…, d) for each view); both are put on 0..1 over the
    candidates, since cosines of features often lie close together.
    ``share``: from 0 (the order of scores) to 1. Items of −1 are no candidates.
    """
    picked = np.full((len(items), k), -1, np.int64)
    values = np.full((len(items), k), -np.inf, np.float32)
    for start in range(0, len(items), _BLOCK):
        cut = slice(start, start + _BLOCK)
        picked[cut], values[cut] = _block(items[cut], scores[cut], k, share, alike)
    return picked, values


def _block(
    items: np.ndarray, scores: np.ndarray, k: int, share: float, alike: Callable[[np.ndarray], list[np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    row = np.arange(len(items))
    real = items >= 0
    views = alike(np.where(real, items, 0))
    likeness = _spread_out(sum(view @ view.swapaxes(1, 2) for view in views) / np.float32(len(views)), real)
    low, high = np.where(real, scores, np.inf).min(1), scores[:, 0]
    spread = np.where(high > low, high - low, 1)
    relevance = np.where(real, (scores - low[:, None]) / spread[:, None], -np.inf)
    nearest = np.zeros(items.shape, np.float32)
    picked = np.full((len(items), k), -1, np.int64)
    values = np.full((len(items), k), -np.inf, np.float32)
    for place in range(min(k, items.shape[1])):
        worth = (1 - share) * relevance - share * nearest
        worth[~real] = -np.inf
        best = worth.argmax(1)
        left = real[row, best]
        picked[left, place], values[left, place] = items[row, best][left], scores[row, best][left]
        real[row, best] = False
        near = likeness[row, best]
        nearest = near if place == 0 else np.maximum(nearest, near)
    return picked, values


def _spread_out(likeness: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Likeness (n, p, p) on 0..1 over the pairs of different candidates of each user."""
    pairs = real[:, :, None] & real[:, None, :] & ~np.eye(real.shape[1], dtype=bool)
    low = np.where(pairs, likeness, np.inf).min(axis=(1, 2), keepdims=True)
    high = np.where(pairs, likeness, -np.inf).max(axis=(1, 2), keepdims=True)
    differs = high > low
    return np.where(differs, (likeness - np.where(differs, low, 0)) / np.where(differs, high - low, 1), 0)
