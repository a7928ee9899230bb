"""Feature tables from ``.npy`` files: checked once on reading, memory-mapped, missing rows marked and counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from prismrec.data.dataset import Modality
from prismrec.errors import PrismError

NaN = Literal["refuse", "missing"]
"""What to do with rows that hold NaN or Inf: refuse the file, or mark those rows missing."""

_BLOCK = 8192


def load_array(path: Path) -> np.ndarray:
    """Open ``path`` as a memory-mapped array. Pickled objects, other formats and truncated files are refused."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise PrismError(f"There is no file {path}; name a .npy file of features.") from error
    except (ValueError, OSError, EOFError) as error:
        raise PrismError(
            f"{path} cannot be read as a .npy array of numbers ({_one_line(error)}). "
            "Pickled objects are never loaded; write it again with numpy.save(path, array.astype('float32'))."
        ) from error
    if not isinstance(array, np.ndarray):
        raise PrismError(f"{path} is an archive of several arrays; write one array with numpy.save.")
    return array


def modality(values: np.ndarray, name: str, n_items: int, *, nan: NaN = "refuse") -> Modality:
    """Check ``values`` (I, r) and say which items are present.

    float16 and float32 stay as they are (a memory map too), float64 becomes float32. All-zero rows are missing; so are
    rows with NaN or Inf under ``nan="missing"``. Raises ``PrismError`` for other shapes and types, a number of rows
    that is not ``n_items``, and NaN or Inf under ``nan="refuse"``.
    """
    if values.ndim != 2 or values.dtype.kind != "f":
        raise PrismError(
            f"Features of modality {name!r} have shape {values.shape} and type {values.dtype}; "
            "expected a two-dimensional array of floating-point numbers, one row per item."
        )
    if len(values) != n_items:
        raise PrismError(
            f"Features of modality {name!r} have {len(values):,} rows, but the data has {n_items:,} items; "
            "give one row per item, in the order of the items (a row of zeros where an item has none)."
        )
    if values.shape[1] == 0:
        raise PrismError(f"Features of modality {name!r} have no columns; expected at least one number per item.")
    if values.dtype.itemsize > 4:
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
    elif not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    finite, filled = _rows(values)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        if nan == "refuse":
            raise PrismError(
                f"Features of modality {name!r} hold NaN or Inf in {len(bad):,} of {n_items:,} rows "
                f"(first: {', '.join(map(str, bad[:5]))}); mend them, or read with nan='missing' "
                "(--nan missing) to mark those items as lacking the modality."
            )
        values = np.array(values)
        values[bad] = 0
    return Modality(values, finite & filled)


def _rows(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are all finite, and which hold something other than zero."""
    finite, filled = np.empty(len(values), bool), np.empty(len(values), bool)
    for start, block in _blocks(values):
        rows = slice(start, start + len(block))
        # A sum of finite float32 cannot overflow float64, and NaN or Inf always shows in it.
        with np.errstate(invalid="ignore"):
            finite[rows] = np.isfinite(block.sum(axis=1, dtype=np.float64))
        filled[rows] = block.any(axis=1)
    return finite, filled


def _blocks(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(values), _BLOCK):
        yield start, values[start : start + _BLOCK]


def folder_features(folder: Path, n_items: int, *, nan: NaN = "refuse") -> dict[str, Modality]:
    """Modalities of all ``<modality>_feat.npy`` files in ``folder``, in alphabetical order."""
    suffix = "_feat.npy"
    return {
        path.name.removesuffix(suffix): modality(load_array(path), path.name.removesuffix(suffix), n_items, nan=nan)
        for path in sorted(folder.glob(f"*{suffix}"))
    }


def missing_counts(modalities: dict[str, Modality]) -> dict[str, int]:
    """Modality → how many items lack it, for provenance; modalities that nobody lacks are left out."""
    counts = {name: int((~m.present).sum()) for name, m in modalities.items()}
    return {name: count for name, count in counts.items() if count}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
