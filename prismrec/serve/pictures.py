"""Pictures of items, found once when an export is loaded: a request names an item, never a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from prismrec.export import Shelf
from prismrec.serve.known import TextIds

TYPES = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".gif": "image/gif",
    ".avif": "image/avif",
}  # fmt: skip
COLUMN = "picture"  # of the item table: the name of an item's file, where it is not the item's id


class Pictures:
    """Row of an item → its file in the one folder that the export declares."""

    def __init__(self, folder: Path | None, files: dict[int, str]) -> None:
        self._folder = folder
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def has(self, rows: np.ndarray) -> list[bool]:
        """Whether there is a picture of each of the rows (n,)."""
        return [row in self._files for row in rows.tolist()]

    def read(self, row: int) -> tuple[bytes, str] | None:
        """The picture of a row and its media type; None where there is none, or none any more."""
        name = self._files.get(row)
        if name is None or self._folder is None:
            return None
        try:
            return (self._folder / name).read_bytes(), TYPES[Path(name).suffix.lower()]
        except OSError:
            return None

    @staticmethod
    def of(shelf: Shelf, items: TextIds, beside: Path) -> Pictures:
        """Those that the export declares: of the item's column ``picture``, else called as the item. Links do not count.

        ``beside``: the folder of the export, from which a relative folder of pictures goes.
        """
        if shelf.pictures is None:
            return Pictures(None, {})
        folder = next((one for one in (beside / shelf.pictures, Path(shelf.pictures)) if one.is_dir()), None)
        if folder is None:
            return Pictures(None, {})
        names = set(_below(folder))
        files: dict[int, str] = {}
        if COLUMN in shelf.item_table.columns:
            for row, given in enumerate(shelf.item_table[COLUMN].to_list()):
                if isinstance(given, str) and (name := given.replace("\\", "/").removeprefix("./")) in names:
                    files[row] = name
            return Pictures(folder, files)  # never by both: numbers of files need not be those of items
        for name in sorted(names):
            row = items.row(Path(name).stem)
            if row >= 0:
                files.setdefault(row, name)
        return Pictures(folder, files)


def _below(folder: Path) -> Iterator[str]:
    """Pictures in a folder and those below it, as a path from there with slashes; what is a link does not count."""
    for inner, folders, names in os.walk(folder):
        folders.sort()
        start = Path(inner).relative_to(folder)
        for name in names:
            if Path(name).suffix.lower() in TYPES and not (Path(inner) / name).is_symlink():
                yield (start / name).as_posix()
