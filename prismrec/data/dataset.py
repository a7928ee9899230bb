"""The Dataset: who took what (with a split), what items look like and say, and where it all came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from prismrec.data.ids import IdMap
from prismrec.errors import PrismError

PARTS: Mapping[str, int] = {"train": 0, "valid": 1, "test": 2}
"""Name of a part of the split → its code in ``Interactions.split`` (the field's ``x_label``)."""


COLUMNS: Mapping[str, str] = {
    "user": "<i4",
    "item": "<i4",
    "split": "<i1",
    "weight": "<f4",
    "timestamp": "<i8",
    "rating": "<f4",
}
"""Columns of ``Interactions`` → their types, little-endian wherever bytes are written or hashed."""

_NO_SPLIT = (
    "These interactions have no split yet, so there is no train, valid or test part; "
    "make one with `prismrec data split DATA -o OUT` or prismrec.data.splits."
)


@dataclass(frozen=True)
class Interactions:
    """Rows of who took what, in internal ids: ``user``, ``item`` (N,) int32.

    ``split`` (N,) int8 holds the codes of ``PARTS``, or is None before a split; ``weight`` (N,) float32 > 0 and
    ``timestamp`` (N,) int64 (any unit) are None where the data has none. ``rating`` (N,) float32 is what a user said of
    an item: preparation can threshold it, models never read it (a rating of 1 is no weak liking).
    """

    user: np.ndarray
    item: np.ndarray
    split: np.ndarray | None = None
    weight: np.ndarray | None = None
    timestamp: np.ndarray | None = None
    rating: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> Interactions:
        """The rows of a boolean mask or of positions."""

        def pick(column: np.ndarray | None) -> np.ndarray | None:
            return None if column is None else column[rows]

        return Interactions(
            self.user[rows],
            self.item[rows],
            pick(self.split),
            pick(self.weight),
            pick(self.timestamp),
            pick(self.rating),
        )

    def part(self, *names: str) -> Interactions:
        """The rows of the named parts ("train", "valid", "test"), in their order.

        Raises ``PrismError`` before a split.
        """
        if self.split is None:
            raise PrismError(_NO_SPLIT)
        return self.take(np.isin(self.split, [PARTS[name] for name in names]))

    def digest(self) -> str:
        """SHA-256 of all columns, as a hexadecimal string: the same rows in the same order give the same text."""
        sha = hashlib.sha256()
        for name, dtype in COLUMNS.items():
            column = getattr(self, name)
            if column is not None:
                sha.update(name.encode())
                sha.update(np.ascontiguousarray(column, dtype=dtype).data)
        return sha.hexdigest()


@dataclass(frozen=True)
class Modality:
    """Raw features of one modality: ``values`` (I, r) float32 or float16 (may be memory-mapped), ``present`` (I,) bool.

    Rows of items that lack the modality hold zeros and mean nothing; ``present`` says which they are. ``transform``: the
    fitted parameters of what the features went through (``prismrec.encode.transform``), so that new items can go through
    it too; empty where they went through nothing. It is no part of the content: ``digest`` leaves it out.
    """

    values: np.ndarray
    present: np.ndarray
    transform: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """r, the width of the raw features."""
        return int(self.values.shape[1])

    def digest(self) -> str:
        """SHA-256 of values and mask, read in blocks so that a memory-mapped table never stands in memory whole."""
        sha = hashlib.sha256(f"{self.values.shape} {self.values.dtype.name}".encode())
        sha.update(np.ascontiguousarray(self.present).data)
        little = self.values.dtype.newbyteorder("<")
        for start in range(0, len(self.values), 65536):
            sha.update(np.ascontiguousarray(self.values[start : start + 65536], dtype=little).data)
        return sha.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """A catalogue and its interactions. Frozen: functions that change one return another.

    ``modalities``: any number ≥ 0 of named modalities. ``item_table``: one row per item in internal order, first column
    ``item`` (the external id), then whatever is known (``title``, ``category`` …). ``provenance``: where it came from.
    """

    name: str
    users: IdMap
    items: IdMap
    interactions: Interactions
    modalities: Mapping[str, Modality] = field(default_factory=dict)
    item_table: pl.DataFrame = field(default_factory=pl.DataFrame)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_users(self) -> int:
        """U."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """I."""
        return len(self.items)

    def development(self) -> Dataset:
        """The data without its test rows: all that training, early stopping and search ever see."""
        return replace(self, interactions=self.interactions.part("train", "valid"))

    def require(self, *parts: str) -> None:
        """Raise ``PrismError`` unless each named part of the split has rows."""
        split = self.interactions.split  # counted, not read: whoever checks has no business with the rows
        if split is None:
            raise PrismError(_NO_SPLIT)
        for name in parts:
            if not (split == PARTS[name]).any():
                counts = ", ".join(f"{int((split == code).sum()):,} {part}" for part, code in PARTS.items())
                raise PrismError(
                    f"The {name} part of {self.name!r} is empty (rows: {counts}), but it is needed here; "
                    "make another split with `prismrec data split DATA -o OUT`."
                )

    @cached_property
    def interactions_fingerprint(self) -> str:
        """First 16 hexadecimal digits of the digest of the interactions and the counts."""
        text = f"{self.n_users} {self.n_items} {self.interactions.digest()}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the whole content: interactions, split, ids, features and which are present."""
        sha = hashlib.sha256(self.interactions_fingerprint.encode())
        for ids in (self.users, self.items):
            sha.update(ids.digest().encode())
        for name in sorted(self.modalities):
            sha.update(name.encode())
            sha.update(self.modalities[name].digest().encode())
        return sha.hexdigest()[:16]
