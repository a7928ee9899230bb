"""User–user graphs: who took how many of the same items, the strongest kept."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from prismrec import topk
from prismrec.graphs.csr import Csr, Frozen, from_edges

_BITS = 16  # popular items counted by bits, at most
_POPCOUNT = np.array([n.bit_count() for n in range(1 << _BITS)], dtype=np.int8)
_LISTED = 1 << 30  # marks an entry that a list of users with common popular items asked for
_LEVELS = 64  # counts told apart, and ranges of ids

UserWeights = Literal["softmax", "uniform", "symmetric"]
Pad = Literal["mask", "resample"]
"""Lists of too few users: as they are, or filled up with copies of their own members, anew in every epoch."""


def co_interactions(
    user: Tensor, item: Tensor, n_users: int, n_items: int, k: int, memory: int = 256 << 20
) -> tuple[Tensor, Tensor]:
    """The k users with whom each user shares most items → ids (U, k) int64 and numbers of common items (U, k) float.

    ``user``, ``item`` (N,) training rows; repeated pairs count once. C = R Rᵀ without its diagonal; most first, ties to the
    lower id; -1 and 0 where fewer than k users share anything. Never dense: blocks of users whose entries of C take about
    ``memory`` bytes (or one user's). Runs on the CPU; the result is on the device of ``user``.

    An item that n users took makes n² entries of C. The most popular ones are therefore counted apart, exactly (``_Head``);
    the time is that of Σ_i n_i² over the others.
    """
    keys = torch.unique(user.long() * n_items + item.long()).cpu().numpy()
    pairs = np.ones(len(keys), dtype=np.int32), ((keys // n_items).astype(np.int32), (keys % n_items).astype(np.int32))
    taken = sp.csr_array(pairs, shape=(n_users, n_items))
    head = _Head(taken, k, memory)
    ids, counts = np.full((n_users, k), -1, dtype=np.int64), np.zeros((n_users, k), dtype=np.float32)
    work = head.taken @ np.diff(head.takers.indptr).astype(np.int64)  # entries of C that a user makes, at most
    for start, stop in _blocks(np.minimum(work, n_users), memory // 64):  # bytes that an entry takes on the way
        common = head.taken[start:stop] @ head.takers
        row, column = np.repeat(np.arange(stop - start), np.diff(common.indptr)), common.indices
        count = head.total(row + start, column, common.data)
        near = _within_reach(row, column, np.where(row + start == column, 0, count), k, stop - start, n_users)
        row, column, count = row[near], column[near].astype(np.int64), count[near].astype(np.int64)
        most = int(count.max(initial=0)) + 1
        # one number sorts by row, then most common items, then lowest id
        order = np.sort((row * most + most - 1 - count) * n_users + column)
        row = order // (n_users * most)
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        order, place = order[rank < k], (start + row[rank < k], rank[rank < k])
        ids[place], counts[place] = order % n_users, most - 1 - order // n_users % most
    return torch.from_numpy(ids).to(user.device), torch.from_numpy(counts).to(user.device)


def _blocks(work: Any, limit: int) -> list[tuple[int, int]]:
    """Consecutive users whose ``work`` (U,) adds up to at most ``limit``, or single ones."""
    total, cuts = np.concatenate([[0], work.cumsum()]), [0]
    while cuts[-1] < len(work):
        last = int(np.searchsorted(total, total[cuts[-1]] + limit, side="right")) - 1
        cuts.append(max(cuts[-1] + 1, last))
    return list(itertools.pairwise(cuts))


def _within_reach(row: Any, column: Any, count: Any, k: int, rows: int, n_users: int) -> Any:
    """Places of entries (n,) among which are the first k of every row, so that few of the many need be sorted.

    First by ``count``, as far as the one at which k entries are reached; of those that have it, by ranges of ``column``.
    Entries of count 0 are left out.
    """
    level = _LEVELS - np.minimum(count, _LEVELS)
    reached = _cells(row, level, rows, _LEVELS + 1)[:, :_LEVELS].cumsum(1)
    last = (reached < k).sum(1)  # _LEVELS where there are not so many
    near = np.flatnonzero(level <= np.minimum(last, _LEVELS - 1)[row])
    row, level, part = row[near], level[near], column[near].astype(np.int64) * _LEVELS // n_users
    tied = (level == last[row]) & (level > 0)  # level 0 holds several counts
    missing = k - np.where(last > 0, reached[np.arange(rows), np.maximum(last, 1) - 1], 0)
    parts = (_cells(row[tied], part[tied], rows, _LEVELS).cumsum(1) < missing[:, None]).sum(1)
    return near[~tied | (part <= parts[row])]


def _cells(row: Any, level: Any, rows: int, levels: int) -> Any:
    """Number of entries of each row and level → (rows, levels)."""
    return np.bincount(row * levels + level, minlength=rows * levels).reshape(rows, levels)


class _Head:
    """The most popular items counted by bits, so that they make no entries of C.

    With b_u the bits of user u (which of these items he took), c_uv = rest_uv + |b_u ∧ b_v|. Who shares nothing but popular
    items with u matters only if he is among the k+1 best by |b_u ∧ b_v| alone, ties to the lower id: all others are behind k
    of these. So C need only hold the entries of the rest and, for each distinct b, those of its list. ``taken`` (U, X) and
    ``takers`` (X, U) make both in one product, X = other items, then distinct b.
    """

    def __init__(self, taken: Any, k: int, memory: int) -> None:
        n_users, n_items = taken.shape
        takers = taken.T.tocsr()
        popular = _head_items(takers)
        self.taken, self.takers, self.bits = taken, takers, None
        if not len(popular):
            return
        self.bits = _bits(takers, popular)
        distinct, which = np.unique(self.bits, return_inverse=True)
        ids = _nearest_by_bits(distinct, self.bits, min(k + 1, n_users), memory)
        row, slot = (ids >= 0).nonzero()
        flags = np.full(len(row), _LISTED, dtype=np.int32), (row.astype(np.int32), ids[row, slot].astype(np.int32))
        lists = sp.csr_array(flags, shape=(len(distinct), n_users))
        own = np.ones(n_users, dtype=np.int32), (np.arange(n_users, dtype=np.int32), which.astype(np.int32))
        rest = np.delete(np.arange(n_items), popular)
        self.taken = sp.hstack([taken[:, rest], sp.csr_array(own, shape=(n_users, len(distinct)))], format="csr")
        self.takers = sp.vstack([takers[rest], lists], format="csr")

    def total(self, row: Any, column: Any, entry: Any) -> Any:
        """c_uv of users ``row`` and ``column`` (n,) from the entries of the product."""
        if self.bits is None:
            return entry
        return (entry & (_LISTED - 1)) + _POPCOUNT[self.bits[row] & self.bits[column]]


def _head_items(takers: Any) -> Any:
    """As many of the most popular items as save most: entries of C against lists for the users' distinct bits."""
    degree = np.diff(takers.indptr).astype(np.int64)
    popular = np.argsort(-degree, kind="stable")[:_BITS]
    left = (degree**2).sum() - np.concatenate([[0], (degree[popular] ** 2).cumsum()])
    lists = [0, *(len(np.unique(_bits(takers, popular[:n]))) for n in range(1, len(popular) + 1))]
    costs = left + np.array(lists) * (takers.shape[1] // 16)  # a place of a list costs about 1/16 of an entry
    return popular[: int(costs.argmin())]


def _bits(takers: Any, items: Any) -> Any:
    """Bit j of user u: whether he took the j-th of ``items`` → (U,) uint16."""
    bits = np.zeros(takers.shape[1], dtype=np.uint16)
    for j, i in enumerate(items):
        bits[takers.indices[takers.indptr[i] : takers.indptr[i + 1]]] |= np.uint16(1 << j)
    return bits


def _nearest_by_bits(distinct: Any, bits: Any, k: int, memory: int) -> Any:
    """For each of ``distinct`` (D,) the k users with most bits in common, ties to the lower id → (D, k), -1 for none."""
    n = len(bits)
    levels, width = topk.layout(n, k)
    ids = np.full((len(distinct), k), -1, dtype=np.int64)
    rows = max(1, min(len(distinct), memory // (16 * width)))  # the search makes copies
    scores = torch.full((rows, width), -torch.inf)
    for start in range(0, len(distinct), rows):
        some = distinct[start : start + rows]
        scores[: len(some), :n] = torch.from_numpy(_POPCOUNT[some[:, None] & bits])
        best, at = topk.best(scores[: len(some)], n, k, levels)
        ids[start : start + rows] = torch.where(best > 0, at, -1).numpy()
    return ids


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


def common(user: Tensor, item: Tensor, n_users: int, n_items: int, k: int, filled: bool = False) -> Csr:
    """Ĉ: the k who share most, by a softmax of how many; rows add up to 1 or are empty.

    ``filled``: lists are filled up with copies, empty ones with those who have most rows, by the softmax of their shares.
    """
    ids, counts = co_interactions(user, item, n_users, n_items, k)
    if filled:
        ids, counts = fill_up(ids, counts, torch.Generator(ids.device).manual_seed(0))
        rows = torch.bincount(user, minlength=n_users)
        most, active = rows.sort(descending=True, stable=True)
        lonely = (ids < 0).all(1)
        k = min(k, n_users)
        ids[lonely, :k], counts[lonely, :k] = active[:k], most[:k] / most[:k].sum()
    return user_graph(ids, counts)


class Friends(nn.Module):
    """The graph of the ``k`` users with whom each shares most items, by a softmax of how many: (U, d) → (U, d), frozen.

    Lists that ``pad`` fills up are so in training; elsewhere they are as they are, so that nothing depends on a draw.
    """

    ids: Tensor
    counts: Tensor

    def __init__(self, user: Tensor, item: Tensor, n_users: int, n_items: int, k: int, pad: Pad = "mask") -> None:
        super().__init__()
        self.pad = pad
        ids, counts = co_interactions(user, item, n_users, n_items, k)
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("counts", counts, persistent=False)
        self.whole = self.drawn = Frozen(user_graph(ids, counts))

    def redraw(self, rng: torch.Generator) -> None:
        """Other copies for the short lists, where they are filled up at all."""
        if self.pad == "resample":
            self.drawn = Frozen(user_graph(*fill_up(self.ids, self.counts, rng)))

    def forward(self, x: Tensor) -> Tensor:
        """What users hear from their neighbours, (U, d) → (U, d); 0 without any."""
        out: Tensor = (self.drawn if self.training else self.whole)(x)
        return out
