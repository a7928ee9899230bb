"""Preparation at scale: power-law interactions as Parquet → read, duplicates, 5-core, random split, save.

    python benchmarks/prepare_scale.py 20000000 [--folder DIR] [--text-ids]

Prints the seconds of each step and the peak resident memory of the process that prepares (a child of its own, so that drawing
the data does not count). The log is drawn once in row groups and kept in DIR (default: the system's temporary folder).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl


def draw(path: Path, n_rows: int, text_ids: bool, seed: int = 0) -> None:
    """One user per ten rows, one item per hundred; both degrees follow a power law; some pairs repeat; a rating and a time."""
    rng = np.random.default_rng(seed)
    n_users, n_items = max(n_rows // 10, 10), max(n_rows // 100, 10)
    user = rng.permutation(n_users)[(n_users * rng.random(n_rows) ** 2.5).astype(np.int64)]
    item = rng.permutation(n_items)[(n_items * rng.random(n_rows) ** 4).astype(np.int64)]
    frame = pl.DataFrame(
        {
            "uid": user,
            "sku": item,
            "rating": rng.integers(1, 6, n_rows).astype(np.float32),
            "timestamp": rng.integers(1_600_000_000, 1_700_000_000, n_rows),
        }
    )
    if text_ids:
        frame = frame.with_columns(
            pl.format("A{}", pl.col("uid").cast(pl.String).str.zfill(13)).alias("uid"),
            pl.format("B{}", pl.col("sku").cast(pl.String).str.zfill(9)).alias("sku"),
        )
    frame.write_parquet(path, row_group_size=1_000_000)


def prepare(path: Path, out: Path) -> None:
    """Run and time the steps; prints one line of JSON."""
    from prismrec.data import prepare, splits, store
    from prismrec.data.sources import read

    seconds: dict[str, float] = {}
    start = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal start
        seconds[name] = round(time.perf_counter() - start, 2)
        start = time.perf_counter()

    dataset = read(path, user="uid", item="sku")
    lap("read and map ids")
    dataset = prepare.drop_duplicates(dataset, "last")
    lap("duplicates")
    dataset = prepare.core(dataset, 5, 5)
    lap("5-core")
    dataset = splits.by_ratio(dataset, seed=0)
    lap("split")
    store.save(dataset, out)
    lap("save")
    # Linux counts kilobytes, macOS bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform != "darwin" else 1e9)
    print(
        json.dumps(
            {
                "seconds": seconds,
                "total": round(sum(seconds.values()), 1),
                "peak_gb": round(peak, 2),
                "left": [dataset.n_users, dataset.n_items, len(dataset.interactions)],
                "fingerprint": dataset.fingerprint,
            }
        )
    )


def main() -> None:
    """Draw the log if it is not there, then prepare it in a child process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--text-ids", action="store_true")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    log = args.folder / f"prismrec-log-{args.rows}{'-text' if args.text_ids else ''}.parquet"
    if args.child:
        prepare(log, args.child)
        return
    if not log.exists():
        draw(log, args.rows, args.text_ids)
    print(f"{log}: {args.rows:,} rows, {log.stat().st_size / 1e6:,.0f} MB", flush=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as out:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--child", str(Path(out) / "data")], check=True)


if __name__ == "__main__":
    main()
