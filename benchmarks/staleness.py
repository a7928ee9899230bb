"""How stale the hard negatives of ``chns`` get where representations are made anew every s steps only (``chns.refresh``).

    python -m benchmarks.staleness DATA_FOLDER [--data tiktok] [--models vbpr …] [--refresh 16] [--epochs 10] [--write]

While a model trains, each choice is made twice: by the representations kept, as training uses it, and by those of this very
step. For each age, in steps since they were made: the share of rows for which both choose the same item, and the share of
candidates that the exact scores put above the chosen one (0: always the hardest; 0.5: a choice at random).
"""

from __future__ import annotations

import argparse
import datetime
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.setting import RESULTS, table
from prismrec.assembly import Assembly
from prismrec.data.sources import read
from prismrec.experiment import assemble, configure
from prismrec.plugins.chns import CHNS
from prismrec.train import _train_epoch, make_optimizer
from prismrec.types import Batch, Reps

Found = dict[int, list[tuple[float, float]]]  # age → (share that agrees, share of candidates above) of each step


def watch(assembly: Assembly, found: Found) -> None:
    """Let the plug-in choose twice, and write down how the two choices differ."""
    (plugin,) = assembly.chain
    assert isinstance(plugin, CHNS)
    choose = plugin.pick

    def pick(batch: Batch, frozen: Callable[[], Reps]) -> Tensor:
        chosen = choose(batch, frozen)
        now = frozen()
        pool = batch.neg[:, : plugin.cfg.candidates]
        same, above = [], []
        for k, judge in enumerate(plugin._judges):
            scores = now.score(batch.user, pool, judge)
            of_chosen = scores.masked_fill(pool != chosen[:, k, None], -torch.inf).amax(1)  # by the same rounding
            above.append((scores > of_chosen[:, None]).float().mean())
            same.append((scores.amax(1) == of_chosen).float().mean())
        found[plugin.age - 1].append((float(torch.stack(same).mean()), float(torch.stack(above).mean())))
        return chosen

    plugin.pick = pick  # type: ignore[method-assign]


def measure(folder: Path, model: str, refresh: int, epochs: int) -> Found:
    """Train ``epochs`` epochs; ages of all of them together."""
    dataset = read(folder).development()
    settings = {"chns.refresh": refresh, **({"model.reg": 0.5} if model == "vbpr" else {})}
    cfg, _ = configure(dataset, model, ["chns"], settings=settings, protocol="mmrec", seed=999)
    assembly, sampler = assemble(cfg, dataset, torch.device("cpu"))
    found: Found = defaultdict(list)
    watch(assembly, found)
    optimizer = make_optimizer(assembly, cfg.train)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    for epoch in range(epochs):
        _train_epoch(assembly, sampler, optimizer, scaler, cfg.train, epoch, None)
    return found


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder that holds the data sets")
    parser.add_argument("--data", default="tiktok")
    parser.add_argument("--models", nargs="+", default=["br-mrs-backbone", "vbpr"])
    parser.add_argument("--refresh", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    ages = [0, *(2**k for k in range(10) if 2**k < args.refresh), args.refresh - 1]
    rows = []
    for model in args.models:
        found = measure(args.folder / args.data, model, args.refresh, args.epochs)
        means = {age: np.mean(steps, axis=0) for age, steps in found.items()}
        rows += [[model, str(age), f"{means[age][0]:.1%}", f"{means[age][1]:.2%}"] for age in ages if age in means]
    lines = [
        "# How stale cached hard negatives get",
        f"{datetime.date.today().isoformat()}. `chns` with {args.refresh} steps between representations, {args.epochs} epochs "
        f"on {args.data}, 16 candidates. What the columns mean says `benchmarks/staleness.py`.",
        table(["model", "steps since", "the same choice", "candidates above it"], rows),
    ]
    text = "\n\n".join(lines)
    print(text)
    if args.write:
        (RESULTS / "staleness.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
