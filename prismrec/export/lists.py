"""Lists of items, on internal and external ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from prismrec.data.ids import IdMap


@dataclass(frozen=True)
class Lists:
    """Best first: ``items`` (n, k) int64, rows of the catalogue, −1 where candidates ran out; ``scores`` (n, k) float32.

    ``asked``: what each list answers (n external ids); ``name`` and ``what`` are the columns of the two in a table.
    """

    asked: Sequence[Any]
    items: np.ndarray
    scores: np.ndarray
    catalogue: IdMap
    titles: pl.Series | None = None
    name: str = "user"
    what: str = "item"

    def __len__(self) -> int:
        return len(self.items)

    def rows(self) -> list[list[tuple[Any, float]]]:
        """A list of (external id, score) for each that was asked: plain Python, for a service."""
        filled = self.items >= 0
        ids = self.catalogue.names(self.items[filled])
        scores = self.scores[filled].tolist()
        ends = [0, *np.cumsum(filled.sum(1)).tolist()]
        return [list(zip(ids[start:end], scores[start:end], strict=True)) for start, end in pairwise(ends)]

    def table(self) -> pl.DataFrame:
        """Columns user (or what else was asked), rank (from 1), item, score, and title where known."""
        n, k = self.items.shape
        filled = (self.items >= 0).reshape(-1)
        item = self.items.reshape(-1)[filled]
        asked = pl.Series(self.name, self.asked)
        columns: dict[str, Any] = {
            self.name: asked.gather(np.repeat(np.arange(n), k)[filled]),
            "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), n)[filled],
            self.what: self.catalogue.decode(item),
            "score": self.scores.reshape(-1)[filled],
        }
        if self.titles is not None:
            columns["title"] = self.titles.gather(item)
        return pl.DataFrame(columns)
