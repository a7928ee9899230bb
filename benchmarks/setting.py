"""What the speed benchmarks share: data of Baby's size, one process per model, and where results are written.

Interactions are those of Amazon Baby where they are found (``PRISMREC_DATA``/baby, or ../shared/data/baby), otherwise a
power-law draw of the same size. Features are always drawn: 4096 and 384 non-negative numbers an item, as a CNN would
give; speed does not depend on what they say.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from prismrec import __version__
from prismrec.data.dataset import Dataset, Interactions, Modality
from prismrec.data.ids import IdMap
from prismrec.machine import available_cores

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Size:
    """Counts of the data; ``parts`` are the rows of train, valid and test."""

    users: int = 19_445
    items: int = 7_050
    parts: tuple[int, int, int] = (118_551, 20_559, 21_682)
    image: int = 4096
    text: int = 384


BABY = WIDE = Size()
NARROW = replace(BABY, image=128, text=128)


def data(size: Size = BABY, seed: int = 0) -> Dataset:
    """The data set of this size: real interactions if it is Baby's size and they are there."""
    found = _real() if replace(size, image=BABY.image, text=BABY.text) == BABY else None
    dataset = found if found is not None else _drawn(size, seed)
    rng = np.random.default_rng(seed)
    present = np.ones(size.items, dtype=bool)

    def features(width: int) -> Modality:
        values = rng.standard_normal((size.items, width), dtype=np.float32)
        return Modality(np.maximum(values, 0, out=values), present)

    return replace(dataset, modalities={"image": features(size.image), "text": features(size.text)})


def _real() -> Dataset | None:
    folder = Path(os.environ.get("PRISMREC_DATA", ROOT.parent / "shared" / "data")) / "baby"
    if not (folder / "baby.inter").is_file():
        return None
    from prismrec.data.sources import read

    return replace(read(folder), name="Amazon Baby's interactions")


def _drawn(size: Size, seed: int) -> Dataset:
    """Distinct pairs, both degrees a power law, every user with at least one training row."""
    rng = np.random.default_rng(seed)
    total = sum(size.parts)
    keys = np.arange(size.users, dtype=np.int64) * size.items + rng.integers(size.items, size=size.users)
    while len(keys) < total:
        user = (size.users * rng.random(total) ** 1.5).astype(np.int64)
        item = (size.items * rng.random(total) ** 3).astype(np.int64)
        new = np.setdiff1d(user * size.items + item, keys)
        keys = np.concatenate([keys, rng.permutation(new)[: total - len(keys)]])
    split = np.repeat(np.arange(3), [size.parts[0] - size.users, *size.parts[1:]])
    split = np.concatenate([np.zeros(size.users, dtype=np.int64), rng.permutation(split)])
    user, item = keys // size.items, keys % size.items
    return Dataset(
        name="a power-law draw",
        users=IdMap(pl.Series("user", np.arange(size.users)), "user"),
        items=IdMap(pl.Series("item", np.arange(size.items)), "item"),
        interactions=Interactions(user.astype("<i4"), item.astype("<i4"), split.astype("<i1")),
        item_table=pl.DataFrame({"item": np.arange(size.items)}),
    )


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The arguments that all speed benchmarks know."""
    arguments = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--threads", type=int, default=available_cores(), help="CPU threads (default: all cores)")
    arguments.add_argument("--write", action="store_true", help="keep the result in benchmarks/results, with its date")
    return arguments


def child(module: str, *arguments: str) -> Any:
    """What ``python -m module arguments`` prints as its last line, in JSON: a process of its own, so that its memory is too."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def describe(threads: int) -> dict[str, Any]:
    """Date, machine and versions; ``load`` is the machine's load average at this moment, which should be near 0."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": available_cores(),
        "threads": threads,
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "prismrec": __version__,
        "command": " ".join(["python -m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
    }


def _processor() -> str:
    if Path("/proc/cpuinfo").is_file():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def heading(about: Mapping[str, Any]) -> str:
    """One paragraph that says where and how a result was measured."""
    return (
        f"`{about['command']}`\n\n{about['date']}, {about['processor']}, {about['cores']} cores, {about['threads']} threads, "
        f"load average at the start {about['load']}, Python {about['python']}, torch {about['torch']}, "
        f"PrismRec {about['prismrec']}."
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first column to the left, the others to the right; padded, so that a terminal shows columns too."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    return "\n".join([line(header), rule, *(line(row) for row in rows)])


def keep(name: str, text: str, record: Mapping[str, Any]) -> Path:
    """Write a result as Markdown and as JSON, named by date."""
    path = RESULTS / f"{name}-{datetime.datetime.now(datetime.UTC):%Y-%m-%d}.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path
