"""InfoNCE alignment of modalities, from: Representation Learning with Contrastive Predictive Coding.

A. van den Oord, Y. Li, O. Vinyals, 2018, arXiv:1807.03748.

An item's codes in two modalities are drawn together and apart from those of the batch's other items. It is the alignment term
of many multimodal recommenders, by itself; BR-MRS (2026) sweeps its weight and finds that it brings no synergy about.

Departures from the paper: 1. Modalities of an item take the place of context and future. 2. f is exp(cosine / τ), not a
bilinear form. 3. An item counts once a batch, so that it is never its own negative. 4. More than two modalities: the mean over
all pairs.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from prismrec.losses import info_nce
from prismrec.models.base import Paper, Strict
from prismrec.plugins.base import Offer, Plugin
from prismrec.plugins.pairs import Codes, Pairs
from prismrec.space import Range, named
from prismrec.types import Batch, Feats, Reps, Terms


class InfoNCE(Plugin):
    """Adds λ · mean over pairs of modalities of −log(e^{cos(v_k, t_k)/τ} / Σ_j e^{cos(v_k, t_j)/τ})."""

    name = "infonce"
    paper = Paper(
        "Representation Learning with Contrastive Predictive Coding",
        "A. van den Oord, Y. Li, O. Vinyals",
        "arXiv",
        2018,
        "arXiv:1807.03748",
    )

    class Config(Strict):
        """``weight`` is λ, ``temperature`` is τ."""

        weight: float = Field(0.01, ge=0, description="λ; 0 switches the plug-in off")
        temperature: float = Field(0.2, gt=0)
        codes: Codes = Field("sides", description="the item sides that the model states by modality, or the features")
        symmetric: bool = Field(True, description="mean of both directions; else the earlier modality seeks the later")

    spaces = named(default={"weight": Range(1e-4, 1.0, log=True), "temperature": Range(0.05, 1.0, log=True)})

    cfg: Config

    def setup(self, offer: Offer) -> None:
        if self.cfg.weight > 0:
            self.pairs = Pairs.offered(self.name, offer, self.cfg.codes, same_width=True)

    def loss(self, terms: Terms, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        if self.cfg.weight == 0:
            return terms
        return terms | {"infonce": self.cfg.weight * self.pairs.mean(self._apart, reps, feats, batch)}

    def _apart(self, a: Tensor, b: Tensor) -> Tensor:
        if len(a) < 2:  # nothing to be told from; of no row there is no mean
            return (a.sum() + b.sum()) * 0
        one = info_nce(a, b, self.cfg.temperature)
        return (one + info_nce(b, a, self.cfg.temperature)) / 2 if self.cfg.symmetric else one
