"""Does ``train.compile`` pay? Milliseconds of a training step with and without torch.compile, by turns.

    python -m benchmarks.compiled [--models layergcn apegnn …] [--steps 24] [--device cpu] [--write]

Data of Baby's size (``benchmarks.setting``), batch 2048, d = 64, each model's own defaults; Adam included. Plain and compiled
steps alternate on the same batches; the first eight of each are left out. ``first s``: what the first compiled step took,
which is compiling; PyTorch keeps what it compiled on disk, so that a second run of this pays less of it.
"""

from __future__ import annotations

import logging
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.setting import BABY, RESULTS, data, describe, heading, parser, table
from benchmarks.speed import assembled
from prismrec.data.dataset import Dataset
from prismrec.io import atomic
from prismrec.machine import memory_kept, pick_device
from prismrec.sampling import generator
from prismrec.train import TrainConfig, compiled, make_optimizer
from prismrec.types import Batch, Terms

_SKIPPED = 8


def measure(dataset: Dataset, name: str, steps: int, device: torch.device) -> dict[str, Any]:
    """Seconds of plain and of compiled steps, by turns, and of the first compiled one."""
    assembly, sampler = assembled(dataset, name, device=device)
    assembly.start_epoch(0, generator(0, device=device))
    optimizer = make_optimizer(assembly, TrainConfig())
    ways: dict[str, Callable[[Batch], Terms]] = {"plain": assembly.loss, "compiled": compiled(assembly)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _, batch in zip(range(steps + _SKIPPED), sampler.epoch(0), strict=False):
        for way, loss in ways.items():
            start = time.perf_counter()
            optimizer.zero_grad()
            objective = torch.stack(list(loss(batch).values())).sum()
            objective.backward()
            optimizer.step()
            objective.item()
            seconds[way].append(time.perf_counter() - start)
    return {"first": seconds["compiled"][0]} | {way: taken[_SKIPPED:] for way, taken in seconds.items()}


def text(about: dict[str, Any], device: str, origin: str, found: dict[str, dict[str, Any]]) -> str:
    """The page of results."""
    rows = []
    for name, r in found.items():
        plain, other = (statistics.median(r[way]) for way in ("plain", "compiled"))
        least = [f"{1e3 * min(r[way]):.1f}" for way in ("plain", "compiled")]
        cells = [
            f"{1e3 * plain:.1f}",
            f"{1e3 * other:.1f}",
            f"{100 * (other / plain - 1):+.0f} %",
            *least,
            f"{r['first']:.1f}",
        ]
        rows.append([name, *cells])
    header = ["model", "plain ms", "compiled ms", "change", "plain best", "compiled best", "first s"]
    said = f"On {device}. Data: {origin}; batch 2048, d = 64. Medians of a step, Adam included, and the least disturbed step. "
    said += "Where the load average says that the machine was busy, only the comparison counts: steps alternate."
    return "\n\n".join(["# Plain and compiled steps", heading(about), said, table(header, rows)])


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--models", nargs="+", default=["lightgcn", "layergcn", "apegnn", "mgdn"])
    arguments.add_argument("--steps", type=int, default=24)
    arguments.add_argument("--device", default="cpu")
    args = arguments.parse_args()
    logging.disable(logging.WARNING)  # of the compiler, which tells what it could not take in
    warnings.simplefilter("ignore")
    torch.set_num_threads(args.threads)
    about, device, dataset = describe(args.threads), pick_device(args.device), data(BABY)
    found = {}
    with memory_kept():
        for name in args.models:
            found[name] = measure(dataset, name, args.steps, device)
            torch.compiler.reset()
    shown = text(about, args.device, dataset.name, found)
    print(shown)
    if args.write:
        with atomic(RESULTS / "compiled.md") as path:
            path.write_text(shown + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
