"""What users are drawn to beyond what they took, from the likeness of items' features: the graphs of SOIL, made in blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from prismrec import topk
from prismrec.graphs.bipartite import Edges
from prismrec.graphs.csr import Csr, from_edges, indptr
from prismrec.graphs.items import Cosines, nearest


def alike(tables: Sequence[Cosines], k: int, memory: int = 128 << 20) -> tuple[Tensor, Tensor]:
    """The k items most alike in *every* modality, each item its own first one → ids (I, k), -1 for none, and likeness (I, k).

    Likeness is the product of the cosines, negative ones as 0: two opposites do not make a likeness. An item's own is 1.
    """
    first, *rest = tables
    n, device = len(first.values), first.values.device

    def fill(start: int, stop: int, block: Tensor) -> None:
        first.rows(start, stop, block)
        block.clamp_(min=0)
        other = torch.empty_like(block)
        for table in rest:
            table.rows(start, stop, other)
            block.mul_(other.clamp_(min=0))

    ids, likeness = nearest(fill, n, k, device, memory)
    ids[likeness <= 0] = -1
    return ids, likeness.clamp(min=0, max=1)


def second_order(edges: Edges, tables: Sequence[Cosines], extra: int) -> Csr:
    """R_a (U, I): a user's own items with weight 1, and ``extra`` items more, the most ``alike`` to any of those.

    The picks are the largest entries, apart from each item's own, of the user's items × all items; they carry their likeness,
    may lie among the user's items, and add up where they coincide. None is picked whose likeness is 0. Of two that are like
    each other and both the user's, where there is room for one, either may be picked.
    """
    ids, likeness = alike(tables, extra + 1)
    # the n largest entries are the items' own; of the others no item has more than ``extra`` among the user's best
    ids, likeness = ids[:, 1:], likeness[:, 1:]
    user = edges.user.repeat_interleave(ids.shape[1])
    item, value = ids[edges.item].flatten(), likeness[edges.item].flatten()
    order = value.sort(descending=True, stable=True).indices
    order = order[user[order].sort(stable=True).indices]  # by user, best first
    user, item, value = user[order], item[order], value[order]
    rank = torch.arange(len(user), device=user.device) - indptr(user, edges.n_users)[user]
    keep = (rank < extra) & (item >= 0)
    own = torch.ones(len(edges), device=value.device)
    return from_edges(
        torch.cat([edges.user, user[keep]]),
        torch.cat([edges.item, item[keep]]),
        torch.cat([own, value[keep]]),
        edges.n_users,
        edges.n_items,
    ).merged()


def closest(edges: Edges, table: Cosines, k: int, memory: int = 256 << 20) -> Tensor:
    """The k items with the largest sum of cosines with all of a user's items, their own allowed → ids (U, k), k at most I.

    Ties go to the lower id. Works in blocks of columns whose scores take about ``memory`` bytes: S R' of a block, never I × I.
    """
    n_users, n_items = edges.n_users, edges.n_items
    k = min(k, n_items)
    step = min(n_items, max(64, memory // (4 * (n_users + 2 * n_items))))
    levels, width = topk.layout(k + step, k)
    device = table.values.device
    taken = Csr(indptr(edges.user, n_users), edges.item, torch.ones(len(edges), device=device), n_items)
    scores = torch.full((n_users, width), -torch.inf, device=device)  # the best so far, then a block
    ids = torch.full((n_users, k), -1, dtype=torch.int64, device=device)
    for start in range(0, n_items, step):
        stop = min(start + step, n_items)
        cosines = torch.empty((stop - start, n_items), device=device)
        table.rows(start, stop, cosines)
        scores[:, k : k + stop - start] = taken.times(cosines.T.contiguous())
        scores[:, k + stop - start :] = -torch.inf
        best, at = topk.best(scores, k + step, k, levels)
        ids = torch.where(at < k, ids.gather(1, at.clamp(max=k - 1)), start + at - k)
        scores[:, :k] = best
    return ids


def interest_weights(edges: Edges, tables: Sequence[Cosines], k: int, memory: int = 128 << 20) -> list[Csr]:
    """W_m (I, I) of each modality, directed: w_ij = s_ij^m · number of users who took i and are drawn to j.

    A user is drawn to the ``closest`` k items of any modality. Counts are sparse products, cosines come from blocks of rows.
    """
    rows, columns = edges.user.cpu().numpy(), edges.item.cpu().numpy()
    shape = (edges.n_users, edges.n_items)
    taken = sp.csr_array((np.ones(len(edges), dtype=np.float32), (rows, columns)), shape=shape)
    drawn = torch.cat([closest(edges, table, k) for table in tables], dim=1).cpu().numpy()
    starts = np.arange(edges.n_users + 1) * drawn.shape[1]
    picked = sp.csr_array((np.ones(drawn.size, dtype=np.float32), drawn.ravel(), starts), shape=shape)
    picked.sum_duplicates()
    picked.data.fill(1)
    counts = sp.csr_array(taken.T @ picked)
    counts.sort_indices()
    device = edges.user.device
    start_of, column = (torch.from_numpy(x).to(device) for x in (counts.indptr, counts.indices))
    count = torch.from_numpy(counts.data).to(device)
    graphs = [Csr(start_of, column, count.clone(), edges.n_items) for _ in tables]
    row = graphs[0].row()
    step = max(1, min(edges.n_items, memory // (4 * edges.n_items)))
    for start in range(0, edges.n_items, step):
        stop = min(start + step, edges.n_items)
        here = slice(int(start_of[start]), int(start_of[stop]))
        block = torch.empty((stop - start, edges.n_items), device=device)
        for graph, table in zip(graphs, tables, strict=True):
            table.rows(start, stop, block)
            graph.values[here] *= block[row[here] - start, column[here].long()]
    return graphs


@torch.no_grad()
def drawn_to(edges: Edges, user: Tensor, item: Tensor, k: int, memory: int = 64 << 20) -> Tensor:
    """The k items with the largest ⟨u, i⟩ above 0 that a user did not take → ids (U, k), -1 where there are not so many.

    ``user`` (U, d), ``item`` (I, d). Ties go to the lower id. In blocks of users whose scores take ``memory`` bytes.
    """
    n_users, n_items = edges.n_users, edges.n_items
    k = min(k, n_items)
    levels, width = topk.layout(n_items, k)
    step = max(1, min(n_users, memory // (4 * width)))
    scores = torch.full((step, width), -torch.inf, device=user.device)
    ids = torch.full((n_users, k), -1, dtype=torch.int64, device=user.device)
    starts = indptr(edges.user, n_users)
    user, table = user.float(), item.float().T
    for start in range(0, n_users if k else 0, step):
        stop = min(start + step, n_users)
        block = scores[: stop - start]
        block[:, :n_items] = user[start:stop] @ table
        here = slice(int(starts[start]), int(starts[stop]))
        block[edges.user[here] - start, edges.item[here]] = -torch.inf
        best, at = topk.best(block, n_items, k, levels)
        ids[start:stop] = torch.where(best > 0, at, -1)
    return ids
