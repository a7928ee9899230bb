"""BR-MRS: Synergy-Aware Multimodal Recommendation with Cross-Modal Hard Negatives (the synergy-aware loss).

Anonymous authors, under review (ICML), 2026.

The fused scores are asked to tell a taken item from a sampled one by a margin that is larger than the best modality's own
(section 4.2). It takes the place of the main ranking term. The hard negatives of the same paper are the plug-in ``chns``.

Departures from the paper: 1. Any number of modalities: the largest of all their margins. 2. A mean over the batch, not a sum;
rows count by their interaction weights. 3. ``detach_unimodal``: the literal loss can also fall by making the modalities'
margins worse; with it, only the fused scores learn.
"""

from __future__ import annotations

import torch
from pydantic import Field

from prismrec.errors import PrismError
from prismrec.losses import bpr_of_margins, margins
from prismrec.models.base import Strict
from prismrec.plugins.base import Offer, Plugin
from prismrec.plugins.chns import CHNS
from prismrec.space import Range, named
from prismrec.types import Batch, Feats, Reps, Terms


class Synergy(Plugin):
    """``rank`` = −λ_s Σ log σ(Δ_f − max_m Δ_m − θ), Δ_x = s_x(u, i⁺) − s_x(u, i⁻) (eqs. 12 and 13)."""

    name = "synergy"
    paper = CHNS.paper

    class Config(Strict):
        """``weight`` is λ_s, ``margin`` is θ."""

        weight: float = Field(
            1.0, ge=0, description="λ_s; 0 switches the plug-in off: the model's own ranking term stays"
        )
        margin: float = Field(0.1, ge=0, description="θ: by how much the fused margin is to exceed the best modality's")
        detach_unimodal: bool = Field(False, description="train the fused scores alone, not the modalities'")

    spaces = named(default={"weight": Range(0.1, 5.0, log=True), "margin": Range(0.0, 1.0)})

    cfg: Config

    @property
    def n_neg(self) -> int:
        return int(self.cfg.weight > 0)

    def setup(self, offer: Offer) -> None:
        # of one modality nothing can be synergy: the fused scores of some models are then that modality's own
        if self.cfg.weight > 0 and len(offer.sides) < 2:
            found = ", ".join(offer.sides) or "none"
            raise PrismError(
                f"synergy needs two or more modalities with scores of their own; {offer.model} states {found} here. "
                "Choose a model and data that offer them, or leave synergy out."
            )

    def loss(self, terms: Terms, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        if self.cfg.weight == 0:
            return terms
        first = batch.negatives(1)
        # margins of losses are −Δ, so that the largest Δ_m is the smallest of them
        best = torch.stack([margins(reps, first, m) for m in reps.modal]).amin(0)
        if self.cfg.detach_unimodal:
            best = best.detach()
        short = margins(reps, first) - best + self.cfg.margin
        return terms | {"rank": self.cfg.weight * bpr_of_margins(short, batch.weight)}
