"""BM3: Bootstrap Latent Representations for Multi-modal Recommendation.

X. Zhou, H. Zhou, Y. Liu, Z. Zeng, C. Miao, P. Wang, Y. You, F. Jiang, The Web Conference 2023, arXiv:2207.05969.

Learns without negatives: a predictor turns each view of a user, an item or a modality towards a copy of its partner, some of
whose entries are dropped and which takes no gradient. Partners are a user and an item that he took, an item and each of its
modalities, and a modality and itself.

Departures from the paper: 1. As in the published code, the penalty is made of plain norms of all users and items over the
number of items; ``reg_kind="l2_sq"`` squares and halves them. 2. Raw features are frozen by default; in that code they are
trained (``train_features=True``). 3. Any number of modalities. 4. An item that lacks a modality stands in with the mean
features.
"""

from __future__ import annotations

import functools

import torch
from pydantic import Field
from torch import Tensor, nn

from prismrec import graphs, losses
from prismrec.losses import Penalty
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import Projector, xavier_table
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms, take


class BM3(Model):
    """[h_u; h_i − e_i] = mean_l Â^l [e_u; e_i]; s(u, i) = ⟨p(h_u), p(h_i)⟩ with the predictor p(x) = W x + b."""

    name = "bm3"
    paper = Paper(
        "Bootstrap Latent Representations for Multi-modal Recommendation",
        "X. Zhou, H. Zhou, Y. Liu, Z. Zeng, C. Miao, P. Wang, Y. You, F. Jiang",
        "WWW",
        2023,
        "arXiv:2207.05969",
    )
    needs = 1
    n_neg = 0
    compared = "MMRec"

    class Config(Strict):
        """``reg`` weighs ``reg_kind`` of all rows of h, over the number of items; ``modal`` the terms of the modalities."""

        dim: int = Field(64, ge=1, description="width d of the embeddings")
        layers: int = Field(1, ge=0, description="propagation steps over the user–item graph")
        dropout: float = Field(0.5, ge=0, lt=1, description="share of a target's entries that are dropped")
        modal: float = Field(2.0, ge=0)
        reg: float = Field(0.1, ge=0)
        reg_kind: Penalty = "fro_norm"
        train_features: bool = Field(False, description="train the raw feature tables too")

    spaces = named(
        default={
            "layers": Range(1, 3, whole=True),
            "dropout": Range(0.1, 0.7),
            "modal": Range(0.2, 5.0, log=True),
            "reg": Range(1e-3, 1.0, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        },
        paper={"layers": Choice((1, 2)), "dropout": Choice((0.3, 0.5)), "reg": Choice((0.1, 0.01))},
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.user, self.item = xavier_table(ctx.n_users, cfg.dim), xavier_table(ctx.n_items, cfg.dim)
        self.graph = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items).graph()
        for m, raw in ctx.raw.items():
            self.phi[m] = Projector(raw, _xavier_linear(raw.width, cfg.dim), cfg.train_features)
        self.predict = _xavier_linear(cfg.dim, cfg.dim)

    def without_new(self) -> str:
        return "it ranks by IDs alone; features enter its losses"

    def forward(self, feats: Feats) -> Reps:
        user, item = graphs.propagate_mean(self.graph, self.cfg.layers, self.user, self.item)
        item = item + self.item
        predicted = self.predict(user)
        return Reps(
            predicted,
            Rows(self.predict(item)),
            modal={m: (predicted, rows.with_values(self.predict(rows.values))) for m, rows in feats.items()},
            views={"user": user, "item": item},
        )

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        user, item = take(reps.views["user"], batch.user), take(reps.views["item"], batch.pos)
        rows = torch.stack([user, item, *(view.at(batch.pos) for view in feats.values())])
        # predicted here again, of the batch's rows alone: a gradient of the whole tables costs half a step
        user, item, *modal = losses.unit(self.predict(rows)).unbind()
        to_user, to_item, *to_modal = losses.unit(self.target(rows)).unbind()
        apart = functools.partial(_apart, weight=batch.weight)
        terms = {"rank": apart(user, to_item) + apart(item, to_user)}
        if self.cfg.modal > 0:
            for m, view, own in zip(feats, modal, to_modal, strict=True):
                terms[f"bm3.{m}"] = self.cfg.modal * (apart(view, to_item) + apart(view, own))
        if self.cfg.reg > 0:
            terms["reg"] = self.cfg.reg * losses.penalty(self.cfg.reg_kind, reps.views["item"], reps.views["user"])
        return terms

    def target(self, rows: Tensor) -> Tensor:
        """What predictions are turned to: ``rows`` (…, d) without gradient, some entries dropped.

        Those that stay are not scaled up: cosines do not see it.
        """
        return rows.detach() * (torch.rand_like(rows) >= self.cfg.dropout)


def _apart(a: Tensor, b: Tensor, weight: Tensor | None) -> Tensor:
    """1 − cos of unit rows (B, d), their mean, each times its ``weight`` (B,)."""
    rows = 1 - (a * b).sum(-1)
    return rows.mean() if weight is None else (rows * weight).mean()


def _xavier_linear(width: int, dim: int) -> nn.Linear:
    linear = nn.Linear(width, dim)
    nn.init.xavier_normal_(linear.weight)
    return linear
