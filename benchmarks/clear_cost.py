"""What CLEAR adds to an epoch of VBPR and of FREEDOM.

    python -m benchmarks.clear_cost [--pairs 24] [--threads 4] [--write]

In one process, an epoch without and an epoch with the plug-in, turn by turn, the order changed each time (A B, B A, …),
so that whatever disturbs the machine disturbs both. The answer is the median of the paired ratios, with the 95 %
interval of a bootstrap over pairs. An epoch is what ``fit`` calls one: after it come representations of all items,
which CLEAR's update at the start of the next epoch uses again, as in training.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.setting import child, data, describe, heading, keep, parser, table
from benchmarks.speed import assembled
from prismrec.data.dataset import Dataset
from prismrec.machine import memory_kept
from prismrec.train import TrainConfig, _train_epoch, make_optimizer

MODELS = ("vbpr", "freedom")


@dataclass
class Contender:
    """A model in training, one epoch at a time: ``trained`` and ``represented`` hold seconds of each epoch."""

    name: str
    dataset: Dataset
    batch_size: int = 2048
    trained: list[float] = field(default_factory=list)
    represented: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cfg = TrainConfig()
        self.assembly, self.sampler = assembled(self.dataset, self.name, self.batch_size)
        self.optimizer = make_optimizer(self.assembly, self.cfg)
        self.scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.assembly.represent()

    def train(self, number: int) -> None:
        """One epoch, as ``fit`` does it."""
        _train_epoch(self.assembly, self.sampler, self.optimizer, self.scaler, self.cfg, number, None)

    def epoch(self, number: int) -> None:
        """One epoch, and the representations that are made after it."""
        start = time.perf_counter()
        self.train(number)
        trained = time.perf_counter()
        self.assembly.represent()
        self.trained.append(trained - start)
        self.represented.append(time.perf_counter() - trained)


def measure(model: str, dataset: Dataset, pairs: int, batch_size: int = 2048) -> dict[str, Any]:
    """Seconds of ``pairs`` pairs of epochs, after one pair to warm up."""
    with memory_kept():
        plain, clear = (Contender(name, dataset, batch_size) for name in (model, f"{model}+clear"))
        for number in range(pairs + 1):
            for one in (plain, clear) if number % 2 else (clear, plain):
                one.epoch(number)
    return {
        "data": dataset.name,
        "plain": plain.trained[1:],
        "clear": clear.trained[1:],
        "represented_plain": plain.represented[1:],
        "represented_clear": clear.represented[1:],
    }


def ratio(plain: np.ndarray, clear: np.ndarray, draws: int = 10_000, seed: int = 0) -> tuple[float, float, float]:
    """Median of clear/plain over pairs, and the 95 % interval of that median by resampling pairs."""
    ratios = clear / plain
    chosen = np.random.default_rng(seed).integers(len(ratios), size=(draws, len(ratios)))
    low, high = np.quantile(np.median(ratios[chosen], axis=1), [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def text(about: dict[str, Any], results: dict[str, dict[str, Any]]) -> str:
    """The result as Markdown."""
    rows = []
    for model, r in results.items():
        plain, clear = np.array(r["plain"]), np.array(r["clear"])
        whole = plain + r["represented_plain"], clear + r["represented_clear"]
        for what, (a, b) in (("epoch", (plain, clear)), ("epoch and representations", whole)):
            middle, low, high = ratio(a, b)
            added = [f"{100 * (x - 1):+.1f} %" for x in (middle, low, high)]
            times = [f"{float(np.median(x)):.3f}" for x in (a, b)]
            rows.append([f"{model}, {what}", *times, added[0], f"{added[1]} … {added[2]}", str(len(a))])
    header = ["", "without s", "with s", "CLEAR adds", "95 % interval", "pairs"]
    intro = (
        "Pairs of epochs, one without and one with the plug-in, in changing order; the median of the paired ratios and its "
        f"bootstrap interval. Data: {next(iter(results.values()))['data']}, Baby's size (see `benchmarks/speed.py`). "
        "Wanted: at most 3 % of an epoch."
    )
    return "\n\n".join(["# What CLEAR costs", heading(about), intro, table(header, rows)])


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--pairs", type=int, default=24)
    arguments.add_argument("--child", help="measure one model and print JSON")
    args = arguments.parse_args()
    if args.child:
        torch.set_num_threads(args.threads)
        print(json.dumps(measure(args.child, data(), args.pairs)))
        return
    about = describe(args.threads)
    results = {}
    for model in MODELS:
        print(f"{model} …", flush=True)
        threads, pairs = str(args.threads), str(args.pairs)
        results[model] = child("benchmarks.clear_cost", "--child", model, "--threads", threads, "--pairs", pairs)
    shown = text(about, results)
    print("\n" + shown)
    if args.write:
        print(f"\nwritten to {keep('clear-cost', shown, {'about': about, 'results': results})}")


if __name__ == "__main__":
    main()
