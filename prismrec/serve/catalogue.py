"""An export as the service holds it: a Shelf, ids as text, pictures, and what a page is told of it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from prismrec import io
from prismrec.errors import PrismError
from prismrec.export import FUSED, Shelf
from prismrec.export.form import MANIFEST
from prismrec.serve.known import TextIds
from prismrec.serve.pictures import Pictures

QUICK = 1 << 22  # multiply-adds of a list, about a millisecond: up to there it is not worth a thread
_TRIES = 5
_MOST_TAKEN = 1000
_KINDS = ("category", "categories", "genre", "genres", "brand", "type")  # columns by which points of a map are coloured


@dataclass(frozen=True)
class Catalogue:
    """``version``: changes whenever the export does. ``loaded``: when, in seconds since 1970."""

    name: str
    shelf: Shelf
    users: TextIds
    items: TextIds
    pictures: Pictures
    version: str
    loaded: float

    @staticmethod
    def load(name: str, folder: Path, threads: int = 1) -> Catalogue:
        """Read an export, check it and rank by it once. One that is being replaced meanwhile is read again."""
        for left in reversed(range(_TRIES)):
            version = version_of(folder)
            try:
                shelf = Shelf.load(folder, threads=threads)
            except PrismError:
                if left and version_of(folder) != version:
                    continue
                raise
            if version_of(folder) == version:
                break
            if not left:
                raise PrismError(f"{folder} changed {_TRIES} times while it was read; export to it less often.")
            time.sleep(0.05)
        users, items = TextIds(shelf.users), TextIds(shelf.items)
        made = Catalogue(name, shelf, users, items, Pictures.of(shelf, items, folder), version, time.time())
        made.try_out()
        return made

    def try_out(self) -> None:
        """Answer a request of each kind, so that what cannot answer is found before anybody asks, and what is lazy is there."""
        shelf, k = self.shelf, min(3, len(self.items))
        for modality in (None, *shelf.modalities):
            if len(self.users):
                shelf.lists(shelf.users.external[:1], k, modality=modality)
        assert self.most_taken
        if len(self.items) > 1:
            for by in (None, *shelf.views):
                shelf.similar(shelf.items.external[:1], 1, modality=by)

    @cached_property
    def titles(self) -> pl.Series | None:
        """Titles of items as text, where the item table has them."""
        table = self.shelf.item_table
        return table["title"].cast(pl.String, strict=False) if "title" in table.columns else None

    @cached_property
    def most_taken(self) -> list[dict[str, Any]]:
        """Cards of the items that most users have taken, a thousand at most: made once, for all of whom nothing is known."""
        found = self.shelf.popular(min(_MOST_TAKEN, len(self.items)))
        cards = self.cards(found.items[0])
        for card, score in zip(cards, found.scores[0].tolist(), strict=True):
            card["score"] = score
        return cards

    @cached_property
    def cost(self) -> int:
        """Multiply-adds of one list."""
        return len(self.items) * max(side.item.width for side in self.shelf.sides.values())

    @property
    def quick(self) -> bool:
        """Whether a list is made in so short a time that others may wait for it."""
        return self.cost <= QUICK

    @cached_property
    def colour_by(self) -> str | None:
        """The column of the item table by which a map is coloured."""
        columns = self.shelf.item_table.columns
        return next((column for column in _KINDS if column in columns), None)

    def titles_of(self, rows: np.ndarray) -> list[str | None]:
        """Titles of rows (n,), None where there is none."""
        return [None] * len(rows) if self.titles is None else self.titles[rows].to_list()

    def cards(self, rows: np.ndarray) -> list[dict[str, Any]]:
        """What a list says of each of the rows (n,): item, title, picture."""
        known = zip(self.items.texts(rows), self.titles_of(rows), self.pictures.has(rows), strict=True)
        return [{"item": item, "title": title, "picture": picture} for item, title, picture in known]

    def item(self, row: int) -> dict[str, Any]:
        """All that is known of an item."""
        (card,) = self.cards(np.array([row]))
        fields = self.shelf.item_table.row(row, named=True)
        first = self.shelf.item_table.columns[0]
        about = {name: plain(value) for name, value in fields.items() if name not in (first, "title")}
        return {**card, "popularity": int(self.shelf.popularity[row]), "fields": about}

    def about(self) -> dict[str, Any]:
        """What the export holds, for a page."""
        shelf = self.shelf
        return {
            "name": self.name,
            "version": self.version,
            "users": len(self.users),
            "items": len(self.items),
            "dtype": shelf.dtype,
            "modalities": list(shelf.modalities),
            "looks": list(shelf.views),
            "pictures": len(self.pictures),
            "colour_by": self.colour_by,
            "columns": self.columns,
            "info": {key: plain(value) for key, value in shelf.info.items()},
            "measured": plain(shelf.measured),
        }

    @cached_property
    def columns(self) -> dict[str, list[str]]:
        """Columns of few values, with those values: what a page offers as filters."""
        found = {}
        for name in self.shelf.item_table.columns[1:]:
            column = self.shelf.item_table[name]
            inner = column.dtype.inner if isinstance(column.dtype, pl.List) else column.dtype
            if name == "title" or inner != pl.String:
                continue
            values = column.explode() if isinstance(column.dtype, pl.List) else column
            known = values.drop_nulls().unique()
            if 2 <= len(known) <= 40:
                found[name] = sorted(known.to_list())
        return found


def version_of(folder: Path) -> str:
    """Twelve digits that tell one writing of an export from another."""
    path = folder / MANIFEST
    if not path.is_file():
        raise PrismError(f"{folder} holds no export (no {MANIFEST}); write one with `prismrec export RUN -o {folder}`.")
    return io.sha256(path)[:12]


def plain(value: Any) -> Any:
    """A value as JSON has it: no NaN, and text for whatever JSON does not know."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | pl.Series):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 53 else str(value)  # beyond, JavaScript would round
    return str(value)


__all__ = ["FUSED", "Catalogue", "plain", "version_of"]
