"""CLEAR: Null-Space Projection for Cross-Modal De-Redundancy in Multimodal Recommendation.

H. Zhan, Y. Wang, Y. Yang, D. Yue, Y. Wang, P. Shao, F. Shen, F. Liu, L. Wu, 2026, arXiv:2603.01536.

Finds the directions in which the modalities' projected features co-vary most (SVD of the cross-covariance) and damps
exactly those before the features enter the recommender. No loss term, no parameter.

Departures from the paper: 1. More than two modalities: modality m takes the left singular vectors of its cross-covariances
with all others side by side; for two modalities this is the paper's method. 2. Items that lack a modality take no part in
the covariance. 3. Directions without covariance (σ below 1e-6 of σ₁) are left alone whatever the rank. 4. The price of a
direction in ``rank="spectrum"`` (eq. 13) is a share of Σσ², so that it means the same on every data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from prismrec.errors import PrismError
from prismrec.models.base import Paper, Strict
from prismrec.plugins.base import Offer, Plugin
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, Rows, Terms


class CLEAR(Plugin):
    """Ṽ = V (I − λ U_k U_kᵀ), T̃ = T (I − λ W_k W_kᵀ) with V̄ᵀT̄/I = U Σ Wᵀ, anew at every τ-th epoch."""

    name = "clear"
    paper = Paper(
        "CLEAR: Null-Space Projection for Cross-Modal De-Redundancy in Multimodal Recommendation",
        "H. Zhan, Y. Wang, Y. Yang, D. Yue, Y. Wang, P. Shao, F. Shen, F. Liu, L. Wu",
        "arXiv",
        2026,
        "arXiv:2603.01536",
    )

    class Config(Strict):
        """``strength`` is λ, ``rank`` is k or a rule, ``interval`` is τ in epochs."""

        rank: int | Literal["energy", "spectrum"] = Field(8, description="k, or the rule that picks it at each update")
        strength: float = Field(0.9, ge=0, le=1, description="λ; 0 switches the plug-in off")
        interval: int = Field(1, ge=1, description="τ: epochs between updates of the projectors")
        center: bool = Field(False, description="project V − mean(V), as the paper's text; its algorithm projects V")
        share: float = Field(0.9, gt=0, le=1, description='rank="energy": share of Σσ² that the k directions hold')
        penalty: float = Field(0.01, ge=0, description='rank="spectrum": price of a direction, relative to Σσ²')

    spaces = named(
        default={"strength": Range(0.1, 1.0), "rank": Range(1, 32, log=True, whole=True)},
        paper={"strength": Choice((0.3, 0.5, 0.7, 0.9)), "rank": Choice((2, 4, 8, 16, 20))},
    )

    cfg: Config

    def setup(self, offer: Offer) -> None:
        if self.cfg.strength == 0:
            return
        if len(offer.widths) < 2:
            found = ", ".join(offer.widths) or "none"
            raise PrismError(
                f"clear needs at least two projected modalities; {offer.model} projects {found} here. "
                "Use data with two or more modalities, or leave clear out."
            )
        if isinstance(self.cfg.rank, int) and not 1 <= self.cfg.rank <= min(offer.widths.values()):
            raise PrismError(
                f"clear.rank is {self.cfg.rank}; it must lie between 1 and the width of the projected features, "
                f"{min(offer.widths.values())}."
            )
        self.present = dict(offer.present)
        for m, width in offer.widths.items():
            columns = self.cfg.rank if isinstance(self.cfg.rank, int) else width
            self.register_buffer(f"basis_{m}", torch.zeros(width, columns))
            self.register_buffer(f"mean_{m}", torch.zeros(width))

    def needs_features(self, epoch: int) -> bool:
        return self.cfg.strength > 0 and epoch % self.cfg.interval == 0

    def start_epoch(self, epoch: int, feats: Feats, rng: torch.Generator) -> None:
        if not self.needs_features(epoch):
            return
        values = {m: rows.values for m, rows in feats.items()}
        for m, basis in redundant_directions(values, self.present, self.cfg).items():
            self.get_buffer(f"basis_{m}").copy_(basis)
            self.get_buffer(f"mean_{m}").copy_(_mean(values[m], self.present[m]))

    def encode(self, feats: Feats, batch: Batch | None) -> tuple[Feats, Terms]:
        if self.cfg.strength == 0:
            return feats, {}
        return {m: self._damp(m, rows) for m, rows in feats.items()}, {}

    def _damp(self, m: str, rows: Rows) -> Rows:
        basis = self.get_buffer(f"basis_{m}")
        if self.cfg.center:
            rows = rows.plus(-self.get_buffer(f"mean_{m}"))
        # I − λUUᵀ as a matrix: in training it goes into the weight of the model's own projection, a product of d rows, not n
        identity = torch.eye(len(basis), dtype=basis.dtype, device=basis.device)
        with torch.autocast(basis.device.type, enabled=False):
            return rows.times(torch.addmm(identity, basis, basis.T, alpha=-self.cfg.strength))


def redundant_directions(values: dict[str, Tensor], present: dict[str, Tensor], cfg: CLEAR.Config) -> dict[str, Tensor]:
    """Modality → orthonormal basis (d_m, k) of the directions that co-vary most with the other modalities.

    ``values``: modality → (I, d_m). Where a rule picks k, unused columns are zero, so that shapes stay.
    """
    bases = {}
    for m, (u, s) in spectra(values, present).items():
        columns = cfg.rank if isinstance(cfg.rank, int) else len(u)
        keep = min(_rank(s, cfg), int((s > 1e-6 * s[0]).sum()))
        basis = u.new_zeros(len(u), columns)
        basis[:, :keep] = u[:, :keep]
        bases[m] = basis
    return bases


def spectra(values: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Modality → left singular vectors (d_m, r) and singular values (r,) of its cross-covariances with all others side by side.

    ``values``: modality → (I, d_m); ``present``: modality → (I,) bool. For two modalities both have the same values.
    """
    found = {}
    for m, mine in values.items():
        blocks = [_cross_covariance(mine, other, present[m] & present[o]) for o, other in values.items() if o != m]
        u, s, _ = torch.linalg.svd(torch.cat(blocks, dim=1), full_matrices=False)
        found[m] = u, s
    return found


def _cross_covariance(a: Tensor, b: Tensor, both: Tensor) -> Tensor:
    """V̄ᵀ T̄ / n over the items that have both modalities, (d_a, d_b); zeros where none has."""
    if not both.all():
        a, b = a[both], b[both]
    return (a - a.mean(0)).T @ (b - b.mean(0)) / max(len(a), 1)


def _mean(values: Tensor, present: Tensor) -> Tensor:
    """The mean (d_m,) over the items that have the modality; over the stand-ins where none has."""
    return values[present].mean(0) if present.any() else values.mean(0)


def _rank(s: Tensor, cfg: CLEAR.Config) -> int:
    """k: as given; the least k that holds ``share`` of Σσ²; or the k that minimises Σ_{i>k} σ² + penalty·k·Σσ² (eq. 13)."""
    if isinstance(cfg.rank, int):
        return cfg.rank
    return energy_rank(s, cfg.share) if cfg.rank == "energy" else spectrum_rank(s, cfg.penalty)


def energy_rank(s: Tensor, share: float) -> int:
    """The least k whose σ² hold ``share`` in (0, 1] of Σσ²; ``s`` (r,) falls."""
    energy = s.square()
    return min(int((energy.cumsum(0) < share * energy.sum()).sum()) + 1, len(s))


def spectrum_rank(s: Tensor, penalty: float) -> int:
    """k* = argmin_k Σ_{i>k} σ_i² + penalty · k · Σσ² (the paper's eq. 13, its price taken relative to Σσ²); ``s`` (r,)."""
    energy = s.square()
    tail = energy.sum() - torch.cat([energy.new_zeros(1), energy.cumsum(0)])
    price = penalty * energy.sum() * torch.arange(len(tail), device=s.device)
    return int((tail + price).argmin())
