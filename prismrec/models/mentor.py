"""MENTOR: Multi-level Self-supervised Learning for Multimodal Recommendation.

J. Xu, Z. Chen, S. Yang, J. Li, H. Wang, E. C.-H. Ngai, AAAI 2025, arXiv:2402.19407.

Modalities travel over the user–item graph and then over a frozen item graph, side by side, as in DRAGON; so do IDs, which
rank nothing. Distributions are aligned by their mean and variance: of IDs, of each modality, and of their fusion. Two more
terms supervise themselves: what is fused must be told from itself with entries left out, and agree under noise on the way.

Departures from the published code: 1. There, the term that leaves entries out carries no gradient; here it does, but for the
side that is left incomplete, and is taken of the batch's users and positives. Its published weight is thus that of a constant;
with the gradient it costs much, and ours is a fifteenth. 2. There, noise is added to encoders of their
own, which nothing that ranks shares; here, to the one encoder. Contrasted are the users of the batch among themselves, and
its positives; there, all users and all items. 3. With ``faithful=True`` the first term is left out (a constant), the gradient
of the second reaches the users' weights of the modalities alone, as there, and the logarithm of BPR has base 2. 4. Ranking
uses the parameters as they are; there, representations of the last batch, one step behind. 5. Any number of modalities:
M copies of what there are two of. A user graph that the code draws and never reads is left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from prismrec import graphs, losses
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import Preferences, Projector, modality_weights, normal_table, perceptron, side_by_side
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms, take

Moments = tuple[Tensor, Tensor]
"""Mean and variance, two scalars."""


class MENTOR(Model):
    """H_m = Σ_l Â^l [P_m ; f_m]; user = [w_um H_m,u]_m, item = [H_m,i + (S H_m)_i]_m: a score is Σ_m w_um s_m(u, i)."""

    name = "mentor"
    paper = Paper(
        "MENTOR: Multi-level Self-supervised Learning for Multimodal Recommendation",
        "J. Xu, Z. Chen, S. Yang, J. Li, H. Wang, E. C.-H. Ngai",
        "AAAI",
        2025,
        "arXiv:2402.19407",
    )
    needs = 1
    whole_table = True
    compared = "its authors' code"
    new_items = "its projected features, and what its neighbours in the item graph are"

    class Config(Strict):
        """``reg`` weighs the mean squares of the batch's preferences P_m[u] and of all modality weights w."""

        dim: int = Field(64, ge=1, description="width d of a modality, and of the IDs")
        hidden: int = Field(256, ge=1, description="width of the hidden layer of the projections")
        layers: int = Field(2, ge=0, description="propagation steps over the user–item graph")
        item_layers: int = Field(1, ge=0, description="propagation steps over the item graph; 0: it is not used")
        neighbours: int = Field(10, ge=1, description="k of the item graph, the item itself included")
        weights: dict[str, float] = Field(default_factory=dict, description="modality: weight of its item graph")
        align: float = Field(0.1, ge=0, description="weight of the alignment of means and variances; 0: no ID branch")
        mask: float = Field(0.1, ge=0, description="weight of the term that leaves entries out; 1.5 as published")
        mask_rate: float = Field(0.5, ge=0, lt=1, description="share of entries that it leaves out")
        perturb: float = Field(1e-3, ge=0, description="weight of the contrast under noise")
        noise: float = Field(0.1, ge=0, description="ε, length of the noise that a node gets after each step")
        temperature: float = Field(0.2, gt=0, description="τ of the contrast")
        reg: float = Field(1e-3, ge=0)
        faithful: bool = Field(False, description="base-2 logarithm and terms without gradient as published")

    parts = ("align", "mask", "perturb")
    spaces = named(
        default={
            "align": Range(1e-2, 1.0, log=True),
            "mask": Range(1e-2, 3.0, log=True),
            "perturb": Range(1e-4, 1e-1, log=True),
            "temperature": Range(0.1, 0.6),
            "reg": Range(1e-5, 1e-1, log=True),
            "train.lr": Range(3e-5, 3e-3, log=True),
        },
        paper={"perturb": Choice((1e-4, 1e-3)), "temperature": Choice((0.2, 0.4, 0.6)), "train.lr": Choice((1e-4,))},
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.graph = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items).graph()
        self.similar = ctx.item_graph(cfg.neighbours, cfg.weights)
        for m, raw in ctx.raw.items():
            self.phi[m] = Projector(raw, perceptron(raw.width, cfg.hidden, cfg.dim))
        self.taste = Preferences(ctx.n_users, cfg.dim, ctx.raw)
        self.weight = modality_weights(ctx.n_users, len(ctx.raw))
        if cfg.align > 0:
            self.user, self.item = normal_table(ctx.n_users, cfg.dim), normal_table(ctx.n_items, cfg.dim)
            self.guide = perceptron(cfg.dim, cfg.hidden, cfg.dim)
        width = cfg.dim * len(ctx.raw)
        self.predict = nn.Linear(width, width) if cfg.mask > 0 and not cfg.faithful else None

    def forward(self, feats: Feats) -> Reps:
        travelled = self.taste.travel(self.graph, self.cfg.layers, feats)
        modal = {m: (user, Rows(self.refine(rows.values))) for m, (user, rows) in travelled.items()}
        views: dict[str, Tensor] = {}
        if self.training and self.cfg.align > 0:
            ids = losses.unit(self.user), losses.unit(self.guide(self.item))
            user, item = graphs.propagate_sum(self.graph, self.cfg.layers, *ids)
            views |= {"user.guide": user, "item.guide": self.refine(item)}
        if self.training and self.cfg.perturb > 0:
            sides = {m: (user, rows.values) for m, (user, rows) in travelled.items()}
            views |= self.disturbed(self.taste.start(feats), sides)
        return Reps(*self.fuse([(user, rows.values) for user, rows in modal.values()]), modal=modal, views=views)

    def refine(self, item: Tensor) -> Tensor:
        """Items (I, d) and what the item graph adds to them."""
        return item + self.similar(item, self.cfg.item_layers) if self.cfg.item_layers else item

    def fuse(self, sides: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Rows]:
        """Users (U, M·d), weighed, and items (I, M·d) of the sides of M modalities."""
        users, items = zip(*sides, strict=True)
        return side_by_side(users, self.weight), Rows(side_by_side(items))

    def disturbed(
        self, starts: dict[str, tuple[Tensor, Tensor]], sides: dict[str, tuple[Tensor, Tensor]]
    ) -> dict[str, Tensor]:
        """Two views of fused users and items, of what ``starts`` and becomes ``sides`` with noise added after each step.

        The noise depends on the signs alone of what it is added to, so that the gradient is that of the sides without it.
        """
        pairs = {m: _disturbed(self.graph, self.cfg.layers, self.cfg.noise, *start) for m, start in starts.items()}
        views: dict[str, Tensor] = {}
        for k in range(2):
            parts = []
            for m, pair in pairs.items():
                user, item = pair[k]
                if not self.cfg.faithful:
                    user, item = (_as(value, of) for value, of in zip(pair[k], sides[m], strict=True))
                parts.append((user, self.refine(item)))
            user, rows = self.fuse(parts)
            views |= {f"user.{k}": user, f"item.{k}": rows.values}
        return views

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        cfg = self.cfg
        terms = losses.ranking(reps, batch, 0, "l2_sq")
        if cfg.faithful:
            terms = losses.in_bits(terms)
        if cfg.reg > 0:
            terms["reg"] = cfg.reg * (self.taste.size(batch.user) + self.weight.square().mean())
        if cfg.align > 0:
            terms["mentor.align"] = cfg.align * losses.total(gaps(self._levels(reps)))
        if self.predict is not None:
            rows = reps.users(batch.user), reps.items(batch)[0]
            terms["mentor.mask"] = cfg.mask * losses.total([self._masked(x) for x in rows])
        if cfg.perturb > 0:
            terms["mentor.perturb"] = cfg.perturb * losses.total(
                [self._contrast(reps, *of) for of in (("user", batch.users_once), ("item", batch.positives_once))]
            )
        return terms

    def _levels(self, reps: Reps) -> list[Moments]:
        """Of the IDs, of what is fused, and of each modality; all but the second repeated to the width of that."""
        copies = len(reps.modal)
        guide = moments(reps.views["user.guide"], reps.views["item.guide"], copies)
        modal = [moments(user, rows.values, copies) for user, rows in reps.modal.values()]
        return [guide, moments(reps.user, reps.item.values), *modal]

    def _masked(self, x: Tensor) -> Tensor:
        """1 − cos of what is predicted from rows ``x`` (B, d) and of ``x`` itself with entries left out."""
        assert self.predict is not None
        left = graphs.dropout(x.detach(), self.cfg.mask_rate)
        return 1 - (losses.unit(self.predict(x)) * losses.unit(left)).sum(-1).mean()

    def _contrast(self, reps: Reps, node: str, ids: Tensor) -> Tensor:
        one, other = (take(reps.views[f"{node}.{k}"], ids) for k in range(2))
        return losses.info_nce(one, other, self.cfg.temperature)


def perturbed(h: Tensor, noise: float) -> Tensor:
    """h + ε sign(h) ∘ n/‖n‖ with n uniform on (0, 1): rows of ``h`` (n, d) move by ε where they have no zero."""
    return h.sign().mul_(losses.unit(torch.rand_like(h))).mul_(noise).add_(h)


@torch.no_grad()
def _disturbed(
    graph: graphs.Bipartite, layers: int, noise: float, user: Tensor, item: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Twice Σ_l h_l of users and items, with h_0 as given and h_l = ``perturbed`` Â h_{l-1}."""
    views = []
    first = graph.to_user.times(item), graph.to_item.times(user)
    for _ in range(2):
        total, (u, i) = (user, item), first
        for layer in range(layers):
            if layer > 0:
                u, i = graph.to_user.times(i), graph.to_item.times(u)
            u, i = perturbed(u, noise), perturbed(i, noise)
            total = total[0] + u, total[1] + i
        views.append(total)
    return views


def _as(value: Tensor, of: Tensor) -> Tensor:
    """``value``, with the gradient of ``of``."""
    return value + (of - of.detach())


def moments(user: Tensor, item: Tensor, copies: int = 1) -> Moments:
    """Mean and unbiased variance over all entries of users and items, as if each entry stood there ``copies`` times."""
    n = copies * (user.numel() + item.numel())
    mean = copies * (user.sum() + item.sum()) / n
    squares = copies * (user.square().sum() + item.square().sum())
    return mean, (squares - n * mean.square()) / (n - 1)


def gaps(levels: Sequence[Moments]) -> list[Tensor]:
    """For each pair of levels, how far their means lie apart and how far their variances."""
    pairs = itertools.combinations(levels, 2)
    return [(x - y).abs() for a, b in pairs for x, y in zip(a, b, strict=True)]
