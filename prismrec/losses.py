"""Losses as pure functions of tensors. Each returns a scalar mean over the batch unless it says otherwise."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from prismrec.types import Batch, Reps, Terms

Penalty = Literal["fro_norm", "l2_sq"]


def bpr(pos: Tensor, neg: Tensor, weight: Tensor | None = None) -> Tensor:
    """Bayesian personalised ranking: mean of softplus(s_neg − s_pos) = −log σ(s_pos − s_neg) (Rendle et al., UAI 2009).

    ``pos`` (B,), ``neg`` (B,) or (B, K); several negatives of a row are averaged. ``weight`` (B,) multiplies each row.
    Written with softplus, whose gradient does not vanish for badly ranked pairs as that of log(1e-10 + σ) does.
    """
    rows = F.softplus(neg - (pos if neg.dim() == pos.dim() else pos.unsqueeze(-1)))
    if neg.dim() > pos.dim():
        rows = rows.mean(-1)
    return rows.mean() if weight is None else (rows * weight).mean()


def penalty(kind: Penalty, *rows: Tensor) -> Tensor:
    """Size of the batch's representations, each (B, …), per row of the batch.

    ``fro_norm``: Σ ‖X‖_F / B, un-squared, as in the code behind the published tables: its gradient has constant length.
    ``l2_sq``: Σ ‖X‖²_F / 2B, the usual one. Their weights are not comparable.
    """
    batch = rows[0].shape[0]
    if kind == "fro_norm":
        return torch.stack([torch.linalg.vector_norm(x) for x in rows]).sum() / batch
    return torch.stack([x.square().sum() for x in rows]).sum() / (2 * batch)


def ranking(reps: Reps, batch: Batch, reg: float, kind: Penalty, on: Reps | None = None) -> Terms:
    """``rank``: BPR on the fused scores of the batch; ``reg``: the size of the rows of ``on`` (default: the rows scored)."""
    rows = _rows(reps, batch)
    user, pos, neg = rows
    s_neg = (user * neg[:, 0]).sum(-1) if neg.shape[1] == 1 else torch.einsum("bd,bkd->bk", user, neg)
    terms = {"rank": bpr((user * pos).sum(-1), s_neg, batch.weight)}
    if reg > 0:
        terms["reg"] = reg * penalty(kind, *(rows if on is None else _rows(on, batch)))
    return terms


def _rows(reps: Reps, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    return F.embedding(batch.user, reps.user), reps.item.at(batch.pos), reps.item.at(batch.neg)
