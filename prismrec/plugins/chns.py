"""BR-MRS: Synergy-Aware Multimodal Recommendation with Cross-Modal Hard Negatives (the hard negatives).

Anonymous authors, under review (ICML), 2026.

Each modality's own scores are trained on the negatives that fool the *other* modality: of n candidates that the user never
took, the one that the other modality ranks highest (section 4.1). The synergy-aware loss of the same paper is the plug-in
``synergy``.

Departures from the paper: 1. More than two modalities: m is trained on the hardest negative of each other one, averaged; for
two modalities this is the paper's sum. 2. A mean over the batch, not a sum. 3. Items may lack a modality: candidates that
have all of them come first, and a positive that lacks m does not train m. 4. The paper has no plain ranking term beside it;
here the model's own stays unless ``literal``: without it, or ``synergy``, nothing would train the fused scores. 5. The
candidates of a row are its own negative and those of other rows of the batch, unless ``pool="fresh"``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from prismrec import graphs
from prismrec.errors import PrismError
from prismrec.losses import bpr_of_margins, margins_of
from prismrec.models.base import Paper, Strict
from prismrec.plugins.base import Offer, Plugin
from prismrec.space import Range, named
from prismrec.types import Batch, Feats, Reps, Terms, take

Side = str | None


class CHNS(Plugin):
    """L = −Σ_m log σ(s_m(u, i⁺) − s_m(u, j_m′)) with j_m′ = argmax_{j ∈ N(u)} s_m′(u, j), m′ ≠ m (eqs. 10 and 11)."""

    name = "chns"
    paper = Paper(
        "BR-MRS: Synergy-Aware Multimodal Recommendation with Cross-Modal Hard Negatives",
        "Anonymous authors",
        "under review (ICML)",
        2026,
    )

    class Config(Strict):
        """``weight`` is λ_h, ``candidates`` is n = |N(u)|."""

        weight: float = Field(0.3, ge=0, description="λ_h; 0 switches the plug-in off")
        candidates: int = Field(16, ge=1, description="n: negatives among which the hardest is chosen")
        pool: Literal["batch", "fresh"] = Field(
            "batch", description="candidates of a row: its own negative and those of other rows, or all drawn for it"
        )
        strategy: Literal["cross", "own", "fused", "uniform"] = Field(
            "cross",
            description="whose hardest negative trains a modality: the others', its own, the fused scores', any",
        )
        refresh: int = Field(
            0, ge=0, description="steps between updates of the representations that choose; 0: each step's own, exactly"
        )
        literal: bool = Field(False, description="drop the main ranking term, as the paper's equation has it")

    spaces = named(default={"weight": Range(0.03, 3.0, log=True), "candidates": Range(4, 64, log=True, whole=True)})

    cfg: Config

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        self.trained: list[str] = []
        self.present: dict[str, Tensor] = {}  # of the modalities that some items lack
        self.complete: Tensor | None = None
        self.known: Reps | None = None
        self.age = 0

    @property
    def _chooses(self) -> bool:
        return self.cfg.weight > 0 and self.cfg.strategy != "uniform"

    @property
    def n_neg(self) -> int:
        return self.cfg.candidates if self._chooses and self.cfg.refresh == 0 else int(self.cfg.weight > 0)

    @property
    def n_candidates(self) -> int:
        return self.cfg.candidates if self._chooses and self.cfg.refresh > 0 else 0

    @property
    def n_fresh(self) -> int:
        return max(self.n_neg, self.n_candidates) if self.cfg.pool == "fresh" else 1

    def setup(self, offer: Offer) -> None:
        if self.cfg.weight == 0:
            return
        needed = 2 if self.cfg.strategy == "cross" else 1
        if len(offer.sides) < needed:
            found = ", ".join(offer.sides) or "none"
            raise PrismError(
                f"chns with the strategy {self.cfg.strategy!r} needs {needed} or more modalities with scores of their own; "
                f"{offer.model} states {found} here. Choose a model and data that offer them, or leave chns out."
            )
        self.trained = list(offer.sides)
        self.present = {m: p for m, p in offer.present.items() if m in offer.sides and not bool(p.all())}
        if self.present:
            self.complete = torch.stack(list(self.present.values())).all(0)

    def start_epoch(self, epoch: int, feats: Feats, rng: torch.Generator) -> None:
        self.known = None  # an epoch depends on nothing but what a checkpoint holds

    def pick(self, batch: Batch, frozen: Callable[[], Reps]) -> Tensor:
        if self.known is None or self.age >= self.cfg.refresh:
            self.known, self.age = frozen(), 0
        self.age += 1
        return torch.stack(list(self._hardest(self.known, batch).values()), dim=1)

    def loss(self, terms: Terms, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        if self.cfg.weight == 0:
            return terms
        if not self._chooses:
            hardest = dict.fromkeys(self._judges, batch.neg[:, 0])
        elif self.cfg.refresh > 0:
            hardest = dict(zip(self._judges, batch.picks[self.name].unbind(1), strict=True))
        else:
            hardest = self._hardest(reps, batch)
        mine = {f"chns.{m}": self.cfg.weight * self._ranking(m, hardest, reps, batch) for m in self.trained}
        kept = {name: term for name, term in terms.items() if name != "rank"} if self.cfg.literal else terms
        return kept | mine

    @property
    def _judges(self) -> list[Side]:
        return [None] if self.cfg.strategy in ("fused", "uniform") else list(self.trained)

    def _judges_of(self, m: str) -> list[Side]:
        """Whose choice trains ``m``."""
        if self.cfg.strategy == "cross":
            return [other for other in self.trained if other != m]
        return [m] if self.cfg.strategy == "own" else [None]

    @torch.no_grad()
    def _hardest(self, reps: Reps, batch: Batch) -> dict[Side, Tensor]:
        """Judge → the candidate (B,) that it scores highest, of those that have all modalities where there is one."""
        pool = batch.neg[:, : self.cfg.candidates]
        lacking = None if self.complete is None else ~self.complete[pool]
        rows: dict[int, Tensor] = {}  # sides of one model share tables of users, and items' places
        places: dict[int, Tensor] = {}
        hardest: dict[Side, Tensor] = {}
        for judge in self._judges:
            users, items = reps.sides(judge)
            if id(users) not in rows:
                rows[id(users)] = take(users, batch.user)
            if id(items.index) not in places:
                places[id(items.index)] = items.places(pool)
            scores = graphs.inner_products(rows[id(users)], items.values, places[id(items.index)])
            if lacking is not None:
                scores = scores.masked_fill(lacking, -torch.inf)
            hardest[judge] = pool.gather(1, scores.argmax(1, keepdim=True)).squeeze(1)
        return hardest

    def _ranking(self, m: str, hardest: dict[Side, Tensor], reps: Reps, batch: Batch) -> Tensor:
        """BPR of ``m`` on the negatives chosen for it."""
        ids = torch.stack([batch.pos, *(hardest[judge] for judge in self._judges_of(m))])
        margins = margins_of(reps.users(batch.user, m), reps.modal[m][1].at(ids))
        weight = batch.weight
        if m in self.present:
            has = self.present[m][batch.pos].float()
            weight = has if weight is None else weight * has
        return bpr_of_margins(margins, weight)
