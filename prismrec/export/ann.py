"""Approximate nearest items, for catalogues of a million and more: faiss (HNSW, IVF) and usearch, each an extra.

An approximate index proposes candidates, which are then scored exactly, from the vectors of the export.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from prismrec.export.score import Part
from prismrec.export.tables import Seen


class Near(Protocol):
    """Who proposes candidates."""

    def best(self, part: Part, k: int, masked: Seen | None, threads: int) -> tuple[np.ndarray, np.ndarray] | None:
        """As ``score.best`` of one part; None where too few candidates are left, so that all items must be looked at."""
