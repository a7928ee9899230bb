"""Graphs and what flows over them: sparse, built from arrays, pure functions of their arguments.

Nothing of size U×U or I×I is ever dense. A graph lives in a module's buffers (so that it follows ``.to(device)``)
which are not saved: it is rebuilt from the data.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prismrec import topk


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

    def times(self, x: Tensor) -> Tensor:
        """This matrix times ``x`` (columns, d) → (rows, d), without gradient bookkeeping, in the precision of ``values``."""
        x = x.to(self.values.dtype)  # autocast may have made it narrower; sums over neighbours stay exact
        if x.is_cuda:
            matrix = torch.sparse_csr_tensor(self.indptr, self.indices, self.values, (self.rows, self.columns))
            with torch.autocast("cuda", enabled=False):
                return matrix @ x
        # an embedding bag is a sparse product that takes 32-bit indices and runs twice as fast as the CPU's CSR kernel
        return F.embedding_bag(
            self.indices, x, self.indptr, mode="sum", per_sample_weights=self.values, include_last_offset=True
        )

    def transpose(self) -> Csr:
        """The transposed matrix."""
        counts = self.indptr[1:] - self.indptr[:-1]
        row = torch.repeat_interleave(torch.arange(self.rows, device=counts.device), counts)
        return from_edges(self.indices.long(), row, self.values, self.columns, self.rows)

    def dense(self) -> Tensor:
        """(rows, columns), for tests on small graphs."""
        return self.times(torch.eye(self.columns, device=self.values.device))


def from_edges(row: Tensor, column: Tensor, values: Tensor, rows: int, columns: int) -> Csr:
    """Entries (row, column, value), each (nnz,) and in any order, duplicates allowed → CSR, columns ascending in a row."""
    order = torch.argsort(row * columns + column, stable=True)
    return Csr(_indptr(row, rows), column[order], values[order], columns)


def _indptr(row: Tensor, rows: int) -> Tensor:
    return F.pad(torch.bincount(row, minlength=rows).cumsum(0), (1, 0))


class Bipartite(nn.Module):
    """The user–item graph with symmetric normalisation: entry (u, i) is 1/√(d_u d_i), no self-loops.

    Kept as its two halves, ``to_user`` (U, I) and ``to_item`` (I, U), each the other's transpose: the whole matrix of
    U+I nodes is symmetric, so that a step costs the two halves and the gradient the same two.
    """

    def __init__(self, to_user: Csr, to_item: Csr) -> None:
        super().__init__()
        self.to_user, self.to_item = to_user, to_item


class Edges(nn.Module):
    """The distinct training edges, ``user`` and ``item`` (E,) sorted by user, and the order that sorts them by item.

    Subsets of the edges become graphs without sorting anything again.
    """

    user: Tensor
    item: Tensor
    by_item: Tensor

    def __init__(self, user: Tensor, item: Tensor, n_users: int, n_items: int) -> None:
        super().__init__()
        self.n_users, self.n_items = n_users, n_items
        keys = torch.unique(user.long() * n_items + item.long())
        self.register_buffer("user", keys // n_items, persistent=False)
        self.register_buffer("item", keys % n_items, persistent=False)
        self.register_buffer("by_item", torch.argsort(self.item, stable=True), persistent=False)

    def __len__(self) -> int:
        return len(self.user)

    def degrees(self, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Number of edges of each user (U,) and item (I,), of all edges or of those that ``keep`` (E,) marks."""
        user, item = (self.user, self.item) if keep is None else (self.user[keep], self.item[keep])
        return torch.bincount(user, minlength=self.n_users), torch.bincount(item, minlength=self.n_items)

    def graph(self, keep: Tensor | None = None) -> Bipartite:
        """The normalised graph of all edges, or of those that ``keep`` (E,) marks, with the *kept* degrees."""
        d_user, d_item = self.degrees(keep)
        values = d_user[self.user].clamp(min=1).rsqrt() * d_item[self.item].clamp(min=1).rsqrt()
        by_user = slice(None) if keep is None else keep
        by_item = self.by_item if keep is None else self.by_item[keep[self.by_item]]
        return Bipartite(
            Csr(F.pad(d_user.cumsum(0), (1, 0)), self.item[by_user], values[by_user], self.n_items),
            Csr(F.pad(d_item.cumsum(0), (1, 0)), self.user[by_item], values[by_item], self.n_users),
        )

    def sample(self, share: float, rng: torch.Generator) -> Tensor:
        """Marks ⌊E·``share``⌋ edges drawn without replacement with probability ∝ 1/√(d_u d_i) → (E,) bool.

        Exponential keys (Efraimidis & Spirakis, 2006) give the distribution of sequential draws at the cost of one pass.
        """
        d_user, d_item = self.degrees()
        chance = d_user[self.user].rsqrt() * d_item[self.item].rsqrt()
        key = torch.empty_like(chance).exponential_(generator=rng) / chance
        kept = math.floor(len(self) * share + 1e-6)  # 1 - 0.8 is a little less than 0.2
        chosen = key.topk(kept, largest=False, sorted=False).indices
        return torch.zeros(len(self), dtype=torch.bool, device=key.device).index_fill_(0, chosen, True)


class _Mean(torch.autograd.Function):
    """(1/(L+1)) Σ_l Â^l X for X = [users; items]. Â is symmetric, so the gradient is the same map: nothing is saved."""

    @staticmethod
    def forward(ctx: Any, graph: Bipartite, layers: int, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        ctx.graph, ctx.layers = graph, layers
        return _mean(graph, layers, user, item)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, Tensor, Tensor]:
        return None, None, *_mean(ctx.graph, ctx.layers, *grads)


def _mean(graph: Bipartite, layers: int, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
    # Horner's scheme: x ← x₀ + Âx, L times, sums all powers with no accumulator of its own
    u, i = user, item
    for _ in range(layers):
        u, i = graph.to_user.times(i).add_(user), graph.to_item.times(u).add_(item)
    return u.div_(layers + 1), i.div_(layers + 1)


def propagate_mean(graph: Bipartite, layers: int, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
    """LightGCN's propagation: the mean over layers 0..L of Â^l [user; item] → (U, d), (I, d) (He et al., SIGIR 2020)."""
    if layers == 0:
        return user, item
    out: tuple[Tensor, Tensor] = _Mean.apply(graph, layers, user, item)  # type: ignore[no-untyped-call]
    return out


class ItemGraph(nn.Module):
    """A frozen item–item graph (I, I), directed, with its transpose at hand for gradients."""

    def __init__(self, matrix: Csr) -> None:
        super().__init__()
        self.matrix, self.transposed = matrix, matrix.transpose()

    def forward(self, x: Tensor, layers: int = 1) -> Tensor:
        """S^layers x, (I, d) → (I, d)."""
        for _ in range(layers):
            x = _Product.apply(self, x)  # type: ignore[no-untyped-call]
        return x


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: ItemGraph, x: Tensor) -> Tensor:
        ctx.graph = graph
        return graph.matrix.times(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        return None, ctx.graph.transposed.times(grads[0].contiguous())


def knn(values: Tensor, present: Tensor, k: int, memory: int = 128 << 20) -> tuple[Tensor, Tensor]:
    """Exact k nearest neighbours by cosine, each item its own first one → ids (I, k) and cosines (I, k); k is at most I.

    ``values`` (I, r) raw features, ``present`` (I,) bool. An item that lacks the modality, and a row of zeros, is similar
    to nothing: it has no neighbour (id -1) and is nobody's. Ties go to the lower id, but an item comes before its copies.
    Works in blocks of rows whose scores take at most ``memory`` bytes (or one row's); the features are neither copied nor
    changed.
    """
    n = len(values)
    k = min(k, n)
    levels, width = topk.layout(n, k)
    norm = torch.cat([torch.linalg.vector_norm(part.float(), dim=1) for part in values.split(16384)])
    usable = present & (norm > 0)
    scale = torch.where(usable, norm.clamp(min=torch.finfo(norm.dtype).tiny).reciprocal(), 0.0)
    ids = torch.full((n, k), -1, dtype=torch.int64, device=values.device)
    cosine = torch.zeros((n, k), device=values.device)
    rows = max(1, min(n, memory // (4 * width)))
    scores = torch.full((rows, width), -torch.inf, device=values.device)
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        block = scores[: stop - start, :n]
        query = values[start:stop].float() * scale[start:stop, None]
        for first in range(0, n, 65536):  # column blocks, so that half-precision features are widened piece by piece
            last = min(first + 65536, n)
            torch.mm(query, values[first:last].float().T, out=block[:, first:last])
        block.mul_(scale).masked_fill_(~usable, -torch.inf)
        block.diagonal(start).fill_(2.0)
        best, found = topk.best(scores[: stop - start], n, k, levels)
        ok = best.isfinite() & usable[start:stop, None]
        ids[start:stop] = torch.where(ok, found, -1)
        cosine[start:stop] = torch.where(ok, best.clamp(max=1.0), 0.0)
    return ids, cosine


def knn_matrix(ids: Tensor) -> Csr:
    """Neighbour lists (I, k), -1 for none → the binary directed graph, entry (i, j) scaled by 1/√(r_i r_j) of row sums r.

    Lists of ``knn`` are equally long or empty, so that each entry is 1/length and a row sums to 1 or is empty. This is the
    item graph of LATTICE's line of work and of FREEDOM.
    """
    n, _ = ids.shape
    row, slot = (ids >= 0).nonzero(as_tuple=True)
    column = ids[row, slot]
    degree = torch.bincount(row, minlength=n).clamp(min=1).float()
    return from_edges(row, column, (degree[row] * degree[column]).rsqrt(), n, n)


def weighted_sum(graphs: list[Csr], weights: list[float]) -> Csr:
    """Σ_g w_g S_g of square graphs of one size, entries of one place added up.

    Where row i is empty in some graphs (the item lacks that modality), the others take over its weight in proportion: with
    rows that sum to 1, those of Σ_g w_g S_g sum to Σ_g w_g for every item that any graph of positive weight knows.
    """
    n = graphs[0].rows
    held = torch.zeros(n, dtype=torch.float64, device=graphs[0].values.device)
    keys, values = [], []
    for graph, weight in zip(graphs, weights, strict=True):
        counts = graph.indptr[1:] - graph.indptr[:-1]
        row = torch.repeat_interleave(torch.arange(n, device=counts.device), counts)
        keys.append(row * n + graph.indices)
        values.append(graph.values * weight)
        held += weight * (counts > 0)
    place, index = torch.unique(torch.cat(keys), return_inverse=True)
    total = torch.zeros(len(place), device=place.device).index_add_(0, index, torch.cat(values))
    scale = torch.where(held > 0, sum(weights) / held, 1.0).float()  # exactly 1 where no graph lacks the row
    return Csr(_indptr(place // n, n), place % n, total * scale[place // n], n)
