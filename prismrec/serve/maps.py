"""Items on a plane, near where they are alike: principal components at once, t-SNE once it has been made.

t-SNE (van der Maaten & Hinton, JMLR 2008) of a catalogue takes many seconds. It is made in a process of its own, of low
priority, when a map is first asked for; until then, and where openTSNE is not installed, the map is that of two components.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import os
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import numpy as np
import orjson
import polars as pl

from prismrec.errors import PrismError, nearest
from prismrec.serve.catalogue import FUSED, Catalogue

MOST = 10_000  # points: those items that most users have taken
GROUPS = 7  # colours; all others are grey
_COMPONENTS = 32  # that t-SNE sees
_ENOUGH = 8  # items, below which there is nothing to arrange

Key = tuple[str, str, str]


class Maps:
    """Maps of exports, remembered while they are served."""

    def __init__(self, tsne: bool = True) -> None:
        self._tsne = tsne and importlib.util.find_spec("openTSNE") is not None
        self._pool: ProcessPoolExecutor | None = None
        self._coming: dict[Key, Future[np.ndarray]] = {}
        self._made: dict[Key, tuple[tuple[str, bool], bytes]] = {}

    def of(self, catalogue: Catalogue, by: str | None) -> bytes:
        """The map as JSON, by the fused representation or what a modality shows. Raises ``PrismError`` for an unknown one."""
        name = by or FUSED
        if name != FUSED and name not in catalogue.shelf.views:
            raise PrismError(f"This export has nothing on modality {name!r}. {nearest(name, catalogue.shelf.views)}")
        key = catalogue.name, catalogue.version, name
        coming = self._coming.get(key)
        ready = coming is not None and coming.done() and not coming.cancelled() and coming.exception() is None
        awaited = not coming.done() if coming is not None else self._tsne and len(shown(catalogue)) > _ENOUGH
        wanted = "t-SNE" if ready else "principal components", awaited
        known = self._made.get(key)
        if known is not None and known[0] == wanted:
            return known[1]
        rows = shown(catalogue)
        if ready and coming is not None:
            points = coming.result()
        else:
            components = principal(vectors(catalogue, name, rows))
            points = fitted(components[:, :2])
            if awaited and coming is None:
                self._coming[key] = self._workers().submit(tsne, components)
        made = orjson.dumps(_record(catalogue, name, wanted, rows, points))
        self._forget_old(catalogue)
        self._made[key] = wanted, made
        return made

    def close(self) -> None:
        """End the process that arranges points."""
        if self._pool is not None:
            processes = list((getattr(self._pool, "_processes", None) or {}).values())
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()

    def _workers(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_humbly)
        return self._pool

    def _forget_old(self, catalogue: Catalogue) -> None:
        for known in (self._made, self._coming):
            for key in [key for key in known if key[0] == catalogue.name and key[1] != catalogue.version]:
                del known[key]


def shown(catalogue: Catalogue) -> np.ndarray:
    """Rows of the items on a map, ascending."""
    counts = catalogue.shelf.popularity
    if len(counts) <= MOST:
        return np.arange(len(counts))
    return np.sort(np.argsort(-counts, kind="stable")[:MOST])


def vectors(catalogue: Catalogue, name: str, rows: np.ndarray) -> np.ndarray:
    """What items are arranged by: unit vectors (n, d) of their content, else of their side."""
    shelf = catalogue.shelf
    table = shelf.contents[name] if name in shelf.contents else shelf.sides[name].item
    found = table.take(rows)
    if not isinstance(
        found, np.ndarray
    ):  # a sparse side has too many columns to lay out; random directions keep distances
        random = np.random.default_rng(0).standard_normal((found.shape[1], 2 * _COMPONENTS)).astype(np.float32)
        found = found @ random
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.where(length > 0, length, 1), np.float32)


def principal(values: np.ndarray) -> np.ndarray:
    """The first principal components (n, ≥ 2) of (n, d), the widest first; signs such that the largest number is positive."""
    centred = values - values.mean(0)
    spread, directions = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
    directions = directions[:, np.argsort(-spread)[:_COMPONENTS]]
    directions = directions * np.where(
        directions[np.abs(directions).argmax(0), np.arange(directions.shape[1])] < 0, -1, 1
    )
    found = centred @ directions.astype(np.float32)
    return found if found.shape[1] > 1 else np.column_stack([found, np.zeros(len(found), np.float32)])


def tsne(components: np.ndarray) -> np.ndarray:
    """A t-SNE map (n, 2) of principal components (n, c), on one thread."""
    library = importlib.import_module("openTSNE")
    perplexity = min(30.0, max(2.0, (len(components) - 1) / 4))
    found = library.TSNE(perplexity=perplexity, initialization="pca", random_state=0, n_jobs=1).fit(
        components.astype(np.float64)
    )
    return fitted(np.asarray(found))


def fitted(points: np.ndarray) -> np.ndarray:
    """Points (n, 2) put on −1..1 in both directions by rank-free scaling: the outermost hundredth is held to the edge."""
    low, high = np.quantile(points, 0.005, axis=0), np.quantile(points, 0.995, axis=0)
    middle, half = (low + high) / 2, max(float((high - low).max()) / 2, 1e-12)
    scaled: np.ndarray = np.clip((points - middle) / half / 1.04, -1, 1)
    return scaled


def groups_of(catalogue: Catalogue, rows: np.ndarray) -> tuple[list[str], list[int]]:
    """The commonest values of the column that gives the colour, and the place of each row's value among them (−1: none)."""
    if catalogue.colour_by is None:
        return [], [-1] * len(rows)
    column = catalogue.shelf.item_table[catalogue.colour_by].gather(rows)
    if isinstance(column.dtype, pl.List):
        column = column.list.first()
    column = column.cast(pl.String, strict=False).str.split("|").list.first()
    counts = column.drop_nulls().value_counts(sort=True)
    names = (
        counts.sort(["count", counts.columns[0]], descending=[True, False])[counts.columns[0]].head(GROUPS).to_list()
    )
    place = {name: at for at, name in enumerate(names)}
    return names, [place.get(value, -1) for value in column.to_list()]


def _record(
    catalogue: Catalogue, by: str, how: tuple[str, bool], rows: np.ndarray, points: np.ndarray
) -> dict[str, Any]:
    names, group = groups_of(catalogue, rows)
    return {
        "export": catalogue.name, "version": catalogue.version, "method": how[0], "awaited": how[1], "by": by, "groups": names,
        "items": catalogue.items.texts(rows), "titles": catalogue.titles_of(rows), "pictures": catalogue.pictures.has(rows),
        "x": np.round(points[:, 0], 4).tolist(), "y": np.round(points[:, 1], 4).tolist(), "group": group,
    }  # fmt: skip


def _humbly() -> None:
    if hasattr(os, "nice"):
        os.nice(15)
