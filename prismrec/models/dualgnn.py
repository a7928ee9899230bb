"""DualGNN: Dual Graph Neural Network for Multimedia Recommendation.

Q. Wang, Y. Wei, J. Yin, J. Wu, X. Song, L. Nie, IEEE Transactions on Multimedia 2023, doi 10.1109/TMM.2021.3138298.

Each modality is propagated over the user–item graph by itself; every user weighs the modalities in a way of his own; then
users are smoothed over a graph of who took the same items.

Departures from the published code: 1. The softmax over a user's neighbours is over those that there are (``pad="mask"``);
there a short list is filled up to k with copies of its own members, drawn anew in every epoch (``pad="resample"``). 2. With
``pad="resample"`` inference uses the list as it is, so that it does not depend on a draw. 3. ``faithful=True`` brings back
what the code behind the published tables does otherwise: the logarithm of BPR has base 2; the first modality's weight falls
on the sum of all modalities, which has been written over the first one's rows; weights of items stand in the penalty and
nowhere else. 4. Any number of modalities.
"""

from __future__ import annotations

import torch
from pydantic import Field

from prismrec import graphs, losses
from prismrec.graphs.users import Pad
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import Preferences, Projector, modality_weights, perceptron
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms


class DualGNN(Model):
    """R_m = Σ_l Â^l [P_m ; f_m]; y_i = Σ_m R_m,i; z_u = Σ_m w_um R_m,u; z'_u = z_u + Σ_v a_uv z_v; s(u, i) = ⟨z'_u, y_i⟩."""

    name = "dualgnn"
    paper = Paper(
        "DualGNN: Dual Graph Neural Network for Multimedia Recommendation",
        "Q. Wang, Y. Wei, J. Yin, J. Wu, X. Song, L. Nie",
        "IEEE TMM",
        2023,
        "10.1109/TMM.2021.3138298",
    )
    needs = 1
    whole_table = True
    compared = "MMRec"
    new_items = "its projected features"

    class Config(Strict):
        """``reg`` weighs the mean squares of the batch's preferences P_m[u] and of all modality weights w."""

        dim: int = Field(64, ge=1, description="width d")
        hidden: int = Field(256, ge=1, description="width of the hidden layer of the feature projections")
        layers: int = Field(2, ge=0, description="propagation steps over the user–item graph")
        neighbours: int = Field(
            40, ge=0, description="users kept of those who took most of the same items; 0: no smoothing"
        )
        pad: Pad = Field("mask", description="what becomes of lists with fewer users than that")
        reg: float = Field(0.1, ge=0)
        faithful: bool = Field(False, description="base-2 logarithm, first weight and weights of items as published")

    spaces = named(
        default={
            "layers": Range(1, 3, whole=True),
            "neighbours": Range(10, 100, log=True, whole=True),
            "reg": Range(1e-5, 1.0, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        },
        paper={"reg": Choice((1e-1, 1e-2, 1e-3, 1e-4, 1e-5)), "train.lr": Choice((1e-1, 1e-2, 1e-3, 1e-4, 1e-5))},
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        log = ctx.user, ctx.item, ctx.n_users, ctx.n_items
        self.graph = graphs.Edges(*log).graph()
        for m, raw in ctx.raw.items():
            self.phi[m] = Projector(raw, perceptron(raw.width, cfg.hidden, cfg.dim))
        self.taste = Preferences(ctx.n_users, cfg.dim, ctx.raw)
        self.weight = modality_weights(ctx.n_users, len(ctx.raw))
        self.item_weight = modality_weights(ctx.n_items, len(ctx.raw)) if cfg.faithful else None
        self.friends = graphs.Friends(*log, cfg.neighbours, cfg.pad)

    def start_epoch(self, rng: torch.Generator) -> None:
        self.friends.redraw(rng)

    def forward(self, feats: Feats) -> Reps:
        modal = self.taste.travel(self.graph, self.cfg.layers, feats)
        users = [user for user, _ in modal.values()]
        if self.cfg.faithful:
            users[0] = losses.total(users)  # written over by the sum that makes the items' rows
        weights = self.weight.T.unsqueeze(2)  # (M, U, 1)
        z = losses.total(w * user for w, user in zip(weights, users, strict=True))
        item = losses.total(rows.values for _, rows in modal.values())
        return Reps(z + self.friends(z), Rows(item), modal=modal)

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        terms = losses.ranking(reps, batch, 0, "l2_sq")
        if self.cfg.faithful:
            terms = losses.in_bits(terms)
        if self.cfg.reg > 0:
            weights = [w.square().mean() for w in (self.weight, self.item_weight) if w is not None]
            terms["reg"] = self.cfg.reg * losses.total([self.taste.size(batch.user), *weights])
        return terms
