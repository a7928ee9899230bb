"""Approximate nearest items, for catalogues of a million and more: faiss (HNSW, IVF) and usearch, each an extra.

An approximate index only proposes candidates; they are scored exactly, from the vectors of the export. HNSW and usearch walk
a graph by the inner product itself (S. Morozov, A. Babenko, "Non-metric Similarity Graphs for Maximum Inner Product Search",
NeurIPS 2018). IVF's cells need a distance, to which the largest inner product is brought by one more column: √(max ‖y‖² − ‖y‖²)
on items, 0 on queries (Y. Bachrach et al., "Speeding Up the Xbox Recommender System Using a Euclidean Transformation for
Inner-Product Spaces", RecSys 2014, doi 10.1145/2645710.2645741). The other way round, for the same recall, IVF looks at twice
as many cells and HNSW at more than eight times as many items.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from prismrec.errors import PrismError, nearest
from prismrec.export.score import Part, best
from prismrec.export.tables import Dense, Seen, lengths
from prismrec.machine import available_cores

_MOST = 4096  # candidates for a list: beyond that looking at all items costs less
_SPARE = 1.2  # candidates beyond those that may be masked: the order of distances is not quite that of scores
_BLOCK = 64  # users at a time: their candidates' vectors stand in memory together
_EFFORTS = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048)


@dataclass(frozen=True)
class Kind:
    """How a library builds, searches, writes and reads an index, and says its shape.

    Vectors are (n, d) float32, or (n, d+1) where ``widened`` to search by distance.
    """

    extra: str
    build: Callable[[np.ndarray, int], Any]
    search: Callable[[Any, np.ndarray, int, int], np.ndarray]
    save: Callable[[Any, Path], None]
    load: Callable[[Path], tuple[Any, tuple[int, int]]]
    widened: bool = False


@dataclass(frozen=True)
class Near:
    """An approximate index of the first ``n`` fused item vectors.

    ``effort``: how much is looked at (HNSW and usearch: candidates kept while searching; IVF: cells visited). ``info``: what
    was measured when it was built.
    """

    kind: str
    index: Any
    n: int
    effort: int
    info: Mapping[str, Any] = field(default_factory=dict)

    def best(self, part: Part, k: int, masked: Seen | None) -> tuple[np.ndarray, np.ndarray] | None:
        """As ``score.best`` of one part, approximately; None where so much is masked that all items must be looked at, or
        nobody asks.
        """
        assert isinstance(part.items, Dense)
        queries = np.asarray(part.queries, np.float32)
        if len(queries) <= _BLOCK:
            return self._block(queries, part.items, k, masked)
        blocks = []
        for start in range(0, len(queries), _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, len(queries)))
            found = self._block(queries[rows], part.items, k, None if masked is None else masked.take(rows))
            if found is None:
                return None
            blocks.append(found)
        items, scores = zip(*blocks, strict=True)
        return np.concatenate(items), np.concatenate(scores)

    def _block(
        self, queries: np.ndarray, items: Dense, k: int, masked: Seen | None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        hidden = 0 if masked is None else int(np.diff(masked.indptr).max(initial=0))
        wanted = min(self.n, math.ceil(_SPARE * k) + hidden)
        if not len(queries) or wanted > _MOST or len(items) < k + hidden:
            return None
        vectors = np.zeros((len(queries), items.width + KINDS[self.kind].widened), np.float32)
        vectors[:, : items.width] = queries
        found = KINDS[self.kind].search(self.index, vectors, wanted, self.effort)
        if len(items) > self.n:  # items that came after the index was built
            added = np.arange(self.n, len(items))
            found = np.concatenate([found, np.broadcast_to(added, (len(found), len(added)))], axis=1)
        vectors = items.take(np.maximum(found, 0).reshape(-1)).reshape(*found.shape, -1)
        scores = np.matmul(vectors, queries[:, :, None])[:, :, 0]
        scores[found < 0] = -np.inf
        if masked is not None and hidden:
            row = np.repeat(np.arange(len(queries)), np.diff(masked.indptr))
            place = np.arange(len(queries))[:, None] * len(items) + found
            scores[np.isin(place, row * len(items) + masked.indices)] = -np.inf
        order = np.lexsort((found, -scores))[:, :k]
        listed, values = np.take_along_axis(found, order, 1), np.take_along_axis(scores, order, 1)
        return None if (values == -np.inf).any() else (listed, values)


def build(items: Dense, queries: np.ndarray, kind: str, k: int = 20, recall: float = 0.98, threads: int = 0) -> Near:
    """An index of ``items``, searched with the least effort whose recall@k against exact search reaches ``recall``.

    ``queries`` (n, d): vectors to measure it with. Where no effort is enough the largest is taken, and ``info`` tells the
    recall. Raises ``PrismError`` for an unknown kind, and where its library is missing.
    """
    if kind not in KINDS:
        raise PrismError(f"There is no approximate index {kind!r}. {nearest(kind, KINDS)}")
    index = _needed(kind, lambda: KINDS[kind].build(_vectors(items, KINDS[kind].widened), threads or available_cores()))
    exact = best([Part(queries, items)], min(k, len(items)), None, None, threads)[0]
    near = Near(kind, index, len(items), _EFFORTS[0])
    reached = 0.0
    for effort in _EFFORTS:
        near = replace(near, effort=effort)
        found = near.best(Part(queries, items), exact.shape[1], None)
        if found is not None:
            kept = [len(np.intersect1d(a, b)) for a, b in zip(found[0], exact, strict=True)]
            reached = float(np.mean(kept)) / exact.shape[1]
            if reached >= recall:
                break
    return replace(near, info={"k": exact.shape[1], "recall": reached, "wanted": recall, "queries": len(queries)})


def load(path: Path, kind: str, shape: tuple[int, int], effort: int, info: Mapping[str, Any]) -> Near:
    """An index of ``shape`` (n, d) written earlier, memory-mapped where its library can."""
    if kind not in KINDS:
        raise PrismError(f"There is no approximate index {kind!r}. {nearest(kind, KINDS)}")
    try:
        index, found = _needed(kind, lambda: KINDS[kind].load(path))
    except PrismError:
        raise
    except (RuntimeError, ValueError) as error:
        raise PrismError(f"{path} is no index that {kind} can read ({' '.join(str(error).split())[:200]}).") from None
    width = shape[1] + KINDS[kind].widened
    if found != (shape[0], width):
        raise PrismError(f"{path} is an index of {found[0]:,} × {found[1]} numbers; expected {shape[0]:,} × {width}.")
    return Near(kind, index, shape[0], effort, info)


def _needed(kind: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ImportError as error:
        raise PrismError(
            f"The approximate index {kind!r} needs {KINDS[kind].extra}, which is not installed ({error}); "
            'pip install "prismrec[ann]", or load the export with approximate=False.'
        ) from None


def _vectors(items: Dense, widened: bool) -> np.ndarray:
    """Items (n, d) float32, with the column that makes the largest inner product the least distance where it is asked for."""
    vectors = np.empty((len(items), items.width + widened), np.float32)
    for start in range(0, len(items), 1 << 14):
        block = items.rows(start, min(start + (1 << 14), len(items)))
        vectors[start : start + len(block), : items.width] = block
    if widened:
        length = lengths(items)
        vectors[:, -1] = np.sqrt(np.maximum(length.max(initial=0) ** 2 - length**2, 0))
    return vectors


# faiss


def _hnsw(vectors: np.ndarray, threads: int) -> Any:
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 128
    index.add(vectors)
    return index


def _search_hnsw(index: Any, queries: np.ndarray, k: int, effort: int) -> np.ndarray:
    import faiss

    return np.asarray(index.search(queries, k, params=faiss.SearchParametersHNSW(efSearch=max(effort, k)))[1])


def _ivf(vectors: np.ndarray, threads: int) -> Any:
    import faiss

    faiss.omp_set_num_threads(threads)
    cells = max(1, min(len(vectors) // 39, round(4 * math.sqrt(len(vectors)))))  # 39 a cell: fewer make faiss warn
    quantizer = faiss.IndexFlatL2(vectors.shape[1])
    index = faiss.IndexIVFFlat(quantizer, vectors.shape[1], cells, faiss.METRIC_L2)
    index.cp.seed = 1234
    index.cp.max_points_per_centroid = 64  # of faiss' 256: a quarter of the time, and the cells are as good
    index.train(vectors)
    index.add(vectors)
    return index


def _search_ivf(index: Any, queries: np.ndarray, k: int, effort: int) -> np.ndarray:
    import faiss

    return np.asarray(index.search(queries, k, params=faiss.SearchParametersIVF(nprobe=min(effort, index.nlist)))[1])


def _save_faiss(index: Any, path: Path) -> None:
    import faiss

    faiss.write_index(index, str(path))


def _load_faiss(path: Path, kind: str) -> tuple[Any, tuple[int, int]]:
    import faiss

    index = faiss.read_index(str(path))
    if not isinstance(index, getattr(faiss, kind)):
        raise ValueError(f"it is a {type(index).__name__}, not a {kind}")
    return index, (index.ntotal, index.d)


# usearch


def _usearch(vectors: np.ndarray, threads: int) -> Any:
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=32, expansion_add=128)
    index.add(np.arange(len(vectors)), vectors, threads=threads)
    return index


def _search_usearch(index: Any, queries: np.ndarray, k: int, effort: int) -> np.ndarray:
    index.expansion_search = max(effort, k)
    keys = np.atleast_2d(index.search(queries, k, threads=1).keys).astype(np.int64)
    return np.asarray(keys)


def _save_usearch(index: Any, path: Path) -> None:
    index.save(str(path))


def _load_usearch(path: Path) -> tuple[Any, tuple[int, int]]:
    from usearch.index import Index

    index = Index.restore(str(path), view=True)
    if index is None:
        raise ValueError("it holds nothing")
    return index, (len(index), index.ndim)


KINDS: Mapping[str, Kind] = {
    "hnsw": Kind("faiss-cpu", _hnsw, _search_hnsw, _save_faiss, partial(_load_faiss, kind="IndexHNSW")),
    "ivf": Kind("faiss-cpu", _ivf, _search_ivf, _save_faiss, partial(_load_faiss, kind="IndexIVF"), widened=True),
    "usearch": Kind("usearch", _usearch, _search_usearch, _save_usearch, _load_usearch),
}
