"""The item graph at scale: features → exact neighbour lists → normalised sparse graph with its transpose; seconds and memory.

    python benchmarks/knn_scale.py [250000] [--width 512] [--k 10] [--dtype float32] [--memory] [--check 200] [--threads N]

Features are a memory-mapped ``.npy`` file, as a data set holds them (``--memory``: an array in memory). The figure that counts
is the peak resident memory of the process less the size of the features; it includes Python and PyTorch themselves, whose
share is printed. ``--check`` compares the lists of so many items with a search in double precision. Beside the seconds stands
the floor: one matrix product of the same operations at the speed that this machine shows on a large square one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MB = 2**20


def draw(path: Path, items: int, width: int, dtype: str, seed: int = 0) -> None:
    """Items around a thousand centres, so that neighbours are neighbours; written in blocks."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((1000, width), dtype=np.float32)
    table = np.lib.format.open_memmap(path, "w+", dtype, (items, width))
    for start in range(0, items, 8192):
        n = min(8192, items - start)
        block = centres[rng.integers(0, len(centres), n)]
        table[start : start + n] = block + 0.7 * rng.standard_normal((n, width), dtype=np.float32)
    table.flush()


def peak_mb() -> float:
    """The most memory that this process has held, in MB of 2²⁰ bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MB if sys.platform == "darwin" else peak / 1024


def search(path: Path, k: int, mapped: bool, threads: int, check: int) -> None:
    """Build the graph and print one line of JSON."""
    import torch

    from prismrec import graphs

    torch.set_num_threads(threads)
    torch.ones(8, 8) @ torch.ones(8, 8)
    start_mb = peak_mb()
    array = np.load(path, mmap_mode="c" if mapped else None)
    values, present = torch.from_numpy(array), torch.ones(len(array), dtype=torch.bool)
    start = time.perf_counter()
    ids, _ = graphs.knn(values, present, k)
    searched = time.perf_counter()
    graph = graphs.ItemGraph(graphs.knn_matrix(ids))
    done = time.perf_counter()
    report = {
        "entries": len(graph.matrix.values),
        "seconds search": round(searched - start, 2),
        "seconds graph": round(done - searched, 2),
        "features MB": round(array.nbytes / MB, 1),
        "peak MB": round(peak_mb(), 1),
        "of it before the features": round(start_mb, 1),
        "peak beyond the features MB": round(peak_mb() - array.nbytes / MB, 1),
    }
    report["floor seconds"] = round(2 * len(array) ** 2 * array.shape[1] / speed(torch), 2)
    report["wrong lists"] = wrong(array, ids.numpy(), check)
    print(json.dumps(report))


def speed(torch: object) -> float:
    """Floating-point operations per second of a large matrix product, the best of three."""
    a = torch.randn(2048, 2048)  # type: ignore[attr-defined]
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(seconds)


def wrong(array: np.ndarray, ids: np.ndarray, check: int) -> int:
    """How many of ``check`` random items have a neighbour that a search in double precision puts clearly behind another."""
    rng = np.random.default_rng(1)
    chosen = rng.choice(len(array), min(check, len(array)), replace=False)
    query = np.asarray(array[chosen], dtype=np.float64)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    cosine = np.empty((len(chosen), len(array)))
    for start in range(0, len(array), 16384):
        block = np.asarray(array[start : start + 16384], dtype=np.float64)
        cosine[:, start : start + len(block)] = query @ (block / np.linalg.norm(block, axis=1, keepdims=True)).T
    best = -np.sort(-cosine, axis=1)[:, : ids.shape[1]]
    found = np.take_along_axis(cosine, ids[chosen], axis=1)
    return int((np.abs(found - best) > 1e-5).any(axis=1).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", type=int, nargs="?", default=250_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--check", type=int, default=200)
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    parser.add_argument("--search", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.search:
        search(args.search, args.k, not args.memory, args.threads, args.check)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npy"
        draw(path, args.items, args.width, args.dtype)
        command = [sys.executable, __file__, "--search", str(path), *sys.argv[1:]]
        report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(
        f"{args.items:,} items × {args.width} {args.dtype}, k = {args.k}, {args.threads} threads, {platform.machine()}"
    )
    for name, value in report.items():
        print(f"  {name:32}{value:>14,}")


if __name__ == "__main__":
    main()
