"""Item–item graphs: exact nearest neighbours by cosine, normalised, frozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from prismrec import topk
from prismrec.graphs.csr import Csr, combined, from_edges, indptr, product

Scaling = Literal["symmetric", "rows"]


class ItemGraph(nn.Module):
    """A frozen item–item graph (I, I), directed, with its transpose at hand for gradients."""

    def __init__(self, matrix: Csr) -> None:
        super().__init__()
        self.matrix, self.transposed = matrix, matrix.transpose()

    def forward(self, x: Tensor, layers: int = 1) -> Tensor:
        """S^layers x, (I, d) → (I, d)."""
        for _ in range(layers):
            x = product(self.matrix, self.transposed, x)
        return x


def knn(values: Tensor, present: Tensor, k: int, memory: int = 128 << 20) -> tuple[Tensor, Tensor]:
    """Exact k nearest neighbours by cosine, each item its own first one → ids (I, k) and cosines (I, k); k is at most I.

    ``values`` (I, r) raw features, ``present`` (I,) bool. An item that lacks the modality, and a row of zeros, is similar
    to nothing: it has no neighbour (id -1) and is nobody's. Ties go to the lower id, but an item comes before its copies.
    Works in blocks of rows whose scores take at most ``memory`` bytes (or one row's); the features are neither copied nor
    changed.
    """
    cosines = Cosines(values, present)
    complete = bool(cosines.usable.all())

    def fill(start: int, stop: int, block: Tensor) -> None:
        cosines.rows(start, stop, block)
        if not complete:
            block.masked_fill_(~cosines.usable, -torch.inf)

    ids, cosine = nearest(fill, len(values), k, values.device, memory)
    ok = cosine.isfinite() & cosines.usable[:, None]
    return torch.where(ok, ids, -1), torch.where(ok, cosine.clamp(max=1.0), 0.0)


def grown(
    find: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]],
    values: Tensor,
    present: Tensor,
    k: int,
    known: int,
    memory: int = 128 << 20,
) -> tuple[Tensor, Tensor]:
    """What ``find`` (``knn``, or one that remembers) gives, where the items from number ``known`` on are new.

    A known item keeps the neighbours that it has without the new ones. A new one has itself first, then the nearest known
    ones, and is nobody else's neighbour: so its list is the same whatever else is new.
    """
    ids, cosine = find(values[:known], present[:known], k)
    if known == len(values):
        return ids, cosine
    k, cosines = ids.shape[1], Cosines(values, present)
    levels, width = topk.layout(known, max(k - 1, 1))
    rows = max(1, memory // (4 * (width + len(values))))
    lists = [(ids, cosine)]
    for start in range(known, len(values), rows):
        stop = min(start + rows, len(values))
        block = torch.empty((stop - start, len(values)), device=values.device)
        cosines.rows(start, stop, block)
        scores = torch.full((stop - start, width), -torch.inf, device=values.device)
        scores[:, :known] = block[:, :known].masked_fill_(~cosines.usable[:known], -torch.inf)
        best, near = topk.best(scores, known, max(k - 1, 1), levels)
        own = torch.arange(start, stop, device=values.device).unsqueeze(1)
        near, best = torch.cat([own, near], dim=1)[:, :k], torch.cat([torch.ones_like(best[:, :1]), best], dim=1)[:, :k]
        ok = best.isfinite() & cosines.usable[start:stop, None]
        lists.append((torch.where(ok, near, -1), torch.where(ok, best.clamp(max=1.0), 0.0)))
    return torch.cat([ids for ids, _ in lists]), torch.cat([cosine for _, cosine in lists])


class Cosines:
    """Cosines of all items' features, block by block; 0 with an item that lacks the modality or whose row is zero."""

    def __init__(self, values: Tensor, present: Tensor) -> None:
        """``values`` (I, r) of any float type, ``present`` (I,) bool."""
        norm = torch.cat([torch.linalg.vector_norm(part.float(), dim=1) for part in values.split(16384)])
        self.values, self.usable = values, present & (norm > 0)
        self.scale = torch.where(self.usable, norm.clamp(min=torch.finfo(norm.dtype).tiny).reciprocal(), 0.0)

    def rows(self, start: int, stop: int, out: Tensor) -> None:
        """Writes the cosines of items ``start`` to ``stop`` with all items into ``out`` (stop - start, I)."""
        query = self.values[start:stop].float() * self.scale[start:stop, None]
        n = len(self.values)
        for first in range(0, n, 65536):  # column blocks, so that half-precision features are widened piece by piece
            last = min(first + 65536, n)
            torch.mm(query, self.values[first:last].float().T, out=out[:, first:last])
        out.mul_(self.scale)


def nearest(
    fill: Callable[[int, int, Tensor], None], n: int, k: int, device: torch.device, memory: int = 128 << 20
) -> tuple[Tensor, Tensor]:
    """The k most similar of n items for each of them, each its own first one → ids and similarities (n, min(k, n)).

    ``fill(start, stop, block)`` writes the similarities, at most 1, of items ``start`` to ``stop`` with all into ``block``
    (stop - start, n). An item's own comes back as 2. Ties go to the lower id.
    """
    k = min(k, n)
    levels, width = topk.layout(n, k)
    ids = torch.empty((n, k), dtype=torch.int64, device=device)
    similarity = torch.empty((n, k), device=device)
    rows = max(1, min(n, memory // (4 * width)))
    scores = torch.full((rows, width), -torch.inf, device=device)
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        block = scores[: stop - start, :n]
        fill(start, stop, block)
        block.diagonal(start).fill_(2.0)
        best, found = topk.best(scores[: stop - start], n, k, levels)
        ids[start:stop], similarity[start:stop] = found, best
    return ids, similarity


def knn_matrix(ids: Tensor, cosine: Tensor | None = None) -> Csr:
    """Neighbour lists (I, k), -1 for none → the binary directed graph, entry (i, j) scaled by 1/√(r_i r_j) of row sums r.

    Lists of ``knn`` are equally long or empty, so that each entry is 1/length and a row sums to 1 or is empty. This is the
    item graph of LATTICE's line of work and of FREEDOM. With ``cosine`` (I, k) an entry is that much of it, as in REARM.
    """
    n, _ = ids.shape
    row, slot = (ids >= 0).nonzero(as_tuple=True)
    column = ids[row, slot]
    degree = torch.bincount(row, minlength=n).clamp(min=1).float()
    scale = (degree[row] * degree[column]).rsqrt()
    return from_edges(row, column, scale if cosine is None else scale * cosine[row, slot], n, n)


def similarity_matrix(ids: Tensor, cosine: Tensor, scaling: Scaling = "symmetric") -> Csr:
    """Neighbour lists (I, k), -1 for none, and their cosines (I, k) → ``normalised`` graph whose weights are the cosines.

    An item without neighbours has itself, with weight 1: what flows over this graph is its own, not nothing. This is the
    item graph of MGCN.
    """
    n, _ = ids.shape
    row, slot = (ids >= 0).nonzero(as_tuple=True)
    alone = (ids < 0).all(1).nonzero().squeeze(1)
    values = torch.cat([cosine[row, slot], cosine.new_ones(len(alone))])
    return normalised(from_edges(torch.cat([row, alone]), torch.cat([ids[row, slot], alone]), values, n, n), scaling)


def normalised(graph: Csr, scaling: Scaling = "symmetric") -> Csr:
    """A directed graph (n, n) with entries w_ij/√(r_i r_j), r the sums of rows; ``rows``: w_ij/r_i.

    Weights that are not positive count as none, so that no root is taken of a negative sum; an edge to a node that has no
    edge of its own (r_j = 0) falls away.
    """
    row, column, weight = graph.row(), graph.indices.long(), graph.values
    total = torch.zeros(graph.rows, dtype=torch.float64, device=weight.device)
    total.index_add_(0, row, weight.clamp(min=0).double())
    keep = (weight > 0) & (total[column] > 0)
    row, column, weight = row[keep], column[keep], weight[keep]
    scale = (total[row] * total[column]).rsqrt() if scaling == "symmetric" else total[row].reciprocal()
    return Csr(indptr(row, graph.rows), column, weight * scale, graph.columns)


def weighted_sum(graphs: list[Csr], weights: list[float]) -> Csr:
    """Σ_g w_g S_g of square graphs of one size, entries of one place added up.

    Where row i is empty in some graphs (the item lacks that modality), the others take over its weight in proportion: with
    rows that sum to 1, those of Σ_g w_g S_g sum to Σ_g w_g for every item that any graph of positive weight knows.
    """
    total = combined(list(zip(weights, graphs, strict=True)))
    held = torch.zeros(total.rows, dtype=torch.float64, device=total.values.device)
    for graph, weight in zip(graphs, weights, strict=True):
        held += weight * (graph.indptr[1:] > graph.indptr[:-1])
    scale = torch.where(held > 0, sum(weights) / held, 1.0).float()  # exactly 1 where no graph lacks the row
    return Csr(total.indptr, total.indices, total.values * scale[total.row()], total.columns)
