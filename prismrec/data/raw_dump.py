"""Feature dumps in the manner of the TikTok data: who took what, with a split and ready ids, and arrays of features.

A folder with ``train.json``, ``val.json``, ``test.json`` (user → list of items) or ``train.npy``, ``val.npy``, ``test.npy``
(rows of user, item), and ``image_feat.npy``, ``audio_feat.npy``, ``text_feat.npy`` or the like with a row per item. Arrays of
Python objects and pickles are never opened: they could run code. Sources of the layouts: Wei et al., "Multi-Modal Self-
Supervised Learning for Recommendation", WWW 2023; Wei et al., "MMGCN", MM 2019.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from prismrec import io
from prismrec.data.dataset import PARTS
from prismrec.data.modalities import load_array
from prismrec.data.raw_catalogue import Catalogue
from prismrec.data.raw_lines import Reading
from prismrec.errors import PrismError

_FILES = {"train": ("train",), "valid": ("val", "valid", "val_full"), "test": ("test", "test_full")}
_MODALITY = {
    "v": "image", "visual": "image", "img": "image", "video": "image", "a": "audio", "acoustic": "audio", "t": "text",
    "textual": "text",
}  # fmt: skip
_FEATURE = re.compile(r"(?:(\w+?)_feat(?:ures?)?|feat(?:ures?)?_(\w+?))\.npy", re.IGNORECASE)


def read(paths: Sequence[Path], reading: Reading) -> Catalogue:
    """The one folder of a dump. Users and items are numbers; items reach to the last row of the features."""
    if len(paths) != 1 or not paths[0].is_dir():
        raise PrismError(f"A dump is one folder; {', '.join(map(str, paths)) or 'nothing'} was named.")
    folder = paths[0]
    pairs = {part: found for part, names in _FILES.items() if (found := _part(folder, names, reading)) is not None}
    if "train" not in pairs:
        held = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
        hint = " A folder with one .inter file is read without a kind." if "inter" in held else ""
        raise PrismError(
            f"{folder} holds {held}; expected train.json or train.npy, and the same of val and test.{hint}"
        )
    rows = np.concatenate(list(pairs.values()))
    split = np.concatenate([np.full(len(found), PARTS[part], np.int8) for part, found in pairs.items()])
    arrays = _features(folder)
    items = len(next(iter(arrays.values()))) if arrays else int(rows[:, 1].max()) + 1
    rows[:, 1] -= _shift(rows, items, folder, reading)
    log = pl.LazyFrame({"user": rows[:, 0], "item": rows[:, 1], "split": split})
    ids = pl.Series("item", np.arange(items))
    catalogue = pl.DataFrame({"item": ids.cast(pl.String)})
    return Catalogue(
        folder.resolve().name, folder, log, lambda wanted: catalogue, {m: (ids, values) for m, values in arrays.items()},
        time_unit=None, k_core=(0, 0),
    )  # fmt: skip


def _part(folder: Path, names: Sequence[str], reading: Reading) -> np.ndarray | None:
    """(n, 2) users and items of a part of the split; None where it has no file."""
    for name in names:
        if (path := folder / f"{name}.json").is_file():
            return _lists(path, reading)
        if (path := folder / f"{name}.npy").is_file():
            array = load_array(path)
            if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
                raise PrismError(
                    f"{path} is {array.dtype} of shape {array.shape}; expected whole numbers, a user and an item in each row."
                )
            reading.tally.add(path, "rows", len(array))
            return np.array(array, np.int64)
    return None


def _lists(path: Path, reading: Reading) -> np.ndarray:
    """``{"0": [5, 9], …}`` → (n, 2)."""
    found = io.read_json(path)
    if not isinstance(found, dict):
        raise PrismError(
            f"{path} holds a {type(found).__name__}; expected an object of users with their lists of items."
        )
    rows = []
    for user, items in found.items():
        for item in items if isinstance(items, list) else [items]:
            if user.isdecimal() and isinstance(item, int) and item >= 0:
                rows.append((int(user), item))
            else:
                reading.tally.bad(path, len(rows) + 1, "pairs that are no numbers", f"{user}: {item}")
    reading.tally.add(path, "rows", len(rows))
    return np.array(rows, np.int64).reshape(-1, 2)


def _features(folder: Path) -> dict[str, np.ndarray]:
    """Modality → its array; all with as many rows."""
    arrays = {}
    for path in sorted(folder.glob("*.npy")):
        if match := _FEATURE.fullmatch(path.name):
            name = (match[1] or match[2]).lower()
            arrays[_MODALITY.get(name, name)] = load_array(path)
    counts = {name: len(values) for name, values in arrays.items()}
    if len(set(counts.values())) > 1:
        raise PrismError(f"The features in {folder} have {counts} rows; expected as many in each, one per item.")
    return arrays


def _shift(rows: np.ndarray, items: int, folder: Path, reading: Reading) -> int:
    """What to take from the ids of items, which some dumps count on from the users; 0 for most."""
    users, last = int(rows[:, 0].max()) + 1, int(rows[:, 1].max())
    if last < items:
        return 0
    if rows[:, 1].min() >= users and last - users < items:
        reading.tally.add(folder, "taken from ids of items, which count on from the users", users)
        return users
    raise PrismError(f"{folder} has an item {last}, but features of {items:,} items; expected a row for each item.")
