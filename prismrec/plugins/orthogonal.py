"""Orthogonality of modalities, the difference loss of: Domain Separation Networks.

K. Bousmalis, G. Trigeorgis, N. Silberman, D. Krishnan, D. Erhan, NeurIPS 2016, arXiv:1608.06019.

Penalises what the codes of two modalities share, so that each is pushed to say something else. BR-MRS (2026) sweeps its weight
and finds that it wears down what only one modality knows.

Departures from the paper: 1. Codes of two modalities take the place of private and shared codes. 2. Divided by the number of
items (of pairs of them for ``gram``), so that a weight means the same for any batch. 3. ``gram`` is the penalty of BR-MRS's
proof, inner products of items with items. 4. More than two modalities: the mean over all pairs.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from prismrec.losses import unit
from prismrec.models.base import Paper, Strict
from prismrec.plugins.base import Offer, Plugin
from prismrec.plugins.pairs import Codes, Pairs
from prismrec.space import Range, named
from prismrec.types import Batch, Feats, Reps, Terms


class Orthogonal(Plugin):
    """Adds λ · mean over pairs of modalities of ‖V̄ᵀT̄ / n‖²_F (``cross``) or ‖V Tᵀ / n‖²_F (``gram``), items as rows."""

    name = "orthogonal"
    paper = Paper(
        "Domain Separation Networks",
        "K. Bousmalis, G. Trigeorgis, N. Silberman, D. Krishnan, D. Erhan",
        "NeurIPS",
        2016,
        "arXiv:1608.06019",
    )

    class Config(Strict):
        """``weight`` is λ."""

        weight: float = Field(0.1, ge=0, description="λ; 0 switches the plug-in off")
        kind: Literal["cross", "gram"] = Field(
            "cross",
            description="cross: dimensions with dimensions, of codes centred and of unit length; gram: items with items",
        )
        codes: Codes = Field("sides", description="the item sides that the model states by modality, or the features")

    spaces = named(default={"weight": Range(1e-3, 10.0, log=True)})

    cfg: Config

    def setup(self, offer: Offer) -> None:
        if self.cfg.weight > 0:
            self.pairs = Pairs.offered(self.name, offer, self.cfg.codes, same_width=self.cfg.kind == "gram")

    def loss(self, terms: Terms, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        if self.cfg.weight == 0:
            return terms
        measure = cross if self.cfg.kind == "cross" else gram
        return terms | {"orthogonal": self.cfg.weight * self.pairs.mean(measure, reps, feats, batch)}


def cross(a: Tensor, b: Tensor) -> Tensor:
    """‖āᵀb̄ / n‖²_F, ā the codes less their mean, each at unit length: (n, d_a), (n, d_b) → scalar in 0..1; 0 without rows."""
    n = max(len(a), 1)
    a, b = (unit(x - x.sum(0) / n) for x in (a, b))
    return (a.T @ b / n).square().sum()


def gram(a: Tensor, b: Tensor) -> Tensor:
    """‖a bᵀ / n‖²_F, the mean of ⟨a_i, b_j⟩² over pairs of items: (n, d), (n, d) → scalar; 0 without rows.

    Taken as ⟨aᵀa, bᵀb⟩ / n², so that nothing of n × n is made.
    """
    n = max(len(a), 1)
    return ((a.T @ a / n) * (b.T @ b / n)).sum()
