"""What a leaderboard says of one arm: estimates, comparisons, gains by group of users, costs. Plain values, made for JSON.

An arm is one configuration, run with one or several seeds.
"""

from __future__ import annotations

from prismrec.models.base import Strict

LEVEL = 0.05
"""A corrected p below this is called significant."""


class Estimate(Strict):
    """A metric of an arm: the mean over its ``runs`` (their values, in the order of the seeds).

    ``sd``: standard deviation over runs (n − 1); None where there is one run. ``low``, ``high``: 95 % bootstrap interval over
    users of the mean over runs; None for a metric of all lists together.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    runs: tuple[float, ...]


class Gain(Strict):
    """A difference within one group of users: its mean, 95 % bootstrap interval, shares of users won and lost."""

    mean: float
    low: float
    high: float
    won: float
    lost: float


class Comparison(Strict):
    """An arm's paired difference from ``other`` in one metric; ``compare.Difference`` says what the figures are.

    ``p``: over users, the trained models taken as given. ``p_seeds``: with the chance of the seeds (``compare.with_runs``);
    None where one of the two was run once, though another seed would change it. ``p_holm``: ``p_seeds``, else ``p``, corrected
    by Holm for all arms of the board that were asked the same question of the same metric: the one that decides.

    ``seeds_won`` of ``seeds``: pairs of runs in which this arm's mean is larger; runs of one seed are paired, and an arm that
    was run once is paired with every run of the other. ``groups``: gains in the groups of the board, for its main metric.
    """

    other: str
    mean: float
    low: float
    high: float
    p: float
    p_seeds: float | None
    p_holm: float
    d: float | None
    won: float
    lost: float
    seeds_won: int
    seeds: int
    groups: tuple[Gain, ...] = ()

    @property
    def tied(self) -> float:
        """Share of users without a difference."""
        return 1 - self.won - self.lost

    @property
    def verdict(self) -> int:
        """1 significantly better than the other, −1 significantly worse, 0 neither."""
        return 0 if self.p_holm >= LEVEL else (1 if self.mean > 0 else -1)


class Cost(Strict):
    """What an arm takes; means over its runs, but for the peak of memory, which is the largest.

    ``seconds_per_epoch``: median of a run, without validation; None where nothing is trained. ``seconds_to_best``: training
    and validation up to the epoch that was kept. ``seconds``: the whole training, or building. ``inference_seconds``: ranking
    all items for all users of a part once. ``parameters``: trained numbers.
    """

    epochs: float
    best_epoch: float
    seconds_per_epoch: float | None
    seconds_to_best: float
    seconds: float
    inference_seconds: float
    peak_memory_mb: float | None
    parameters: int


class Row(Strict):
    """An arm. ``host``: the arm whose gain it is asked for; None if there is none.

    ``against_best``, ``against_host``: metric → comparison, for metrics with a value per user; the first leaves out metrics
    in which this arm is the best. ``groups``: its mean of the main metric in each group of the board.
    """

    arm: str
    model: str
    plugins: tuple[str, ...]
    seeds: tuple[int, ...]
    folders: tuple[str, ...]
    metrics: dict[str, Estimate]
    groups: tuple[float, ...]
    cost: Cost
    host: str | None
    against_best: dict[str, Comparison]
    against_host: dict[str, Comparison]


class Group(Strict):
    """``users`` of the part that fall into one group of a grouping ``by`` name."""

    by: str
    label: str
    users: int
