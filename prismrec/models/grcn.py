"""GRCN: Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit Feedback.

Y. Wei, X. Wang, L. Nie, X. He, T.-S. Chua, ACM Multimedia 2020, arXiv:2111.02036.

What a user's items show tells which of his interactions to believe: edges are weighed by the affinity of both ends in each
modality, times how much that modality is to be trusted at the edge's source; those that are trusted in none are cut. ID
embeddings travel over the refined graph; beside them stand the contents of each modality.

Departures from the published code: 1. Users' prototypes are routed over their items, as the paper has it; that code sends
the messages from users to items, so that its routing does nothing. 2. Confidences start at one positive number
(``trust``); there they are random ones around 0, so that the ReLU cuts a quarter of the sources (two modalities) off
before the first step, for good. 3. That code also penalises all prototypes of the first modality. ``faithful=True`` does
all three as it does. 4. Representations are those of the parameters as they are; that code ranks by the ones of its last
batch. 5. Edges are never left out at random, as in the published runs; weights are the largest over the modalities with
confidences, the code's default. 6. Any number of modalities.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from prismrec import graphs
from prismrec.losses import ranking, unit
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import Projector
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms, take


class GRCN(Model):
    """Z = [Σ_l W^l ê ; x_m + α_m x_m for each m], W_{j→k} = ReLU(max_m α_m,{j→k} c_{j,m}); s(u, i) = ⟨z_u, z_i⟩."""

    name = "grcn"
    paper = Paper(
        "Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit Feedback",
        "Y. Wei, X. Wang, L. Nie, X. He, T.-S. Chua",
        "ACM MM",
        2020,
        "arXiv:2111.02036",
    )
    needs = 1
    whole_table = True
    compared = "MMRec"
    new_items = "its projected features; its ID part is zero"

    class Config(Strict):
        """``reg`` weighs the mean squares of the batch's ID embeddings and prototypes."""

        dim: int = Field(64, ge=1, description="width d of the ID embeddings")
        content: int = Field(64, ge=1, description="width of each modality's contents and prototypes")
        layers: int = Field(2, ge=0, description="propagation steps of the ID embeddings over the refined graph")
        rounds: int = Field(3, ge=0, description="times that users' prototypes are routed over their items")
        trust: float = Field(0.1, gt=0, description="confidence in every modality of every node at the start")
        prune: bool = Field(True, description="cut edges that no modality is trusted for; else they count negatively")
        reg: float = Field(1e-3, ge=0)
        faithful: bool = Field(False, description="no routing, start of the confidences and penalty as published")

    spaces = named(
        default={
            "layers": Range(1, 3, whole=True),
            "rounds": Range(1, 5, whole=True),
            "reg": Range(1e-6, 1e-1, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        },
        paper={"reg": Choice((1e-1, 1e-2, 1e-3, 1e-4, 1e-5)), "train.lr": Choice((1.0, 1e-1, 1e-2, 1e-3, 1e-4))},
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        edges = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items)
        self.to_user = graphs.Places.of(edges)
        self.to_item = self.to_user.flip()
        sizes = ctx.n_users, ctx.n_items
        self.user, self.item = (nn.Parameter(part.clone()) for part in _normal(sum(sizes), cfg.dim).split(sizes))
        shape = sum(sizes), len(ctx.raw)
        trust = _normal(*shape) if cfg.faithful else torch.full(shape, cfg.trust)
        self.user_trust, self.item_trust = (nn.Parameter(part.clone()) for part in trust.split(sizes))
        self.taste = nn.ParameterDict({m: _normal(ctx.n_users, cfg.content) for m in ctx.raw})
        for m, raw in ctx.raw.items():
            linear = nn.Linear(raw.width, cfg.content)
            nn.init.xavier_normal_(linear.weight)
            self.phi[m] = Projector(raw, nn.Sequential(linear, nn.LeakyReLU()))

    def forward(self, feats: Feats) -> Reps:
        users, items, into_user, into_item = [], [], [], []
        for m, rows in feats.items():
            item = unit(rows.values)
            user = self.route(unit(self.taste[m]), item)
            near = self.to_user.dots(user, item)  # of an edge's ends: the same number both ways, before the softmax
            into_user.append(self.to_user.softmax(near))
            into_item.append(self.to_item.softmax(near[self.to_user.order]))
            users.append(user + self.to_user.times(into_user[-1], item))
            items.append(item + self.to_item.times(into_item[-1], user))
        weights = (
            self.refine(into_user, take(self.item_trust, self.to_user.column)),
            self.refine(into_item, take(self.user_trust, self.to_item.column)),
        )
        fused = [
            torch.cat([ids, *contents], dim=1)
            for ids, contents in zip(self.propagate(weights), (users, items), strict=True)
        ]
        parts = [side.split([self.cfg.dim, *[self.cfg.content] * len(feats)], dim=1)[1:] for side in fused]
        modal = {m: (user, Rows(item)) for m, user, item in zip(feats, *parts, strict=True)}
        return Reps(fused[0], Rows(fused[1]), modal)

    def route(self, user: Tensor, item: Tensor) -> Tensor:
        """p ← p + Σ_i softmax_i(⟨p, f_i⟩) f_i over a user's items, in unit rows, ``rounds`` times: (U, c), (I, c) → (U, c)."""
        for _ in range(0 if self.cfg.faithful else self.cfg.rounds):
            near = self.to_user.softmax(self.to_user.dots(user, item))
            user = unit(user + self.to_user.times(near, item))
        return user

    def refine(self, affinity: Sequence[Tensor], trust: Tensor) -> Tensor:
        """Weights of edges (E,): of their ``affinity`` in M modalities, M times (E,), and ``trust`` of their sources (E, M)."""
        weight = (torch.stack(list(affinity), dim=1) * trust).amax(1)
        return weight.relu() if self.cfg.prune else weight

    def propagate(self, weights: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The sum over layers of the ID embeddings, from unit rows, over edges into users and into items."""
        user, item = unit(self.user), unit(self.item)
        users, items = [user], [item]
        for _ in range(self.cfg.layers):
            user, item = self.to_user.times(weights[0], item), self.to_item.times(weights[1], user)
            users.append(user)
            items.append(item)
        return functools.reduce(torch.add, users), functools.reduce(torch.add, items)

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        terms = ranking(reps, batch, 0, "l2_sq")
        if self.cfg.reg > 0:
            both = take(self.item, batch.pos).square().mean() + take(self.item, batch.neg).square().mean()
            sizes = [take(table, batch.user).square().mean() for table in (self.user, *self.taste.values())]
            if self.cfg.faithful:
                sizes.append(next(iter(self.taste.values())).square().mean())
            terms["reg"] = self.cfg.reg * functools.reduce(torch.add, sizes, both / 2)
        return terms


def _normal(rows: int, width: int) -> Tensor:
    return nn.init.xavier_normal_(torch.empty(rows, width))
