"""Exact top-k of the rows of a block of scores, ties broken by position. The one place where candidates are ordered.

1. The columns are dealt into groups of four and the maximum of each group is taken (one vectorised pass).
2. The k+1 groups with the largest maxima, found in the same way, hold the k+1 largest scores of the row: only their
   columns are compared.
3. Equal scores are put in order of position; where a tie crosses the k-th place, the lowest positions among all that tie
   are found by the same search.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GROUP = 4  # columns per group at each level


def layout(n: int, k: int) -> tuple[int, int]:
    """Levels of groups in a search for the k best of n columns, and the width (≥ n) that its blocks must have.

    There are levels as long as most groups of a level are not candidates.
    """
    levels, width = 0, n
    while width >= 16 * (k + 1):
        levels, width = levels + 1, -(-width // _GROUP)
    size = _GROUP**levels
    return levels, -(-n // size) * size


def best(block: Tensor, n: int, k: int, levels: int) -> tuple[Tensor, Tensor]:
    """The k ≤ n best columns of each row of ``block`` (rows, width) → scores, columns (rows, k): best first, then lower ones.

    ``levels`` and the width are those of ``layout(n, k)``; columns from n on hold −∞. Where fewer than k scores are above −∞,
    the places left hold −∞ and any column.
    """
    # one more than asked for shows whether a tie crosses the k-th place
    found, at = _candidates(block, min(k + 1, n), levels, ordered=True)
    equal = found[:, 1:] == found[:, :-1]
    found, at, crossing = found[:, :k], at[:, :k], equal[:, k - 1 :]
    tied = equal[:, : k - 1].any(1).nonzero().squeeze(1)
    if len(tied):
        columns, order = at[tied].sort(dim=1)
        values, order = found[tied].gather(1, order).sort(dim=1, descending=True, stable=True)
        found[tied], at[tied] = values, columns.gather(1, order)
    open_rows = (crossing.any(1) & (found[:, -1] > -math.inf)).nonzero().squeeze(1)
    if len(open_rows):
        at[open_rows] = _settle(block[open_rows], found[open_rows], at[open_rows], levels)
    return found, at


def _candidates(scores: Tensor, k: int, levels: int, ordered: bool) -> tuple[Tensor, Tensor]:
    """Columns that hold the k largest values of each row (n, w) → values, columns (n, k); any of several equal ones."""
    if levels == 0:
        return scores.topk(k, sorted=ordered)
    n, width = scores.shape
    n_groups = width // _GROUP  # column j is in group j mod G: maxima are then whole-vector operations
    _, groups = _candidates(scores.view(n, _GROUP, n_groups).amax(1), k, levels - 1, ordered=False)
    members = torch.arange(0, width, n_groups, device=scores.device).view(1, -1, 1)
    columns = (groups.unsqueeze(1) + members).view(n, -1)
    values, place = scores.gather(1, columns).topk(k, sorted=ordered)
    return values, columns.gather(1, place)


def _settle(block: Tensor, found: Tensor, at: Tensor, levels: int) -> Tensor:
    """Columns (n, k) of rows where columns outside the list share its last score: of those the lowest come in."""
    k, width = at.shape[1], block.shape[1]
    exact = torch.float32 if width < 1 << 24 else torch.float64
    minus_id = -torch.arange(width, device=block.device, dtype=exact)
    last = found[:, -1:]
    _, lowest = _candidates(torch.where(block == last, minus_id, -math.inf), k, levels, ordered=True)
    above = (found > last).sum(1, keepdim=True)
    place = torch.arange(k, device=block.device) - above
    return torch.where(place < 0, at, lowest.gather(1, place.clamp(min=0)))
