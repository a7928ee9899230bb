"""Arms set against each other: whether their runs compare, who is asked for a gain over whom, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np

from prismrec.compare import Values, bootstrap_means, difference, gains, holm, interval, with_runs
from prismrec.data.dataset import Dataset
from prismrec.errors import PrismError, nearest
from prismrec.metrics import OF_HITS, Metric
from prismrec.recipes import label
from prismrec.run_folder import check_same_data
from prismrec.runs import Run
from prismrec.studies.row import Comparison, Cost, Estimate, Gain

Members = Mapping[tuple[str, str], np.ndarray]
"""A group of users → their positions."""


@dataclass(frozen=True)
class Entry:
    """An arm and its runs, in the order of their seeds; ``values``: metric → a value per user (n,), the mean over runs."""

    name: str
    runs: tuple[Run, ...]
    values: Mapping[str, Values]

    def mean(self, metric: str) -> float:
        """Mean of a test metric over runs."""
        return fmean(run.test.mean[metric] for run in self.runs)

    @property
    def result(self) -> Mapping[str, Any]:
        """What any of its runs says of the arm."""
        return self.runs[0].result

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending."""
        return tuple(int(run.result["seed"]) for run in self.runs)

    @property
    def fixed(self) -> bool:
        """Whether there is nothing to train, so that seeds change nothing."""
        return not self.result["parameters"]


def entries(arms: Mapping[str, Sequence[Run]], dataset: Dataset, metrics: Sequence[str], metric: str) -> list[Entry]:
    """The arms, best ``metric`` first; runs that do not compare are refused."""
    if not arms:
        raise PrismError("A leaderboard needs at least one arm; none was given.")
    everything = [run for runs in arms.values() for run in runs]
    for name, runs in arms.items():
        _one_arm(name, runs)
    for run in everything:
        check_same_data(run.folder, {"fingerprint": run.result["data_fingerprint"]}, dataset)
    _one_protocol(everything)
    _same_users(everything)
    _have(everything, metrics, metric)
    found = []
    for name, runs in arms.items():
        ordered = tuple(sorted(runs, key=lambda run: int(run.result["seed"])))
        per_user = [m for m in metrics if Metric.parse(m).per_user]
        values = {m: np.mean([run.test.values(m) for run in ordered], axis=0) for m in per_user}
        found.append(Entry(name, ordered, values))
    return sorted(found, key=lambda entry: (-entry.mean(metric), entry.name))


def _one_arm(name: str, runs: Sequence[Run]) -> None:
    """Refuse runs that differ in more than their seed, and a seed that stands twice."""
    if not runs:
        raise PrismError(f"The arm {name} has no finished run; give at least one.")
    seeds = [int(run.result["seed"]) for run in runs]
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
    if twice is not None:
        raise PrismError(f"The arm {name} has two runs with seed {twice}; a mean over seeds needs each seed once.")
    for run in runs:
        if _settings(run) != _settings(runs[0]):
            raise PrismError(
                f"{run.folder} and {runs[0].folder} are both runs of the arm {name} and have different settings; "
                "expected runs that differ in their seed alone."
            )


def _settings(run: Run) -> dict[str, object]:
    """What the runs of an arm have in common."""
    return {part: run.result["config"][part] for part in ("model", "plugins", "train")}


def _one_protocol(runs: Sequence[Run]) -> None:
    rules = sorted({str(run.result["protocol"]) for run in runs})
    if len(rules) > 1:
        raise PrismError(
            f"These runs follow different protocols ({', '.join(rules)}), whose numbers do not compare; "
            "give runs of one protocol, or evaluate them again under one."
        )


def _same_users(runs: Sequence[Run]) -> None:
    """A paired test is of the same users in the same order."""
    first = runs[0].test.per_user["user"]
    for run in runs:
        users = run.test.per_user["user"]
        if len(users) != len(first) or users.dtype != first.dtype or not (users == first).all():
            raise PrismError(
                f"{run.folder} was tested on {len(users):,} users and {runs[0].folder} on {len(first):,}, and they are not "
                "the same in the same order; expected runs on one split of one data set."
            )


def _have(runs: Sequence[Run], metrics: Sequence[str], metric: str) -> None:
    common = [m for m in runs[0].test.mean if all(m in run.test.mean for run in runs)]
    for m in metrics:
        if m not in common:
            raise PrismError(f"Not all runs have the test metric {m!r}. {nearest(m, common)}")
    if Metric.parse(metric).name not in OF_HITS:
        raise PrismError(
            f"The main metric is {metric!r}, which says what lists are like, not how well they hit; "
            f"expected one of {', '.join(OF_HITS)} at a cut-off, such as recall@20."
        )


def hosts(found: Sequence[Entry], given: Mapping[str, str]) -> dict[str, Entry | None]:
    """Arm → the arm whose gain it is asked for; ``found`` is in order, best first.

    As ``given``; else the model without plug-ins; else the strongest arm without parameters, which has none itself. Other
    arms without parameters have none either: they are there to be beaten.
    """
    by_name = {entry.name: entry for entry in found}
    for name in {*given, *given.values()}:
        if name not in by_name:
            raise PrismError(f"There is no arm {name!r} on this leaderboard. {nearest(name, by_name)}")
    floor = next((entry for entry in found if entry.fixed), None)
    out: dict[str, Entry | None] = {}
    for entry in found:
        bare = by_name.get(label(str(entry.result["model"]), ()))
        own = bare if entry.result["plugins"] and bare is not entry else None
        out[entry.name] = own or (None if entry.fixed else floor)
        if entry.name in given:
            out[entry.name] = by_name[given[entry.name]]
    return out


def estimates(found: Sequence[Entry], metrics: Sequence[str]) -> dict[tuple[str, str], Estimate]:
    """(arm, metric) → its estimate. Users are redrawn once for all of them."""
    keys = [(entry, m) for entry in found for m in metrics]
    known = {(entry.name, m): column for column, (entry, m) in enumerate(k for k in keys if k[1] in k[0].values)}
    low, high = interval(bootstrap_means(np.stack([e.values[m] for e, m in keys if m in e.values], axis=1)))
    out = {}
    for entry, m in keys:
        runs = tuple(float(run.test.mean[m]) for run in entry.runs)
        column = known.get((entry.name, m))
        ends = (None, None) if column is None else (float(low[column]), float(high[column]))
        out[entry.name, m] = Estimate(
            mean=entry.mean(m), sd=stdev(runs) if len(runs) > 1 else None, low=ends[0], high=ends[1], runs=runs
        )
    return out


@dataclass(frozen=True)
class Question:
    """Is ``ours`` better than ``theirs`` in ``metric``? Questions of one ``family`` are corrected together."""

    family: str
    metric: str
    ours: Entry
    theirs: Entry


def questions(found: Sequence[Entry], metrics: Sequence[str], host: Mapping[str, Entry | None]) -> Iterator[Question]:
    """Everyone against the best of each metric ("best"), and against its host ("host"), in metrics of which more is better."""
    for m in (m for m in metrics if Metric.parse(m).name in OF_HITS):
        best = max(found, key=lambda entry: entry.mean(m))  # the first of equals, which stands higher
        yield from (Question("best", m, entry, best) for entry in found if entry is not best)
        for entry in found:
            other = host[entry.name]
            if other is not None:
                yield Question("host", m, entry, other)


def answers(asked: Sequence[Question], main: str, members: Members) -> dict[tuple[str, str, str], Comparison]:
    """(family, metric, arm) → its comparison; p is corrected within each family and metric. Groups are told of ``main``."""
    if not asked:
        return {}
    gain = np.stack([gains(q.ours.values[q.metric], q.theirs.values[q.metric]) for q in asked], axis=1)
    redrawn = bootstrap_means(gain)
    found = [difference(gain[:, j], redrawn[:, j]) for j in range(len(asked))]
    seeded = [_with_runs(q, gain[:, j]) for j, q in enumerate(asked)]
    deciding = [was.p if own is None else own for was, own in zip(found, seeded, strict=True)]
    corrected: dict[int, float] = {}
    for kind in dict.fromkeys((q.family, q.metric) for q in asked):
        family = [j for j, q in enumerate(asked) if (q.family, q.metric) == kind]
        corrected |= dict(zip(family, holm([deciding[j] for j in family]), strict=True))
    told = [j for j, q in enumerate(asked) if q.metric == main]
    grouped = dict(zip(told, _by_group(gain[:, told], members), strict=True))
    out = {}
    for j, (q, was) in enumerate(zip(asked, found, strict=True)):
        won, pairs = seeds_won(q.ours, q.theirs, q.metric)
        out[q.family, q.metric, q.ours.name] = Comparison(
            other=q.theirs.name,
            mean=was.mean,
            low=was.low,
            high=was.high,
            p=was.p,
            p_seeds=seeded[j],
            p_holm=corrected[j],
            d=was.d,
            won=was.won,
            lost=was.lost,
            seeds_won=won,
            seeds=pairs,
            groups=grouped.get(j, ()),
        )
    return out


def _by_group(gain: Values, members: Members) -> list[tuple[Gain, ...]]:
    """Of each column of ``gain`` (n, m): what it comes to in each group."""
    parts: list[list[Gain]] = [[] for _ in range(gain.shape[1])]
    for rows in members.values():
        own = gain[rows]
        low, high = interval(bootstrap_means(own))
        for j, part in enumerate(parts):
            column = own[:, j]
            won, lost = float((column > 0).mean()), float((column < 0).mean())
            part.append(Gain(mean=float(column.mean()), low=float(low[j]), high=float(high[j]), won=won, lost=lost))
    return [tuple(part) for part in parts]


def seeds_won(ours: Entry, theirs: Entry, metric: str) -> tuple[int, int]:
    """Pairs of runs in which ``ours`` has the larger mean, and pairs: of the same seed, or all where one was run once."""
    mine, other = ({run.result["seed"]: run.test.mean[metric] for run in entry.runs} for entry in (ours, theirs))
    if min(len(mine), len(other)) == 1:
        pairs = [(a, b) for a in mine.values() for b in other.values()]
    else:
        pairs = [(mine[seed], other[seed]) for seed in mine if seed in other]
    return sum(a > b for a, b in pairs), len(pairs)


def _with_runs(q: Question, gain: Values) -> float | None:
    """p over users and runs; an arm without parameters comes out the same whatever the seed."""
    varying = [entry for entry in (q.ours, q.theirs) if not entry.fixed]
    return with_runs(gain, [[run.test.mean[q.metric] for run in entry.runs] for entry in varying])


def cost(entry: Entry) -> Cost:
    """What the runs of an arm took."""

    def over(key: str) -> float:
        return fmean(float(run.result[key]) for run in entry.runs)

    peaks = [run.result["peak_memory_mb"] for run in entry.runs if run.result["peak_memory_mb"] is not None]
    trained = over("epochs") > 0
    return Cost(
        epochs=over("epochs"),
        best_epoch=over("best_epoch"),
        seconds_per_epoch=over("seconds_per_epoch") if trained else None,
        seconds_to_best=fmean(_to_best(run) for run in entry.runs),
        seconds=over("seconds"),
        inference_seconds=over("seconds_per_evaluation"),
        peak_memory_mb=max(peaks) if peaks else None,
        parameters=int(entry.runs[0].result["parameters"]),
    )


def _to_best(run: Run) -> float:
    """Seconds up to the end of the epoch that was kept; building where nothing is trained."""
    best = run.result["best_epoch"]
    passed = [e["seconds"] + e["seconds_evaluation"] for e in run.epochs if e["epoch"] <= best]
    return sum(passed) if run.result["epochs"] else float(run.result["seconds"])
