"""VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback.

R. He, J. McAuley, AAAI 2016, arXiv:1510.01784.

Matrix factorisation whose item vector is an ID vector beside a linear projection of the item's content features, met by a
user vector of twice the width. Here for any number of modalities, whose projections add up: with two of them this is one
projection of the concatenated features, as in the code behind the published tables.

Departures from the paper: 1. No biases but the projection's: user and global bias cancel in BPR, item and visual bias are
dropped as in that code. 2. The composed item vectors are penalised, not the projection matrix. 3. Adam on batches.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from prismrec.losses import Penalty, ranking
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import Projector, Raw, xavier_table
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, ItemIds, Reps, Terms, take


class VBPR(Model):
    """s(u, i) = ⟨p_u, [q_i ; Σ_m (W_m x_i^m + b/M)]⟩."""

    name = "vbpr"
    paper = Paper(
        "VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback",
        "R. He, J. McAuley",
        "AAAI",
        2016,
        "arXiv:1510.01784",
    )
    needs = 1
    new_items = "its projected features; its ID part is zero"
    by_features = "modal"
    row_tables = ("user", "item")

    class Config(Strict):
        """``reg`` weighs ``reg_kind`` of the batch's user rows and composed item rows."""

        dim: int = Field(64, ge=1, description="width d of the ID part and of the content part")
        reg: float = Field(0.1, ge=0)
        reg_kind: Penalty = "fro_norm"
        train_features: bool = Field(False, description="train the raw feature tables too")
        normalize: bool = Field(False, description="scale raw feature rows to unit length")

    spaces = named(
        default={
            "reg": Range(1e-5, 2.0, log=True),
            "normalize": Choice((False, True)),
            "train.lr": Range(1e-4, 1e-2, log=True),
        },
        paper={"reg": Choice((2.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5))},
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.user = xavier_table(ctx.n_users, 2 * cfg.dim)
        self.item = xavier_table(ctx.n_items, cfg.dim)
        # Xavier-normal of the one matrix (d, Σ r_m) that the blocks make up; each adds its share of the one bias b
        std = math.sqrt(2 / (cfg.dim + sum(raw.width for raw in ctx.raw.values())))
        self.bias = nn.Parameter(torch.zeros(cfg.dim))
        for m, raw in ctx.raw.items():
            block = nn.Linear(raw.width, cfg.dim, bias=False)
            nn.init.normal_(block.weight, std=std)
            net = nn.Sequential(_UnitRows(), block) if cfg.normalize else block
            self.phi[m] = Projector(raw, net, cfg.train_features)

    def project(self, raw: Mapping[str, Raw], index: ItemIds | None) -> Feats:
        feats = super().project(raw, index)
        return {m: rows.plus(self.bias / len(feats)) for m, rows in feats.items()}

    def forward(self, feats: Feats) -> Reps:
        some = next(iter(feats.values()))
        total = functools.reduce(torch.add, (rows.values for rows in feats.values()))
        ids = self.item if some.index is None else take(self.item, some.index.ids)
        taste = self.user[:, self.cfg.dim :]
        return Reps(
            self.user,
            some.with_values(torch.cat([ids, total], dim=1)),
            modal={m: (taste, rows) for m, rows in feats.items()},
        )

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        return ranking(reps, batch, self.cfg.reg, self.cfg.reg_kind)


class _UnitRows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(x, dim=-1)
