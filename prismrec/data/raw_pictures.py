"""Which picture belongs to which item: by a column of file names, or by files that are called like the items."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from prismrec.data.item_table import PICTURE, SUFFIXES
from prismrec.errors import PrismError


def found(items: pl.DataFrame, images: Path) -> list[str | None]:
    """Of each item the path of its picture below ``images``, with ``/`` between folders; None where it has none.

    A column of ``PICTURE`` names the file, relative to ``images``; a name that leads elsewhere or to no file counts for
    nothing. Where there is no such column, or no name in it is a file (addresses, say), the file is called like the item, in
    the folder or below it (of several the first by name). Never both: numbers of files need not be those of items. Raises
    ``PrismError`` if ``images`` is no folder or holds no picture of any item.
    """
    if not images.is_dir():
        raise PrismError(f"{images} is no folder; name the folder that holds the pictures with --images.")
    known = _known(images)
    column = next((name for name in PICTURE if name in items.columns), None)
    ids = [str(item) for item in items["item"].to_list()]
    names = items[column].cast(pl.String).to_list() if column else []
    out = [path if name and (path := _normal(name)) in known else None for name in names]
    if not any(out):
        stems: dict[str, str] = {}
        for path in known:
            stems.setdefault(os.path.splitext(path)[0].rpartition("/")[2], path)  # noqa: PTH122 - of millions of names
        out = [stems.get(item) for item in ids]
    if not any(out):
        raise PrismError(
            f"{images} holds {len(known):,} pictures, but none of an item: none is called like an item's id (say "
            f"{ids[0]}.jpg){f' or as column {column!r} says (say {next(filter(None, names), None)!r})' if column else ''}."
        )
    return out


def _known(images: Path) -> dict[str, None]:
    """Paths of all pictures below the folder, those in it first, each level in the order of names."""
    paths: dict[str, None] = {}
    for where, below, files in os.walk(images):
        below.sort()
        folder = Path(where).relative_to(images).as_posix()
        for name in sorted(files):
            if name.lower().endswith(SUFFIXES):
                paths[name if folder == "." else f"{folder}/{name}"] = None
    return paths


def _normal(name: str) -> str:
    return os.path.normpath(name.replace("\\", "/")).replace(os.sep, "/")
