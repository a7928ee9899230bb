"""What a plug-in is: a module on the arrows between features, representations and loss. It names no model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from prismrec.models.base import Paper, Strict
from prismrec.space import Space, named
from prismrec.types import Batch, Feats, Reps, Terms


@dataclass(frozen=True)
class Offer:
    """What a model offers its plug-ins.

    ``widths``: modality → width of its projected features; ``present``: modality → which items have it, (I,) bool;
    ``sides``: modality → widths of the user and item side that the model states for it; ``fused``: those of the fused one.
    """

    model: str
    n_users: int
    n_items: int
    widths: Mapping[str, int]
    present: Mapping[str, Tensor]
    sides: Mapping[str, tuple[int, int]]
    fused: tuple[int, int]


class Plugin(nn.Module, ABC):
    """Acts on features (``encode``) or on loss terms (``loss``), or both.

    With all its weights at 0 a plug-in is the identity: no parameters, no random numbers, bit-equal training.
    ``spaces``: what a search may try of its own settings, by name.
    """

    name: ClassVar[str]
    paper: ClassVar[Paper]
    Config: ClassVar[type[Strict]]
    spaces: ClassVar[Mapping[str, Space]] = named()
    parts: ClassVar[tuple[str, ...]] = ()

    cfg: Strict

    def __init__(self, cfg: Strict) -> None:
        super().__init__()
        self.cfg = cfg

    @property
    def n_neg(self) -> int:
        """Negatives per row that ``loss`` reads."""
        return 0

    @property
    def n_candidates(self) -> int:
        """Negatives per row that ``pick`` chooses among; 0: it picks none."""
        return 0

    @property
    def n_fresh(self) -> int:
        """How many of the negatives it reads or chooses among must be drawn for the row itself.

        The others may be first negatives of the batch's other rows, whose features are in the step anyway.
        """
        return max(self.n_neg, self.n_candidates)

    @abstractmethod
    def setup(self, offer: Offer) -> None:
        """Make buffers and parameters for what the model offers, or raise a PrismError that says what is missing."""

    def needs_features(self, epoch: int) -> bool:
        """Whether ``start_epoch`` wants the features of all items in epoch ``epoch`` (from 0) at all."""
        return False

    def start_epoch(self, epoch: int, feats: Feats, rng: torch.Generator) -> None:
        """Before epoch ``epoch`` (from 0): features of all items after the earlier plug-ins, noise off, no gradients."""

    def pick(self, batch: Batch, frozen: Callable[[], Reps]) -> Tensor:
        """Before features are projected: ids (B, k) of negatives that ``loss`` will find in ``batch.picks``.

        ``batch.neg`` holds at least ``n_candidates`` columns. ``frozen()`` gives the representations of everybody as they
        are now, noise off and without gradients: a projection of all items, so ask rarely. Detach what you keep: a table
        may be the parameter itself. Asked only of a plug-in whose ``n_candidates`` is above 0.
        """
        raise NotImplementedError(f"{self.name} asks for candidates and does not say which it picks.")

    def encode(self, feats: Feats, batch: Batch | None) -> tuple[Feats, Terms]:
        """Features → features of the same shapes, and the cost of that. ``batch`` is None outside training."""
        return feats, {}

    def loss(self, terms: Terms, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        """Loss terms with this plug-in's own added (prefixed with its name), or with ``rank`` replaced."""
        return terms

    def report(self) -> dict[str, float]:
        """At the end of an epoch: numbers that changed by themselves, for the run's log (weights that set themselves)."""
        return {}
