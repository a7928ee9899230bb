"""Intervals of means over users, and of paired differences: what a figure in a table is worth.

The bootstrap redraws users with replacement (Efron & Tibshirani, An Introduction to the Bootstrap, 1993): it says how much
a mean would move with other users of the same kind. It does not speak of other seeds or other splits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

RESAMPLES = 1000
_CELLS = 4_000_000  # counts of redrawn users held at a time


def bootstrap_means(values: Values, resamples: int = RESAMPLES, seed: int = 0) -> Values:
    """Means of redrawn users: ``values`` (n,) or (n, m), n ≥ 1, → (resamples,) or (resamples, m).

    Columns are redrawn together. The same arguments give the same bits.
    """
    rng, n = np.random.default_rng(seed), len(values)
    block = max(1, _CELLS // n)
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]
    redrawn = [rng.multinomial(n, np.full(n, 1 / n), size=size) @ values / n for size in sizes]
    means: Values = np.concatenate(redrawn)
    return means


def interval(means: Values, level: float = 0.95) -> tuple[Values, Values]:
    """Percentile interval from bootstrap ``means`` (resamples,) or (resamples, m): its lower and upper ends.

    Means of two models over the same users in the same order, drawn with one seed, are paired: the interval of their
    difference is that of the differences.
    """
    tail = 50 * (1 - level)
    low, high = np.percentile(means, [tail, 100 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def interval_by_user(values: Values, user: NDArray[np.int64]) -> tuple[Values, Values]:
    """95 % interval of the column means of ``values`` (n, m), of which a user has several rows: lower and upper ends (m,).

    ``user`` (n,): whose row it is. A user's rows are redrawn together. NaN counts for nothing, and a column of it has NaN.
    """
    row, known = np.unique(user, return_inverse=True)[1], ~np.isnan(values)
    sums = np.zeros((2, int(row.max()) + 1, values.shape[1]))
    np.add.at(sums[0], row, np.where(known, values, 0.0))
    np.add.at(sums[1], row, known)
    means = bootstrap_means(np.concatenate(sums, axis=1))
    total, count = np.split(means, 2, axis=1)
    return interval(np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0))


@dataclass(frozen=True)
class Difference:
    """A paired difference of means over users, its 95 % interval by bootstrap, and the p of a two-sided paired t-test."""

    mean: float
    low: float
    high: float
    p: float


def paired(ours: Values, theirs: Values, resamples: int = RESAMPLES, seed: int = 0) -> Difference:
    """``ours`` − ``theirs``, both (n,): values of the same users in the same order. p is 1 where no user differs.

    With thousands of users the t-test needs no normal values: it asks of their mean. Average over seeds first, or one
    lucky seed counts as many users.
    """
    from scipy.stats import ttest_1samp

    gain = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    low, high = interval(bootstrap_means(gain, resamples, seed))
    p = float(ttest_1samp(gain, 0.0).pvalue) if np.ptp(gain) > 0 else float(not gain.any())
    return Difference(float(gain.mean()), float(low), float(high), p)
