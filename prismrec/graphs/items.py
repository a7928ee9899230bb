"""Item–item graphs: exact nearest neighbours by cosine, normalised, frozen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prismrec import topk
from prismrec.graphs.csr import Csr, from_edges, indptr, product


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
    return Csr(indptr(place // n, n), place % n, total * scale[place // n], n)
