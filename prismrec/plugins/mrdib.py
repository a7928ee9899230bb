"""MRdIB: Multimodal Representation-disentangled Information Bottleneck for Multimodal Recommendation.

H. Wang, J. Qin, W. Wen, Q. Li, S. Zhong, Z. Huang, arXiv, 2025.

Makes the projected features of each modality a noisy code while training, and asks three things of it: to say little of
the features (compression), to share little with the other modalities' codes (redundancy), and to rank by itself (unique).
At inference the codes are their means: all that is left is a linear map after each projection.

Departures from the paper: 1. The bound on I(Z_1; Z_2) is raised by its critic and lowered by the codes; the paper has both
lower it, which nothing stops (``mine="joint"``). 2. Unimodal scores are the model's own where it states them; the paper has
a decoder for each modality (``decoder="separate"``, eq. 6). 3. The heads start at the identity with little noise, so that
training starts where it would without them. 4. Three or more modalities: a bound for each pair. 5. Items that lack a
modality take no part in its compression, nor in its bounds. 6. ``balance="auto"``: the weights set themselves.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from prismrec.errors import PrismError
from prismrec.losses import mine, ranking_by_side, reverse
from prismrec.models.base import Paper, Strict
from prismrec.plugins.base import Offer, Plugin
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, ItemIds, Reps, Rows, Terms, take

_LEAST = -10.0  # nats: where the literal reading of the paper is stopped
_LARGEST = 1.0  # a weight that sets itself goes no further
_WEIGHT_OF = {"kl": "compress", "mi": "redundant", "unique": "unique"}  # kind of term → the setting that weighs it


class MRdIB(Plugin):
    """L + α₁ Σ_m KL(q(z_m | x_m) ‖ N(0, I)) + α₂ Σ_{m<n} I(Z_m; Z_n) + α₃ Σ_m BPR(s_m) (eq. 11)."""

    name = "mrdib"
    paper = Paper(
        "Multimodal Representation-disentangled Information Bottleneck for Multimodal Recommendation",
        "H. Wang, J. Qin, W. Wen, Q. Li, S. Zhong, Z. Huang",
        "arXiv",
        2025,
    )

    class Config(Strict):
        """A weight of 0 switches its term off; three of them, the plug-in."""

        compress: float = Field(1e-3, ge=0, description="α₁, of the KL divergence of the codes")
        redundant: float = Field(1e-2, ge=0, description="α₂, of the mutual information between modalities")
        unique: float = Field(5e-3, ge=0, description="α₃, of BPR on each modality's own scores")
        noise: float = Field(-5.0, description="log σ² of the codes at the start")
        mine: Literal["adversarial", "joint"] = Field(
            "adversarial", description="critic against codes; joint: both lower the bound, as the paper's text has it"
        )
        decoder: Literal["host", "separate"] = Field(
            "host", description="unimodal scores: the model's own where it has them; separate: a linear decoder each"
        )
        pairs: int = Field(512, ge=2, description="items of a batch that a bound is estimated on, at most")
        balance: Literal["fixed", "auto"] = Field(
            "fixed", description="auto: weights above 0 hold for one epoch and then set themselves"
        )
        share: float = Field(0.1, gt=0, description="auto: a term's pull on the heads, relative to all other losses'")

    parts = ("compress", "redundant", "unique")
    spaces = named(
        default=dict.fromkeys(("compress", "redundant", "unique"), Range(1e-5, 1e-1, log=True)),
        paper=dict.fromkeys(("compress", "redundant", "unique"), Choice((1e-4, 1e-3, 5e-3, 1e-2, 5e-2))),
    )

    cfg: Config

    def setup(self, offer: Offer) -> None:
        cfg = self.cfg
        if self._off:
            return
        if not offer.widths:
            raise PrismError(
                f"mrdib needs at least one projected modality; {offer.model} projects none here. "
                "Use a multimodal model on data with features, or leave mrdib out."
            )
        self.present = dict(offer.present)
        self.complete = {m: bool(there.all()) for m, there in offer.present.items()}
        self.heads = nn.ModuleDict({m: _head(width, cfg.noise) for m, width in offer.widths.items()})
        self.critics, self.decoders = nn.ModuleDict(), nn.ModuleDict()
        if cfg.redundant > 0:
            for a, b in itertools.combinations(offer.widths, 2):
                self.critics[_pair(a, b)] = Critic(offer.widths[a], offer.widths[b])
        if cfg.unique > 0:
            for m, width in offer.widths.items():
                if cfg.decoder == "separate" or m not in offer.sides:
                    self.decoders[m] = nn.Linear(offer.fused[0], width, bias=False)
        if cfg.balance == "auto":
            self.register_buffer("weights", torch.tensor([cfg.compress, cfg.redundant, cfg.unique]))
        self.due = False

    @property
    def _off(self) -> bool:
        return self.cfg.compress == self.cfg.redundant == self.cfg.unique == 0

    @property
    def n_neg(self) -> int:
        return int(self.cfg.unique > 0)

    def start_epoch(self, epoch: int, feats: Feats, rng: torch.Generator) -> None:
        self.due = self.cfg.balance == "auto" and epoch > 0  # not before the critics have learnt something

    def encode(self, feats: Feats, batch: Batch | None) -> tuple[Feats, Terms]:
        if self._off:
            return feats, {}
        codes, cost = {}, {}
        for m, rows in feats.items():
            head = self.heads[m]
            if batch is None:
                codes[m] = rows.with_values(F.linear(rows.values, *_mean_of(head)))
                continue
            counts = self._counts(m, rows, batch) if self.cfg.compress > 0 else None
            values, divergence = _Code.apply(rows.values.float(), head.weight, head.bias, counts)  # type: ignore[no-untyped-call]
            codes[m] = rows.with_values(values)
            if counts is not None:
                cost[f"mrdib.kl.{m}"] = divergence  # still to be weighed: ``loss`` knows by how much
        return codes, cost

    def loss(self, terms: Terms, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        if self._off:
            return terms
        mine_ = {name: term for name, term in terms.items() if name.startswith("mrdib.kl.")}
        others = {name: term for name, term in terms.items() if name not in mine_}
        mine_ |= self._unique(reps, feats, batch.negatives(self.n_neg))
        codes = {(a, b): self._choose(a, b, feats, batch) for a, b in self._pairs(feats)}
        if self.due and torch.is_grad_enabled():
            self._balance(
                others, mine_ | {f"mrdib.mi.{_pair(*pair)}": self._bound(pair, *z) for pair, z in codes.items()}
            )
            self.due = False
        weights = self._weights()
        weighed = {name: weights[_WEIGHT_OF[name.split(".")[1]]] * term for name, term in mine_.items()}
        return others | weighed | self._game(codes, weights["redundant"])

    def report(self) -> dict[str, float]:
        return {} if self._off or self.cfg.balance == "fixed" else {k: float(w) for k, w in self._weights().items()}

    def _counts(self, m: str, rows: Rows, batch: Batch) -> Tensor:
        """What each row (n,) counts in the mean over the batch's items that have the modality; the sum is 1, or 0."""
        ids = self._items(rows, batch)
        there = ids.new_ones(len(ids), dtype=torch.float32) if self.complete[m] else self.present[m][ids].float()
        there = there / there.sum().clamp(min=1)
        return there if rows.index is not None else there.new_zeros(len(rows.values)).index_copy(0, ids, there)

    def _items(self, rows: Rows, batch: Batch) -> Tensor:
        """The distinct items of a batch."""
        index = rows.index if rows.index is not None else ItemIds.of(batch.items, len(rows.values), batch.n_items)
        return index.ids

    def _unique(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        """BPR of each modality: on the model's own scores of it, or on ⟨D_m e_u, z_m⟩."""
        if self.cfg.unique == 0:
            return {}
        losses = ranking_by_side(reps, batch, [m for m in feats if m not in self.decoders])
        if len(self.decoders):
            users = take(reps.user, batch.user)
            decoded = Reps(users, reps.item, {m: (decode(users), feats[m]) for m, decode in self.decoders.items()})
            here = replace(batch, user=torch.arange(len(users), device=users.device))
            losses |= ranking_by_side(decoded, here, list(self.decoders))
        return {f"mrdib.unique.{m}": losses[m] for m in feats}

    def _pairs(self, feats: Feats) -> list[tuple[str, str]]:
        return list(itertools.combinations(feats, 2)) if len(self.critics) else []

    def _choose(self, a: str, b: str, feats: Feats, batch: Batch) -> tuple[Tensor, Tensor]:
        """Codes of the batch's items that have both modalities, at most ``pairs`` of them, in random order."""
        ids = self._items(feats[a], batch)
        if not (self.complete[a] and self.complete[b]):
            ids = ids[self.present[a][ids] & self.present[b][ids]]
        ids = ids[torch.randperm(len(ids), device=ids.device)[: self.cfg.pairs]]
        return feats[a].at(ids), feats[b].at(ids)

    def _bound(self, pair: tuple[str, str], a: Tensor, b: Tensor) -> Tensor:
        return mine(*self.critics[_pair(*pair)](a, b))

    def _game(self, codes: Mapping[tuple[str, str], tuple[Tensor, Tensor]], weight: float | Tensor) -> Terms:
        """Terms of the redundancy of each pair.

        Adversarial: the bound is taken once. Its negative is what the critic lowers; on the way back to the codes the
        gradient is turned round and weighed, so that they lower the bound itself, which is shown without a gradient.
        """
        terms = {}
        for pair, (a, b) in codes.items():
            if self.cfg.mine == "joint":
                bound = self._bound(pair, a, b).clamp(min=_LEAST)
            else:
                bound = self._bound(pair, reverse(a, weight), reverse(b, weight))
                terms[f"mrdib.{_pair(*pair)}.critic"] = -bound
                bound = bound.detach()
            terms[f"mrdib.mi.{_pair(*pair)}"] = weight * bound
        return terms

    def _weights(self) -> dict[str, float | Tensor]:
        names = list(_WEIGHT_OF.values())
        if self.cfg.balance == "fixed":
            return {name: getattr(self.cfg, name) for name in names}
        return dict(zip(names, self.get_buffer("weights").unbind(), strict=True))

    def _balance(self, others: Terms, terms: Terms) -> None:
        """Move each weight halfway, in proportion, to where its term pulls ``share`` as hard as all other losses.

        The pull is the norm of the gradient on the heads, which all terms meet in (as in GradNorm, Chen et al., ICML 2018).
        """
        heads = list(self.heads.parameters())
        target = self.cfg.share * _pull(others.values(), heads)
        weights = self.get_buffer("weights")
        for i, kind in enumerate(_WEIGHT_OF):
            own = [term for name, term in terms.items() if name.startswith(f"mrdib.{kind}.")]
            if own:
                pull = _pull(own, heads)
                wanted = torch.where((pull > 0) & (target > 0), target / pull, weights[i]).clamp(max=_LARGEST)
                weights[i] = (weights[i] * wanted).sqrt()


class Critic(nn.Module):
    """f(z_1, z_2) = w · relu(W_1 z_1 + W_2 z_2 + c): the two-layer network of eq. 8, of all pairs at once.

    No constant at the end: it would cancel in the bound.
    """

    def __init__(self, first: int, second: int, width: int = 0) -> None:
        super().__init__()
        width = width or max(first, second)
        self.first, self.second = nn.Linear(first, width), nn.Linear(second, width, bias=False)
        self.last = nn.Linear(width, 1, bias=False)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """``a`` (n, d_1), ``b`` (n, d_2) → f of (a_i, b_i), and f of (a_i, b_{i+1}), each (n,).

        Where rows come in random order the latter are pairs by chance. Each side is multiplied once for both.
        """
        with torch.autocast(a.device.type, enabled=False):  # a bound is a small difference
            left, right = self.first(a.float()), self.second(b.float())
            sides = torch.stack([right, right.roll(1, 0)])
            joint, product = (F.relu(left + sides) @ self.last.weight[0]).unbind()
        return joint, product


class _Code(torch.autograd.Function):
    """z = μ + σ ε and Σ_i counts_i KL(N(μ_i, σ_i²) ‖ N(0, I)), with [μ, log σ²] = x Wᵀ + b.

    By hand: PyTorch's own way takes a half more passes over tables of n rows. ``x`` (n, d), ``weight`` (2d, d),
    ``bias`` (2d,), ``counts`` (n,) or None: no divergence, which is then 0.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            out = torch.addmm(bias, x, weight.T)
        mean, log_var = out.chunk(2, dim=1)
        deviation = (log_var / 2).exp_()
        divergence = x.new_zeros(())
        if counts is not None:
            rows = torch.addcmul(log_var, mean, mean, value=-1).addcmul_(deviation, deviation, value=-1).sum(1)
            divergence = torch.dot(rows + mean.shape[1], counts.to(x.dtype)) / -2
        noise = _noise(x).mul_(deviation)
        ctx.counts = counts
        ctx.save_for_backward(x, weight, out, deviation, noise)
        return mean + noise, divergence

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight, out, deviation, noise = ctx.saved_tensors
        grad = torch.empty_like(out)
        mean, log_var = grad.chunk(2, dim=1)
        torch.mul(grads[0], noise, out=log_var)
        if ctx.counts is None:
            mean.copy_(grads[0])
        else:
            counts = (grads[1] * ctx.counts).to(x.dtype)[:, None]
            torch.addcmul(grads[0], out[:, : x.shape[1]], counts, out=mean)
            log_var.addcmul_(deviation.square().sub_(1), counts)
        log_var /= 2
        return grad @ weight if ctx.needs_input_grad[0] else None, (x.T @ grad).T, grad.sum(0), None


def _noise(like: Tensor) -> Tensor:
    """ε ~ N(0, I) of the shape (n, d), from a quarter as many draws, which are dear: each row of them serves four items.

    As it is, with its columns shifted by a half, and both with the sign turned: two items share what sways the same column
    of their codes only up to that sign.
    """
    n, d = like.shape
    drawn = torch.randn((n + 3) // 4, d, dtype=like.dtype, device=like.device)
    both = torch.cat([drawn, drawn.roll(d // 2, 1)])
    return torch.cat([both, -both])[:n]


def information(
    terms: Mapping[str, float], cfg: MRdIB.Config, weights: Mapping[str, float] | None = None
) -> dict[str, float]:
    """What a line of a run's log says of the codes, in nats: ``kl.image`` for each modality, ``mi.image-text`` for each pair.

    ``terms``: the loss terms of an epoch, weighted as they are logged. ``weights``: those of the epoch, where ``cfg.balance``
    is "auto". A term whose weight is 0 was not measured.
    """
    known = {name: getattr(cfg, name) for name in _WEIGHT_OF.values()} | dict(weights or {})
    found = {}
    for name, term in terms.items():
        what = name.removeprefix("mrdib.")
        weight = known.get(_WEIGHT_OF.get(what.split(".")[0], ""), 0.0)
        if what != name and what.startswith(("kl.", "mi.")) and weight > 0:
            found[what] = term / weight
    return found


def _head(width: int, noise: float) -> nn.Linear:
    """x → [μ, log σ²], (n, d) → (n, 2d): at the start μ = x and log σ² = ``noise``."""
    head = nn.Linear(width, 2 * width)
    with torch.no_grad():
        head.weight.copy_(torch.eye(2 * width, width))
        head.bias.copy_(torch.tensor([0.0, noise]).repeat_interleave(width))
    return head


def _mean_of(head: nn.Module) -> tuple[Tensor, Tensor]:
    """A and a of μ = x Aᵀ + a."""
    weight, bias = head.get_parameter("weight"), head.get_parameter("bias")
    return weight[: weight.shape[1]], bias[: weight.shape[1]]


def _pair(a: str, b: str) -> str:
    return f"{a}-{b}"


def _pull(terms: Iterable[Tensor], parameters: Sequence[Tensor]) -> Tensor:
    """Norm of the gradient of the terms' sum on all parameters together."""
    whole = functools.reduce(torch.add, terms)
    grads = torch.autograd.grad(whole, parameters, retain_graph=True, materialize_grads=True)
    norm: Tensor = torch.linalg.vector_norm(torch.stack([g.norm() for g in grads]))
    return norm
