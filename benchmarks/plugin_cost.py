"""What the plug-ins add to an epoch of their hosts, in per cent and in milliseconds a step.

    python -m benchmarks.plugin_cost [--cases clear:vbpr …] [--pairs 24] [--threads 4] [--write]

In one process, an epoch without and an epoch with the plug-in, turn by turn, the order changed each time (A B, B A, …), so
that whatever disturbs the machine disturbs both. The answer is the median of the paired ratios, with the 95 % interval of a
bootstrap over pairs. An epoch is what ``fit`` calls one: drawing of negatives, updates at its start, all steps. After it come
representations of all items, timed by themselves: what serving and evaluation pay.

*wide* features are as published (4096 image and 384 text numbers an item), *narrow* ones 128 and 128.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.setting import NARROW, WIDE, child, data, describe, heading, keep, parser, table
from prismrec.config import assign, resolve
from prismrec.data.dataset import Dataset
from prismrec.experiment import assemble
from prismrec.machine import memory_kept
from prismrec.recipes import expand
from prismrec.train import _train_epoch, make_optimizer

Settings = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A plug-in on a host: its settings, the features' widths and the wanted limit in per cent."""

    plugin: str
    host: str
    limit: float
    settings: Settings = field(default_factory=dict)
    features: str = "wide"
    note: str = ""

    @property
    def name(self) -> str:
        """As on the command line."""
        return ":".join([self.plugin, self.host, *([self.note] if self.note else [])])


CASES: tuple[Case, ...] = (
    Case("clear", "vbpr", 3),
    Case("clear", "freedom", 3),
    Case("clear", "clear-backbone", 3),
    Case("synergy", "vbpr", 3),
    Case("synergy", "freedom", 3),
    Case("synergy", "br-mrs-backbone", 3),
    Case("mrdib", "vbpr", 25),
    Case("mrdib", "freedom", 10),
    Case("mrdib", "mgcn", 10),
    Case("chns", "vbpr", 25, features="narrow", note="exact"),
    Case("chns", "freedom", 25, features="narrow", note="exact"),
    Case("chns", "br-mrs-backbone", 25, features="narrow", note="exact"),
    Case("chns", "vbpr", 40, {"chns.refresh": 16}, note="cached"),
    Case("chns", "freedom", 40, {"chns.refresh": 16}, note="cached"),
)


@dataclass
class Contender:
    """A model in training, one epoch at a time: ``trained`` and ``represented`` hold seconds of each epoch."""

    model: str
    plugins: tuple[str, ...]
    dataset: Dataset
    settings: Settings = field(default_factory=dict)
    trained: list[float] = field(default_factory=list)
    represented: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        tree = expand({"model": {"name": self.model}, "plugins": {name: {} for name in self.plugins}})
        for key, value in self.settings.items():
            tree = assign(tree, key, value)
        cfg = resolve(tree)
        self.cfg = cfg.train
        self.assembly, self.sampler = assemble(cfg, self.dataset.development(), torch.device("cpu"))
        self.optimizer = make_optimizer(self.assembly, self.cfg)
        self.scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.represent()

    def train(self, number: int) -> None:
        """One epoch, as ``fit`` does it."""
        _train_epoch(self.assembly, self.sampler, self.optimizer, self.scaler, self.cfg, number, None)

    def represent(self) -> int:
        """Representations of everybody; the bytes of the sides that an export holds."""
        reps = self.assembly.represent()
        sides = [reps.sides(m) for m in (None, *reps.modal)]
        return sum(user.nbytes + item.values.nbytes for user, item in sides)

    def epoch(self, number: int) -> None:
        """One epoch, and the representations that are made after it."""
        start = time.perf_counter()
        self.train(number)
        trained = time.perf_counter()
        self.exported = self.represent()
        self.trained.append(trained - start)
        self.represented.append(time.perf_counter() - trained)


def measure(case: Case, dataset: Dataset, pairs: int, extra: Settings | None = None) -> dict[str, Any]:
    """Seconds of ``pairs`` pairs of epochs, after one pair to warm up; bytes exported."""
    extra = extra or {}
    with memory_kept():
        plain = Contender(case.host, (), dataset, extra)
        ours = Contender(case.host, (case.plugin,), dataset, {**extra, **case.settings})
        for number in range(pairs + 1):
            for one in (plain, ours) if number % 2 else (ours, plain):
                one.epoch(number)
    return {
        "data": dataset.name,
        "steps": len(plain.sampler),
        "plain": plain.trained[1:],
        "with": ours.trained[1:],
        "represented_plain": plain.represented[1:],
        "represented_with": ours.represented[1:],
        "exported": [plain.exported, ours.exported],
    }


def ratio(plain: np.ndarray, ours: np.ndarray, draws: int = 10_000, seed: int = 0) -> tuple[float, float, float]:
    """Median of ours/plain over pairs, and the 95 % interval of that median by resampling pairs."""
    ratios = ours / plain
    chosen = np.random.default_rng(seed).integers(len(ratios), size=(draws, len(ratios)))
    low, high = np.quantile(np.median(ratios[chosen], axis=1), [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def text(about: dict[str, Any], results: dict[str, dict[str, Any]]) -> str:
    """The result as Markdown."""
    rows = []
    for case in CASES:
        if case.name not in results:
            continue
        r = results[case.name]
        plain, ours = np.array(r["plain"]), np.array(r["with"])
        added = [f"{100 * (x - 1):+.1f} %" for x in ratio(plain, ours)]
        step = float(np.median(ours - plain)) / r["steps"] * 1000
        inference, *_ = ratio(np.array(r["represented_plain"]), np.array(r["represented_with"]))
        same = "same" if r["exported"][0] == r["exported"][1] else f"{r['exported'][1] / r['exported'][0]:.2f}×"
        times = [f"{float(np.median(x)):.3f}" for x in (plain, ours)]
        name = f"{case.plugin} on {case.host}, {case.features}{', ' + case.note if case.note else ''}"
        rows.append([name, *times, added[0], f"{added[1]} … {added[2]}", f"≤ {case.limit:g} %", f"{step:+.2f}",
                     f"{100 * (inference - 1):+.1f} %", same, str(len(plain))])  # fmt: skip
    header = [
        "",
        "without s",
        "with s",
        "adds",
        "95 % interval",
        "wanted",
        "ms a step",
        "representations",
        "export",
        "pairs",
    ]
    intro = (
        "Pairs of epochs, one without and one with the plug-in, in changing order; the median of the paired ratios and its "
        f"bootstrap interval. Interactions: {next(iter(results.values()))['data']}, Baby's size; *wide* features are 4096 + "
        "384 numbers an item, *narrow* ones 128 + 128. *representations*: what a full projection and propagation of "
        "everybody takes more, median of pairs; *export*: size of what is exported."
    )
    return "\n\n".join(["# What the plug-ins cost", heading(about), intro, table(header, rows)])


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--pairs", type=int, default=24)
    arguments.add_argument("--cases", nargs="*", default=[case.name for case in CASES])
    arguments.add_argument("--child", help="measure one case and print JSON")
    args = arguments.parse_args()
    cases = {case.name: case for case in CASES}
    if args.child:
        torch.set_num_threads(args.threads)
        case = cases[args.child]
        print(json.dumps(measure(case, data(NARROW if case.features == "narrow" else WIDE), args.pairs)))
        return
    about = describe(args.threads)
    results = {}
    for name in args.cases:
        print(f"{name} …", flush=True)
        threads, pairs = str(args.threads), str(args.pairs)
        results[name] = child("benchmarks.plugin_cost", "--child", name, "--threads", threads, "--pairs", pairs)
        print(text(about, {name: results[name]}).splitlines()[-1], flush=True)
        if args.write:  # after each case: all of them take long
            keep("plugin-cost", text(about, results), {"about": about, "results": results})
    print("\n" + text(about, results))


if __name__ == "__main__":
    main()
