"""The page of a study's folder: its board, what its sweep varied, the searches of its arms."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from prismrec import panels
from prismrec.config import read_yaml, value_at
from prismrec.data.dataset import Dataset
from prismrec.errors import PrismError
from prismrec.figures import curves, heatmap
from prismrec.io import read_json
from prismrec.report.board import write_board
from prismrec.report.page import write_page
from prismrec.report.run import write_run_report
from prismrec.report.search import options_of, searches, together, write_search
from prismrec.run_folder import finished
from prismrec.space import short_path, word
from prismrec.studies.board import Board

STUDY = "study.yaml"
_TITLES = {"compare": "Comparison", "ablate": "Ablation", "sweep": "Sweep"}

Asked = Mapping[str, Any]
"""What study.yaml says."""
Came = tuple[tuple[Any, ...], list[Asked]]
"""A point of a sweep, and what its runs came to."""


def write_study(folder: str | Path) -> Path:
    """Write ``report.html`` into the folder of a comparison, an ablation, a sweep or a search, as far as that has come."""
    folder = Path(folder)
    if not (folder / STUDY).is_file():
        raise PrismError(
            f"{folder} is no study: it has no {STUDY}. Name the folder that `prismrec compare` or `tune` wrote."
        )
    asked = read_yaml(folder / STUDY)
    if "tune" in asked:
        return write_search(folder, str(asked["tune"]["data"]["name"]))
    command = f"prismrec {asked['kind']} --resume {shlex.quote(str(folder))}"
    title = str(asked.get("title") or _TITLES.get(asked["kind"], asked["kind"]))
    swept = sweep(asked, folder)
    records = searches(folder)
    parts, last = [swept] if swept else [], [together(records)] if records else []
    if (folder / "board.json").is_file():
        return write_board(folder / "report.html", Board.read(folder / "board.json"), title, command, parts, last)
    if not parts and not last:
        raise PrismError(f"{folder} has nothing to show yet. Go on with it: {command}")
    return write_page(
        folder / "report.html",
        "search.html",
        title=f"{title} on {asked['data']['name']}",
        heading=title,
        on=f"on {asked['data']['name']}",
        says=[] if swept is None else [swept["says"]],
        facts=[("arms", str(len(asked["arms"]))), ("data fingerprint", asked["data"]["fingerprint"])],
        sections=[{**part, "note": ""} for part in parts] + last,
        command=command,
        made=_made(asked, folder),
    )


def write_runs(folder: str | Path, dataset: Dataset, users: int = 6) -> Iterator[Path]:
    """Write the page of every finished run of a study, one after the other; the study's own page then links to them.

    Runs whose test part stays closed, those of searches and of sweeps on validation, have no page.
    """
    for run in sorted(Path(folder).glob("runs/*/seed-*")):
        if finished(run):
            yield write_run_report(run, dataset, users)


def _made(asked: Asked, folder: Path) -> list[tuple[str, list[tuple[str, str]]]]:
    """What was run: the settings that the arms start from, and the machine."""
    name, arm = next(iter(asked["arms"].items()))
    made = [(f"Settings of {name}", panels.flat(arm["config"]))]
    machine = next(folder.glob("runs/*/seed-*/environment.json"), None)
    return made if machine is None else [*made, ("Machine and versions", panels.flat(read_json(machine)))]


def sweep(asked: Asked, folder: Path) -> dict[str, Any] | None:
    """What varied along one or two settings: a curve or a heat map of validation, and of the test part if it was opened."""
    axes = list(asked.get("axes") or ())
    if not axes:
        return None
    found = [
        (tuple(value_at(arm["config"], axis) for axis in axes), _results(folder / "runs" / name))
        for name, arm in asked["arms"].items()
    ]
    known = [(at, results) for at, results in found if results]
    if not known:
        return None
    metric = str(known[0][1][0]["config"]["train"]["metric"])
    parts = [part for part in ("valid", "test") if all(part in result for _, results in known for result in results)]
    figures = [figure for part in parts for figure in _drawn(known, axes, part, metric)]
    values = {at: fmean(result["valid"][metric] for result in results) for at, results in known}
    best = max(values, key=values.__getitem__)
    named = ", ".join(f"{short_path(axis)} {word(value)}" for axis, value in zip(axes, best, strict=True))
    says = f"Of {len(found)} settings, validation is best at {named}: {metric} {values[best]:.4f}."
    return {
        "name": "sweep",
        "title": "Sweep",
        "note": says,
        "says": says,
        "figures": figures,
        "clouds": [],
        "sheets": [_table(known, axes, parts, metric)],
        "folds": [],
    }


def _results(arm: Path) -> list[Asked]:
    """What the runs of an arm came to; a trial where the test part was not opened."""
    found = []
    for run in sorted(arm.glob("seed-*")):
        path = next((run / name for name in ("result.json", "trial.json") if (run / name).is_file()), None)
        if path is not None:
            found.append(read_json(path))
    return found


def _drawn(known: Sequence[Came], axes: list[str], part: str, metric: str) -> list[dict[str, Any]]:
    """Curves along the first axis, one for each value of the second; with two axes a heat map before them."""
    values = {at: [result[part][metric] for result in results] for at, results in known}
    what, title = f"{'validation' if part == 'valid' else part} {metric}", {"valid": "Validation", "test": "Test"}[part]
    across, down = options_of([at[0] for at in values]), options_of([at[1:] for at in values])
    lines, bands = {}, {}
    for rest in down:
        name = " ".join(f"{short_path(axis)} {word(value)}" for axis, value in zip(axes[1:], rest, strict=True)) or what
        here = [(float(place), values[(x, *rest)]) for place, x in enumerate(across) if (x, *rest) in values]
        lines[name] = [place for place, _ in here], [fmean(v) for _, v in here]
        bands[name] = [min(v) for _, v in here], [max(v) for _, v in here]
    svg = curves(lines, what, x=short_path(axes[0]), ticks=[word(value) for value in across], bands=bands)
    caption = "Mean over seeds; the band goes from the worst to the best seed."
    drawn = [{"svg": svg, "title": f"{title}, along {short_path(axes[0])}", "caption": caption}]
    if len(axes) == 2:
        cells = [[fmean(values[x, *rest]) if (x, *rest) in values else math.nan for x in across] for rest in down]
        rows, columns = [word(*rest) for rest in down], [word(value) for value in across]
        svg = heatmap(cells, rows, columns, what, short_path(axes[0]), short_path(axes[1]))
        drawn.insert(0, {"svg": svg, "title": title, "caption": "Mean over seeds. The frame is the best cell."})
    return drawn


def _table(known: Sequence[Came], axes: list[str], parts: Sequence[str], metric: str) -> dict[str, Any]:
    """A row for each point, best validation first."""
    rows = []
    for at, results in sorted(known, key=lambda one: -fmean(result["valid"][metric] for result in one[1])):
        cells = [{"text": word(value), "aside": ""} for value in at]
        for part in parts:
            values = [result[part][metric] for result in results]
            spread = f"± {stdev(values):.4f}" if len(values) > 1 else ""
            cells.append({"text": f"{fmean(values):.4f}", "aside": spread})
        cells.append({"text": str(len(results)), "aside": ""})
        rows.append([{**cell, "marks": "", "place": ""} for cell in cells])
    columns = [
        *map(short_path, axes),
        *(f"{'validation' if part == 'valid' else part} {metric}" for part in parts),
        "seeds",
    ]
    note = "Mean ± standard deviation over seeds."
    return {"name": "points", "title": "Points of the sweep", "note": note, "columns": columns, "rows": rows}
