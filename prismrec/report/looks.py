"""Runs of a study looked into one by one, and what was found set beside each other over arms and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from prismrec.diagnostics import Subject, View, diagnose
from prismrec.figures import curves, grouped
from prismrec.io import atomic, read_json, write_json
from prismrec.report.diagnosis import saved_findings, write_diagnosis
from prismrec.runs import Run
from prismrec.space import short_path, word

_LOOKED = "looked.json"


class Wanted(Protocol):
    """What to draw of the tables of a measurement: see ``studies.named.Look``."""

    @property
    def finding(self) -> str:
        """Name of the measurement."""

    @property
    def value(self) -> str:
        """Column whose mean over seeds is drawn."""

    @property
    def by(self) -> str:
        """Column with a line or bar for each of its values."""

    @property
    def only(self) -> Sequence[str]:
        """Those of its values that are drawn."""

    @property
    def title(self) -> str:
        """Of the figure."""


def look_into(runs: Mapping[str, Sequence[Run]], only: Sequence[str], view: View, folder: Path) -> dict[str, str]:
    """Diagnose every run (its page goes into its folder) and write each measurement's table over arms and seeds.

    Returns what could not be measured: "arm: measurement" → reason. What an earlier call measured is not measured again,
    but where something was lacking: that may have been installed meanwhile.
    """
    tables: dict[str, list[pl.DataFrame]] = {}
    skipped: dict[str, str] = {}
    for arm, of_arm in runs.items():
        for run in of_arm:
            found, lacking = _looked(run, only, view)
            skipped |= {f"{arm}: {name}": reason for name, reason in lacking.items()}
            for name, table in found.items():
                seen = [pl.lit(arm).alias("arm"), pl.lit(int(run.result["seed"])).alias("seed")]
                tables.setdefault(name, []).append(table.select(*seen, pl.all()))
    for name, of_runs in tables.items():
        with atomic(folder / f"{name}.csv") as part:
            pl.concat(of_runs, how="diagonal_relaxed").write_csv(part)
    return skipped


def _looked(run: Run, only: Sequence[str], view: View) -> tuple[dict[str, pl.DataFrame], dict[str, str]]:
    """The tables of a run's diagnosis by name, and why others are missing; as they stand, if the same was asked before."""
    folder = run.folder / "diagnosis"
    asked = {"only": list(only), "view": asdict(view)}
    note = read_json(folder / _LOOKED) if (folder / _LOOKED).is_file() else {}
    if note.get("asked") != asked or note["skipped"]:
        diagnosis = diagnose(Subject.of_run(run.folder, view=view), only)
        write_diagnosis(folder, diagnosis)
        names = [finding.name for finding in diagnosis.findings]
        note = {"asked": asked, "found": names, "skipped": dict(diagnosis.skipped)}
        write_json(folder / _LOOKED, note)  # last: it says that all else stands
    return {name: pl.read_parquet(folder / f"{name}.parquet") for name in note["found"]}, note["skipped"]


def firsts(runs: Mapping[str, Sequence[Run]]) -> list[dict[str, Any]]:
    """The figures of the diagnosis of each arm's first run, as ``look_into`` left them."""
    return [
        {**figure, "title": finding["title"], "caption": f"{arm}, seed {of_arm[0].result['seed']}"}
        for arm, of_arm in runs.items()
        for finding in saved_findings(of_arm[0].folder / "diagnosis")
        for figure in finding["figures"]
    ]


def drawn(
    folder: Path, wanted: Sequence[Wanted], points: Mapping[str, Sequence[Any]], axes: Sequence[str]
) -> list[dict[str, Any]]:
    """A figure for each wanted measurement whose table stands in ``folder``: curves along the one axis of a sweep, else bars.

    ``points``: arm → its values on the axes.
    """
    figures = []
    for one in wanted:
        path = folder / f"{one.finding}.csv"
        if not path.is_file():
            continue
        table = pl.read_csv(path).group_by("arm", one.by, maintain_order=True).agg(pl.col(one.value).mean())
        values = {
            (arm, str(key)): float(value) for arm, key, value in table.select("arm", one.by, one.value).iter_rows()
        }
        arms = [arm for arm in points if any(of == arm for of, _ in values)]
        known = list(dict.fromkeys(key for arm, key in values if arm in arms))
        keys = [key for key in one.only or known if key in known]
        axis = one.value.replace("_", " ")
        whole = all((arm, key) in values for arm in arms for key in keys)
        if not arms or not keys:
            continue
        if not whole:  # arms that were measured differently: those with a plug-in have a before and an after
            names = [(arm, key) for arm in arms for key in keys if (arm, key) in values]
            svg = grouped([f"{arm}, {key}" for arm, key in names], {axis: [values[at] for at in names]}, axis)
        elif len(axes) == 1:
            xs = [float(place) for place in range(len(arms))]
            lines = {key: (xs, [values[arm, key] for arm in arms]) for key in keys}
            svg = curves(lines, axis, x=short_path(axes[0]), ticks=[word(points[arm][0]) for arm in arms])
        else:
            svg = grouped(arms, {key: [values[arm, key] for arm in arms] for key in keys}, axis)
        caption = "Mean over seeds."
        figures.append({"svg": svg, "title": one.title or one.finding, "caption": caption})
    return figures
