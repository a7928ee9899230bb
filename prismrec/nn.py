"""Small modules that models share: feature projections and embedding tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from prismrec.types import Feats, ItemIds, Rows, take

_BLOCK = 65536  # rows projected at a time when all items are asked for: bounds the copy of half-precision features
_PARTS = 16  # of a product of a batch's raw rows


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
        self.scratch = _Scratch()
        self.register_buffer("stand_in", raw.mean())
        self.table: nn.Parameter | None = None
        if trainable:
            self.table = nn.Parameter(torch.where(raw.present[:, None], raw.values.float(), self.stand_in))

    def forward(self, raw: Raw, index: ItemIds | None) -> Tensor:
        """Features of the items of ``index`` (n, d), or of all (I, d)."""
        if self.table is not None:
            out: Tensor = self.net(self.table if index is None else take(self.table, index.ids))
            return out
        if index is not None:
            if type(self.net) is nn.Linear and not raw.values.is_cuda:
                return _gathered(self.scratch, raw, index.ids, self.stand_in, self.net)
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


class _Scratch:
    """Memory for a batch's raw rows, kept between steps: fresh memory of that size costs more than the rows that fill it."""

    def __init__(self) -> None:
        self.rows: Tensor | None = None
        self.fills = 0  # how often ``fill`` was called: shows whether the rows are still those of a certain call

    def __deepcopy__(self, memo: dict[int, Any]) -> _Scratch:
        return _Scratch()

    def fill(self, raw: Raw, ids: Tensor, stand_in: Tensor) -> Tensor:
        """Raw rows of ``ids`` (n,), ``stand_in`` (r,) where an item has none → float (n', r) with n' ≥ n a multiple of 16."""
        needed = -(-len(ids) // _PARTS) * _PARTS
        if self.rows is None or len(self.rows) < needed or self.rows.dtype != stand_in.dtype:
            self.rows = stand_in.new_zeros(-(-needed * 9 // (8 * _PARTS)) * _PARTS, raw.width)
        self.fills += 1
        rows = self.rows[: len(ids)]
        if raw.values.dtype == rows.dtype:
            torch.index_select(raw.values, 0, ids, out=rows)
        else:
            rows.copy_(raw.values.index_select(0, ids))
        if not raw.complete:
            rows[~raw.present[ids]] = stand_in
        return self.rows[:needed]


class _Gathered(torch.autograd.Function):
    """x[ids] Wᵀ + b on a CPU, for raw rows that take no gradient.

    Both products are cut into 16 parts that run side by side: for these shapes, a library's own way to share one product of
    width d among cores takes up to twice as long.
    """

    @staticmethod
    def forward(
        ctx: Any, scratch: _Scratch, raw: Raw, ids: Tensor, stand_in: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            rows = scratch.fill(raw, ids, stand_in)
            parts = rows.view(_PARTS, -1, rows.shape[1])
            out = torch.bmm(parts, weight.T.expand(_PARTS, -1, -1)).view(len(rows), -1)[: len(ids)]
            if bias is not None:
                out += bias
        ctx.scratch, ctx.raw, ctx.fills = scratch, raw, scratch.fills
        ctx.save_for_backward(ids, stand_in)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        ids, stand_in = ctx.saved_tensors
        again = ctx.fills != ctx.scratch.fills  # somebody projected other rows meanwhile
        rows = ctx.scratch.fill(ctx.raw, ids, stand_in) if again else ctx.scratch.rows
        rows = rows[: len(ids)]
        width = rows.shape[1]
        parts = _PARTS if width % _PARTS == 0 else 1
        columns = rows.view(len(ids), parts, width // parts).transpose(0, 1)
        product = torch.bmm(grad.T.expand(parts, -1, -1), columns)  # (parts, d, r / parts)
        weight = product.transpose(0, 1).reshape(-1, width)
        return None, None, None, None, weight, grad.sum(0) if ctx.needs_input_grad[5] else None


def _gathered(scratch: _Scratch, raw: Raw, ids: Tensor, stand_in: Tensor, net: nn.Linear) -> Tensor:
    arguments = (scratch, raw, ids, stand_in, net.weight, net.bias)
    out: Tensor = _Gathered.apply(*arguments)  # type: ignore[no-untyped-call]
    return out


class Projections(nn.ModuleDict):
    """One φ_m for each modality, as a dictionary."""

    def project(self, raw: Mapping[str, Raw], index: ItemIds | None) -> Feats:
        """Projected features of every modality that has a φ."""
        return {m: Rows(phi(raw[m], index), index) for m, phi in self.items()}


def xavier_table(rows: int, width: int) -> nn.Parameter:
    """A trainable table (rows, width), Xavier uniform: bound √(6 / (rows + width))."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(rows, width)))
