"""What a size costs: 10⁵ to 10⁸ interactions through drawing, preparation, item graph and training, on one machine.

    python -m benchmarks.scale run --folder DIR [--sizes 5 6 7 8] [--only train-bpr …] [--dims 16 64] [--threads 4]
    python -m benchmarks.scale page                # writes the tables and the figure of docs/scale.md

A size N has N/10 users and N/100 items before its 5-core, and features of width 512. Every stage runs in a process of its own
and leaves a file in ``benchmarks/results/scale``; what is there is not run again, so that an interrupted round goes on. DIR
takes 5 GB for 10⁸. A step of training is a large batch, 2048 rows for 10⁵ and 2²⁰ for 10⁸, so that an epoch has a similar
number of steps at every size. Threads wait without spinning (``OMP_WAIT_POLICY=PASSIVE``): on a machine that does other
things too, spinning costs more than the work.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.setting import RESULTS, ROOT, describe

MODELS = ("bpr", "lightgcn", "vbpr", "freedom")
SIZES = (5, 6, 7, 8)
BATCH = {5: 1 << 11, 6: 1 << 14, 7: 1 << 17, 8: 1 << 20}
STEPS = {5: 20, 6: 20, 7: 10, 8: 4}
FOLDER = RESULTS / "scale"


def stages(power: int, dims: list[int]) -> dict[str, list[str]]:
    """Name of a stage → the arguments of its process, in order."""
    plan = {name: [name] for name in ("draw", "prepare", "graph")}
    for dim in dims:
        for model in MODELS:
            plan[f"train-{model}-{dim}"] = ["train", model, str(dim), str(BATCH[power]), str(STEPS[power])]
    return plan


def run(args: argparse.Namespace) -> None:
    """All stages of all sizes that have not left their file yet."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for power in args.sizes:
        folder = args.folder / f"1e{power}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, arguments in stages(power, args.dims).items():
            path = FOLDER / f"1e{power}-{name}.json"
            if path.exists() or (args.only and not any(name.startswith(only) for only in args.only)):
                continue
            print(f"1e{power} {name} …", flush=True)
            found = child(power, folder, arguments, args.threads)
            if found is None:
                print(f"1e{power} {name} failed", flush=True)
                continue
            about = describe(args.threads) | {"command": "python -m benchmarks.scale run --folder DIR"}
            path.write_text(json.dumps({"size": 10**power, **found, "about": about}, indent=1) + "\n", encoding="utf-8")
            laps = ", ".join(f"{lap} {seen['seconds']:g} s" for lap, seen in found["laps"].items())
            print(f"  {laps}; at most {found['peak_mb']:,.0f} MB", flush=True)


def child(power: int, folder: Path, arguments: list[str], threads: int) -> dict[str, Any] | None:
    """What a stage found; None if its process was killed, for lack of memory as a rule."""
    command = [sys.executable, "-m", "benchmarks.scale", "stage", str(power), str(folder), *arguments]
    settings = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "POLARS_MAX_THREADS": str(threads)}
    settings["PRISMREC_CACHE"] = str(folder / "cache")
    done = subprocess.run(
        command, check=False, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, **settings}
    )
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def stage(args: argparse.Namespace) -> None:
    """One stage, in this process; prints JSON."""
    import torch

    from benchmarks import scale_stages

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    name, *more = args.stage
    numbers = [int(text) if text.isdecimal() else text for text in more]
    print(json.dumps(getattr(scale_stages, name)(10**args.power, args.folder, *numbers)))


def written(args: argparse.Namespace) -> None:
    """The tables and the figure."""
    from benchmarks import scale_page

    scale_page.write()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    ran = commands.add_parser("run", help="run what has not been run yet")
    ran.add_argument("--folder", type=Path, required=True, help="where data is drawn to")
    ran.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=list(SIZES), help="powers of ten")
    ran.add_argument("--only", nargs="+", help="stages whose names start like this")
    ran.add_argument("--dims", type=int, nargs="+", default=[16], help="widths d to train with")
    ran.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    ran.set_defaults(run=run)
    one = commands.add_parser("stage", help="one stage, in this process")
    one.add_argument("power", type=int)
    one.add_argument("folder", type=Path)
    one.add_argument("stage", nargs="+")
    one.set_defaults(run=stage)
    page = commands.add_parser("page", help="write tables and figure")
    page.set_defaults(run=written)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
