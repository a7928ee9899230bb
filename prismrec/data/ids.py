"""External ids (any type) ↔ internal ids (0..n-1), mapped once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from prismrec.errors import PrismError

_FEW = 256  # ids that are looked up one by one


@dataclass(frozen=True)
class IdMap:
    """The external ids of users or items; the position of an id is its internal id.

    ``external``: a polars Series of unique, non-null values of any type; ``what``: "user" or "item", for messages.
    """

    external: pl.Series
    what: str = field(default="item")

    def __len__(self) -> int:
        return len(self.external)

    @cached_property
    def _hashes(self) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of the ids in rising order, and whose they are: 16 bytes an id."""
        hashes = self.external.hash().to_numpy()
        order = np.argsort(hashes)
        return hashes[order], order

    @cached_property
    def _lookup(self) -> pl.DataFrame:
        return pl.DataFrame({"external": self.external, "internal": np.arange(len(self), dtype=np.int64)})

    def encode(self, ids: Sequence[Any] | pl.Series | np.ndarray) -> np.ndarray:
        """External ids → internal ids (int64). Text is read as the map's own type; an unknown id is an error."""
        internal = self.find(ids)
        if (internal < 0).any():
            bad = np.flatnonzero(internal < 0)
            first = pl.Series(ids)[int(bad[0])]
            others = len(bad) - 1
            more = (
                f" (nor {'is 1 other' if others == 1 else f'are {others:,} others'} that you named)" if others else ""
            )
            raise PrismError(
                f"{self.what} {first!r} is not among the {len(self):,} known {self.what}s{more}; "
                f"ids look like {self.external.head(3).to_list()}."
            )
        return internal

    def find(self, ids: Sequence[Any] | pl.Series | np.ndarray) -> np.ndarray:
        """Like ``encode``, with -1 for an id that is unknown."""
        asked = pl.Series("external", ids)
        if asked.dtype != self.external.dtype:
            asked = asked.cast(self.external.dtype, strict=False)
        if len(asked) <= _FEW and not isinstance(asked.dtype, pl.Categorical):
            return self._find_few(asked)
        joined = pl.DataFrame({"external": asked}).join(self._lookup, on="external", how="left", maintain_order="left")
        return joined["internal"].fill_null(-1).to_numpy()

    def _find_few(self, asked: pl.Series) -> np.ndarray:
        """``find`` without a join, which takes a pass over all ids: what a service asks for is one or a few."""
        hashes, order = self._hashes
        wanted = asked.hash().to_numpy()
        first, last = np.searchsorted(hashes, wanted), np.searchsorted(hashes, wanted, side="right")
        found = np.full(len(asked), -1, np.int64)
        for place, (start, stop) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
            for row in order[start:stop].tolist():  # one at most, unless two ids share a hash
                if self.external[row] == asked[place]:
                    found[place] = row
        return found

    def new(self, ids: Sequence[Any] | pl.Series | np.ndarray) -> pl.Series:
        """``ids`` in the map's own type, to join it; a ``PrismError`` where one is known, null or given twice."""
        if isinstance(ids, str | bytes) or not len(ids):
            raise PrismError(f"Give a list of ids of new {self.what}s, such as ['{self.what}-1'], not {ids!r}.")
        asked = pl.Series(self.what, ids, strict=False)
        found = asked.cast(self.external.dtype, strict=False)
        bad = found.is_in(self.external.implode()) | found.is_duplicated() | found.is_null()
        if bad.any():
            raise PrismError(
                f"Ids of new {self.what}s must be new, each its own, and of the kind of the known ones "
                f"({self.external.dtype}); not so: {asked.filter(bad).head(3).to_list()}."
            )
        return found

    def decode(self, internal: np.ndarray) -> pl.Series:
        """Internal ids (any integer array of one dimension) → external ids."""
        return self.external.gather(np.asarray(internal, dtype=np.int64))

    def names(self, internal: np.ndarray) -> list[Any]:
        """``decode`` as a plain list: at once for a few, which a Series takes longer to make than to read."""
        if len(internal) > _FEW:
            return self.decode(internal).to_list()
        return [self.external[row] for row in internal.tolist()]

    def digest(self) -> str:
        """SHA-256 of the ids as text, in order: ``7`` and ``"7"`` agree, and the version of polars does not matter."""
        text = self.external.cast(pl.String)
        sha = hashlib.sha256(text.str.len_bytes().cast(pl.Int64).to_numpy().astype("<i8").tobytes())
        sha.update("".join(text.to_list()).encode())
        return sha.hexdigest()
