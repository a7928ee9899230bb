"""Sparse matrices whose places are fixed and whose values learn: inner products at the places, softmax over rows, products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prismrec.graphs.bipartite import Edges
from prismrec.graphs.csr import Csr, csr_tensor


class Places(nn.Module):
    """Where the entries of a matrix (rows, columns) stand, sorted by row: ``row`` and ``column`` (nnz,).

    ``order`` (nnz,) sorts the entries by column; ``row_t`` is ``row`` in that order. Values of entries come and go as tensors
    (nnz,), in the order of rows.
    """

    row: Tensor
    column: Tensor
    order: Tensor
    row_t: Tensor
    starts: Tensor
    starts_t: Tensor

    def __init__(self, row: Tensor, column: Tensor, order: Tensor, rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        for name, value in {
            "row": row.int(),
            "column": column.int(),
            "order": order,
            "row_t": row[order].int(),
            "starts": _starts(row, rows),
            "starts_t": _starts(column, columns),
        }.items():
            self.register_buffer(name, value, persistent=False)

    @staticmethod
    def of(edges: Edges) -> Places:
        """Those of the users' items, (U, I)."""
        return Places(edges.user, edges.item, edges.by_item, edges.n_users, edges.n_items)

    @staticmethod
    def lists(ids: Tensor, columns: int) -> Places:
        """Those of rows that have as many columns each: ``ids`` (rows, C) below ``columns``; a column may come twice."""
        row = torch.arange(len(ids), device=ids.device).repeat_interleave(ids.shape[1])
        column = ids.reshape(-1).int()  # of half the bytes: sorted in half the time
        return Places(row, column, column.argsort(stable=True), len(ids), columns)

    def flip(self) -> Places:
        """Those of the transposed matrix: its values are ``values[order]``."""
        back = torch.empty_like(self.order)
        back[self.order] = torch.arange(len(back), device=back.device)
        return Places(self.column[self.order], self.row_t, back, self.columns, self.rows)

    def dots(self, x: Tensor, y: Tensor) -> Tensor:
        """⟨x_i, y_j⟩ at each place (i, j): (rows, d), (columns, d) → (nnz,), with both gradients."""
        out: Tensor = _Dots.apply(self, x, y)  # type: ignore[no-untyped-call]
        return out

    def softmax(self, values: Tensor) -> Tensor:
        """``values`` (nnz,) → their softmax over each row, (nnz,): rows sum to 1, those without an entry to nothing."""
        out: Tensor = _Softmax.apply(self, values)  # type: ignore[no-untyped-call]
        return out

    def times(self, values: Tensor, y: Tensor) -> Tensor:
        """The matrix of ``values`` (nnz,) times ``y`` (columns, d) → (rows, d), with both gradients."""
        out: Tensor = _Times.apply(self, values, y)  # type: ignore[no-untyped-call]
        return out

    def matrix(self, values: Tensor) -> Csr:
        """The matrix of ``values``, without gradients."""
        return Csr(self.starts, self.column, values.detach(), self.columns)

    def transposed(self, values: Tensor) -> Csr:
        """Its transpose, which nothing is sorted for."""
        return Csr(self.starts_t, self.row_t, values.detach()[self.order], self.rows)

    def sampled(self, x: Tensor, y: Tensor) -> Tensor:
        """``dots`` without gradients, in single precision."""
        x, y = x.detach().float(), y.detach().float()
        if x.is_cuda or len(self.column) > self.rows * self.columns:  # more than its kernel allows: columns come twice
            return (x[self.row] * y[self.column]).sum(1)
        empty = csr_tensor(self.starts, self.column, x.new_zeros(len(self.column)), (self.rows, self.columns))
        found: Tensor = torch.sparse.sampled_addmm(empty, x, y.T, beta=0.0)
        return found.values()


def _starts(of: Tensor, n: int) -> Tensor:
    """Where each row begins: counted by sums, since a bincount on the accelerator waits for its largest value."""
    counts = torch.zeros(n, dtype=torch.int32, device=of.device).index_add_(
        0, of, torch.ones_like(of, dtype=torch.int32)
    )
    return F.pad(counts.cumsum(0), (1, 0)).int()


class _Dots(torch.autograd.Function):
    """With G the matrix of the gradient, those of x and y are G y and Gᵀ x."""

    @staticmethod
    def forward(ctx: Any, places: Places, x: Tensor, y: Tensor) -> Tensor:
        ctx.places = places
        ctx.save_for_backward(x, y)
        return places.sampled(x, y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, Tensor]:
        x, y = ctx.saved_tensors
        return None, ctx.places.matrix(grads[0]).times(y), ctx.places.transposed(grads[0]).times(x)


class _Softmax(torch.autograd.Function):
    """p_j = e^{v_j} / Σ_row e^v; the gradient is p_j (g_j − Σ_row p g)."""

    @staticmethod
    def forward(ctx: Any, places: Places, values: Tensor) -> Tensor:
        top = torch.segment_reduce(values, "max", offsets=places.starts.long(), unsafe=True)
        p = (values - top[places.row]).exp_()
        p /= torch.segment_reduce(p, "sum", offsets=places.starts.long(), unsafe=True)[places.row]
        ctx.places = places
        ctx.save_for_backward(p)
        return p

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        (p,) = ctx.saved_tensors
        weighed = p * grads[0]
        total = torch.segment_reduce(weighed, "sum", offsets=ctx.places.starts.long(), unsafe=True)
        return None, torch.addcmul(weighed, p, total[ctx.places.row], value=-1)


class _Times(torch.autograd.Function):
    """The gradient of the values is taken at their places alone."""

    @staticmethod
    def forward(ctx: Any, places: Places, values: Tensor, y: Tensor) -> Tensor:
        ctx.places = places
        ctx.save_for_backward(values, y)
        return places.matrix(values).times(y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        values, y = ctx.saved_tensors
        grad = grads[0].contiguous()
        of_values = ctx.places.sampled(grad, y) if ctx.needs_input_grad[1] else None
        of_y = ctx.places.transposed(values).times(grad) if ctx.needs_input_grad[2] else None
        return None, of_values, of_y
