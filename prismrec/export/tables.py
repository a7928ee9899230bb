"""Tables of representations as an export stores them, decoded where they are needed.

A table is dense (float32, float16, or int8 with a scale for each row) or sparse. Its numbers are float32 wherever they are
computed with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from prismrec.errors import PrismError

Dtype = Literal["float32", "float16", "int8"]
DTYPES: tuple[Dtype, ...] = ("float32", "float16", "int8")
_DECODED_AT_ONCE = 1 << 23  # numbers: a table of up to 32 MiB is decoded once, a larger one block by block
_ROWS = 1 << 14


@dataclass(frozen=True)
class Dense:
    """``stored`` (n, d) float32, float16 or int8; with int8 row i stands for ``stored[i] * scale[i]``."""

    stored: np.ndarray
    scale: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def width(self) -> int:
        """d."""
        return int(self.stored.shape[1])

    @property
    def kind(self) -> str:
        """As the manifest calls it."""
        return str(self.stored.dtype.name)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n,) → (n, d) float32."""
        return self._decoded(rows)

    @cached_property
    def _whole(self) -> np.ndarray | None:
        if self.stored.dtype == np.float32:
            return self.stored
        return self._decoded(slice(None)) if self.stored.size <= _DECODED_AT_ONCE else None

    def rows(self, start: int, stop: int) -> np.ndarray:
        """(stop-start, d) float32; a view where there is nothing to decode."""
        return self._decoded(slice(start, stop)) if self._whole is None else self._whole[start:stop]

    @property
    def step(self) -> int:
        """How many rows to ask ``rows`` for at a time."""
        return _ROWS if self._whole is None else max(1, len(self))

    def _decoded(self, rows: np.ndarray | slice) -> np.ndarray:
        values = self.stored[rows].astype(np.float32)
        if self.scale is not None:
            values *= self.scale[rows, None]
        return values

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        """By which it is stored."""
        return {name: self.stored} if self.scale is None else {name: self.stored, f"{name}.scale": self.scale}

    def as_type(self, dtype: Dtype) -> Dense:
        """Stored as ``dtype``. int8 is symmetric, each row scaled by its largest number over 127."""
        values = self._decoded(slice(None))
        if dtype != "int8":
            if dtype == "float16" and np.abs(values).max(initial=0) > np.finfo(np.float16).max:
                raise PrismError(
                    f"A representation holds {np.abs(values).max():g}, more than float16 can ({np.finfo(np.float16).max:g}); "
                    "export with --dtype float32 or int8."
                )
            return Dense(values.astype(dtype))
        scale = np.abs(values).max(axis=1, initial=0) / np.float32(127)
        rounded = np.rint(values / np.where(scale > 0, scale, 1)[:, None])
        return Dense(rounded.astype(np.int8), scale.astype(np.float32))

    def extended(self, values: np.ndarray) -> Dense:
        """With further rows (n, d) float32 at the end, stored in the same way."""
        more = Dense(np.ascontiguousarray(values, np.float32)).as_type(self.kind)  # type: ignore[arg-type]
        scale = None if self.scale is None or more.scale is None else np.concatenate([self.scale, more.scale])
        return Dense(np.concatenate([self.stored, more.stored]), scale)

    def without(self, rows: np.ndarray) -> Dense:
        """The rows of a boolean mask (n,) left out."""
        return Dense(self.stored[~rows], None if self.scale is None else self.scale[~rows])

    def check(self, name: str) -> None:
        """Refuse numbers that are not finite."""
        for start in range(0, len(self), _ROWS):
            if not np.isfinite(self._decoded(slice(start, start + _ROWS)).sum(dtype=np.float64)):
                raise PrismError(f"The table {name!r} holds NaN or infinite numbers, so nothing can be ranked by it.")


@dataclass(frozen=True)
class Sparse:
    """Rows of a sparse matrix (n, d): ``indptr`` (n+1,), ``indices`` and ``values`` (nnz,) float32."""

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    width: int

    kind = "sparse"

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @cached_property
    def matrix(self) -> Any:
        """A SciPy CSR array (n, d) that shares the memory."""
        from scipy import sparse  # late: few models are sparse

        return sparse.csr_array((self.values, self.indices, self.indptr), shape=(len(self), self.width))

    def take(self, rows: np.ndarray) -> Any:
        """Rows (n,) → a SciPy CSR array (n, d)."""
        return self.matrix[rows]

    def row(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Columns and numbers of one row."""
        cut = slice(self.indptr[number], self.indptr[number + 1])
        return self.indices[cut], self.values[cut]

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        """By which it is stored."""
        parts = {"indptr": self.indptr, "indices": self.indices, "values": self.values}
        return {f"{name}.{part}": value for part, value in parts.items()}

    def as_type(self, dtype: Dtype) -> Sparse:
        """Itself: numbers of a sparse table are always float32."""
        return self

    def without(self, rows: np.ndarray) -> Sparse:
        """The rows of a boolean mask (n,) left out."""
        return Sparse.of(self.matrix[~rows])

    @staticmethod
    def of(matrix: Any) -> Sparse:
        """Of a SciPy CSR array."""
        indptr, indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
        return Sparse(indptr, indices, matrix.data.astype(np.float32), int(matrix.shape[1]))

    def check(self, name: str) -> None:
        """Refuse rows that do not fit, and numbers that are not finite."""
        check_rows(name, self.indptr, self.indices, self.width)
        if len(self.values) != len(self.indices) or not np.isfinite(self.values.sum(dtype=np.float64)):
            raise PrismError(f"The sparse table {name!r} has places without a finite number.")


Table = Dense | Sparse


@dataclass(frozen=True)
class Side:
    """Representations of users (U, d) and items (I, d) whose inner product is a score."""

    user: Table
    item: Table


def lengths(table: Table) -> np.ndarray:
    """Euclidean length (n,) of each row."""
    if isinstance(table, Sparse):
        return np.sqrt(np.asarray(table.matrix.power(2).sum(axis=1), np.float32).reshape(-1))
    out = np.empty(len(table), np.float32)
    for start in range(0, len(table), _ROWS):
        block = table.rows(start, min(start + _ROWS, len(table)))
        out[start : start + len(block)] = np.sqrt(np.einsum("nd,nd->n", block, block))
    return out


@dataclass(frozen=True)
class Seen:
    """Items of each user: ``indptr`` (U+1,) int64, ``indices`` (nnz,) int32, ascending in a row."""

    indptr: np.ndarray
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def of(self, row: int) -> np.ndarray:
        """Items of one user."""
        return self.indices[self.indptr[row] : self.indptr[row + 1]]

    def take(self, rows: np.ndarray) -> Seen:
        """The given rows, in that order."""
        counts = (self.indptr[1:] - self.indptr[:-1])[rows]
        indptr = np.concatenate([[0], np.cumsum(counts)])
        at = np.arange(indptr[-1]) + np.repeat(self.indptr[:-1][rows] - indptr[:-1], counts)
        return Seen(indptr, self.indices[at])

    @staticmethod
    def none(rows: int) -> Seen:
        """Nothing for anybody."""
        return Seen(np.zeros(rows + 1, np.int64), np.zeros(0, np.int32))


def gram(items: Dense) -> np.ndarray:
    """YᵀY (d, d) in double precision of items Y (I, d)."""
    total: np.ndarray = np.zeros((items.width, items.width))
    for start in range(0, len(items), 1 << 14):
        block = items.rows(start, min(start + (1 << 14), len(items))).astype(np.float64)
        total = total + block.T @ block
    return total


def covariance(table: Table) -> np.ndarray:
    """Covariance (d, d) float32 of the columns of a table."""
    total: Any = 0.0
    second: Any = 0.0
    if isinstance(table, Sparse):
        total, second = np.asarray(table.matrix.sum(axis=0)), (table.matrix.T @ table.matrix).toarray()
    else:
        for start in range(0, len(table), _ROWS):
            block = table.rows(start, min(start + _ROWS, len(table)))
            total, second = total + block.sum(0, dtype=np.float64), second + (block.T @ block).astype(np.float64)
    mean = total / len(table)
    return np.asarray(second / len(table) - np.outer(mean, mean), np.float32)


def check_rows(name: str, indptr: np.ndarray, indices: np.ndarray, width: int) -> None:
    """Refuse row ends that do not rise from 0 to the number of places, and places outside 0..width-1."""
    rises = len(indptr) > 0 and indptr[0] == 0 and indptr[-1] == len(indices) and bool((np.diff(indptr) >= 0).all())
    if not rises or (len(indices) and not 0 <= indices.min() <= indices.max() < width):
        raise PrismError(f"The rows of {name!r} point outside of their {width:,} columns or of their own places.")


def stored_table(name: str, kind: str, shape: tuple[int, int], tensors: Mapping[str, np.ndarray]) -> Table:
    """A table of a given kind and shape, put together from the tensors of a file; what does not fit is a ``PrismError``."""
    rows, width = shape

    def tensor(part: str, dtype: str, expected: tuple[int | None, ...]) -> np.ndarray:
        found = tensors.get(part)
        fits = found is not None and found.dtype.name == dtype and len(found.shape) == len(expected)
        if found is None or not fits or any(e not in (None, n) for e, n in zip(expected, found.shape, strict=True)):
            have = "absent" if found is None else f"{found.dtype.name} of shape {found.shape}"
            wanted = tuple("any" if n is None else n for n in expected)
            raise PrismError(f"The tensor {part!r} is {have}; the manifest says {dtype} of shape {wanted}.")
        return found

    if kind == "sparse":
        indptr = tensor(f"{name}.indptr", "int64", (rows + 1,))
        values = tensor(f"{name}.values", "float32", (None,))
        table: Table = Sparse(indptr, tensor(f"{name}.indices", "int32", (len(values),)), values, width)
    elif kind not in DTYPES:
        raise PrismError(
            f"The table {name!r} is of kind {kind!r}; this version of PrismRec knows no tables of kind {kind!r}."
        )
    else:
        scale = tensor(f"{name}.scale", "float32", (rows,)) if kind == "int8" else None
        table = Dense(tensor(name, kind, (rows, width)), scale)
    table.check(name)
    return table
