"""Losses as pure functions of tensors. Each returns a scalar mean over the batch unless it says otherwise."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable
from typing import Any, Literal

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
    return bpr_of_margins(neg - pos if neg.dim() == pos.dim() else neg.T - pos, weight)


def bpr_of_margins(margins: Tensor, weight: Tensor | None = None) -> Tensor:
    """The same from s_neg − s_pos, (B,) or (K, B)."""
    rows = F.softplus(margins)
    if weight is None:
        return rows.mean()
    return ((rows.mean(0) if rows.dim() == 2 else rows) * weight).mean()


def info_bpr(pos: Tensor, neg: Tensor, weight: Tensor | None = None) -> Tensor:
    """A positive told from many negatives at once: mean of −log(e^{s⁺} / (e^{s⁺} + Σ_j e^{s⁻_j})).

    ``pos`` (B,), ``neg`` (B, M); ``weight`` (B,) multiplies each row. With one negative it is BPR; log(M + 1) where all scores
    are equal (Hu et al., IEEE TKDE 2024, arXiv:2204.02338).
    """
    return bpr_of_margins(neg.logsumexp(1) - pos, weight)


def penalty(kind: Penalty, *rows: Tensor) -> Tensor:
    """Size of the batch's representations, the first of them (B, …), per row of the batch.

    ``fro_norm``: Σ ‖X‖_F / B, un-squared, as in the code behind the published tables: its gradient has constant length.
    ``l2_sq``: Σ ‖X‖²_F / 2B, the usual one. Their weights are not comparable.
    """
    batch = rows[0].shape[0]
    if kind == "fro_norm":
        return total([_norm(x) for x in rows]) / batch
    return total([x.square().sum() for x in rows]) / (2 * batch)


def total(terms: Iterable[Tensor]) -> Tensor:
    """Σ of one or more tensors of one shape. Of scalars it is cheaper than a stack, whose gradient is taken apart again."""
    out: Tensor = functools.reduce(operator.add, terms)
    return out


def _norm(x: Tensor) -> Tensor:
    out: Tensor = _Norm.apply(x)  # type: ignore[no-untyped-call]
    return out


def squares(x: Tensor) -> Tensor:
    """Σ x² of a whole table (n, d): no table of squares is made, and the gradient takes one pass."""
    out: Tensor = _Squares.apply(x)  # type: ignore[no-untyped-call]
    return out


class _Squares(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        # by rows: a float that adds up a whole table loses the fifth digit
        total: Tensor = torch.linalg.vector_norm(x, dim=-1).square_().sum()
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        scaled: Tensor = x * (2 * grads[0])
        return scaled


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
    terms = {"rank": bpr_of_margins(margins(reps, batch), batch.weight)}
    if reg > 0:
        rows = (on or reps).items(batch)
        terms["reg"] = reg * penalty(kind, (on or reps).users(batch.user), *rows.split([1, len(rows) - 1]))
    return terms


def in_bits(terms: Terms) -> Terms:
    """The same with ``rank`` in bits: −log₂ σ, as the code of DualGNN and its descendants has it."""
    return terms | {"rank": terms["rank"] / math.log(2)}


def ranking_by_side(reps: Reps, batch: Batch, sides: Iterable[str | None]) -> dict[str | None, Tensor]:
    """BPR on the scores of each of ``sides``: the fused one (None) or a modality."""
    return {m: bpr_of_margins(margins(reps, batch, m), batch.weight) for m in sides}


def margins(reps: Reps, batch: Batch, modality: str | None = None) -> Tensor:
    """s(u, i⁻) − s(u, i⁺) of the batch on a side → (K, B). Asked for again, it is the same tensor: no second gradient."""
    users, items = reps.sides(modality)
    given = (users, items.values, batch.user, batch.pos, batch.neg)
    return reps.once(
        "margins", given, lambda: margins_of(reps.users(batch.user, modality), reps.items(batch, modality))
    )


def margins_of(user: Tensor, items: Tensor) -> Tensor:
    """The same from rows: ``user`` (B, d), ``items`` (1 + K, B, d) with the positives first → (K, B).

    ⟨u, j⟩ − ⟨u, i⟩ is taken as ⟨u, j − i⟩: one product in place of two.
    """
    out: Tensor = _Margins.apply(user, items)  # type: ignore[no-untyped-call]
    return out


class _Margins(torch.autograd.Function):
    """Its gradients written in place: PyTorch's own way takes twice as many passes."""

    @staticmethod
    def forward(ctx: Any, user: Tensor, items: Tensor) -> Tensor:
        apart = items[1:] - items[:1]
        ctx.save_for_backward(user, apart)
        return (apart * user).sum(-1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        user, apart = ctx.saved_tensors
        by = grads[0].unsqueeze(-1)
        of_items = user.new_empty(len(apart) + 1, *user.shape)
        torch.mul(by, user, out=of_items[1:])
        torch.sum(of_items[1:], 0, out=of_items[0]).neg_()
        return (apart * by).sum(0), of_items


def pointwise(reps: Reps, batch: Batch) -> Tensor:
    """Binary cross-entropy of the fused scores, positives 1 and negatives 0: mean of ½ (softplus(−s_pos) + softplus(s_neg)).

    Several negatives of a row are averaged; the batch's weights, if any, multiply its rows.
    """
    scores = (reps.users(batch.user) * reps.items(batch)).sum(-1)  # (1 + K, B)
    rows = (F.softplus(-scores[0]) + F.softplus(scores[1:]).mean(0)) / 2
    return (rows if batch.weight is None else rows * batch.weight).mean()


def info_nce(query: Tensor, key: Tensor, temperature: float, weight: Tensor | None = None) -> Tensor:
    """−log of the share that a row's own partner has among all: mean of −log(e^{cos(q_k, p_k)/τ} / Σ_j e^{cos(q_k, p_j)/τ}).

    ``query``, ``key`` (B, d): row k of one belongs to row k of the other; the keys of the other rows are its negatives. One
    direction: the sum is over keys. log B where all cosines are equal, at most 2/τ more. Van den Oord et al. 2018,
    arXiv:1807.03748, eq. 4, with the cosine over τ as the logarithm of its f. ``weight`` (B,) multiplies each row.
    """
    logits = unit(query) / temperature @ unit(key).T  # a division of B × d, not of B × B
    own = torch.arange(len(logits), device=logits.device)
    if weight is None:
        return F.cross_entropy(logits, own)
    return (F.cross_entropy(logits, own, reduction="none") * weight).mean()


def info_nce_both(query: Tensor, key: Tensor, temperature: float, own: bool = False, memory: int = 8 << 20) -> Tensor:
    """``info_nce`` whose negatives are also the other rows of ``query`` itself: (B, d), (B, d) → a number.

    −log e^{cos(q_k, p_k)/τ} / (Σ_j e^{cos(q_k, p_j)/τ} + Σ_{j≠k} e^{cos(q_k, q_j)/τ}), as GRACE has it (Zhu et al. 2020,
    arXiv:2006.04131). The mean of both directions is SimCLR's loss (Chen et al., ICML 2020, eq. 1). ``own``: a query stands
    among its own negatives, with cosine 1, as in the code of SSR. In blocks as ``info_nce_among``, so that it may be taken
    over a whole table.
    """
    partner = torch.arange(len(query), device=query.device)
    left_out = None if own else partner + len(query)
    return info_nce_among(query, torch.cat([key, query]), partner, temperature, memory, left_out)


def info_nce_among(
    query: Tensor, key: Tensor, at: Tensor, temperature: float, memory: int = 8 << 20, without: Tensor | None = None
) -> Tensor:
    """``info_nce`` with all rows of a table as keys: ``query`` (B, d) and its partners, rows ``at`` (B,) of ``key`` (n, d).

    ``without`` (B,): for each query one more row, which is not among its keys. In blocks of queries whose cosines take
    ``memory`` bytes; never B × n at once. Gradients are made along with the value, so that no exponential is taken twice.
    """
    return softmax_among(unit(query) / temperature, unit(key), at, memory, without)


def softmax_among(
    query: Tensor, key: Tensor, at: Tensor, memory: int = 8 << 20, without: Tensor | None = None
) -> Tensor:
    """The same of inner products as they are: mean_b [log Σ_j e^{⟨q_b, k_j⟩} − ⟨q_b, k_at(b)⟩]."""
    out: Tensor = _Among.apply(query, key, at, without, memory)  # type: ignore[no-untyped-call]
    return out


class _Among(torch.autograd.Function):
    """mean_b [log Σ_j e^{⟨q_b, k_j⟩} − ⟨q_b, k_at(b)⟩]."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, at: Tensor, without: Tensor | None, memory: int) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):
            key = key.to(query.dtype)
            of_query, of_key = torch.zeros_like(query), torch.zeros_like(key)
            total = query.new_zeros(())
            step = max(1, memory // (query.element_size() * max(len(key), 1)))
            for start in range(0, len(query), step):
                block = slice(start, start + step)
                q, place, of_q = query[block], at[block], of_query[block]
                logits = q @ key.T
                if without is not None:
                    logits.scatter_(1, without[block].unsqueeze(1), -torch.inf)
                own = logits.gather(1, place.unsqueeze(1))
                most = logits.amax(1, keepdim=True)
                shares = logits.sub_(most).exp_()
                mass = shares.sum(1, keepdim=True)
                total += (mass.log() + most - own).sum()
                if any(ctx.needs_input_grad):
                    shares.div_(mass).scatter_add_(1, place.unsqueeze(1), shares.new_full(own.shape, -1.0))
                    torch.mm(shares, key, out=of_q)
                    of_key.addmm_(shares.T, q)
        ctx.save_for_backward(of_query, of_key)
        return total / len(query)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        of_query, of_key = ctx.saved_tensors
        by = grads[0] / len(of_query)
        return of_query * by, of_key * by, None, None, None


def unit(x: Tensor) -> Tensor:
    """Rows of ``x`` (…, d) at unit length. A row of zeros stays one, and its gradient is not multiplied by 1e12."""
    out: Tensor = _Unit.apply(x)  # type: ignore[no-untyped-call]
    return out


class _Unit(torch.autograd.Function):
    """x/‖x‖ with the gradient (g − x̂⟨x̂, g⟩)/‖x‖ in three passes; PyTorch's own takes seven."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.masked_fill_(norm == 0, 1.0).reciprocal_()
        out: Tensor = x * scale
        ctx.save_for_backward(out, scale)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        out, scale = ctx.saved_tensors
        along = (grads[0] * out).sum(-1, keepdim=True).neg_()
        turned: Tensor = torch.addcmul(grads[0], out, along).mul_(scale)
        return turned


def kl_normal(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, diag e^log_var) ‖ N(0, I)) = ½ Σ (μ² + σ² − log σ² − 1) of each row, in nats: (n, d), (n, d) → (n,)."""
    return (mean.square() + log_var.exp() - log_var - 1).sum(-1) / 2


def mine(joint: Tensor, product: Tensor) -> Tensor:
    """The Donsker–Varadhan bound on mutual information, in nats: E_joint[f] − log E_product[e^f] (Belghazi et al., ICML 2018).

    ``joint`` (n,): f of pairs that belong together; ``product`` (k,): f of pairs that do not. With any f it lies below
    I on average over many pairs; the f that maximises it makes it an estimate. A constant added to f cancels. Without
    pairs it is 0.
    """
    if not len(joint) or not len(product):
        return joint.sum() + product.sum()
    return joint.mean() - (product.logsumexp(0) - math.log(len(product)))


def reverse(x: Tensor, by: float | Tensor = 1.0) -> Tensor:
    """``x`` itself; its gradient comes back times −``by`` (Ganin & Lempitsky, ICML 2015).

    What lies before it climbs what lies behind it descends: both sides of a game in one backward pass.
    """
    out: Tensor = _Reverse.apply(x, by)  # type: ignore[no-untyped-call]
    return out


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, by: float | Tensor) -> Tensor:
        ctx.by = by
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.by * grads[0], None
