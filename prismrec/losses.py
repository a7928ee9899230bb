"""Losses as pure functions of tensors. Each returns a scalar mean over the batch unless it says otherwise."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from prismrec.types import Batch, Reps, Rows, Terms, take

Penalty = Literal["fro_norm", "l2_sq"]


def bpr(pos: Tensor, neg: Tensor, weight: Tensor | None = None) -> Tensor:
    """Bayesian personalised ranking: mean of softplus(s_neg − s_pos) = −log σ(s_pos − s_neg) (Rendle et al., UAI 2009).

    ``pos`` (B,), ``neg`` (B,) or (B, K); several negatives of a row are averaged. ``weight`` (B,) multiplies each row.
    Written with softplus, whose gradient does not vanish for badly ranked pairs as that of log(1e-10 + σ) does.
    """
    return bpr_of_margins(neg - pos if neg.dim() == pos.dim() else neg.T - pos, weight)


def bpr_of_margins(margins: Tensor, weight: Tensor | None = None) -> Tensor:
    """The same from s_neg − s_pos, (B,) or (K, B)."""
    rows = F.softplus(margins)
    if weight is None:
        return rows.mean()
    return ((rows.mean(0) if rows.dim() == 2 else rows) * weight).mean()


def penalty(kind: Penalty, *rows: Tensor) -> Tensor:
    """Size of the batch's representations, the first of them (B, …), per row of the batch.

    ``fro_norm``: Σ ‖X‖_F / B, un-squared, as in the code behind the published tables: its gradient has constant length.
    ``l2_sq``: Σ ‖X‖²_F / 2B, the usual one. Their weights are not comparable.
    """
    batch = rows[0].shape[0]
    if kind == "fro_norm":
        return _total([_norm(x) for x in rows]) / batch
    return _total([x.square().sum() for x in rows]) / (2 * batch)


def _total(terms: Sequence[Tensor]) -> Tensor:
    # of scalars a sum is cheaper than a stack, whose gradient is taken apart again
    total: Tensor = functools.reduce(operator.add, terms)
    return total


def _norm(x: Tensor) -> Tensor:
    out: Tensor = _Norm.apply(x)  # type: ignore[no-untyped-call]
    return out


class _Norm(torch.autograd.Function):
    """‖X‖_F with the gradient X/‖X‖ in one pass (0 at X = 0); PyTorch's own takes three."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(x)
        ctx.save_for_backward(x, norm)
        return norm

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x, norm = ctx.saved_tensors
        scaled: Tensor = x * torch.where(norm > 0, grads[0] / norm, 0.0)
        return scaled


def ranking(reps: Reps, batch: Batch, reg: float, kind: Penalty, on: Reps | None = None) -> Terms:
    """``rank``: BPR on the fused scores of the batch; ``reg``: the size of the rows of ``on`` (default: the rows scored)."""
    rows = user, pos, neg = _rows(reps, batch)
    terms = {"rank": bpr_of_margins(_margins(user, pos, neg), batch.weight)}
    if reg > 0:
        terms["reg"] = reg * penalty(kind, *(rows if on is None else _rows(on, batch)))
    return terms


def ranking_by_side(reps: Reps, batch: Batch, sides: Iterable[str | None]) -> dict[str | None, Tensor]:
    """BPR on the scores of each of ``sides``: the fused one (None) or a modality. A user table that they share is read once."""
    users: dict[int, Tensor] = {}
    losses = {}
    for m in sides:
        table, items = reps.sides(m)
        if id(table) not in users:
            users[id(table)] = take(table, batch.user)
        losses[m] = bpr_of_margins(_margins(users[id(table)], *_items(items, batch)), batch.weight)
    return losses


def _rows(reps: Reps, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Fused rows of the users (B, d), the positives (1, B, d) and the negatives (K, B, d)."""
    return take(reps.user, batch.user), *_items(reps.item, batch)


def _items(items: Rows, batch: Batch) -> tuple[Tensor, Tensor]:
    # gathered together, so that the gradient of the table is made once
    rows = items.at(torch.cat([batch.pos.unsqueeze(0), batch.neg.T]))
    pos, neg = rows.split([1, len(rows) - 1])
    return pos, neg


def _margins(user: Tensor, pos: Tensor, neg: Tensor) -> Tensor:
    """⟨u, j⟩ − ⟨u, i⟩ as ⟨u, j − i⟩: one product in place of two → (K, B)."""
    return ((neg - pos) * user).sum(-1)


def info_nce(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """−log of the share that a row's own partner has among all: mean of −log(e^{cos(q_k, p_k)/τ} / Σ_j e^{cos(q_k, p_j)/τ}).

    ``query``, ``key`` (B, d): row k of one belongs to row k of the other; the keys of the other rows are its negatives. One
    direction: the sum is over keys. log B where all cosines are equal, at most 2/τ more. Van den Oord et al. 2018,
    arXiv:1807.03748, eq. 4, with the cosine over τ as the logarithm of its f.
    """
    logits = unit(query) @ unit(key).T / temperature
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def unit(x: Tensor) -> Tensor:
    """Rows of ``x`` (…, d) at unit length. A row of zeros stays one, and its gradient is not multiplied by 1e12."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scaled: Tensor = x / norm.masked_fill(norm == 0, 1.0)
    return scaled
