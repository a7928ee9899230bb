"""Small modules that models share: feature projections and embedding tables."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prismrec import graphs, losses
from prismrec.types import Feats, ItemIds, Rows, take

_BLOCK = 65536  # rows projected at a time when all items are asked for: bounds the copy of half-precision features
_PARTS = 16  # of a product of a batch's raw rows


@dataclass(frozen=True)
class Raw:
    """Raw features of a modality as tensors: ``values`` (I, r), any float type, and ``present`` (I,) bool.

    ``learned``: what stands in for an item that lacks the modality is learnt; else it is the mean of those that are there.
    """

    values: Tensor
    present: Tensor
    learned: bool = False

    @property
    def width(self) -> int:
        """r."""
        return int(self.values.shape[1])

    @cached_property
    def complete(self) -> bool:
        """Whether every item has the modality: asked once, so that no step waits for a device to say so."""
        return bool(self.present.all())

    @cached_property
    def lengths(self) -> Tensor:
        """‖x_i‖ of all rows, (I,) in single precision: asked once."""
        return torch.cat([torch.linalg.vector_norm(part.float(), dim=1) for part in self.values.split(_BLOCK)])

    def mean(self) -> Tensor:
        """The mean (r,) of the rows that are present; zeros where none is. In blocks: features may be memory-mapped."""
        total = torch.zeros(self.width, device=self.values.device)
        for values, present in zip(self.values.split(_BLOCK), self.present.split(_BLOCK), strict=True):
            total += torch.where(present[:, None], values.float(), 0.0).sum(0)
        return total / self.present.sum().clamp(min=1)


class Dropout(nn.Module):
    """``graphs.dropout`` as a layer."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return graphs.dropout(x, self.share, self.training)


class PReLU(nn.PReLU):
    """max(x, 0) + a min(x, 0) with one learnt a: PyTorch's own, whose gradient takes four times as long on a CPU."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(input)
        out: Tensor = _Prelu.apply(input, self.weight)  # type: ignore[no-untyped-call]
        return out


class _Prelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.slope = slope.item()
        ctx.save_for_backward(x)
        return F.leaky_relu(x, ctx.slope)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (x,) = ctx.saved_tensors
        of_x = torch.ops.aten.leaky_relu_backward(grads[0], x, ctx.slope, False)
        return of_x, x.clamp(max=0).mul_(grads[0]).sum().view(1)


class Projector(nn.Module):
    """φ_m: raw features (n, r) → (n, d) through ``net``; an item without the modality stands in with the mean present row,
    or, where ``raw.learned``, with one row for all such items that starts there and is learnt.

    ``trainable``: the raw table itself becomes a parameter that starts at the features, as in the code behind the published
    tables (``freeze=False``). Then the optimizer moves I·r more numbers a step, and new items are projected as they start.
    """

    stand_in: Tensor

    def __init__(self, raw: Raw, net: nn.Module, trainable: bool = False) -> None:
        super().__init__()
        self.net = net
        self.scratch = _Scratch()
        self.learned = (
            raw.learned and not raw.complete and not trainable
        )  # a table of its own has a row for each of them
        if self.learned:
            self.stand_in = nn.Parameter(raw.mean())
        else:
            self.register_buffer("stand_in", raw.mean())
        self.table: nn.Parameter | None = None
        if trainable:
            self.table = nn.Parameter(torch.where(raw.present[:, None], raw.values.float(), self.stand_in))

    def forward(self, raw: Raw, index: ItemIds | None, matrix: Tensor | None = None) -> Tensor:
        """Features of the items of ``index`` (n, d), or of all (I, d); times ``matrix`` (d, d') if given one."""
        net = self._times(matrix)
        if self.table is not None:
            return net(self.table if index is None else take(self.table, index.ids))
        if index is not None:
            ids = index.ids
            if isinstance(net, _Linear) and self._by_parts(raw.values):
                return net.product(lambda: self.scratch.rows(raw, ids, self.stand_in))
            return self._project(net, raw.values.index_select(0, ids), None if raw.complete else raw.present[ids])
        masks = [None] * -(-len(raw.values) // _BLOCK) if raw.complete else raw.present.split(_BLOCK)
        return torch.cat([self._project(net, *part) for part in zip(raw.values.split(_BLOCK), masks, strict=True)])

    def _project(self, net: Callable[[Tensor], Tensor], values: Tensor, present: Tensor | None) -> Tensor:
        values = values.to(self.stand_in.dtype)
        if present is not None:
            values = torch.where(present[:, None], values, self.stand_in)
        if isinstance(net, _Linear) and self._by_parts(values):
            return net.product(lambda: values)
        return net(values)

    def _by_parts(self, values: Tensor) -> bool:
        """Whether ``_Product`` serves: on the CPU, in single precision, not compiled, without a gradient of ``stand_in``."""
        if torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
            return False
        return values.device.type == "cpu" and not self.learned

    def _times(self, matrix: Tensor | None) -> Callable[[Tensor], Tensor]:
        """``net`` times ``matrix``, which goes into the weight of the last layer if that is linear."""
        *layers, last = self.net if type(self.net) is nn.Sequential else [self.net]
        if type(last) is not nn.Linear:
            return self.net if matrix is None else lambda x: self.net(x) @ matrix
        linear = _Linear(last.weight, last.bias) if matrix is None else _Linear(last.weight, last.bias).times(matrix)
        return (lambda x: linear(functools.reduce(lambda h, layer: layer(h), layers, x))) if layers else linear


class UnitProjector(nn.Module):
    """φ_m(x) = W x/‖x‖ + b: raw rows at unit length, which are never made: what W gives is divided. A row of zeros gives b."""

    def __init__(self, raw: Raw, width: int) -> None:
        super().__init__()
        bound = raw.width**-0.5  # as nn.Linear starts
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))
        self.plain = Projector(raw, nn.Linear(raw.width, width, bias=False))

    def forward(self, raw: Raw, index: ItemIds | None, matrix: Tensor | None = None) -> Tensor:
        """Features of the items of ``index`` (n, d), or of all (I, d); times ``matrix`` (d, d') if given one."""
        length = raw.lengths
        if not raw.complete:
            length = torch.where(raw.present, length, torch.linalg.vector_norm(self.plain.stand_in))
        if index is not None:
            length = length[index.ids]
        scale = torch.where(length > 0, length, 1.0).reciprocal().unsqueeze(1)
        bias = self.bias if matrix is None else self.bias @ matrix
        return torch.addcmul(bias, self.plain(raw, index, matrix), scale)


class _Scratch:
    """Memory for a batch's raw rows, kept between steps: fresh memory of that size costs more than the rows that fill it."""

    def __init__(self) -> None:
        self.memory: Tensor | None = None
        self.held: tuple[Raw, Tensor] | None = None  # whose rows are in it

    def __deepcopy__(self, memo: dict[int, Any]) -> _Scratch:
        return _Scratch()

    def rows(self, raw: Raw, ids: Tensor, stand_in: Tensor) -> Tensor:
        """Raw rows of ``ids`` (n,), ``stand_in`` (r,) where an item has none → (n, r), good until other rows are asked for."""
        if self.memory is None or len(self.memory) < len(ids) or self.memory.dtype != stand_in.dtype:
            self.memory, self.held = stand_in.new_empty(len(ids) * 9 // 8, raw.width), None
        rows = self.memory[: len(ids)]
        if self.held is not None and self.held[0] is raw and self.held[1] is ids:
            return rows
        if raw.values.dtype == rows.dtype:
            torch.index_select(raw.values, 0, ids, out=rows)
        else:
            rows.copy_(raw.values.index_select(0, ids))
        if not raw.complete:
            rows[~raw.present[ids]] = stand_in
        self.held = raw, ids
        return rows


@dataclass(frozen=True)
class _Linear:
    """x ↦ x Wᵀ + b."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def product(self, rows: Callable[[], Tensor]) -> Tensor:
        """Of raw rows that take no gradient, on a CPU; ``rows`` is asked again when the gradient is due."""
        out: Tensor = _Product.apply(rows, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return out

    def times(self, matrix: Tensor) -> _Linear:
        """(x Wᵀ + b) M as x (MᵀW)ᵀ + bM: a product with the d rows of W in place of one with the n rows of xWᵀ."""
        with torch.autocast(matrix.device.type, enabled=False):
            return _Linear(matrix.T @ self.weight, None if self.bias is None else self.bias @ matrix)


class _Product(torch.autograd.Function):
    """x Wᵀ + b, cut into parts that run side by side.

    For n × 4096 × 64 the library's own way to share one product among four cores takes twice as long, and its bits depend on
    how many they are.
    """

    @staticmethod
    def forward(ctx: Any, rows: Callable[[], Tensor], weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.rows = rows
        x = rows()
        out = x.new_empty(len(x), len(weight))
        even = len(x) - len(x) % _PARTS
        with torch.autocast("cpu", enabled=False):
            if even:
                parts = x[:even].reshape(_PARTS, -1, x.shape[1])
                torch.bmm(parts, weight.T.expand(_PARTS, -1, -1), out=out[:even].view(_PARTS, -1, len(weight)))
            torch.mm(x[even:], weight.T, out=out[even:])
        return out if bias is None else out.add_(bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, Tensor | None]:
        (grad,) = grads
        x = ctx.rows()
        width = x.shape[1]
        # a part of 8 columns takes nine times as long as one of 32
        parts = next(
            parts for parts in (_PARTS, 8, 4, 2, 1) if width % parts == 0 and (width >= 32 * parts or parts == 1)
        )
        columns = x.reshape(len(x), parts, width // parts).transpose(0, 1)
        weight = torch.bmm(grad.T.expand(parts, -1, -1), columns)  # (parts, d, r / parts)
        return None, weight.transpose(0, 1).reshape(-1, width), grad.sum(0) if ctx.needs_input_grad[2] else None


class Projections(nn.ModuleDict):
    """One φ_m for each modality, as a dictionary."""

    def project(self, raw: Mapping[str, Raw], index: ItemIds | None) -> Feats:
        """Projected features of every modality that has a φ.

        In training they are made when they are first read, so that a matrix that comes first (``Rows.times``) goes into φ's
        last layer, and what nobody reads is not made.
        """
        makers = {m: functools.partial(phi, raw[m], index) for m, phi in self.items()}
        return {m: Rows(make if torch.is_grad_enabled() else make(), index) for m, make in makers.items()}


def xavier_table(rows: int, width: int) -> nn.Parameter:
    """A trainable table (rows, width), Xavier uniform: bound √(6 / (rows + width))."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(rows, width)))


def normal_table(rows: int, width: int) -> nn.Parameter:
    """A trainable table (rows, width), Xavier normal: standard deviation √(2 / (rows + width))."""
    return nn.Parameter(nn.init.xavier_normal_(torch.empty(rows, width)))


def modality_weights(rows: int, views: int) -> nn.Parameter:
    """A user's or item's weights of several views, (rows, views): they start as a softmax and are free afterwards."""
    return nn.Parameter(normal_table(rows, views).detach().softmax(1))


def side_by_side(views: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
    """M views (n, d) → (n, M·d), each times its column of ``weights`` (n, M) if given: scores of the views add up."""
    joined = torch.cat(list(views), dim=1)
    if weights is None:
        return joined
    n, m = weights.shape
    return (joined.view(n, m, -1) * weights.unsqueeze(2)).view(n, -1)


def perceptron(width: int, hidden: int, out: int) -> nn.Sequential:
    """φ of DualGNN and its descendants: (n, width) → (n, out) with one hidden layer and LeakyReLU."""
    return nn.Sequential(nn.Linear(width, hidden), nn.LeakyReLU(), nn.Linear(hidden, out))


class Preferences(nn.ParameterDict):
    """What users are drawn to in each modality, P_m (U, d), and how that travels with the items' features f_m (I, d).

    The encoder of DualGNN and its descendants: H_m = Σ_l Â^l [P_m ; f_m], with rows of unit length at the start.
    """

    def __init__(self, n_users: int, width: int, modalities: Iterable[str]) -> None:
        super().__init__({m: normal_table(n_users, width) for m in modalities})

    def start(self, feats: Feats) -> dict[str, tuple[Tensor, Tensor]]:
        """Modality → P_m (U, d) and f_m (I, d) in rows of unit length."""
        return {m: (losses.unit(self[m]), losses.unit(rows.values)) for m, rows in feats.items()}

    def travel(self, graph: graphs.Bipartite, layers: int, feats: Feats) -> dict[str, tuple[Tensor, Rows]]:
        """Modality → H_m of users (U, d) and of items, of all of them."""
        out = {}
        for m, start in self.start(feats).items():
            user, item = graphs.propagate_sum(graph, layers, *start)
            out[m] = user, feats[m].with_values(item)
        return out

    def size(self, user: Tensor) -> Tensor:
        """Σ_m mean of P_m[u]² over users (B,) and entries."""
        return losses.total(take(table, user).square().mean() for table in self.values())


class Attention(nn.Module):
    """Several views of the same nodes → their weighted sum, with weights softmax over views of q₂ᵀ tanh(Q₁ x + b).

    One query serves all views. A single view has weight 1 and needs no query: then there are no parameters.
    """

    def __init__(self, width: int, views: int) -> None:
        super().__init__()
        self.query: nn.Module | None = None
        if views > 1:
            self.query = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1, bias=False))

    def weights(self, views: Sequence[Tensor]) -> Tensor:
        """Weights of M views (n, d) → (n, M), rows of sum 1."""
        if self.query is None:
            return views[0].new_ones(len(views[0]), 1)
        return torch.cat([self.query(view) for view in views], dim=1).softmax(dim=1)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Σ_m a_m x_m of M views (n, d) → (n, d)."""
        weights = self.weights(views).split(1, dim=1)
        total: Tensor = functools.reduce(torch.add, (a * view for a, view in zip(weights, views, strict=True)))
        return total
