"""Seconds an epoch, evaluations a second and peak memory of each model, beside the floor of this machine.

    python -m benchmarks.speed [--models bpr freedom …] [--epochs 7] [--seconds 20] [--threads 4] [--write]

Data of Baby's size (``benchmarks.setting``), batch 2048, d = 64, each model's own defaults, each in a process of its
own. Epochs are those of ``fit``, with a validation after each (all users, top 50, six metrics at four cut-offs); the
first is left out, unless there was time for one alone. The floor is explained in ``benchmarks.floor``; its terms are
printed, so that a reader can check them. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import torch

from benchmarks import floor
from benchmarks.setting import BABY, child, data, describe, heading, keep, parser, table
from prismrec.assembly import Assembly, build
from prismrec.checkpoint import Progress
from prismrec.data.dataset import Dataset
from prismrec.evaluate import METRICS, Evaluator
from prismrec.experiment import context
from prismrec.machine import memory_kept, peak_memory_mb
from prismrec.models import MODELS, model_named
from prismrec.plugins import plugin_named
from prismrec.sampling import Sampler
from prismrec.train import TrainConfig, fit

CPU = torch.device("cpu")


def assembled(
    dataset: Dataset, name: str, batch_size: int = 2048, device: torch.device = CPU
) -> tuple[Assembly, Sampler]:
    """A model with its defaults, "model" or "model+plug-in", and the batches that it is trained on."""
    model, *plugins = name.split("+")
    kinds = [plugin_named(plugin) for plugin in plugins]
    ctx = context(dataset.development(), device)
    kind = model_named(model)
    assembly = build(kind, kind.Config(), [(plugin, plugin.Config()) for plugin in kinds], ctx, seed=0)
    sampler = Sampler(
        ctx.user,
        ctx.item,
        None,
        ctx.n_users,
        ctx.n_items,
        batch_size=batch_size,
        n_neg=assembly.n_neg,
        n_fresh=assembly.n_fresh,
    )
    return assembly, sampler


class Stopwatch:
    """Watches ``fit``: seconds of each epoch and of the evaluation after it."""

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self.evaluations: list[float] = []

    def step(self, epoch: int, done: int, of: int) -> None: ...

    def epoch(self, record: dict[str, Any], progress: Progress) -> None:
        self.epochs.append(record["seconds"])
        self.evaluations.append(record["seconds_evaluation"])


def measure(name: str, dataset: Dataset, epochs: int, seconds: float, batch_size: int = 2048) -> dict[str, Any]:
    """Everything about one model; call it in a process of its own, or the peak is that of others too."""
    loaded = peak_memory_mb(CPU)
    validate = Evaluator.of(dataset.development(), "valid", metrics=METRICS)
    with memory_kept():
        start = time.perf_counter()
        assembly, sampler = assembled(dataset, name, batch_size)
        found: dict[str, Any] = {
            "built": time.perf_counter() - start,
            "users": len(validate.users),
            "loaded_mb": loaded,
        }
        if assembly.trainable:
            return found | _trained(assembly, sampler, validate, epochs, seconds)
        evaluations = []
        for _ in range(epochs + 1):
            start = time.perf_counter()
            validate(assembly.represent())
            evaluations.append(time.perf_counter() - start)
        return found | {
            "epochs": [],
            "evaluations": evaluations[1:],
            "peak_mb": peak_memory_mb(CPU),
            "floor": {},
            "floor_cached": {},
        }


def _trained(assembly: Assembly, sampler: Sampler, validate: Evaluator, epochs: int, seconds: float) -> dict[str, Any]:
    watches = Stopwatch(), Stopwatch()
    cfg = TrainConfig(epochs=epochs + 1, patience=epochs + 1, seconds=seconds)
    fit(assembly, sampler, validate, cfg, None, watches[0])
    peak = peak_memory_mb(CPU)  # before the measuring of speeds takes memory of its own
    counts = floor.Counts.of(sampler)
    step = floor.listen(assembly, sampler)
    terms = floor.terms(assembly, step)
    speeds = floor.rates(assembly, step)
    fit(assembly, sampler, validate, cfg, None, watches[1])  # as many again, so that the speeds stand between epochs
    again = floor.rates(assembly, step)
    speeds = {rate: max(speed, again[rate]) for rate, speed in speeds.items()}
    return {
        "epochs": [second for watch in watches for second in watch.epochs[1:] or watch.epochs],
        "evaluations": [second for watch in watches for second in watch.evaluations[1:] or watch.evaluations],
        "peak_mb": peak,
        "parameters": sum(p.numel() for p in assembly.parameters()),
        "counts": vars(counts),
        "rates": speeds,
        "terms": [vars(term) for term in terms],
        "floor": floor.seconds(terms, speeds, counts),
        "floor_cached": floor.seconds(terms, speeds, counts, cached=True),
    }


def summary(results: dict[str, dict[str, Any]]) -> str:
    """The table of all models."""

    def number(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    rows = []
    for name, r in results.items():
        epoch = statistics.median(r["epochs"]) if r["epochs"] else None
        least, cached = (sum(r[floor].values()) or None for floor in ("floor", "floor_cached"))
        evaluation = statistics.median(r["evaluations"])
        cells = [
            name,
            number(r["built"], ".2f"),
            number(epoch, ".3f"),
            number(min(r["epochs"], default=None), ".3f"),
            number(least, ".3f"),
            number(epoch / least if epoch and least else None, ".2f"),
            number(cached, ".3f"),
            number(epoch / cached if epoch and cached else None, ".2f"),
            number(evaluation, ".3f"),
            number(1 / evaluation, ".1f"),
            number(r["peak_mb"], ",.0f"),
            number(r["loaded_mb"], ",.0f"),
        ]
        rows.append(cells)
    times = ["model", "build s", "epoch s", "best", "floor s", "ratio", "in cache s", "ratio"]
    return table([*times, "evaluation s", "a second", "peak MB", "of it data"], rows)


def account(name: str, result: dict[str, Any]) -> str:
    """The floor of one model, term by term."""
    rows = []
    for term in result["terms"]:
        product = term["rate"].startswith("product")
        amount = f"{term['amount'] / 1e6:,.1f} M" if product else f"{term['amount'] / 1e6:,.2f} MB"
        speeds = [result["rates"].get(rate) for rate in (term["rate"], f"{term['rate']}, cached")]
        shown = " or ".join(f"{speed / 1e9:.0f}" for speed in speeds if speed)
        times = [f"{1e3 * result[kind][term['what']]:.1f}" for kind in ("floor", "floor_cached")]
        rows.append([term["what"], amount, term["rate"], f"{shown} {'G/s' if product else 'GB/s'}", *times])
    rows.append(
        ["floor", "", "", "", *(f"{1e3 * sum(result[kind].values()):.1f}" for kind in ("floor", "floor_cached"))]
    )
    rows.append(["measured (median)", "", "", "", *[f"{1e3 * statistics.median(result['epochs']):.1f}"] * 2])
    counts = result["counts"]
    return f"### {name}\n\n{counts['steps']:.1f} steps of {counts['batch']:,} rows.\n\n" + table(
        ["term", "amount a step", "rate", "measured", "ms an epoch", "in cache"], rows
    )


def text(about: dict[str, Any], origin: str, results: dict[str, dict[str, Any]]) -> str:
    """The whole result as Markdown."""
    users = max(r["users"] for r in results.values())
    parts = [
        "# Speed, memory and the floor",
        heading(about),
        f"Data: {origin}, {BABY.users:,} users, {BABY.items:,} items, {BABY.parts[0]:,} training rows; "
        f"features {BABY.image} + {BABY.text}; batch 2048, d = 64. An evaluation makes all representations, ranks all items "
        f"for the {users:,} users with a validation row, top 50, and computes six metrics at 5, 10, 20 and 50. Seconds are "
        "medians, “best” is the least disturbed epoch. “Floor” streams from memory, “in cache” as if all tables stayed in the "
        "last cache (see `benchmarks/floor.py`). Peak memory is that of the whole process; “of it data” stood before the "
        "model was built: libraries and data.",
        summary(results),
        "## The floors, term by term",
        "What is counted, and how speeds are measured, says `benchmarks/floor.py`. M is a million multiply-adds, G a billion.",
        *[account(name, r) for name, r in results.items() if r["floor"]],
    ]
    return "\n\n".join(parts)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--models", nargs="+", default=[model.name for model in MODELS])
    arguments.add_argument("--epochs", type=int, default=7, help="epochs timed, twice; the one before each is not")
    arguments.add_argument("--seconds", type=float, default=20.0, help="no epoch of a model begins later, twice")
    arguments.add_argument("--child", help="measure one model and print JSON")
    args = arguments.parse_args()
    if args.child:
        torch.set_num_threads(args.threads)
        dataset = data()
        print(json.dumps({"data": dataset.name, **measure(args.child, dataset, args.epochs, args.seconds)}))
        return
    about = describe(args.threads)
    results = {}
    for name in args.models:
        print(f"{name} …", flush=True)
        asked = [f"--{what}={getattr(args, what)}" for what in ("threads", "epochs", "seconds")]
        results[name] = child("benchmarks.speed", "--child", name, *asked)
    shown = text(about, next(iter(results.values()))["data"], results)
    print("\n" + shown)
    if args.write:
        print(f"\nwritten to {keep('speed', shown, {'about': about, 'size': vars(BABY), 'results': results})}")


if __name__ == "__main__":
    main()
