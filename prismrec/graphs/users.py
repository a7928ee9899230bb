"""User–user graphs: who took how many of the same items, the strongest kept."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from prismrec.graphs.csr import Csr, from_edges

UserWeights = Literal["softmax", "uniform", "symmetric"]


def co_interactions(
    user: Tensor, item: Tensor, n_users: int, n_items: int, k: int, memory: int = 256 << 20
) -> tuple[Tensor, Tensor]:
    """The k users with whom each user shares most items → ids (U, k) int64 and numbers of common items (U, k) float.

    ``user``, ``item`` (N,) training rows; repeated pairs count once. C = R Rᵀ without its diagonal; most first, ties to the
    lower id; -1 and 0 where fewer than k users share anything. Never dense: blocks of users whose entries of C take about
    ``memory`` bytes (or one user's). Runs on the CPU; the result is on the device of ``user``.

    An item that n users took costs n² additions, so that the time is that of Σ_i d_i².
    """
    keys = torch.unique(user.long() * n_items + item.long()).cpu().numpy()
    pairs = (np.ones(len(keys), dtype=np.int32), (keys // n_items, keys % n_items))
    taken = sp.csr_array(pairs, shape=(n_users, n_items))
    takers = taken.T.tocsr()
    ids, counts = np.full((n_users, k), -1, dtype=np.int64), np.zeros((n_users, k), dtype=np.float32)
    work = taken @ np.diff(takers.indptr).astype(np.int64)  # entries of C that a user makes, at most
    for start, stop in _blocks(np.minimum(work, n_users), memory // 40):  # bytes: entry 8, row 8, key 8, two of a sort
        common = taken[start:stop] @ takers
        row = np.repeat(np.arange(stop - start), np.diff(common.indptr))
        other = common.indices != row + start
        row, column, count = row[other], common.indices[other].astype(np.int64), common.data[other].astype(np.int64)
        # one number sorts by row, then most common items, then lowest id
        most = int(count.max(initial=0))
        order = np.sort((row * (most + 1) + (most - count)) * n_users + column)
        rank = np.arange(len(order)) - np.concatenate([[0], np.bincount(row, minlength=stop - start).cumsum()])[row]
        best = order[rank < k]
        row, rank = row[rank < k], rank[rank < k]
        ids[start + row, rank] = best % n_users
        counts[start + row, rank] = most - best // n_users % (most + 1)
    return torch.from_numpy(ids).to(user.device), torch.from_numpy(counts).to(user.device)


def _blocks(work: np.ndarray, limit: int) -> list[tuple[int, int]]:
    """Consecutive users whose ``work`` (U,) adds up to at most ``limit``, or single ones."""
    total, cuts = np.concatenate([[0], work.cumsum()]), [0]
    while cuts[-1] < len(work):
        last = int(np.searchsorted(total, total[cuts[-1]] + limit, side="right")) - 1
        cuts.append(max(cuts[-1] + 1, last))
    return list(itertools.pairwise(cuts))


def user_graph(ids: Tensor, counts: Tensor, weights: UserWeights = "softmax") -> Csr:
    """Neighbours ``ids`` (U, k), -1 for none, and their ``counts`` (U, k) → the weighted graph (U, U), directed.

    ``softmax``: exp(c_uv) over the row's sum; ``uniform``: one over the number of neighbours; both have rows of sum 1.
    ``symmetric``: c_uv/√(r_u r_v), r the row sums of the counts that are kept. A user without neighbours has an empty row.
    An id that a row holds several times has the sum of its entries.
    """
    row, slot = (ids >= 0).nonzero(as_tuple=True)
    column, count = ids[row, slot], counts[row, slot]
    if weights == "softmax":
        values = counts.masked_fill(ids < 0, -torch.inf).softmax(1)[row, slot]
    elif weights == "uniform":
        values = 1 / torch.bincount(row, minlength=len(ids))[row]
    else:
        total = counts.sum(1)
        values = count * (total[row] * total[column]).rsqrt()
    return from_edges(row, column, values, len(ids), len(ids))


def fill_up(ids: Tensor, counts: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lists of ``co_interactions`` in which the empty places of a list that has any neighbour hold copies of its own members.

    Each place in turn takes a copy of a random earlier one, copies among them, so that a copy makes further ones likelier:
    the rule of DualGNN's published code. Empty lists stay empty.
    """
    rows, k = ids.shape
    length = (ids >= 0).sum(1)
    drawn = torch.rand(rows, k, generator=rng, device=ids.device)
    source = torch.arange(k, device=ids.device).repeat(rows, 1)
    for place in range(1, k):
        earlier = (drawn[:, place] * place).long()
        copied = source.gather(1, earlier.unsqueeze(1)).squeeze(1)
        source[:, place] = torch.where(length <= place, copied, place)
    return ids.gather(1, source), counts.gather(1, source)
