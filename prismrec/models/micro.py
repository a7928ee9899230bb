"""MICRO: Latent Structure Mining with Contrastive Modality Fusion for Multimedia Recommendation.

J. Zhang, Y. Zhu, Q. Liu, M. Zhang, S. Wu, L. Wang, IEEE Transactions on Knowledge and Data Engineering 2022, arXiv:2111.00678.

LATTICE's successor. Every modality keeps a learned item graph of its own; item IDs travel over each, attention fuses what
arrives, and each view of an item is told from those of all other items by its likeness to the fused one.

Departures from the paper: 1. Neighbours are chosen once an epoch; how near they are has a gradient in every batch. In the
published code graphs learn in an epoch's first batch alone (``learn="first"``; more on that in LATTICE). 2. Raw features are
frozen by default; in that code they are trained (``train_features=True``). 3. Graphs are sparse lists, and the contrast over
all items is taken in blocks, with the gradients of the dense matrices. ``anchors``: the mean over so many items, drawn at
every step, stands for the mean over all; their negatives are all items as ever. 4. Negative cosines are no edges. 5. An item
that lacks a modality is its own only neighbour in that graph. 6. Of its backbones LightGCN's and, with ``layers=0``, matrix
factorisation. 7. Any number of modalities; a single one has nothing to be fused or contrasted with. 8. The
modalities' own sides, which the paper does not have: the direction of h_m.
"""

from __future__ import annotations

import functools
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from prismrec import graphs, losses
from prismrec.graphs.items import Scaling
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import Attention, Projector, xavier_table
from prismrec.space import Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms, take


class MICRO(Model):
    """[user; x] = mean_l B^l [E_u; E_i] with B = (D + I)⁻¹(A + I); h_m = G_m^n E_i; item = x + unit(Σ_m a_m h_m)."""

    name = "micro"
    paper = Paper(
        "Latent Structure Mining with Contrastive Modality Fusion for Multimedia Recommendation",
        "J. Zhang, Y. Zhu, Q. Liu, M. Zhang, S. Wu, L. Wang",
        "IEEE TKDE",
        2022,
        "arXiv:2111.00678",
    )
    needs = 1
    whole_table = True
    new_items = "the IDs of its neighbours in the learned item graphs"

    class Config(Strict):
        """``reg`` weighs half the mean squared length of the rows that are scored, ``contrast`` the sum of the contrasts."""

        dim: int = Field(64, ge=1, description="width d of the embeddings")
        latent: int = Field(64, ge=1, description="width of the projections that choose neighbours")
        layers: int = Field(2, ge=0, description="propagation steps over the user–item graph")
        item_layers: int = Field(1, ge=1, description="propagation steps over the item graphs")
        neighbours: int = Field(10, ge=1, description="k of the item graphs, the item itself included")
        blend: float = Field(0.9, ge=0, le=1, description="weight λ of the graph of raw features in an item graph")
        scaling: Scaling = Field("symmetric", description="of the item graphs; rows: by the sum of the row alone")
        learn: Literal["every", "first"] = Field("every", description="batches of an epoch in which the graphs learn")
        reg: float = Field(1e-5, ge=0)
        contrast: float = Field(0.03, ge=0)
        temperature: float = Field(0.5, gt=0, description="τ of the contrasts")
        anchors: int = Field(0, ge=0, description="items drawn at a step, over which the contrasts are taken; 0: all")
        train_features: bool = Field(False, description="train the raw feature tables too")

    parts = ("contrast",)
    spaces = named(
        default={
            "neighbours": Range(5, 30, log=True, whole=True),
            "blend": Range(0.5, 1.0),
            "reg": Range(1e-7, 1e-2, log=True),
            "contrast": Range(1e-3, 0.3, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        }
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.user, self.item = xavier_table(ctx.n_users, cfg.dim), xavier_table(ctx.n_items, cfg.dim)
        self.walk = graphs.walk(graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items))
        for m, raw in ctx.raw.items():
            self.phi[m] = Projector(raw, nn.Linear(raw.width, cfg.latent), cfg.train_features)
        self.similar = graphs.LearnedGraphs(
            {m: ctx.near(m, cfg.neighbours) for m in ctx.raw},
            {m: raw.present for m, raw in ctx.raw.items()},
            cfg.neighbours,
            cfg.blend,
            every=cfg.learn == "every",
            known=ctx.n_known,
            scaling=cfg.scaling,
        )
        self.fuse = Attention(cfg.dim, len(ctx.raw))

    def start_epoch(self, rng: torch.Generator) -> None:
        self.similar.restart()

    def forward(self, feats: Feats) -> Reps:
        nodes = graphs.powers_mean(self.walk, self.cfg.layers, torch.cat([self.user, self.item]))
        user, item = nodes.split([self.n_users, self.n_items])
        views = {
            m: self.similar.spread({m: graph}, self.item, self.cfg.item_layers)
            for m, graph in self.similar(feats).items()
        }
        fused = self.fuse(list(views.values()))
        return Reps(
            user,
            Rows(item + losses.unit(fused)),
            modal={m: (user, Rows(losses.unit(view))) for m, view in views.items()},
            views={"fused": fused} | {f"view.{m}": view for m, view in views.items()},
        )

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        terms = losses.ranking(reps, batch, self.cfg.reg, "l2_sq")
        if self.cfg.contrast > 0 and len(feats) > 1:
            fused, anchors = reps.views["fused"], self.anchors(reps.user.device)
            apart = [self.contrast(reps.views[f"view.{m}"], fused, anchors) for m in feats]
            terms["micro.contrast"] = self.cfg.contrast * functools.reduce(torch.add, apart)
        return terms

    def anchors(self, device: torch.device) -> Tensor:
        """Items over which the contrasts are taken: all, or as many as the settings say, drawn by PyTorch's own generator."""
        if not 0 < self.cfg.anchors < self.n_items:
            return torch.arange(self.n_items, device=device)
        return torch.randperm(self.n_items, device=device)[: self.cfg.anchors]

    def contrast(self, view: Tensor, fused: Tensor, anchors: Tensor) -> Tensor:
        """−log of the share that an item's ``fused`` row has for its ``view``, (I, d) both, among all rows but its own view.

        The mean over ``anchors`` (n,).
        """
        keys, own = torch.cat([fused, view]), anchors + len(fused)
        return losses.info_nce_among(take(view, anchors), keys, anchors, self.cfg.temperature, without=own)
