"""Small modules that models share: feature projections and embedding tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prismrec.types import Feats, ItemIds, Rows

_BLOCK = 65536  # rows projected at a time when all items are asked for: bounds the copy of half-precision features


@dataclass(frozen=True)
class Raw:
    """Raw features of a modality as tensors: ``values`` (I, r), any float type, and ``present`` (I,) bool."""

    values: Tensor
    present: Tensor

    @property
    def width(self) -> int:
        """r."""
        return int(self.values.shape[1])

    @cached_property
    def complete(self) -> bool:
        """Whether every item has the modality: asked once, so that no step waits for a device to say so."""
        return bool(self.present.all())

    def mean(self) -> Tensor:
        """The mean (r,) of the rows that are present; zeros where none is. In blocks: features may be memory-mapped."""
        total = torch.zeros(self.width, device=self.values.device)
        for values, present in zip(self.values.split(_BLOCK), self.present.split(_BLOCK), strict=True):
            total += torch.where(present[:, None], values.float(), 0.0).sum(0)
        return total / self.present.sum().clamp(min=1)


class Projector(nn.Module):
    """φ_m: raw features (n, r) → (n, d) through ``net``; an item without the modality stands in with the mean present row.

    ``trainable``: the raw table itself becomes a parameter that starts at the features, as in the code behind the published
    tables (``freeze=False``). Then new items cannot be projected, and the optimizer moves I·r more numbers a step.
    """

    stand_in: Tensor

    def __init__(self, raw: Raw, net: nn.Module, trainable: bool = False) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("stand_in", raw.mean())
        self.table: nn.Parameter | None = None
        if trainable:
            self.table = nn.Parameter(torch.where(raw.present[:, None], raw.values.float(), self.stand_in))

    def forward(self, raw: Raw, index: ItemIds | None) -> Tensor:
        """Features of the items of ``index`` (n, d), or of all (I, d)."""
        if self.table is not None:
            out: Tensor = self.net(self.table if index is None else F.embedding(index.ids, self.table))
            return out
        if index is not None:
            present = None if raw.complete else raw.present[index.ids]
            return self._project(raw.values.index_select(0, index.ids), present)
        masks = [None] * -(-len(raw.values) // _BLOCK) if raw.complete else raw.present.split(_BLOCK)
        return torch.cat([self._project(*part) for part in zip(raw.values.split(_BLOCK), masks, strict=True)])

    def _project(self, values: Tensor, present: Tensor | None) -> Tensor:
        values = values.to(self.stand_in.dtype)
        if present is not None:
            values = torch.where(present[:, None], values, self.stand_in)
        out: Tensor = self.net(values)
        return out


class Projections(nn.ModuleDict):
    """One φ_m for each modality, as a dictionary."""

    def project(self, raw: Mapping[str, Raw], index: ItemIds | None) -> Feats:
        """Projected features of every modality that has a φ."""
        return {m: Rows(phi(raw[m], index), index) for m, phi in self.items()}


def xavier_table(rows: int, width: int) -> nn.Parameter:
    """A trainable table (rows, width), Xavier uniform: bound √(6 / (rows + width))."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(rows, width)))
