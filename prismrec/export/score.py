"""The k best items of queries, exactly, block by block: a matrix product into a reused buffer, −∞ where masked, then top-k.

Queries are vectors, (n, d) float32 or sparse, for a table of items; several pairs of both add up to one score. With more
than one block, threads work on blocks of their own, each with one-thread kernels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from prismrec.export import topk
from prismrec.export.tables import Dense, Seen, Table
from prismrec.machine import available_cores

_BLOCK = 1 << 20  # scores of a block: 4 MiB, which stays in cache
_MIN_ROWS, _MAX_ROWS = 16, 1024
_ALL_CORES = threading.Lock()


@dataclass(frozen=True)
class Part:
    """One term of a score: ⟨query, item⟩, times ``factor`` (I,) of the item where one is given.

    ``queries``: (n, d) float32, or a SciPy CSR array.
    """

    queries: Any
    items: Table
    factor: np.ndarray | None = None


def best(
    parts: Sequence[Part], k: int, masked: Seen | None = None, columns: np.ndarray | None = None, threads: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` best items of each query → items (n, k) int64, scores (n, k) float32: best first, then catalogue order.

    ``masked``: items never to be listed, a row for each query. ``columns``: the only items to choose from, ascending.
    Places for which no item is left hold −1 and −∞. ``threads``: 0 takes what ``OMP_NUM_THREADS`` allows, else all cores.
    """
    n, dropped = parts[0].queries.shape[0], None
    if columns is not None and 2 * len(columns) > len(parts[0].items):  # most are left: leaving some out costs less
        left = np.ones(len(parts[0].items), bool)
        left[columns] = False
        columns, dropped = None, np.flatnonzero(left)
    scorers = [_scorer(part, columns) for part in parts]
    n_items = len(parts[0].items) if columns is None else len(columns)
    found = np.full((n, k), -1, np.int64), np.full((n, k), -np.inf, np.float32)
    take = min(k, n_items)
    if not take or not n:
        return found
    if masked is not None and columns is not None:
        masked = _among(masked, columns, len(parts[0].items))
    levels, width = topk.layout(n_items, take)
    rows = min(n, max(_MIN_ROWS, min(_MAX_ROWS, _BLOCK // width)))

    def work(start: int, stop: int, buffer: np.ndarray) -> None:
        block = buffer[: stop - start]
        scorers[0](start, stop, block[:, :n_items])
        for scorer in scorers[1:]:
            more = np.empty((stop - start, n_items), np.float32)
            scorer(start, stop, more)
            block[:, :n_items] += more
        block[:, n_items:] = -np.inf
        if dropped is not None:
            block[:, dropped] = -np.inf
        if masked is not None:
            ends = masked.indptr[start : stop + 1]
            row = np.repeat(np.arange(stop - start), np.diff(ends))
            block[row, masked.indices[ends[0] : ends[-1]]] = -np.inf
        at, values = topk.best(block, n_items, take, levels)
        found[0][start:stop, :take] = at if columns is None else np.where(at >= 0, columns[at], -1)
        found[1][start:stop, :take] = values

    _run(work, n, rows, width, threads)
    return found


def all_scores(parts: Sequence[Part]) -> np.ndarray:
    """Scores (n, I) float32 of all items."""
    out = np.zeros((parts[0].queries.shape[0], len(parts[0].items)), np.float32)
    more = np.empty_like(out)
    for part in parts:
        _scorer(part, None)(0, len(out), more)
        out += more
    return out


def _scorer(part: Part, columns: np.ndarray | None) -> Callable[[int, int, np.ndarray], None]:
    """(start, stop, out): writes the scores of queries start..stop-1 to ``out`` (stop-start, items)."""
    score = _products(part.queries, part.items, columns)
    if part.factor is None:
        return score
    factor = part.factor if columns is None else part.factor[columns]

    def scaled(start: int, stop: int, out: np.ndarray) -> None:
        score(start, stop, out)
        out *= factor

    return scaled


def _products(queries: Any, items: Table, columns: np.ndarray | None) -> Callable[[int, int, np.ndarray], None]:
    if isinstance(items, Dense) and isinstance(queries, np.ndarray):
        chosen = items if columns is None else Dense(items.take(columns))

        def dense(start: int, stop: int, out: np.ndarray) -> None:
            for first in range(0, len(chosen), chosen.step):
                block = chosen.rows(first, first + chosen.step)
                np.matmul(queries[start:stop], block.T, out=out[:, first : first + len(block)])

        return dense
    if isinstance(items, Dense):
        right: Any = items.take(np.arange(len(items)) if columns is None else columns).T
    else:
        right = (items.matrix if columns is None else items.take(columns)).T.tocsr()

    def product(start: int, stop: int, out: np.ndarray) -> None:
        scores = queries[start:stop] @ right
        out[:] = scores if isinstance(scores, np.ndarray) else scores.toarray()

    return product


def _among(masked: Seen, columns: np.ndarray, n_items: int) -> Seen:
    """Masked items by their places among ``columns``; those outside go."""
    place = np.full(n_items, -1, np.int32)
    place[columns] = np.arange(len(columns), dtype=np.int32)
    at = place[masked.indices]
    kept = np.concatenate([[0], np.cumsum(at >= 0)])
    return Seen(kept[masked.indptr], at[at >= 0])


def _run(work: Callable[[int, int, np.ndarray], None], n: int, rows: int, width: int, threads: int) -> None:
    workers = min(threads or available_cores(), -(-n // rows))

    def worker(number: int) -> None:
        buffer = np.empty((rows, width), np.float32)
        for start in range(number * rows, n, workers * rows):
            work(start, min(start + rows, n), buffer)

    if workers == 1:
        worker(0)
        return
    with _one_thread_kernels(), ThreadPoolExecutor(workers) as pool:
        list(pool.map(worker, range(workers)))


@contextmanager
def _one_thread_kernels() -> Iterator[None]:
    """Matrix products by one thread each: those of one block are too short to share. One caller at a time."""
    with _ALL_CORES, _kernels().limit(limits=1):
        yield


@cache
def _kernels() -> Any:
    from threadpoolctl import ThreadpoolController  # looks through the libraries loaded, which takes milliseconds

    return ThreadpoolController()
