"""The codes of a batch's items in each pair of modalities: what alignment and decorrelation compare."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from prismrec.errors import PrismError
from prismrec.plugins.base import Offer
from prismrec.types import Batch, Feats, Reps, take

Codes = Literal["sides", "features"]
"""What stands for an item in a modality: the item side that the model states for it, or its projected features."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of modalities of which an item may have both; ``present``: modality → who has it, (I,) bool; None: all."""

    codes: Codes
    present: Mapping[str, Tensor | None]

    @staticmethod
    def offered(plugin: str, offer: Offer, codes: Codes, same_width: bool) -> Pairs:
        """What ``plugin`` finds in a model; a PrismError where there is no pair, or widths differ that must not."""
        widths = offer.widths if codes == "features" else {m: item for m, (_, item) in offer.sides.items()}
        verb = "projects" if codes == "features" else "states sides for"
        if len(widths) < 2:
            raise PrismError(
                f"{plugin} needs at least two modalities; {offer.model} {verb} {', '.join(widths) or 'none'} here. "
                f"Use a model and data with two or more, or leave {plugin} out."
            )
        if same_width and len(set(widths.values())) > 1:
            found = ", ".join(f"{m} {width}" for m, width in widths.items())
            raise PrismError(
                f"{plugin} compares codes of one width; those of {offer.model} are {found} wide. "
                f"Set {plugin}.codes to the other of sides and features, or leave {plugin} out."
            )
        return Pairs(codes, {m: None if offer.present[m].all() else offer.present[m] for m in widths})

    def mean(self, measure: Callable[[Tensor, Tensor], Tensor], reps: Reps, feats: Feats, batch: Batch) -> Tensor:
        """Mean over pairs of ``measure`` of the codes (n, d_a), (n, d_b) of the distinct positive items that have both."""
        items = batch.positives_once
        table = feats if self.codes == "features" else {m: rows for m, (_, rows) in reps.modal.items()}
        values = {m: table[m].at(items) for m in self.present}
        parts = []
        for a, b in itertools.combinations(self.present, 2):
            masks = [present[items] for present in (self.present[a], self.present[b]) if present is not None]
            if not masks:
                parts.append(measure(values[a], values[b]))
                continue
            both = functools.reduce(torch.logical_and, masks).nonzero().squeeze(1)
            parts.append(measure(take(values[a], both), take(values[b], both)))
        total: Tensor = functools.reduce(torch.add, parts)
        return total / len(parts)
