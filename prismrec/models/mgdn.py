"""MGDCF: Distance Learning via Markov Graph Diffusion for Neural Collaborative Filtering, and its encoder MGDN.

J. Hu, B. Hooi, S. Qian, Q. Fang, C. Xu, IEEE Transactions on Knowledge and Data Engineering 2024, arXiv:2204.02338.

ID embeddings diffuse over the user–item graph: every step mixes what neighbours hold with what a node started from. LightGCN,
APPNP and SGC are special mixtures. A taken item is told from many sampled ones at once.

Departures from the published code: 1. A row has a negative of its own and shares the others with the whole batch, as the
first of its rows' own ones: the numbers are drawn as often, but a batch needs one product rather than a copy of B·M rows.
2. Loss and penalty are divided by the rows of the batch; there they are sums, so that their ratio is the same. 3. Only the
user–item graph; the graphs of users and of items alone that the paper also tries are not made.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import nn

from prismrec import graphs, losses
from prismrec.errors import PrismError
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.space import Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms


class MGDN(Model):
    """h⁰ = X, h^{k+1} = β Â h^k + α X, Z = h^K / (β^K + α Σ_{k<K} β^k); s(u, i) = ⟨z_u, z_i⟩."""

    name = "mgdn"
    paper = Paper(
        "MGDCF: Distance Learning via Markov Graph Diffusion for Neural Collaborative Filtering",
        "J. Hu, B. Hooi, S. Qian, Q. Fang, C. Xu",
        "IEEE TKDE",
        2024,
        "arXiv:2204.02338",
    )
    compared = "its authors' code"

    class Config(Strict):
        """``alpha`` is the share of the start in every step, ``beta`` that of the neighbours."""

        dim: int = Field(64, ge=1, description="width d of the embeddings")
        layers: int = Field(2, ge=0, description="steps K; 0 is matrix factorisation")
        alpha: float = Field(0.1, ge=0)
        beta: float = Field(0.9, ge=0)
        self_loops: bool = Field(True, description="every node is its own neighbour too")
        drop_start: float = Field(
            0.3, ge=0, lt=1, description="share of the numbers of X left out of a step of training"
        )
        drop_edges: float = Field(0.2, ge=0, lt=1, description="share of edges left out, each way by itself")
        drop_end: float = Field(0.2, ge=0, lt=1, description="share of the numbers of Z left out")
        negatives: int = Field(
            300,
            ge=1,
            description="sampled items that a taken one is told from, all but one shared by the batch; 1: BPR",
        )
        reg: float = Field(1e-5, ge=0, description="of half the squares of all of Z, divided by the rows of the batch")

    spaces = named(
        default={
            "layers": Range(1, 5, whole=True),
            "alpha": Range(0.02, 0.5, log=True),
            "drop_start": Range(0.0, 0.6),
            "reg": Range(1e-7, 1e-3, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        }
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        if cfg.alpha == cfg.beta == 0 and cfg.layers > 0:
            raise PrismError(
                "mgdn has alpha = 0 and beta = 0, so that nothing is left of a step. Set one of them above 0."
            )
        self.user, self.item = (
            nn.Parameter(nn.init.normal_(torch.empty(n, cfg.dim), std=1 / math.sqrt(cfg.dim)))
            for n in (ctx.n_users, ctx.n_items)
        )
        edges = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items)
        self.graph = graphs.whole(edges, cfg.self_loops)

    def forward(self, feats: Feats) -> Reps:
        cfg = self.cfg
        x = graphs.dropout(torch.cat([self.user, self.item]), cfg.drop_start, self.training)
        hop = self.graph.hop(cfg.drop_edges if self.training else 0.0)
        z = graphs.diffuse(hop, cfg.layers, cfg.alpha, cfg.beta, x)
        z = graphs.dropout(z, cfg.drop_end, self.training)
        user, item = z.split([self.n_users, self.n_items])
        return Reps(user, Rows(item), views={"nodes": z})

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        user, items = reps.users(batch.user), reps.items(batch)
        pos = (user * items[0]).sum(1)
        neg = [(user * items[1]).sum(1, keepdim=True), user @ items[1, : self.cfg.negatives - 1].T]
        terms: Terms = {"rank": losses.info_bpr(pos, torch.cat(neg, dim=1), batch.weight)}
        if self.cfg.reg > 0:
            terms["reg"] = self.cfg.reg * losses.squares(reps.views["nodes"]) / (2 * len(pos))
        return terms
