"""The figures and tables of ``benchmarks.scale``: seconds and memory per million interactions, by size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.scale import FOLDER, MODELS, SIZES
from benchmarks.setting import RESULTS, ROOT, heading, table
from prismrec.figures import curves, standalone

LIBRARIES_MB = 250
"""Python, NumPy, polars, PyTorch and its optimizers before any data: what every process holds."""
DIM = 16
Found = dict[tuple[int, str], dict[str, Any]]


def results(folder: Path = FOLDER) -> Found:
    """(power of ten, stage) → what it found."""
    found = {}
    for path in sorted(folder.glob("1e*-*.json")):
        power, _, name = path.stem.removeprefix("1e").partition("-")
        found[int(power), name] = json.loads(path.read_text(encoding="utf-8"))
    return found


def seconds_million(name: str, record: dict[str, Any]) -> float:
    """Of training what a million rows take within an epoch; of other stages all of it, by the rows drawn."""
    if name.startswith("train-"):
        return float(record["seconds_million"])
    return sum(lap["seconds"] for lap in record["laps"].values()) / record["size"] * 1e6


def peak_mb(record: dict[str, Any]) -> float:
    """The most memory held, but for making an evaluator, which a run does before there is a model to hold beside it."""
    return max(float(lap["peak_mb"]) for name, lap in record["laps"].items() if name != "evaluator")


def memory_million(record: dict[str, Any]) -> float:
    """Peak memory beyond libraries and mapped features, MB per million rows drawn."""
    return max(peak_mb(record) - LIBRARIES_MB, 0.0) / record["size"] * 1e6


def shown(dim: int) -> dict[str, str]:
    """Stage → its name in a figure."""
    plain = {"draw": "draw", "prepare": "prepare", "graph": "item graph"}
    return plain | {f"train-{model}-{dim}": model for model in MODELS}


def figures(found: Found) -> dict[str, str]:
    """Name of a file → SVG."""
    names = shown(DIM)
    order = list(names.values())
    time, memory = {}, {}
    for stage, name in names.items():
        have = [power for power in SIZES if (power, stage) in found]
        time[name] = ([10**p / 1e6 for p in have], [seconds_million(stage, found[p, stage]) for p in have])
        large = [power for power in have if power > 5]  # before that libraries are nearly all
        memory[name] = ([10**p / 1e6 for p in large], [memory_million(found[p, stage]) for p in large])
    x = "million interactions"
    return {
        "scale-seconds.svg": curves(
            {name: line for name, line in time.items() if line[0]},
            "seconds per million",
            x=x,
            order=order,
            multiples=True,
        ),
        "scale-memory.svg": curves(
            {name: line for name, line in memory.items() if line[0]}, "MB per million", x=x, order=order, multiples=True
        ),
    }


def by_size(found: Found, stage: str, cell: Any) -> list[str]:
    """A cell for each size."""
    return [cell(found[power, stage]) if (power, stage) in found else "–" for power in SIZES]


def text(found: Found) -> str:
    """All numbers as Markdown."""
    head = [f"10^{power}" for power in SIZES]
    parts = ["# What a size costs"]
    latest = max((record["about"] for record in found.values()), key=lambda about: about["date"])
    parts.append(heading(latest))
    rows = []
    for lap in ("read, ids", "duplicates", "5-core", "split", "save"):
        rows.append([lap, *by_size(found, "prepare", lambda r, lap=lap: f"{r['laps'][lap]['seconds']:.2f}")])
    rows.append(["peak GB", *by_size(found, "prepare", lambda r: f"{r['peak_mb'] / 1024:.2f}")])
    for what in ("users", "items", "interactions"):
        rows.append([f"{what} left", *by_size(found, "prepare", lambda r, what=what: f"{r['left'][what]:,}")])
    rows.append(["draw s", *by_size(found, "draw", lambda r: f"{r['peak_mb'] and r['laps']['draw']['seconds']:.1f}")])
    rows.append(["draw peak GB", *by_size(found, "draw", lambda r: f"{r['peak_mb'] / 1024:.2f}")])
    parts += ["## Preparation, seconds", table(["interactions", *head], rows)]
    rows = [
        ["items", *by_size(found, "graph", lambda r: f"{r['found']['items']:,}")],
        ["recall@10, measured", *by_size(found, "graph", lambda r: f"{r['found']['recall']:.3f}")],
        ["cells looked at", *by_size(found, "graph", lambda r: f"{r['found']['looked']} of {r['found']['cells']:,}")],
        ["seconds", *by_size(found, "graph", lambda r: f"{sum(v['seconds'] for v in r['laps'].values()):.1f}")],
        ["peak GB beyond mapped features", *by_size(found, "graph", lambda r: f"{r['peak_mb'] / 1024:.2f}")],
    ]
    parts += ["## Item graph, features of width 512, 10 neighbours", table(["interactions", *head], rows)]
    rows = []
    for (power, name), r in sorted(found.items()):
        if name.startswith("train-"):
            rows.append(trained(power, r))
    columns = ["model", "size", "d", "batch", "steps", "s a step", "fastest", "s per million", "build s", "peak GB"]
    columns += ["checkpoint MB", "save s", "resume s", "evaluate s"]
    parts += ["## Training", table(columns, sorted(rows, key=lambda row: (int(row[2]), row[0], row[1])))]
    same = all(r["resumed_equal"] for (_, name), r in found.items() if name.startswith("train-"))
    parts.append(
        f"A step after reading the checkpoint back gave the same loss, bit for bit: {'all' if same else 'not all'}."
    )
    return "\n\n".join(parts)


def trained(power: int, r: dict[str, Any]) -> list[str]:
    """A row of the table of training."""
    lap = {name: seen["seconds"] for name, seen in r["laps"].items()}
    return [
        r["model"], f"10^{power}", str(r["dim"]), f"{r['batch']:,}", str(r["steps"]),
        f"{r['seconds_step']:.3g}", f"{r.get('seconds_best', r['seconds_step']):.3g}", f"{r['seconds_million']:.2f}",
        f"{lap['build']:.1f}", f"{peak_mb(r) / 1024:.2f}", f"{r['checkpoint_mb']:,}",
        f"{lap['checkpoint']:.2f}", f"{lap['resume']:.2f}", f"{lap['represent'] + lap['evaluate']:.2f}",
    ]  # fmt: skip


def write() -> None:
    """``benchmarks/results/scale.md``, and the figures beside ``docs/scale.md``."""
    found = results()
    (RESULTS / "scale.md").write_text(text(found) + "\n", encoding="utf-8")
    for name, svg in figures(found).items():
        (ROOT / "docs" / name).write_text(standalone(svg) + "\n", encoding="utf-8")
