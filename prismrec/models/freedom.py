"""FREEDOM: A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal Recommendation.

X. Zhou, Z. Shen, ACM Multimedia 2023, arXiv:2211.06924.

Item ID embeddings are smoothed over a frozen kNN graph of the raw features; the user–item graph is thinned afresh every
epoch, edges between popular nodes first. Raw features act through that graph and through a light BPR term for each modality.

Departures from the published code: 1. Raw features are frozen by default; there they are trained (``train_features=True``).
2. Any number of modalities: ``weights`` are those of their graphs; with two, ``image`` 0.1 and ``text`` 0.9 as published,
otherwise equal. 3. Items that lack a modality have no neighbours in its graph, rather than those of an average picture;
their neighbours by the other modalities take over its weight.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from prismrec import graphs, losses
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import Projector, xavier_table
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms


class FREEDOM(Model):
    """user = G_U, item = G_I + S^n E_I, with G the layer mean over the thinned graph (the full one at inference)."""

    name = "freedom"
    paper = Paper(
        "A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal Recommendation",
        "X. Zhou, Z. Shen",
        "ACM MM",
        2023,
        "arXiv:2211.06924",
    )
    needs = 1
    new_items = "the IDs of its neighbours in the item graph"
    by_features = "modal"

    class Config(Strict):
        """``prune`` is the share ρ of edges left out of an epoch; ``reg`` is λ, the weight of the modalities' BPR terms."""

        dim: int = Field(64, ge=1, description="width d of the embeddings")
        layers: int = Field(2, ge=0, description="propagation steps over the user–item graph")
        item_layers: int = Field(1, ge=0, description="propagation steps over the item graph")
        neighbours: int = Field(10, ge=1, description="k of the item graph, the item itself included")
        weights: dict[str, float] = Field(default_factory=dict, description="modality: weight of its item graph")
        prune: float = Field(0.8, ge=0, lt=1)
        reg: float = Field(1e-3, ge=0)
        train_features: bool = Field(False, description="train the raw feature tables too")

    parts = ("reg",)
    spaces = named(
        default={
            "layers": Range(1, 3, whole=True),
            "item_layers": Range(1, 2, whole=True),
            "prune": Range(0.0, 0.95),
            "reg": Range(1e-5, 1.0, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        },
        paper={"prune": Choice((0.8, 0.9)), "reg": Choice((0.0, 1e-5, 1e-4, 1e-3))},
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.user, self.item = xavier_table(ctx.n_users, cfg.dim), xavier_table(ctx.n_items, cfg.dim)
        self.edges = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items)
        self.full = self.edges.graph()
        self.pruned = self.full
        self.similar = ctx.item_graph(cfg.neighbours, cfg.weights)
        for m, raw in ctx.raw.items():
            self.phi[m] = Projector(raw, nn.Linear(raw.width, cfg.dim), cfg.train_features)

    def without_new(self) -> str:
        return "" if self.cfg.item_layers > 0 else "with item_layers = 0 it knows an item by its ID alone"

    def start_epoch(self, rng: torch.Generator) -> None:
        if self.cfg.prune > 0:
            self.pruned = self.edges.graph(self.edges.sample(1 - self.cfg.prune, rng))

    def forward(self, feats: Feats) -> Reps:
        graph = self.pruned if self.training else self.full
        smooth = self.similar(self.item, self.cfg.item_layers)  # raw features never enter h: it is made of IDs
        user, item = graphs.propagate_mean(graph, self.cfg.layers, self.user, self.item)
        return Reps(user, Rows(item + smooth), modal={m: (user, rows) for m, rows in feats.items()})

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        modalities = tuple(reps.modal) if self.cfg.reg > 0 else ()
        rank = losses.ranking_by_side(reps, batch, (None, *modalities))
        return {"rank": rank[None]} | {f"freedom.{m}": self.cfg.reg * rank[m] for m in modalities}
