"""Ours beside what was published: values, ratios, gains over hosts, best settings.

Published gains are computed from published values, never copied: the papers contradict themselves where they print both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from prismrec.config import value_at
from prismrec.models import Strict
from prismrec.studies.board import Board
from prismrec.studies.named import COSTS, Named, Part
from prismrec.studies.named_data import Source
from prismrec.studies.row import Row

_MB = 1024.0


class Beside(Strict):
    """One figure of an arm. ``ours``: mean over ``seeds`` runs, ``sd`` their standard deviation where there are several.

    ``published`` holds for the data called ``of``. ``ratio``: ours ÷ published, None where the data is another one.
    ``gain``, ``published_gain``: relative, over ``host``. None where there is nothing to say.
    """

    data: str
    of: str
    part: str
    arm: str
    host: str
    metric: str
    seeds: int
    ours: float
    sd: float | None
    published: float | None
    ratio: float | None
    gain: float | None
    published_gain: float | None


class Best(Strict):
    """Where a sweep is best: the ``published`` value of a ``setting`` for the data called ``of``, and ``ours`` on validation.

    ``tried``: the values between which ours was chosen.
    """

    data: str
    of: str
    part: str
    setting: str
    published: Any
    ours: Any
    tried: tuple[Any, ...]


def beside(study: Named, name: str, part: Part, source: Source, board: Board) -> list[Beside]:
    """The rows of one board, in the order of the study's arms; metrics as published, or those of the study."""
    of = source.name if source.name in study.data else study.data[0]
    same = source.name == of
    published, stated = study.published.get(of, {}), study.gains.get(of, {})
    stated_any = bool(published or stated)  # then arms of which nothing is are left to the leaderboard
    found = []
    rows = {row.arm: row for row in board.rows}
    for arm in [*(row.arm for row in board.rows if row.arm not in part.arms), *part.arms]:
        if arm not in rows or (stated_any and arm not in published and arm not in stated):
            continue
        host = _host(part, arm, rows)
        values, gains = published.get(arm, {}), stated.get(arm, {})
        for metric in dict.fromkeys([*values, *gains]) or study.metrics:
            ours = value_of(rows[arm], metric)
            if ours is None:
                continue
            base = None if host is None else value_of(rows[host], metric)
            public = values.get(metric)
            public_base = None if host is None else published.get(host, {}).get(metric)
            estimate = rows[arm].metrics.get(metric)
            found.append(
                Beside(
                    data=source.label,
                    of=of,
                    part=name,
                    arm=arm,
                    host=host or "",
                    metric=metric,
                    seeds=len(rows[arm].seeds),
                    ours=ours,
                    sd=None if estimate is None else estimate.sd,
                    published=public,
                    ratio=ours / public if same and public else None,
                    gain=_relative(ours, base),
                    published_gain=gains.get(metric, None if public is None else _relative(public, public_base)),
                )
            )
    return found


def counted(study: Named, source: Source) -> list[Beside]:
    """What a data set counts, beside what is published of it."""
    from prismrec.data.inspect import inspect

    of = source.name if source.name in study.data else study.data[0]
    seen = inspect(source.dataset)
    return [
        Beside(
            data=source.label,
            of=of,
            part="",
            arm="data",
            host="",
            metric=name,
            seeds=0,
            ours=float(getattr(seen, name)),
            sd=None,
            published=public,
            ratio=float(getattr(seen, name)) / public if source.name == of else None,
            gain=None,
            published_gain=None,
        )
        for name, public in study.published[of]["data"].items()
    ]


def _host(part: Part, arm: str, rows: Mapping[str, Row]) -> str | None:
    plan = part.arms.get(arm)
    return plan.host if plan is not None and plan.host in rows else None


def value_of(row: Row, metric: str) -> float | None:
    """A metric or a published kind of cost of a leaderboard's row; None where there is none."""
    if metric in COSTS:
        value = getattr(row.cost, COSTS[metric])
        return None if value is None else float(value) / (_MB if metric.endswith("_gb") else 1.0)
    return row.metrics[metric].mean if metric in row.metrics else None


def _relative(value: float, base: float | None) -> float | None:
    return value / base - 1 if base else None


def best(
    study: Named, name: str, part: Part, source: Source, results: Mapping[str, Sequence[Mapping[str, Any]]],
    configs: Mapping[str, Mapping[str, Any]],
) -> list[Best]:  # fmt: skip
    """The best point of a sweep by mean validation beside the published one. ``results``: point → of each seed."""
    if not part.over or not results:
        return []
    of = source.name if source.name in study.data else study.data[0]
    means = {
        point: fmean(r["valid"][r["config"]["train"]["metric"]] for r in found) for point, found in results.items()
    }
    winner = configs[max(means, key=means.__getitem__)]
    return [
        Best(
            data=source.label,
            of=of,
            part=name,
            setting=path,
            published=part.best.get(of, {}).get(path),
            ours=value_at(winner, path),
            tried=tuple(dict.fromkeys(value_at(configs[point], path) for point in means)),
        )
        for path in part.over
    ]


def said(rows: Sequence[Beside], quick: bool) -> list[str]:
    """What the rows come to, in words; of a quick version, what they do not say."""
    return list(_said(rows, quick))


def _said(rows: Sequence[Beside], quick: bool) -> Iterator[str]:
    if quick:
        yield QUICK
        return
    ratios = [row.ratio for row in rows if row.ratio is not None and row.metric not in COSTS]
    if ratios:
        near = sum(0.97 <= ratio <= 1.03 for ratio in ratios)
        yield f"{near} of {len(ratios)} published values are met within 3 %."
    both = [row for row in rows if row.gain is not None and row.published_gain is not None and row.metric not in COSTS]
    if both:
        reached = sum(_same_side(row) for row in both)
        yield (
            f"Of {len(both)} published gains over a host, {reached} have the same sign here; whether ours is more than chance "
            "the leaderboard's tests say."
        )


def _same_side(row: Beside) -> bool:
    assert row.gain is not None and row.published_gain is not None
    return row.gain * row.published_gain > 0


QUICK = (
    "This is the quick version: planted data, few epochs, few seeds, no search. It shows that the machinery runs from end to "
    "end. It says nothing for or against the paper: figures beside published ones are of other data."
)
