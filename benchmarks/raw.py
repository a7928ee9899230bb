"""Reading raw reviews: seconds and peak memory from a packed file to a split data set, beside parsing its JSON alone.

    python benchmarks/raw.py 1200000 [--times 5] [--rounds 3] [--folder DIR]

Draws a file of so many reviews (once, kept in DIR), with degrees like those of Amazon's. Prepares it and the file ``--times``
as long (the same again and again, which gzip allows), each in a process of its own, in turn with the floor: unpacking and
``json.loads``. Prints Markdown.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np


def draw(path: Path, n: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    words = np.array([f"word{k}" for k in range(5000)])
    users = np.minimum((rng.pareto(1.1, n) * 9000).astype(int), 530_000)
    items = np.minimum((rng.pareto(1.0, n) * 900).astype(int), 70_000)
    with gzip.open(path, "wt", compresslevel=5) as file:
        for k in range(n):
            review = {
                "reviewerID": f"A{users[k]:013d}", "asin": f"B{items[k]:09d}", "reviewerName": "Some One", "helpful": [0, 1],
                "reviewText": " ".join(words[rng.integers(0, 5000, 70)]), "overall": float(rng.integers(1, 6)),
                "summary": "fine", "unixReviewTime": 1_300_000_000 + k * 100, "reviewTime": "07 15, 2013",
            }  # fmt: skip
            file.write(json.dumps(review) + "\n")


def floor(path: Path) -> None:
    with gzip.open(path) as file:
        for line in file:
            json.loads(line)


def prepared(path: Path) -> None:
    from prismrec.data import splits, store
    from prismrec.data.raw import prepare
    from prismrec.data.raw_lines import Reading

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        found = prepare("amazon", [path], Reading(Path(folder) / "blocks"), k_core=(5, 5))
        store.save(splits.by_ratio(found.dataset), Path(folder) / "data")


JOBS = {"floor": floor, "prepared": prepared}


def child(job: str, path: Path) -> None:
    start, computed = time.perf_counter(), time.process_time()
    JOBS[job](path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e3 if sys.platform != "darwin" else 1e6)
    print(json.dumps([time.perf_counter() - start, time.process_time() - computed, peak]))


def measured(job: str, path: Path) -> list[float]:
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "PYTHONPATH": root}
    words = [sys.executable, __file__, "0", "--child", job, "--path", str(path)]
    done = subprocess.run(words, check=True, capture_output=True, env=environment, text=True)
    found: list[float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reviews", type=int)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--child", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.path)
        return
    one = args.folder / f"prismrec-reviews-{args.reviews}.json.gz"
    if not one.exists():
        draw(one, args.reviews)
    many = one.with_name(f"prismrec-reviews-{args.reviews}-x{args.times}.json.gz")
    with many.open("wb") as file:
        for _ in range(args.times):
            with one.open("rb") as part:
                shutil.copyfileobj(part, file)
    print("# Reading raw reviews\n")
    print(f"`python benchmarks/raw.py {args.reviews} --times {args.times} --rounds {args.rounds}`\n")
    load = f"load average at the start {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {len(os.sched_getaffinity(0))} cores, one thread, {load}.\n")
    print(
        "From the packed file to a split data set, the 5-core, beside unpacking and parsing its JSON alone; median (range).\n"
    )
    print("| reviews | packed | seconds | seconds computed | of the floor, computed | peak memory |")
    print("|---|---|---|---|---|---|")
    for path, n, rounds in ((one, args.reviews, args.rounds), (many, args.reviews * args.times, 1)):
        pairs = [(measured("floor", path), measured("prepared", path)) for _ in range(rounds)]
        ours = np.array([pair[1] for pair in pairs])
        ratio = [pair[1][1] / pair[0][1] for pair in pairs]
        cells = [f"{n:,}", f"{path.stat().st_size / 1e9:.2f} GB", spread(ours[:, 0]), spread(ours[:, 1]), spread(ratio)]
        print("| " + " | ".join([*cells, f"{ours[:, 2].max():,.0f} MB"]) + " |", flush=True)
    many.unlink()


def spread(values: np.ndarray | list[float]) -> str:
    """``1.23 (1.10 to 1.40)``."""
    middle = f"{np.median(values):.2f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
