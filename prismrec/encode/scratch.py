"""Tables that need not fit into memory."""

from __future__ import annotations

import tempfile

import numpy as np

MEMORY = 1 << 30
"""Bytes up to which a table stands in memory; a larger one is a file without a name in the folder for temporary files."""


def table(rows: int, width: int, dtype: str = "float32") -> np.ndarray:
    """Zeros (rows, width), gone when nobody holds them any more."""
    if rows * width * np.dtype(dtype).itemsize <= MEMORY:
        return np.zeros((rows, width), dtype=dtype)
    with tempfile.TemporaryFile(prefix="prismrec-") as file:  # the table holds it open by itself
        return np.memmap(file, dtype=dtype, mode="w+", shape=(rows, width))
