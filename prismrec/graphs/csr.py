"""A sparse matrix that multiplies fast on a CPU and on CUDA."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Csr(nn.Module):
    """A sparse matrix (rows × columns) that multiplies: ``indptr`` (rows+1,), ``indices`` and ``values`` (nnz,).

    Indices are 32-bit: on a CPU a product is bound by the bytes that it moves.
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor

    def __init__(self, indptr: Tensor, indices: Tensor, values: Tensor, columns: int) -> None:
        super().__init__()
        self.columns = columns
        self.register_buffer("indptr", indptr.int(), persistent=False)
        self.register_buffer("indices", indices.int(), persistent=False)
        self.register_buffer("values", values.float(), persistent=False)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    def row(self) -> Tensor:
        """Row of each entry, (nnz,) int64."""
        counts = self.indptr[1:] - self.indptr[:-1]
        return torch.repeat_interleave(torch.arange(self.rows, device=counts.device), counts)

    def times(self, x: Tensor) -> Tensor:
        """This matrix times ``x`` (columns, d) → (rows, d), without gradient bookkeeping, in the precision of ``values``."""
        x = x.to(self.values.dtype)  # autocast may have made it narrower; sums over neighbours stay exact
        if x.is_cuda:
            matrix = csr_tensor(self.indptr, self.indices, self.values, (self.rows, self.columns))
            with torch.autocast("cuda", enabled=False):
                return matrix @ x
        # an embedding bag is a sparse product that takes 32-bit indices and runs twice as fast as the CPU's CSR kernel
        return F.embedding_bag(
            self.indices, x, self.indptr, mode="sum", per_sample_weights=self.values, include_last_offset=True
        )

    def transpose(self) -> Csr:
        """The transposed matrix."""
        return from_edges(self.indices.long(), self.row(), self.values, self.columns, self.rows)

    def padded(self, rows: int, columns: int) -> Csr:
        """The same entries in a matrix of as many rows and columns, or more."""
        empty = self.indptr[-1:].expand(rows - self.rows)
        return Csr(torch.cat([self.indptr, empty]), self.indices, self.values, columns)

    def merged(self) -> Csr:
        """The same matrix with entries of one place added up."""
        return combined([(1.0, self)])

    def dense(self) -> Tensor:
        """(rows, columns), for tests on small graphs."""
        return self.times(torch.eye(self.columns, device=self.values.device))


def from_edges(row: Tensor, column: Tensor, values: Tensor, rows: int, columns: int) -> Csr:
    """Entries (row, column, value), each (nnz,) and in any order, duplicates allowed → CSR, columns ascending in a row."""
    order = torch.argsort(row * columns + column, stable=True)
    return Csr(indptr(row, rows), column[order], values[order], columns)


def indptr(row: Tensor, rows: int) -> Tensor:
    """Where each row starts: ``row`` (nnz,) → (rows + 1,)."""
    return F.pad(torch.bincount(row, minlength=rows).cumsum(0), (1, 0))


def combined(parts: Sequence[tuple[float, Csr]]) -> Csr:
    """Σ_p w_p M_p of matrices of one shape, entries of one place added up."""
    _, some = parts[0]
    place, index = torch.unique(
        torch.cat([part.row() * some.columns + part.indices for _, part in parts]), return_inverse=True
    )
    total = torch.zeros(len(place), device=place.device)
    total.index_add_(0, index, torch.cat([weight * part.values for weight, part in parts]))
    return Csr(indptr(place // some.columns, some.rows), place % some.columns, total, some.columns)


@torch.no_grad()
def inner_products(rows: Tensor, table: Tensor, places: Tensor) -> Tensor:
    """⟨rows_b, table_j⟩ for each j of ``places_b``: (B, d), (n, d), (B, K) → (B, K), without gradient, in single precision.

    On a CPU a product of two matrices that is taken at B·K places only: to copy B·K rows of the table first takes twice as
    long.
    """
    rows, table = rows.float(), table.float()
    if rows.is_cuda or places.shape[1] > len(table):
        with torch.autocast(rows.device.type, enabled=False):
            return torch.einsum("bd,bkd->bk", rows, table[places])
    pattern = csr_tensor(  # of 32 bits: in two thirds of the time
        torch.arange(0, places.numel() + 1, places.shape[1], device=places.device, dtype=torch.int32),
        places.reshape(-1).int(),
        rows.new_zeros(places.numel()),
        (len(rows), len(table)),
    )
    products: Tensor = torch.sparse.sampled_addmm(pattern, rows, table.T, beta=0.0)
    return products.values().view(places.shape)


def csr_tensor(indptr: Tensor, indices: Tensor, values: Tensor, shape: tuple[int, int], check: bool = False) -> Tensor:
    """PyTorch's own record of a sparse matrix, without its remark that the layout is a beta version."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(indptr, indices, values, shape, check_invariants=check)


class Frozen(nn.Module):
    """A sparse matrix M (rows × columns) that does not learn, with its transpose at hand for gradients."""

    def __init__(self, matrix: Csr, transposed: Csr | None = None) -> None:
        super().__init__()
        self.matrix = matrix
        self.transposed = matrix.transpose() if transposed is None else transposed

    def forward(self, x: Tensor) -> Tensor:
        """M x, (columns, d) → (rows, d)."""
        return product(self.matrix, self.transposed, x)


def product(matrix: Csr, transposed: Csr, x: Tensor) -> Tensor:
    """``matrix`` times ``x`` (columns, d) → (rows, d), whose gradient is ``transposed`` times that of the product."""
    out: Tensor = _Product.apply(matrix, transposed, x)  # type: ignore[no-untyped-call]
    return out


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Csr, transposed: Csr, x: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix.times(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transposed.times(grads[0].contiguous())
