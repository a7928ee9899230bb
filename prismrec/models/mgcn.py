"""MGCN: Multi-View Graph Convolutional Network for Multimedia Recommendation.

P. Yu, Z. Tan, G. Lu, B.-K. Bao, ACM Multimedia 2023, arXiv:2308.03588.

Item IDs, gated by what each modality says, travel over that modality's graph of similar items; IDs alone travel over the
user–item graph. Attention takes from the modalities' views what they have in common, gates that know the behaviour take
what is specific to each, and the sum of both is added to the behaviour's view and contrasted with it.

Departures from the paper: 1. Negatives of the contrast are the other rows of the batch, as in the published code; the paper
sums over everybody. 2. Raw features are frozen by default; in that code they are trained (``train_features=True``). 3. Any
number of modalities: the common and specific parts of M of them are divided by M + 1, the code's 3; a single one has no
specific part and no attention. 4. Negative cosines are no edges. 5. An item that lacks a modality is its own only neighbour
in that graph, and its gate sees the mean features. 6. The penalty is divided by the rows of the batch at hand, also where
the last one is short.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from prismrec import graphs, losses
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import Attention, Projector, xavier_table
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms, take


class MGCN(Model):
    """user, item = C + Z: C the layer mean over the user–item graph, Z = (S + Σ_m X_m) / (M + 1)."""

    name = "mgcn"
    paper = Paper(
        "Multi-View Graph Convolutional Network for Multimedia Recommendation",
        "P. Yu, Z. Tan, G. Lu, B.-K. Bao",
        "ACM MM",
        2023,
        "arXiv:2308.03588",
    )
    needs = 1
    whole_table = True
    compared = "MMRec"
    new_items = "the gated IDs of its neighbours in the item graphs"

    class Config(Strict):
        """``reg`` weighs half the mean squared length of the rows that are scored, ``contrast`` the InfoNCE terms."""

        dim: int = Field(64, ge=1, description="width d of the embeddings")
        layers: int = Field(2, ge=0, description="propagation steps over the user–item graph")
        item_layers: int = Field(1, ge=0, description="propagation steps over the item graphs")
        neighbours: int = Field(10, ge=1, description="k of the item graphs, the item itself included")
        reg: float = Field(1e-4, ge=0)
        contrast: float = Field(0.01, ge=0)
        temperature: float = Field(0.2, gt=0, description="τ of the contrast")
        train_features: bool = Field(False, description="train the raw feature tables too")

    parts = ("contrast",)
    spaces = named(
        default={
            "layers": Range(1, 3, whole=True),
            "contrast": Range(1e-4, 0.3, log=True),
            "temperature": Range(0.05, 0.6, log=True),
            "reg": Range(1e-6, 1e-2, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        },
        paper={"contrast": Choice((0.001, 0.01, 0.1))},
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.user, self.item = xavier_table(ctx.n_users, cfg.dim), xavier_table(ctx.n_items, cfg.dim)
        self.graph = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items).graph()
        self.similar, self.purify, self.prefer = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for m, raw in ctx.raw.items():
            neighbours = ctx.near(m, cfg.neighbours)
            self.similar[m] = graphs.ItemGraph(graphs.similarity_matrix(*neighbours))
            self.phi[m] = Projector(raw, nn.Linear(raw.width, cfg.dim), cfg.train_features)
            self.purify[m] = nn.Linear(cfg.dim, cfg.dim)
            if len(ctx.raw) > 1:
                self.prefer[m] = nn.Linear(cfg.dim, cfg.dim)
        self.common = Attention(cfg.dim, len(ctx.raw))

    def without_new(self) -> str:
        return "" if self.cfg.item_layers > 0 else "with item_layers = 0 it knows an item by its ID alone"

    def forward(self, feats: Feats) -> Reps:
        behaviour = graphs.propagate_mean(self.graph, self.cfg.layers, self.user, self.item)
        items = {}
        for m, rows in feats.items():
            pure = self.item * torch.sigmoid(self.purify[m](rows.values))
            items[m] = self.similar[m](pure, self.cfg.item_layers)
        users = {m: graphs.gather_users(self.graph, item) for m, item in items.items()}
        side = self.fuse(users, behaviour[0]), self.fuse(items, behaviour[1])
        return Reps(
            behaviour[0] + side[0],
            Rows(behaviour[1] + side[1]),
            modal={m: (users[m], Rows(items[m])) for m in feats},
            views={
                "user.behaviour": behaviour[0],
                "item.behaviour": behaviour[1],
                "user.side": side[0],
                "item.side": side[1],
            },
        )

    def fuse(self, views: Mapping[str, Tensor], behaviour: Tensor) -> Tensor:
        """Z of users or of items: their ``views`` M_m and ``behaviour`` C, each (n, d) → (n, d)."""
        common: Tensor = self.common(list(views.values()))
        specific = (torch.sigmoid(gate(behaviour)) * (views[m] - common) for m, gate in self.prefer.items())
        total: Tensor = functools.reduce(torch.add, specific, common)
        return total / (len(views) + 1)

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        terms = losses.ranking(reps, batch, self.cfg.reg, "l2_sq")
        if self.cfg.contrast > 0:
            apart = [self._contrast(reps, node, ids) for node, ids in (("item", batch.pos), ("user", batch.user))]
            terms["mgcn.contrast"] = self.cfg.contrast * (apart[0] + apart[1])
        return terms

    def _contrast(self, reps: Reps, node: str, ids: Tensor) -> Tensor:
        side, behaviour = (take(reps.views[f"{node}.{view}"], ids) for view in ("side", "behaviour"))
        return losses.info_nce(side, behaviour, self.cfg.temperature)
