"""ApeGNN: Node-Wise Adaptive Aggregation in GNNs for Recommendation.

D. Zhang, Y. Zhu, Y. Dong, Y. Wang, W. Feng, E. Kharlamov, J. Tang, WWW 2023, doi 10.1145/3543507.3583530.

LightGCN in which every node weighs the hops by a diffusion kernel of its own: heat or personalised PageRank, whose one
number is learnt for each node and starts from its degree.

Departures from the published code: 1. Hops are added up or averaged; there they may also be concatenated, or the last one
stand alone. 2. Edges that are left out in training (``drop``, off as there) are so with that probability; there, entries
*stay* with it and are scaled as if they went. 3. No dropout of messages and no mixed negatives, which are off there too.
4. ``bounded`` keeps the learnt number between 0 and 1; there, and by default here, nothing does.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from prismrec import graphs
from prismrec.losses import Penalty, penalty, ranking
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import xavier_table
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms, take

_TINY = 1e-7  # what a node without an edge starts from


class ApeGNN(Model):
    """E* = Σ_k diag(θ_k) Â^k E, θ_k = e^{−t} t^k / k! (heat) or t (1 − t)^k (PageRank) of each node; s(u, i) = ⟨e*_u, e*_i⟩."""

    name = "apegnn"
    paper = Paper(
        "ApeGNN: Node-Wise Adaptive Aggregation in GNNs for Recommendation",
        "D. Zhang, Y. Zhu, Y. Dong, Y. Wang, W. Feng, E. Kharlamov, J. Tang",
        "WWW",
        2023,
        "10.1145/3543507.3583530",
    )
    compared = "its authors' code"

    class Config(Strict):
        """``reg`` weighs ``reg_kind`` of the batch's rows of θ_0 E, through which it acts on t too."""

        dim: int = Field(64, ge=1, description="width d of the embeddings")
        layers: int = Field(3, ge=0, description="hops K")
        kernel: Literal["heat", "pagerank"] = Field("heat", description="θ: of heat, or of personalised PageRank")
        pool: Literal["sum", "mean"] = Field("sum", description="how the hops come together")
        bounded: bool = Field(False, description="t is the sigmoid of what is learnt, so that it stays between 0 and 1")
        drop: float = Field(0.0, ge=0, lt=1, description="share of edges left out of each hop of a step, at random")
        reg: float = Field(1e-4, ge=0)
        reg_kind: Penalty = "l2_sq"

    spaces = named(
        default={
            "kernel": Choice(("heat", "pagerank")),
            "layers": Range(1, 5, whole=True),
            "reg": Range(1e-6, 1e-1, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        }
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.user, self.item = xavier_table(ctx.n_users, cfg.dim), xavier_table(ctx.n_items, cfg.dim)
        edges = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items)
        self.graph = graphs.whole(edges)
        start = (torch.cat(edges.degrees()) + _TINY).log()
        self.time = nn.Parameter(start if cfg.bounded else start.sigmoid())

    def kernel(self) -> Tensor:
        """θ of all nodes, users first → (K + 1, N). Powers by repeated products: t may leave (0, 1)."""
        t = self.time.sigmoid() if self.cfg.bounded else self.time
        weights = [(-t).exp() if self.cfg.kernel == "heat" else t]
        for k in range(1, self.cfg.layers + 1):
            weights.append(weights[-1] * (t / k if self.cfg.kernel == "heat" else 1 - t))
        return torch.stack(weights)

    def forward(self, feats: Feats) -> Reps:
        drop = self.cfg.drop if self.training else 0.0
        hops = [self.graph.hop(drop) for _ in range(self.cfg.layers)]
        weights = self.kernel() / (self.cfg.layers + 1 if self.cfg.pool == "mean" else 1)
        nodes = graphs.weighted_powers(hops, weights, torch.cat([self.user, self.item]))
        user, item = nodes.split([self.n_users, self.n_items])
        return Reps(user, Rows(item))

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        terms = ranking(reps, batch, 0, self.cfg.reg_kind)
        if self.cfg.reg > 0:
            of_user, of_item = self.kernel()[0].unsqueeze(1).split([self.n_users, self.n_items])
            users = take(of_user, batch.user) * take(self.user, batch.user)
            items = (take(of_item, ids) * take(self.item, ids) for ids in (batch.pos, batch.neg))
            terms["reg"] = self.cfg.reg * penalty(self.cfg.reg_kind, users, *items)
        return terms
