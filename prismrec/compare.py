"""Intervals of means over users, and of paired differences and their tests: what a figure in a table is worth.

The bootstrap redraws users with replacement (Efron & Tibshirani, An Introduction to the Bootstrap, 1993): it says how much
a mean would move with other users of the same kind. It does not speak of other seeds or other splits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

RESAMPLES = 1000
_CELLS = 4_000_000  # counts of redrawn users held at a time
_ROUNDING = 1e-12  # relative: what adding up the same values in another order may come to


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
    """A paired difference of means over n users, ours − theirs, and how sure and how large it is.

    ``low``, ``high``: its 95 % interval by bootstrap. ``p``: of a two-sided paired t-test over users. ``d``: Cohen's d of
    paired differences, their mean over their standard deviation (J. Cohen, Statistical Power Analysis, 1988, d_z): 0 where
    no user differs, None where all differ by the same. ``won``, ``lost``: shares of users with a larger and a smaller value.
    """

    mean: float
    low: float
    high: float
    p: float
    d: float | None
    won: float
    lost: float

    @property
    def tied(self) -> float:
        """Share of users without a difference."""
        return 1 - self.won - self.lost


def gains(ours: Values, theirs: Values) -> Values:
    """``ours`` − ``theirs``, both (n,) or (n, m), with 0 where they are equal but for rounding.

    Equal values that were averaged over different numbers of seeds differ in the last bit: no user is won by that.
    """
    gain = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    scale = np.maximum(np.abs(ours), np.abs(theirs))
    out: Values = np.where(np.abs(gain) <= _ROUNDING * scale, 0.0, gain)
    return out


def difference(gain: Values, redrawn: Values) -> Difference:
    """What the ``gain`` (n,) of each user comes to; ``redrawn`` (resamples,) are its ``bootstrap_means``.

    p is 1 where no user differs, and where there is only one user, of whom nothing follows for others.
    """
    low, high = interval(redrawn)
    mean, won, lost = float(gain.mean()), float((gain > 0).mean()), float((gain < 0).mean())
    p: float
    d: float | None
    if np.ptp(gain) > _ROUNDING * np.abs(gain).max():
        d = mean / float(gain.std(ddof=1))
        p = _two_sided(d * np.sqrt(len(gain)), len(gain) - 1)
    elif gain.any() and len(gain) > 1:
        p, d = 0.0, None
    else:
        p, d = 1.0, 0.0 if mean == 0 else None
    return Difference(mean, float(low), float(high), p, d, won, lost)


def paired(ours: Values, theirs: Values, resamples: int = RESAMPLES, seed: int = 0) -> Difference:
    """``ours`` − ``theirs``, both (n,): values of the same users in the same order.

    With thousands of users the t-test needs no normal values: it asks of their mean. Average over seeds first, or one
    lucky seed counts as many users.
    """
    gain = gains(ours, theirs)
    return difference(gain, bootstrap_means(gain, resamples, seed))


def holm(p: Sequence[float]) -> list[float]:
    """p-values of one family of tests, corrected: below 0.05 in at most 5 % of families in which nothing is there to find.

    S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6, 1979: in
    rising order the i-th of m is multiplied by m − i + 1, is at least as large as those before it, and at most 1.
    """
    raw = np.asarray(p, np.float64)
    order = np.argsort(raw, kind="stable")
    rising = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1))
    out = np.empty_like(raw)
    out[order] = np.minimum(rising, 1.0)
    return [float(value) for value in out]


def with_runs(gain: Values, runs: Sequence[Sequence[float]]) -> float | None:
    """p of the mean ``gain`` (n,), averaged over seeds, with the runs as a second source of chance beside the users.

    ``runs``: the means of the runs of each side that another seed would change; a side that was run once leaves it unknown:
    None. t = mean / √(s²/n + Σ s_r²/n_r) over users and over the runs of each side, with Satterthwaite's degrees of
    freedom. The test over users alone takes the trained models as given, and finds the luck of a seed significant where seeds
    differ as much as users make means differ. Users enter the spread of the runs once more, so this one errs towards 1.

    A. Colin Cameron, J. Gelbach, D. Miller, "Robust Inference with Multiway Clustering", Journal of Business & Economic
    Statistics 29(2), 2011 (there less the part that stands in both, which a few runs cannot tell); F. Satterthwaite, "An
    Approximate Distribution of Estimates of Variance Components", Biometrics Bulletin 2, 1946.
    """
    if any(len(side) < 2 for side in runs):
        return None
    if len(gain) < 2:
        return 1.0
    sides = [gain, *(np.asarray(side, np.float64) for side in runs)]
    parts = [(float(side.var(ddof=1)) / len(side), len(side) - 1) for side in sides]
    total = sum(variance for variance, _ in parts)
    if total <= (_ROUNDING * np.abs(gain).max()) ** 2:
        return float(not gain.any())
    freedom = total**2 / sum(variance**2 / df for variance, df in parts)
    return _two_sided(float(gain.mean()) / np.sqrt(total), freedom)


def _two_sided(t: float, freedom: float) -> float:
    """p of Student's t."""
    from scipy.special import stdtr  # scipy.stats would be a second to import

    return float(2 * stdtr(freedom, -abs(t)))
