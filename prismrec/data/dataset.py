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

PARTS: Mapping[str, int] = {"train": 0, "valid": 1, "test": 2}
"""Name of a part of the split → its code in ``Interactions.split`` (the field's ``x_label``)."""


@dataclass(frozen=True)
class Interactions:
    """Rows of who took what, in internal ids: ``user``, ``item`` (N,) int32.

    ``split`` (N,) int8 holds the codes of ``PARTS``, or is None before a split; ``weight`` (N,) float32 > 0 and
    ``timestamp`` (N,) int64 (any unit) are None where the data has none.
    """

    user: np.ndarray
    item: np.ndarray
    split: np.ndarray | None = None
    weight: np.ndarray | None = None
    timestamp: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> Interactions:
        """The rows of a boolean mask or of positions."""

        def pick(column: np.ndarray | None) -> np.ndarray | None:
            return None if column is None else column[rows]

        return Interactions(
            self.user[rows], self.item[rows], pick(self.split), pick(self.weight), pick(self.timestamp)
        )

    def part(self, *names: str) -> Interactions:
        """The rows of the named parts ("train", "valid", "test"), in their order."""
        if self.split is None:
            raise ValueError("these interactions have no split yet")
        return self.take(np.isin(self.split, [PARTS[name] for name in names]))

    def digest(self) -> str:
        """SHA-256 of all columns, as a hexadecimal string: the same rows in the same order give the same text."""
        sha = hashlib.sha256()
        for name in ("user", "item", "split", "weight", "timestamp"):
            column = getattr(self, name)
            if column is not None:
                sha.update(name.encode())
                sha.update(np.ascontiguousarray(column).tobytes())
        return sha.hexdigest()


@dataclass(frozen=True)
class Modality:
    """Raw features of one modality: ``values`` (I, r) float32 or float16 (may be memory-mapped), ``present`` (I,) bool.

    Rows of items that lack the modality hold zeros and mean nothing; ``present`` says which they are.
    """

    values: np.ndarray
    present: np.ndarray

    @property
    def width(self) -> int:
        """r, the width of the raw features."""
        return int(self.values.shape[1])


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
            sha.update(ids.external.hash(seed=0).to_numpy().tobytes())
        for name in sorted(self.modalities):
            modality = self.modalities[name]
            sha.update(name.encode())
            sha.update(modality.present.tobytes())
            for start in range(0, len(modality.values), 65536):
                sha.update(np.ascontiguousarray(modality.values[start : start + 65536]).tobytes())
        return sha.hexdigest()[:16]
