"""BPR: Bayesian Personalized Ranking from Implicit Feedback.

S. Rendle, C. Freudenthaler, Z. Gantner, L. Schmidt-Thieme, UAI 2009, arXiv:1205.2618.

Free user and item vectors trained so that an observed item outranks a sampled one.

Departures from the paper: 1. Adam on shuffled epochs of batches, not SGD on bootstrapped triples. 2. No item bias. 3. The
penalty and the Xavier-normal start of the code behind the published tables; the paper's is ``reg_kind="l2_sq"``.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from prismrec.losses import Penalty, ranking
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms


class BPR(Model):
    """s(u, i) = ⟨p_u, q_i⟩."""

    name = "bpr"
    paper = Paper(
        "BPR: Bayesian Personalized Ranking from Implicit Feedback",
        "S. Rendle, C. Freudenthaler, Z. Gantner, L. Schmidt-Thieme",
        "UAI",
        2009,
        "arXiv:1205.2618",
    )
    row_tables = ("user", "item")

    class Config(Strict):
        """``reg`` weighs ``reg_kind`` of the batch's rows of P and Q."""

        dim: int = Field(64, ge=1, description="width d of the vectors")
        reg: float = Field(0.01, ge=0)
        reg_kind: Penalty = "fro_norm"
        init: Literal["xavier_normal", "normal"] = Field(
            "xavier_normal", description="distribution of the first numbers; normal: N(0, 1)"
        )

    spaces = named(
        default={"reg": Range(1e-5, 2.0, log=True), "train.lr": Range(1e-4, 1e-2, log=True)},
        paper={"reg": Choice((2.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5))},
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)

        def table(rows: int) -> nn.Parameter:
            std = math.sqrt(2 / (rows + cfg.dim)) if cfg.init == "xavier_normal" else 1.0
            return nn.Parameter(torch.empty(rows, cfg.dim).normal_(0, std))

        self.user, self.item = table(ctx.n_users), table(ctx.n_items)

    def forward(self, feats: Feats) -> Reps:
        return Reps(self.user, Rows(self.item))

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        return ranking(reps, batch, self.cfg.reg, self.cfg.reg_kind)
