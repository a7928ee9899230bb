"""An export in use, without torch: exact lists in bulk, one list at a time among a million items, start-up and memory.

    python -m benchmarks.serving_index [bulk|million|start|bits] [--threads 2] [--items 1000000] [--write]

**bulk**: 20,000 users × 7,000 items × 64, top 20, seen items left out. The floor is what no exact way can do without: the
matrix product of the same blocks on the same threads, and one look at each score (the maximum of each row). Beside it: the
product and a partition of whole rows, as one writes it down first; faiss' flat index; the ranking that evaluation uses. Lines
take turns, and the best of each is printed with the median.

**million**: 1,000,000 × 64, one user after another, by each approximate index, beside the same index of plain faiss or usearch
without ids, titles, seen items and exact scores; recall@20 against exact lists.

**start**: a fresh process from nothing to its first list, and the memory that the export takes in it.

**bits**: lists and size with float16 and int8. What they cost in recall ``prismrec export`` measures, on the data of the run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.timing import rounds
from prismrec.data.ids import IdMap
from prismrec.export import Shelf, ann
from prismrec.export.score import _one_thread_kernels
from prismrec.export.tables import Dense, Seen, Side

RESULTS = Path(__file__).parent / "results"
K = 20


def drawn(n_users: int, n_items: int, width: int, seed: int = 0) -> Shelf:
    """Representations as trained ones are: most of their spread on a few directions, and lengths that differ."""
    rng = np.random.default_rng(seed)
    axes = rng.standard_normal((16, width), dtype=np.float32)

    def table(n: int) -> Dense:
        values = rng.standard_normal((n, 16), dtype=np.float32) @ axes
        values += 0.3 * rng.standard_normal((n, width), dtype=np.float32) * np.sqrt(16)
        return Dense(values * rng.lognormal(0, 0.2, (n, 1)).astype(np.float32))

    counts = rng.poisson(8, n_users)
    indices = (n_items * rng.random(int(counts.sum())) ** 2).astype(np.int32)
    seen = Seen(np.concatenate([[0], np.cumsum(counts)]), indices)
    users, items = (pl.Series(w, np.arange(n)).cast(pl.String) for w, n in (("user", n_users), ("item", n_items)))
    popularity = np.bincount(indices, minlength=n_items)
    frame = pl.DataFrame({"item": items, "title": "item " + items})
    side = Side(table(n_users), table(n_items))
    return Shelf(IdMap(users, "user"), IdMap(items), {"fused": side}, seen, popularity, frame)


# bulk


def bulk(threads: int, repeats: int = 15, n_users: int = 20_000, n_items: int = 7_000) -> None:
    from dataclasses import replace

    shelf = replace(drawn(n_users, n_items, 64), threads=threads)
    side = shelf.sides["fused"]
    assert isinstance(side.user, Dense) and isinstance(side.item, Dense)
    user, item = side.user.stored, side.item.stored
    everybody = shelf.users.external
    lines: dict[str, Callable[[], object]] = {
        "floor: the product and one look at each score": lambda: _blocks(user, item, threads, lambda b: b.max(axis=1)),
        "the product alone": lambda: _blocks(user, item, threads, lambda b: None),
        "Shelf.lists: seen items out, exact, ties in order": lambda: shelf.lists(everybody, K),
        "Shelf.recommend: the same as a table of ids": lambda: shelf.recommend(everybody, K),
        "product and partition of whole rows": lambda: _blocks(user, item, threads, _partition),
    }
    with contextlib.suppress(ImportError):
        import faiss

        flat = faiss.IndexFlatIP(64)
        flat.add(item)
        faiss.omp_set_num_threads(threads)
        lines["faiss IndexFlatIP, nothing left out"] = lambda: flat.search(user, K)
    lines |= _by_torch(shelf, threads)
    seconds = rounds(lines, repeats)
    base = min(seconds["floor: the product and one look at each score"])
    print(f"{n_users:,} users × {n_items:,} items × 64, top {K}, {threads} threads")
    print(f"{'':52}{'best s':>8}{'median s':>10}{'users/s':>10}{'× floor':>9}")
    for name, values in seconds.items():
        best = min(values)
        print(f"{name:52}{best:8.3f}{np.median(values):10.3f}{n_users / best:10,.0f}{best / base:9.2f}")


def _blocks(user: np.ndarray, item: np.ndarray, threads: int, look: Callable[[np.ndarray], object]) -> None:
    """The product in the blocks that the Shelf uses, by as many threads."""
    rows = (1 << 20) // len(item)

    def work(number: int) -> None:
        buffer = np.empty((rows, len(item)), np.float32)
        for start in range(number * rows, len(user), threads * rows):
            part = user[start : start + rows]
            look(np.matmul(part, item.T, out=buffer[: len(part)]))

    with _one_thread_kernels(), ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))


def _partition(block: np.ndarray) -> np.ndarray:
    at = np.argpartition(block, -K, axis=1)[:, -K:]
    order = np.argsort(-np.take_along_axis(block, at, 1), axis=1)
    return np.take_along_axis(at, order, 1)


def _by_torch(shelf: Shelf, threads: int) -> dict[str, Callable[[], object]]:
    import torch

    from prismrec.ranking import Csr, top_k

    torch.set_num_threads(threads)
    side = shelf.sides["fused"]
    assert isinstance(side.user, Dense) and isinstance(side.item, Dense)
    user, item = torch.from_numpy(side.user.stored), torch.from_numpy(side.item.stored)
    seen = Csr(torch.from_numpy(shelf.seen.indptr), torch.from_numpy(shelf.seen.indices).long())
    return {"prismrec.ranking.top_k (torch), seen items out": lambda: top_k(user, item, K, seen)}


# one list among a million


def million(n_items: int, threads: int, kinds: list[str], asked: int = 2000) -> None:
    from dataclasses import replace

    shelf = replace(drawn(20_000, n_items, 64), threads=1)
    side = shelf.sides["fused"]
    assert isinstance(side.user, Dense) and isinstance(side.item, Dense)
    sample = side.user.stored[-1000:]
    print(f"{n_items:,} items × 64, top {K}, one user at a time, one thread; {asked:,} lists each")
    print(f"{'':34}{'build s':>9}{'effort':>8}{'recall':>8}{'median ms':>11}{'p99 ms':>8}{'× plain':>9}")
    few = max(20, asked // 40)
    exact = _each(lambda u: shelf.lists([str(u)], K, exact=True).rows(), few)
    print(f"{'exact':34}{'':9}{'':8}{1:8.4f}{np.median(exact) * 1e3:11.2f}{np.quantile(exact, 0.99) * 1e3:8.2f}")
    for kind in kinds:
        start = time.perf_counter()
        near = ann.build(side.item, sample, kind, K, threads=threads)
        took = time.perf_counter() - start
        with_near = replace(shelf, near=near)
        mine, plain = _by_turns(with_near, near, side.user.stored, asked)
        recall = _recall(with_near, 300)
        ratio = np.median(mine) / np.median(plain)
        for name, values, told in (
            (f"Shelf.lists, {kind}", mine, f"{recall:8.4f}"),
            (f"plain {kind}", plain, f"{'':8}"),
        ):
            print(
                f"{name:34}{took:9.0f}{near.effort:8}{told}{np.median(values) * 1e3:11.2f}"
                f"{np.quantile(values, 0.99) * 1e3:8.2f}{ratio if name.startswith('Shelf') else 1:9.2f}"
            )


def _by_turns(shelf: Shelf, near: ann.Near, user: np.ndarray, asked: int) -> tuple[list[float], list[float]]:
    """Seconds of each list of the Shelf, and of each search of the library alone, a hundred of each by turns."""
    kind = ann.KINDS[near.kind]
    wide, search = np.pad(user, ((0, 0), (0, int(kind.widened)))), kind.search
    mine: list[float] = []
    plain: list[float] = []
    for first in range(0, asked, 100):
        mine += _each(lambda u: shelf.lists([str(u)], K).rows(), 100, first)
        plain += _each(lambda u: search(near.index, wide[u : u + 1], K, near.effort), 100, first)
    return mine, plain


def _each(ask: Callable[[int], object], n: int, first: int = 0) -> list[float]:
    ask(first)
    seconds = []
    for u in range(first, first + n):
        start = time.perf_counter()
        ask(u)
        seconds.append(time.perf_counter() - start)
    return seconds


def _recall(shelf: Shelf, n: int) -> float:
    """Of users that the effort was not chosen by."""
    who = shelf.users.external[:n]
    found, exact = shelf.lists(who, K).items, shelf.lists(who, K, exact=True).items
    return float(np.mean([len(np.intersect1d(a, b)) for a, b in zip(found, exact, strict=True)])) / K


# start-up and memory


_START = """
import os, sys, time
start = time.perf_counter()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
import numpy, polars
import prismrec.export
from benchmarks.timing import rounds
from prismrec.data.ids import IdMap
IdMap(polars.Series(["a", "b"])).find(["a"]); (numpy.ones((64, 64)) @ numpy.ones((64, 64)))
imported, before = time.perf_counter() - start, resident()
shelf = prismrec.export.Shelf.load(sys.argv[1])
loaded = time.perf_counter() - start
shelf.lists([shelf.users.external[3]], 20).rows()
first = time.perf_counter() - start
for i in range(0, 300, 10):
    shelf.lists(shelf.users.external[i : i + 10], 20).rows()
print(imported, loaded, first, resident() - before)
"""


def start(n_items: int, repeats: int = 2) -> None:
    """Memory is what the process takes more after 300 lists than after its imports; the last column leaves out what an export
    of 50 users and items takes, which is mostly the reader of Parquet.
    """
    print(
        f"{'':38}{'export MB':>10}{'imports s':>11}{'loaded s':>10}{'first list s':>14}{'memory MB':>11}{'× export':>10}"
    )
    empty = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for users, items, dtype in (
            (50, 50, "float32"), (20_000, 7_000, "float32"), (20_000, 7_000, "int8"), (200_000, n_items, "float32"),
            (200_000, n_items, "float16"),
        ):  # fmt: skip
            path = Path(folder) / f"{items}-{dtype}"
            shelf = drawn(users, items, 64)
            (shelf if dtype == "float32" else shelf.stored_as(dtype)).save(path)  # type: ignore[arg-type]
            size = sum(file.stat().st_size for file in path.iterdir())
            told = [_started(path) for _ in range(repeats)]
            imports, loaded, first, memory = (min(values) for values in zip(*told, strict=True))
            empty = empty or memory
            share = f"{(memory - empty) / size:10.2f}" if memory > empty else ""
            print(
                f"{f'{users:,} users × {items:,} items, {dtype}':38}{size / 1e6:10.1f}{imports:11.2f}{loaded:10.2f}"
                f"{first:14.2f}{memory / 1e6:11.1f}{share}"
            )


def _started(path: Path) -> list[float]:
    done = subprocess.run([sys.executable, "-c", _START, str(path)], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


# bits


def bits() -> None:
    shelf = drawn(20_000, 7_000, 64)
    who = shelf.users.external[:3000]
    exact = shelf.lists(who, K).items
    print(f"{'':12}{'embeddings MB':>14}{f'of the first {K}':>18}")
    for dtype in ("float32", "float16", "int8"):
        small = shelf.stored_as(dtype)  # type: ignore[arg-type]
        found = small.lists(who, K).items
        kept = np.mean([len(np.intersect1d(a, b)) for a, b in zip(found, exact, strict=True)]) / K
        tables = (small.sides["fused"].user, small.sides["fused"].item)
        size = sum(array.nbytes for table in tables for array in table.tensors("x").values())
        print(f"{dtype:12}{size / 1e6:14.2f}{kept:18.4%}")


class _Both(io.StringIO):
    """What is printed, kept and shown at once."""

    def write(self, text: str) -> int:
        assert sys.__stdout__ is not None
        sys.__stdout__.write(text)
        sys.__stdout__.flush()
        return super().write(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("parts", nargs="*", default=["bulk", "start", "bits", "million"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--build-threads", type=int, default=2)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--kinds", default="ivf,hnsw,usearch")
    parser.add_argument("--write", action="store_true", help="keep the result, with its date")
    given = parser.parse_args()
    run = {
        "bulk": lambda: bulk(given.threads),
        "million": lambda: million(given.items, given.build_threads, given.kinds.split(",")),
        "start": lambda: start(given.items),
        "bits": bits,
    }
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    said = [
        f"{date.today().isoformat()}, {platform.machine()}, {os.cpu_count()} cores, load average {load:.1f} at the start"
    ]
    print(said[0], flush=True)
    for part in given.parts:
        print(f"\n{part}")
        out = _Both()
        with contextlib.redirect_stdout(out):
            run[part]()
        said.append(f"## {part}\n\n```\n{out.getvalue()}```")
    if given.write:
        path = RESULTS / f"serving-index-{date.today().isoformat()}.md"
        command = f"`python -m benchmarks.serving_index {' '.join(given.parts)} --threads {given.threads}`"
        path.write_text("\n\n".join(["# An export in use, without torch", command, *said]) + "\n")


if __name__ == "__main__":
    main()
