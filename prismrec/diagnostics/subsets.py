"""Who is hit by one modality alone, by fusion alone, or by all but fusion: the user subsets of BR-MRS.

After the analysis of BR-MRS (2026, under review), its equations 4 to 9: r_s = 1 + #{j ≠ i⁺ : s(u, j) > s(u, i⁺)} is the rank
of the held-out item under the score s of a modality or the fused score; a hit is a rank of at most K.

1. The paper has one held-out item a user and speaks of users; here the unit is the pair of a user and a held-out item, which
   is the same where each user has one.
2. The paper masks nothing. Here items that the protocol masks are left out of the ranking unless the view says otherwise.
3. Beside its four subsets all cells are counted, so that they sum to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import polars as pl
import torch
from torch import Tensor

from prismrec.compare import interval_by_user
from prismrec.diagnostics.finding import Finding
from prismrec.diagnostics.subject import Subject
from prismrec.evaluate import seen_for
from prismrec.figures import bars, curves
from prismrec.index import FUSED
from prismrec.ranking import Csr
from prismrec.types import Reps

CUTOFFS = (1, 2, 5, 10, 20, 50, 100, 200)
Ranks = dict[str, Tensor]
"""modality, or "fused" → rank (n,) of each pair's target, from 1."""


def held_out(subject: Subject) -> tuple[Tensor, Tensor]:
    """The distinct pairs of a user and a held-out item in the part that is viewed: (n,) and (n,), by user."""
    subject.dataset.require("train", subject.view.part)
    part = subject.dataset.interactions.part(subject.view.part)
    pairs = Csr.of(part.user, part.item, subject.dataset.n_users)
    return pairs.row, pairs.indices


@torch.no_grad()
def ranks_of(
    user: Tensor, item: Tensor, pairs: tuple[Tensor, Tensor], masked: Csr | None = None, block: int = 1 << 22
) -> Tensor:
    """1 + the number of items that score higher than the target, strictly: equal scores cost nothing.

    ``user`` (U, d), ``item`` (I, d), ``pairs`` of users (n,) and targets (n,) → ranks (n,) int64. ``masked``: items of each
    of the U users that do not compete; a target that is masked itself ranks behind all that compete. At most ``block``
    scores (or one pair's) are held at a time.
    """
    dtype = torch.promote_types(user.dtype, item.dtype)
    right = item.to(dtype).t()
    users, targets = (ids.to(user.device) for ids in pairs)
    masked = None if masked is None else masked.to(user.device)
    rows = max(1, block // item.shape[0])
    out = torch.empty_like(users)
    for start in range(0, len(users), rows):
        who = users[start : start + rows]
        scores = user[who].to(dtype) @ right
        if masked is not None:
            known = masked.take(who)
            scores[known.row, known.indices] = -torch.inf
        own = scores.gather(1, targets[start : start + rows, None])
        out[start : start + rows] = 1 + (scores > own).sum(1)
    return out


def all_ranks(reps: Reps, pairs: tuple[Tensor, Tensor], masked: Csr | None = None) -> Ranks:
    """``ranks_of`` under the score of each modality and under the fused one, which comes last."""
    found = {m: ranks_of(user, item.values, pairs, masked).cpu() for m, (user, item) in reps.modal.items()}
    return {**found, FUSED: ranks_of(reps.user, reps.item.values, pairs, masked).cpu()}


def cell_names(modalities: tuple[str, ...]) -> list[tuple[str, tuple[bool, ...]]]:
    """The 2^(M+1) combinations of hits, by name: of the modalities in order, then of fusion.

    ``unique image``: that modality alone hits (U_t, U_v); ``synergy``: fusion alone hits (U_tv); ``degradation``: every
    modality hits, fusion does not (U_r). The others say who hits.
    """
    names = []
    for hits in product((False, True), repeat=len(modalities) + 1):
        who = [m for m, hit in zip(modalities, hits, strict=False) if hit]
        if hits[-1]:
            name = "synergy" if not who else "all hit" if all(hits) else " + ".join([*who, FUSED])
        elif len(who) == len(modalities):
            name = "degradation"
        else:
            name = (
                "none hits" if not who else f"unique {who[0]}" if len(who) == 1 else f"{' + '.join(who)}, not {FUSED}"
            )
        names.append((name, hits))
    return names


def cells(ranks: Ranks, k: int) -> pl.DataFrame:
    """Share of pairs in each cell at cut-off ``k``: columns cell, one bool for each score, pairs, share, chance.

    The shares sum to one. ``chance``: the share that would be if who hits said nothing of who else does, from the hit rates
    alone.
    """
    hit = _hits(ranks, k)
    rate = hit.double().mean(0)
    rows = []
    for number, (name, hits) in enumerate(cell_names(tuple(ranks)[:-1])):
        count = int((_codes(hit) == number).sum())
        expected = float(torch.where(torch.tensor(hits), rate, 1 - rate).prod())
        rows.append({"cell": name, **dict(zip(ranks, hits, strict=True)), "pairs": count,
                     "share": count / max(len(hit), 1), "chance": expected})  # fmt: skip
    return pl.DataFrame(rows)


def with_intervals(table: pl.DataFrame, ranks: Ranks, users: Tensor, k: int) -> pl.DataFrame:
    """``cells`` with columns low and high: 95 % of what other users would give; a user's pairs are redrawn together."""
    inside = torch.nn.functional.one_hot(_codes(_hits(ranks, k)), len(table)).double()
    low, high = interval_by_user(inside.numpy(), users.numpy())
    return table.with_columns(pl.Series("low", low), pl.Series("high", high))


def subsets(subject: Subject) -> Finding:
    """The cells at the view's K, their intervals, and the four subsets of the paper over a range of K."""
    modalities = subject.require_branches()
    view, reps = subject.view, subject.require_reps()
    pairs = held_out(subject)
    masked = seen_for(subject.dataset, view.part, subject.rules) if view.masked else None
    ranks = all_ranks(reps, pairs, masked)
    table = with_intervals(cells(ranks, view.k), ranks, pairs[0], view.k)
    share = dict(zip(table["cell"], table["share"], strict=True))
    one_each = len(torch.unique(pairs[0])) == len(pairs[0])
    unit = f"{len(pairs[0]):,} {'users' if one_each else 'pairs of a user and a held-out item'}"
    unique = ", ".join(f"{m} alone {share[f'unique {m}']:.2%}" for m in modalities)
    says = (
        f"Of {unit}, at K = {view.k}: {unique}; fusion alone (“synergy”) {share['synergy']:.2%}; every modality "
        f"but not fusion (“degradation”) {share['degradation']:.2%}; nobody hits {share['none hits']:.2%}. "
        f"Hit rates: {', '.join(f'{name} {float((r <= view.k).double().mean()):.2%}' for name, r in ranks.items())}."
    )
    shown = table.filter(pl.col("cell") != "none hits").sort("share", descending=True)
    names, values, low, high = (shown[column].to_list() for column in ("cell", "share", "low", "high"))
    named = [f"unique {m}" for m in modalities] + ["synergy", "degradation"]
    cutoffs = [k for k in CUTOFFS if k < subject.dataset.n_items]
    at = {k: dict(cells(ranks, k).select("cell", "share").iter_rows()) for k in cutoffs}
    lines = {name: ([float(k) for k in cutoffs], [at[k][name] for k in cutoffs]) for name in named}
    figures = (
        bars(names, values, low, high, f"share of pairs at K = {view.k}"),
        curves(lines, "share of pairs", x="K", multiples=True),
    )
    return Finding("subsets", "Who is hit by what: unique, synergy, degradation", says, table, figures)


def _hits(ranks: Mapping[str, Tensor], k: int) -> Tensor:
    """(n, M+1) bool."""
    return torch.stack([rank <= k for rank in ranks.values()], dim=1)


def _codes(hit: Tensor) -> Tensor:
    """The number (n,) of each row's cell: its hits as binary digits, the first one highest."""
    return (hit.long() * (2 ** torch.arange(hit.shape[1] - 1, -1, -1))).sum(1)
