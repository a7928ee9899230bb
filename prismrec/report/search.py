"""The page of a search, and its section on the page of a study: how it went, what mattered, which settings are best."""

from __future__ import annotations

import itertools
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prismrec import panels
from prismrec.errors import PrismError
from prismrec.figures import bars, cloud, curves, heatmap
from prismrec.io import read_json
from prismrec.report.page import write_page
from prismrec.space import short_path, word

_SHOWN = 12  # trials of the table
_CLOUDS = 6  # settings that have a figure
_ARMS = 8  # that have a line: as many as there are colours

Record = Mapping[str, Any]
"""What a search wrote into its search.json."""


def searches(folder: Path) -> list[Record]:
    """The searches below a folder, of a tuning or of a study's arms, by arm."""
    found = [*folder.glob("trials/*/search.json"), *folder.glob("searches/*/trials/*/search.json")]
    return sorted((read_json(path) for path in found), key=lambda record: str(record["arm"]))


def write_search(folder: str | Path, data: str = "") -> Path:
    """Write ``report.html`` into the folder of a search; ``data``: the name of the data set."""
    folder = Path(folder)
    records = searches(folder)
    if not records:
        raise PrismError(f"{folder} holds no search with a finished trial yet. Go on: prismrec tune --resume {folder}")
    return write_page(
        folder / "report.html",
        "search.html",
        title=f"Search for {', '.join(str(r['arm']) for r in records)}",
        heading=" and ".join(str(r["arm"]) for r in records),
        on=f"searched on {data}" if data else "searched",
        says=[sentence for record in records for sentence in said(record)],
        facts=_facts(records[0]),
        sections=[{**section(record), "note": ""} for record in records],
        made=[],
        command=f"prismrec tune --resume {shlex.quote(str(folder))}",
    )


def said(record: Record) -> list[str]:
    """What a search came to, in words."""
    trials, best, metric = record["trials"], record["best"], record["metric"]
    count = Counter(trial["state"] for trial in trials)
    ended = f"{count['complete']} trials were trained to their end"
    ended += f", {count['pruned']} cut short" if count["pruned"] else ""
    ended += f", {count['failed']} failed" if count["failed"] else ""
    if best is None:
        return [f"{ended}: nothing can be chosen yet.", "Nothing here has seen the test part."]
    chosen = ", ".join(f"{short_path(key)} {word(value)}" for key, value in best["settings"].items())
    told = [
        f"{ended}. Trial {best['number']} reached most on validation: {metric} {best['value']:.4f}, with "
        f"{chosen or 'the settings as given'}."
    ]
    if record["importance"]:
        key, share = max(record["importance"].items(), key=lambda pair: pair[1])
        told.append(f"What mattered most is {short_path(key)}, with {share:.0%} of the importance.")
    return [*told, "Nothing here has seen the test part."]


def section(record: Record) -> dict[str, Any]:
    """The figures and the table of a search."""
    arm = str(record["arm"])
    known = [trial for trial in record["trials"] if trial["value"] is not None]
    figures = [_progress(record, known)] if known else []
    if record["importance"]:
        order = sorted(record["importance"].items(), key=lambda pair: -pair[1])
        shares = [share for _, share in order]
        svg = bars([short_path(key) for key, _ in order], shares, shares, shares, "share of the importance")
        caption = "How much each setting has to do with being among the best trials."
        figures.append({"svg": svg, "title": "What mattered", "caption": caption})
    grid = _grid(record, known)
    if grid is not None:
        figures.append(grid)
    return {
        "name": f"search-{arm}",
        "title": f"Search for {arm}",
        "note": " ".join(said(record)[:-1]),
        "figures": figures,
        "clouds": [] if grid is not None else _clouds(record, known),
        "sheets": [_table(record)],
        "folds": [],
    }


def together(records: Sequence[Record]) -> dict[str, Any]:
    """The searches of a study's arms as one section: how all went, and each of them folded."""
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for record in records:
        ended = [trial for trial in record["trials"] if trial["state"] == "complete"]
        if ended and len(lines) < _ARMS:
            lines[str(record["arm"])] = _best_so_far(ended)
    figures = []
    if lines:
        svg = curves(lines, f"validation {records[0]['metric']}", x="trial")
        caption = "The best value so far, trial by trial." + (
            f" The first {_ARMS} arms." if len(lines) == _ARMS else ""
        )
        figures.append({"svg": svg, "title": "How the searches went", "caption": caption})
    return {
        "name": "searches",
        "title": "Searches",
        "note": "Settings are chosen by validation alone, each arm's among its own trials.",
        "figures": figures,
        "clouds": [],
        "sheets": [],
        "folds": [section(record) for record in records],
    }


def _best_so_far(ended: Sequence[Record]) -> tuple[list[float], list[float]]:
    best = itertools.accumulate((trial["value"] for trial in ended), max)
    return [float(trial["number"]) for trial in ended], list(best)


def _progress(record: Record, known: Sequence[Record]) -> dict[str, Any]:
    ended = [t for t in known if t["state"] == "complete"] or known
    dots = {"trials": ([float(t["number"]) for t in known], [t["value"] for t in known])}
    svg = curves({"best so far": _best_so_far(ended)}, f"validation {record['metric']}", x="trial", dots=dots)
    return {"svg": svg, "title": "Trial by trial", "caption": "Each dot is a trial; the line is the best one so far."}


def _grid(record: Record, known: Sequence[Record]) -> dict[str, Any] | None:
    """A heat map, where two settings were tried in every combination or nearly so."""
    keys = list(record["space"])
    if len(keys) != 2:
        return None
    across, down = (options_of([trial["settings"].get(key) for trial in known]) for key in keys)
    value = {tuple(trial["settings"].get(key) for key in keys): trial["value"] for trial in known}
    if min(len(across), len(down)) < 2 or len(value) < 0.6 * len(across) * len(down):
        return None
    values = [[value.get((x, y), math.nan) for x in across] for y in down]
    rows, columns = ([word(option) for option in options] for options in (down, across))
    svg = heatmap(values, rows, columns, f"validation {record['metric']}", short_path(keys[0]), short_path(keys[1]))
    return {
        "svg": svg,
        "title": f"{short_path(keys[0])} and {short_path(keys[1])}",
        "caption": "The frame is the best cell.",
    }


def options_of(values: Sequence[Any]) -> list[Any]:
    """Different values, numbers in order."""
    found = list(dict.fromkeys(values))
    numbers = all(map(_number, found)) or all(isinstance(value, tuple) and all(map(_number, value)) for value in found)
    return sorted(found) if numbers else found


def _clouds(record: Record, known: Sequence[Record]) -> list[dict[str, Any]]:
    """The value of every trial against each setting, the most important first."""
    figures = []
    weight = record["importance"]
    for key in sorted(record["space"], key=lambda key: -weight.get(key, 0.0))[:_CLOUDS]:
        told = [(trial["settings"][key], trial["value"]) for trial in known if key in trial["settings"]]
        if len({x for x, _ in told}) > 1:
            svg = cloud(
                [x if _number(x) else word(x) for x, _ in told],
                [y for _, y in told],
                short_path(key),
                str(record["metric"]),
            )
            figures.append({"svg": svg, "title": short_path(key), "caption": ""})
    return figures


def _table(record: Record) -> dict[str, Any]:
    """The best trials."""
    keys = list(record["space"])
    trials = sorted(record["trials"], key=_rank)
    best = record["best"]
    rows = []
    for trial in trials[:_SHOWN]:
        cells = [str(trial["number"]), "–" if trial["value"] is None else f"{trial['value']:.4f}"]
        cells += [word(trial["settings"].get(key)) for key in keys]
        cells += [str(trial["epochs"] or "–"), str(trial["best_epoch"] or "–")]
        cells += ["–" if trial["seconds"] is None else panels.duration(trial["seconds"]), trial["state"]]
        first = best is not None and trial["number"] == best["number"]
        rows.append(
            [
                {"text": text, "aside": "", "marks": "", "place": "best" if first and place == 1 else ""}
                for place, text in enumerate(cells)
            ]
        )
    columns = ["trial", record["metric"], *map(short_path, keys), "epochs", "best epoch", "time", "ended"]
    note = f"The best {len(rows)} of {len(trials)} trials, by validation."
    return {"name": "trials", "title": "Best trials", "note": note, "columns": columns, "rows": rows}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rank(trial: Record) -> tuple[float, int]:
    return math.inf if trial["value"] is None else -trial["value"], trial["number"]


def _facts(record: Record) -> list[tuple[str, str]]:
    return [
        ("sampler", record["sampler"]),
        ("pruner", record["pruner"]),
        ("trials", f"{len(record['trials']):,}"),
        ("time", panels.duration(record["seconds"])),
    ]
