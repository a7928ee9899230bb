"""How well models rank items that nobody has taken yet, beside popularity and features alone.

    python -m benchmarks.cold DATA … --models vbpr,freedom,clear -o RUNS [--seed 1] [--set KEY=VALUE] [--finished] [--write]

Each DATA has a split by item (`prismrec data split --by item`). Models learn from its warm items, cold ones are added by their
features, and the test part is ranked: cold items among themselves, among all, and warm items. The floor, ContentKNN, is given
the settings that are best on the cold items of validation; the models have their defaults. Runs lie in RUNS/NAME, where NAME
is the data's; those that stand are read, so that this goes on where it was. `--finished` trains nothing.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.setting import describe, heading, keep, table
from prismrec.config import RunConfig
from prismrec.data.dataset import Dataset
from prismrec.data.sources import read
from prismrec.errors import PrismError
from prismrec.experiment import configure
from prismrec.run_folder import finished
from prismrec.studies import cold

NEIGHBOURS = (10, 30, 100, 300, 1000)
MAIN = "recall@20"
HEADS = ("model", "cold recall@20", "cold ndcg@20", "gain over the floor (95 %)", "p", "cold among all", "warm", "all")


def measured(
    dataset: Dataset, models: Sequence[str], folder: Path, seed: int, assign: Sequence[str], only_finished: bool
) -> dict[str, Any]:
    """What the models came to on one data set."""
    entries = [tuned(dataset, seed)]
    print(f"{dataset.name}: {entries[0].label}", flush=True)
    cfg = _config(dataset, cold.FLOOR, seed, ())
    for name in dict.fromkeys([*cold.FLOORS, *models]):
        arm = _config(dataset, name, seed, () if name in cold.FLOORS else assign)
        place = folder / f"{arm.label}-seed{seed}"
        if only_finished and not finished(place):
            print(f"{dataset.name}: {arm.label} is not finished")
            continue
        try:
            cold.check(arm, dataset)
        except PrismError as refusal:
            print(refusal)
            continue
        entries += cold.entries(arm, dataset, "test", place, metrics=cold.MAIN)
        print(f"{dataset.name}: {arm.label}", flush=True)
    found = cold.record(dataset, "test", cfg, entries)
    return {**found, "entries": [entry.as_dict(entries[0]) for entry in entries], "set": list(assign)}


def tuned(dataset: Dataset, seed: int) -> cold.Entry:
    """ContentKNN with the neighbours and modalities that are best on the cold items of the validation part."""
    shares = [{}, *({m: 1.0} for m in dataset.modalities)] if len(dataset.modalities) > 1 else [{}]
    candidates = []
    for k, weights in itertools.product(NEIGHBOURS, shares):
        settings = {"model.neighbours": k, "model.weights": weights}
        cfg = configure(dataset, cold.FLOOR, settings=settings, seed=seed, threads=1)[0]
        (entry,) = cold.entries(cfg, dataset, "valid", metrics=[MAIN])
        candidates.append((entry.kinds["cold"].mean[MAIN], k, "+".join(weights) or "all modalities", cfg))
    _, k, said, cfg = max(candidates, key=lambda candidate: candidate[0])
    (entry,) = cold.entries(cfg, dataset, "test", metrics=cold.MAIN)
    return replace(entry, label=f"contentknn, best of {len(candidates)} (k = {k}, {said})")


def _config(dataset: Dataset, name: str, seed: int, assign: Sequence[str]) -> RunConfig:
    first, *plugins = name.split("+")
    return configure(dataset, first, plugins, assignments=assign, seed=seed, threads=1)[0]


def section(record: Mapping[str, Any]) -> str:
    """A data set: its counts, and a row for each model, best on cold items first."""
    items = record["items"]
    widths = ", ".join(f"{m} ({width})" for m, width in record["modalities"].items())
    about = (
        f"{items['warm']:,} warm items and {items['cold']:,} cold ones; held-out rows: {items['warm_targets']:,} on warm "
        f"items, {items['cold_targets']:,} on cold ones. Features: {widths}. A random order of the cold items has recall@20 "
        f"{items['chance@20']:.4f}."
    )
    entries = sorted(record["entries"], key=lambda entry: -entry["kinds"]["cold"][MAIN])
    return "\n\n".join([f"## {record['data']}", about, table(HEADS, [_row(entry) for entry in entries])])


def _row(entry: Mapping[str, Any]) -> list[str]:
    kinds = entry["kinds"]
    gain, p = "the floor", ""
    if "against" in entry:
        found = entry["against"]["kinds"]["cold"][MAIN]
        mark = "↑ " if found["low"] > 0 else "↓ " if found["high"] < 0 else ""
        gain = f"{mark}{found['mean']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f})"
        p = f"{found['p']:.3f}" if found["p"] >= 0.001 else "< 0.001"
    figures = [f"{kinds[kind][MAIN]:.4f}" for kind in ("cold among all", "warm", "all")]
    return [entry["label"], *(f"{kinds['cold'][m]:.4f}" for m in cold.MAIN), gain, p, *figures]


def page(records: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """The whole result in Markdown."""
    settings = ", ".join(f"`{text}`" for text in records[0]["set"]) or "nothing set"
    rules = f"""Models as their defaults have them ({settings}), one seed ({records[0]["seed"]}); their epoch is chosen on warm
validation rows, nothing of them on cold ones. The floor is ContentKNN with the settings that are best on the cold items of the
validation part. *cold*: cold items ranked among themselves; *cold among all*: recall@20 of cold held-out items in lists of all
items; *warm*: warm items among themselves; *all*: everything. The gain is that in cold recall@20 over the same users, with its
bootstrap interval over users and the p of a paired t-test, not corrected; ↑, ↓: the interval lies above, below 0. *by M*: the
model's score by that modality alone. Ties go to the item that comes first: MostPop on cold items is the order of the catalogue,
in which early ids can be the better known ones. What it says: [Cold start](../../docs/cold.md)."""
    return "\n\n".join(
        ["# Cold items, beside popularity and features alone", heading(about), rules, *map(section, records)]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and with ``--write`` keep the page."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", nargs="+")
    options.add_argument("--models", default="vbpr,freedom,freedom+clear,clear")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--set", action="append", default=[], dest="assign")
    options.add_argument("-o", "--out", type=Path, required=True)
    options.add_argument("--finished", action="store_true")
    options.add_argument("--write", action="store_true")
    given = options.parse_args(arguments)
    about = describe(1)
    records = []
    for path in given.data:
        dataset = read(path)
        folder = given.out / dataset.name
        records.append(measured(dataset, given.models.split(","), folder, given.seed, given.assign, given.finished))
    text = page(records, about)
    print(text)
    if given.write:
        keep("cold", text, {"about": about, "records": records})


if __name__ == "__main__":
    main()
