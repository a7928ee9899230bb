"""LATTICE: Mining Latent Structures for Multimedia Recommendation.

J. Zhang, Y. Zhu, Q. Liu, S. Wu, S. Wang, L. Wang, ACM Multimedia 2021, arXiv:2104.09036.

An item graph is learned: nearest neighbours by projected features, one graph a modality, added up with weights that learn,
and mixed with the graph of raw features. Item IDs travel over it, and their directions are added to what collaborative
filtering says of an item.

Departures from the paper: 1. Neighbours are chosen once an epoch; how near they are has a gradient in every batch. In the
published code the graph learns in an epoch's first batch alone and stays for the epoch (``learn="first"``), which also spares
the other batches all features; old versions of its library let momentum go on moving the projections meanwhile. 2. Raw
features are frozen by default; in that code they are trained (``train_features=True``). 3. Graphs are sparse lists, with the
gradient of the dense matrices. 4. Negative cosines are no edges; in that code they can make a root of a negative sum. 5. An
item that lacks a modality is its own only neighbour in that graph. 6. The modalities' own sides, which the paper does not
have: what an item gets over the graph of this modality alone. 7. Of its backbones LightGCN's and, with
``layers=0``, matrix factorisation. 8. Any number of modalities.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from prismrec import graphs, losses
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import Projector, xavier_table
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms


class LATTICE(Model):
    """[user; x] = mean_l B^l [E_u; E_i] with B = (D + I)⁻¹(A + I); item = x + unit(G^n E_i)."""

    name = "lattice"
    paper = Paper(
        "Mining Latent Structures for Multimedia Recommendation",
        "J. Zhang, Y. Zhu, Q. Liu, S. Wu, S. Wang, L. Wang",
        "ACM MM",
        2021,
        "arXiv:2104.09036",
    )
    needs = 1
    whole_table = True
    compared = "MMRec"
    new_items = "the IDs of its neighbours in the learned item graph"

    class Config(Strict):
        """``reg`` weighs half the mean squared length of the rows that are scored."""

        dim: int = Field(64, ge=1, description="width d of the embeddings")
        latent: int = Field(64, ge=1, description="width of the projections that choose neighbours")
        layers: int = Field(2, ge=0, description="propagation steps over the user–item graph")
        item_layers: int = Field(1, ge=1, description="propagation steps over the item graph")
        neighbours: int = Field(10, ge=1, description="k of the item graphs, the item itself included")
        blend: float = Field(0.9, ge=0, le=1, description="weight λ of the graph of raw features in the item graph")
        learn: Literal["every", "first"] = Field("every", description="batches of an epoch in which the graph learns")
        reg: float = Field(1e-5, ge=0)
        train_features: bool = Field(False, description="train the raw feature tables too")

    spaces = named(
        default={
            "neighbours": Range(5, 30, log=True, whole=True),
            "blend": Range(0.5, 1.0),
            "reg": Range(1e-7, 1e-2, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        },
        paper={"reg": Choice((0.0, 1e-5, 1e-4, 1e-3)), "train.lr": Choice((1e-4, 5e-4, 1e-3, 5e-3))},
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
            weighed=True,
        )

    def start_epoch(self, rng: torch.Generator) -> None:
        self.similar.restart()

    def forward(self, feats: Feats) -> Reps:
        nodes = graphs.powers_mean(self.walk, self.cfg.layers, torch.cat([self.user, self.item]))
        user, item = nodes.split([self.n_users, self.n_items])
        learned = self.similar(feats)

        def near(parts: Mapping[str, graphs.Learned]) -> Tensor:
            return losses.unit(self.similar.spread(parts, self.item, self.cfg.item_layers))

        alone = {m: functools.partial(near, {m: graph.alone()}) for m, graph in learned.items()}
        return Reps(user, Rows(item + near(learned)), modal={m: (user, _when_read(make)) for m, make in alone.items()})

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        return losses.ranking(reps, batch, self.cfg.reg, "l2_sq")


def _when_read(make: Callable[[], Tensor]) -> Rows:
    """Rows that are made when a plug-in reads them: in training most steps do without."""
    return Rows((lambda after: make() if after is None else make() @ after) if torch.is_grad_enabled() else make())
