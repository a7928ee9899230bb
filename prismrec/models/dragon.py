"""DRAGON: Enhancing Dyadic Relations with Homogeneous Graphs for Multimodal Recommendation.

H. Zhou, X. Zhou, L. Zhang, Z. Shen, ECAI 2023, arXiv:2301.12097.

Each modality is propagated over the user–item graph by itself, and the modalities stand side by side, for a user weighed in a
way of his own. Then one step over graphs of one kind of node each: users hear those who took the same items, items those
that look and read alike.

Departures from the published code: 1. The softmax over a user's neighbours is over those that there are (``pad="mask"``);
there a short list is filled up to k with copies of its own members, drawn anew in every epoch (``pad="resample"``). 2. With
``pad="resample"`` inference uses the list as it is, so that it does not depend on a draw. 3. The logarithm of BPR is the
natural one; there its base is 2 (``faithful=True``). 4. Ranking uses the parameters as they are; there, representations of
the last batch, one step behind. 5. Any number of modalities.
"""

from __future__ import annotations

import torch
from pydantic import Field

from prismrec import graphs, losses
from prismrec.graphs.users import Pad
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import Preferences, Projector, modality_weights, perceptron, side_by_side
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms


class DRAGON(Model):
    """H_m = Σ_l Â^l [P_m ; f_m]; q_i = [H_m,i]_m, q_u = [w_um H_m,u]_m; z_i = q_i + (S q)_i, z_u = q_u + Σ_v a_uv q_v."""

    name = "dragon"
    paper = Paper(
        "Enhancing Dyadic Relations with Homogeneous Graphs for Multimodal Recommendation",
        "H. Zhou, X. Zhou, L. Zhang, Z. Shen",
        "ECAI",
        2023,
        "arXiv:2301.12097",
    )
    needs = 1
    whole_table = True
    compared = "MMRec"
    new_items = "its projected features, and what its neighbours in the item graph are"

    class Config(Strict):
        """``reg`` weighs the mean squares of the batch's preferences P_m[u] and of all modality weights w."""

        dim: int = Field(64, ge=1, description="width d of a modality")
        hidden: int = Field(256, ge=1, description="width of the hidden layer of the feature projections")
        layers: int = Field(2, ge=0, description="propagation steps over the user–item graph")
        item_layers: int = Field(1, ge=0, description="propagation steps over the item graph; 0: it is not used")
        neighbours: int = Field(10, ge=1, description="k of the item graph, the item itself included")
        weights: dict[str, float] = Field(default_factory=dict, description="modality: weight of its item graph")
        user_neighbours: int = Field(
            40, ge=0, description="users kept of those who took most of the same items; 0: no user graph"
        )
        pad: Pad = Field("mask", description="what becomes of lists with fewer users than that")
        reg: float = Field(1e-3, ge=0)
        faithful: bool = Field(False, description="base-2 logarithm as published")

    spaces = named(
        default={
            "layers": Range(1, 3, whole=True),
            "user_neighbours": Range(10, 80, log=True, whole=True),
            "reg": Range(1e-5, 1e-1, log=True),
            "train.lr": Range(3e-5, 1e-2, log=True),
        },
        paper={"reg": Choice((1e-1, 1e-2, 1e-3, 1e-4, 1e-5)), "train.lr": Choice((1e-1, 1e-2, 1e-3, 1e-4, 1e-5))},
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        log = ctx.user, ctx.item, ctx.n_users, ctx.n_items
        self.graph = graphs.Edges(*log).graph()
        self.similar = ctx.item_graph(cfg.neighbours, cfg.weights)
        self.friends = graphs.Friends(*log, cfg.user_neighbours, cfg.pad)
        for m, raw in ctx.raw.items():
            self.phi[m] = Projector(raw, perceptron(raw.width, cfg.hidden, cfg.dim))
        self.taste = Preferences(ctx.n_users, cfg.dim, ctx.raw)
        self.weight = modality_weights(ctx.n_users, len(ctx.raw))

    def start_epoch(self, rng: torch.Generator) -> None:
        self.friends.redraw(rng)

    def forward(self, feats: Feats) -> Reps:
        modal = self.taste.travel(self.graph, self.cfg.layers, feats)
        user = side_by_side([user for user, _ in modal.values()], self.weight)
        item = side_by_side([rows.values for _, rows in modal.values()])
        user = user + self.friends(user)
        if self.cfg.item_layers:
            item = item + self.similar(item, self.cfg.item_layers)
        return Reps(user, Rows(item), modal=modal)

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        terms = losses.ranking(reps, batch, 0, "l2_sq")
        if self.cfg.faithful:
            terms = losses.in_bits(terms)
        if self.cfg.reg > 0:
            terms["reg"] = self.cfg.reg * (self.taste.size(batch.user) + self.weight.square().mean())
        return terms
