"""LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation.

X. He, K. Deng, X. Wang, Y. Li, Y. Zhang, M. Wang, SIGIR 2020, arXiv:2002.02126.

Propagates ID embeddings over the user–item graph with neither weights nor activations and averages all layers.

Departures from the paper: 1. Xavier-uniform start, each table by itself, as in the code behind the published tables; the
paper's is N(0, 0.1): ``init="normal"``. 2. ``reg_kind="l2_sq"`` is the paper's penalty; the default is that code's.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from prismrec import graphs
from prismrec.losses import Penalty, ranking
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import xavier_table
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms


class LightGCN(Model):
    """E* = (1/(L+1)) Σ_l Â^l E⁰; s(u, i) = ⟨e*_u, e*_i⟩."""

    name = "lightgcn"
    paper = Paper(
        "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation",
        "X. He, K. Deng, X. Wang, Y. Li, Y. Zhang, M. Wang",
        "SIGIR",
        2020,
        "arXiv:2002.02126",
    )

    class Config(Strict):
        """``reg`` weighs ``reg_kind`` of the batch's rows of E⁰."""

        dim: int = Field(64, ge=1, description="width d of the embeddings")
        layers: int = Field(3, ge=0, description="propagation steps L; 0 is matrix factorisation")
        reg: float = Field(1e-4, ge=0)
        reg_kind: Penalty = "fro_norm"
        init: Literal["xavier_uniform", "normal"] = Field(
            "xavier_uniform", description="distribution of the first numbers; normal: N(0, 0.1²)"
        )

    spaces = named(
        default={
            "layers": Range(1, 4, whole=True),
            "reg": Range(1e-6, 1e-1, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        },
        paper={"layers": Choice((1, 2, 3, 4)), "reg": Choice((1e-2, 1e-3, 1e-4, 1e-5, 1e-6))},
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.user, self.item = xavier_table(ctx.n_users, cfg.dim), xavier_table(ctx.n_items, cfg.dim)
        if cfg.init == "normal":
            nn.init.normal_(self.user, std=0.1)
            nn.init.normal_(self.item, std=0.1)
        self.graph = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items).graph()

    def forward(self, feats: Feats) -> Reps:
        user, item = graphs.propagate_mean(self.graph, self.cfg.layers, self.user, self.item)
        return Reps(user, Rows(item))

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        return ranking(reps, batch, self.cfg.reg, self.cfg.reg_kind, on=Reps(self.user, Rows(self.item)))
