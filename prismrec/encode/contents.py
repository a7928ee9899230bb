"""Which picture and which text belong to an item: found in the item table and in a folder of pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from prismrec.data.dataset import Dataset
from prismrec.data.item_table import PICTURE, SUFFIXES, TEXT
from prismrec.encode.pipeline import Content as Content
from prismrec.errors import PrismError


@dataclass(frozen=True)
class Gathered:
    """A content per item, in their order, and where it came from, as provenance tells it."""

    contents: list[Content]
    columns: tuple[str, ...]


def pictures(dataset: Dataset, images: Path | None, columns: Sequence[str] = ()) -> Gathered:
    """The picture file of each item, below the folder ``images``.

    The column of the item table that is named, else the first of ``PICTURE`` that it has, holds names relative to the folder;
    one that leads out of it counts as no file. Without such a column a file is called like the item's id, with any of
    ``SUFFIXES``, in the folder or below it.
    """
    if images is None:
        raise PrismError("Features of pictures need the folder of the pictures; name it with --images DIR.")
    if not images.is_dir():
        raise PrismError(f"{images} is no folder; name the folder that holds the pictures with --images.")
    if len(columns) > 1:
        raise PrismError(
            f"Columns {', '.join(columns)} were given for pictures; one column names the picture of an item."
        )
    table = dataset.item_table
    named = [_column(table, name) for name in columns] or [name for name in PICTURE if name in table.columns]
    if named:
        return Gathered([_below(images, name) for name in table[named[0]].cast(pl.String).to_list()], (named[0],))
    files = _by_stem(images)
    found: list[Content] = [files.get(str(item)) for item in dataset.items.external.to_list()]
    if not any(found):
        raise PrismError(
            f"No file below {images} is called like an item (for example {dataset.items.external[0]}.jpg) and the item table "
            "has no column of file names; name the column with --column."
        )
    return Gathered(found, ())


def texts(dataset: Dataset, images: Path | None, columns: Sequence[str] = ()) -> Gathered:
    """The text of each item: the named columns, else those of ``TEXT`` that the item table has, joined by spaces.

    Lists are joined by commas, ``|`` between words too; an item whose columns are all empty has no text.
    """
    if images is not None:
        raise PrismError("A folder of pictures was given for features of texts; leave --images out.")
    table = dataset.item_table
    named = tuple(_column(table, name) for name in columns) or tuple(name for name in TEXT if name in table.columns)
    if not named:
        known = ", ".join(table.columns) or "none"
        raise PrismError(
            f"The item table has no column that is known to hold text (it has: {known}); name some with --column."
        )
    parts = [_words(table[name]) for name in named]
    joined = [" ".join(part for part in row if part).strip() for row in zip(*parts, strict=True)]
    return Gathered([text.encode() if text else None for text in joined], named)


def _column(table: pl.DataFrame, name: str) -> str:
    if name not in table.columns:
        raise PrismError(f"The item table has no column {name!r}; it has: {', '.join(table.columns) or 'none'}.")
    return name


def _words(column: pl.Series) -> list[str]:
    if isinstance(column.dtype, pl.List | pl.Array):
        column = column.cast(pl.List(pl.String)).list.join(", ", ignore_nulls=True)
    found = column.cast(pl.String).fill_null("")
    return [" ".join(text.replace("|", ", ").split()) for text in found.to_list()]


def _below(folder: Path, name: str | None) -> Path | None:
    if not name:
        return None
    # by the text alone: a link that somebody put into the folder is theirs to follow
    path = Path(os.path.normpath(folder / name))
    return path if path.is_relative_to(os.path.normpath(folder)) else None


def _by_stem(folder: Path) -> dict[str, Path]:
    """Name without suffix → picture file; of several the first in alphabetical order."""
    found: dict[str, Path] = {}
    for where, below, names in os.walk(folder):
        below.sort()
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)  # noqa: PTH122 - of millions of names
            if suffix.lower() in SUFFIXES:
                found.setdefault(stem, Path(where, name))
    return found
