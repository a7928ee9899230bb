"""Which of the files and folders that were named is which."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import overload

from prismrec.errors import PrismError

_PACKED = re.compile(r"\.(gz|zst)$")


@overload
def pick(paths: Sequence[Path], patterns: Sequence[str], what: str) -> Path: ...
@overload
def pick(paths: Sequence[Path], patterns: Sequence[str], what: None) -> Path | None: ...
def pick(paths: Sequence[Path], patterns: Sequence[str], what: str | None) -> Path | None:
    """The file whose name fits the first possible of ``patterns``, packed or not, among ``paths`` and in folders of them.

    ``what``: what is missing where there is none, as the error says; None where it may be missing. Raises ``PrismError`` for a
    path that does not exist, and for two files that fit.
    """
    files = spread(paths)
    for pattern in patterns:
        fit = [file for file in files if fnmatch(_PACKED.sub("", file.name.lower()), pattern.lower())]
        if len(fit) > 1:
            raise PrismError(f"{' and '.join(map(str, fit[:3]))} all look like {pattern}; name the one to read.")
        if fit:
            return fit[0]
    if what is None:
        return None
    raise PrismError(
        f"There are no {what} in {', '.join(map(str, paths))}; expected a file called {' or '.join(patterns)} (or packed: .gz, "
        ".zst)."
    )


def spread(paths: Sequence[Path]) -> list[Path]:
    """``paths`` with the files of a folder in its place, by name. Raises ``PrismError`` for one that does not exist."""
    for path in paths:
        if not path.exists():
            raise PrismError(f"There is no {path}; name a folder or a file that exists.")
    inside = (file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path]))
    return [file for file in inside if file.is_file() and not file.name.startswith(".")]
