"""Item–item graphs that learn: who is near whom is chosen without gradient, how near they are has one.

Of a row of cosines the k largest are kept; all others are constants, 0. So the gradient of the whole matrix of cosines is that
of the kept ones, and I × I numbers are never there.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from prismrec.graphs.csr import Csr, indptr, inner_products
from prismrec.graphs.items import ItemGraph, Scaling, grown, knn, similarity_matrix
from prismrec.types import Feats


@dataclass(frozen=True)
class Neighbours:
    """Where the entries of a graph stand: ``ids`` (I, k), each item its own first one; ``kept`` (I, k) bool: those that count.

    ``order`` (I·k,) sorts the entries by column; ``starts`` (I+1,): where each column begins.
    """

    ids: Tensor
    kept: Tensor
    order: Tensor
    starts: Tensor

    @staticmethod
    @torch.no_grad()
    def of(x: Tensor, present: Tensor, k: int, known: int | None = None) -> Neighbours:
        """The k nearest rows of ``x`` (I, d) by cosine; one that is not ``present`` (I,) bool, or is zero, has only itself.

        Items from number ``known`` on are new: they have neighbours, and are nobody else's.
        """
        find = functools.partial(knn, memory=16 << 20)  # blocks that stay near the processor
        near, _ = grown(find, x.detach(), present, k, len(x) if known is None else known)
        own = torch.arange(len(near), device=near.device).unsqueeze(1)
        ids = torch.where(near < 0, own, near)
        kept = near >= 0
        kept[:, 0] = True
        flat = ids.reshape(-1)
        return Neighbours(ids, kept, torch.argsort(flat, stable=True), indptr(flat, len(ids)))

    def cosines(self, x: Tensor) -> Tensor:
        """Cosines of the rows of ``x`` (I, d) with their neighbours' → (I, k): 1 with themselves, and 0 where negative."""
        near: Tensor = _Cosines.apply(self, x)  # type: ignore[no-untyped-call]
        own = torch.arange(near.shape[1], device=near.device) == 0
        return torch.where(own, 1.0, torch.where(self.kept, near, 0.0).clamp(min=0))

    def times(self, weights: Tensor, x: Tensor) -> Tensor:
        """The graph with the entries ``weights`` (I, k) times ``x`` (I, d) → (I, d), with both gradients."""
        out: Tensor = _Times.apply(self, weights, x)  # type: ignore[no-untyped-call]
        return out

    def matrix(self, weights: Tensor) -> Csr:
        """The graph with the entries ``weights`` (I, k)."""
        n, k = self.ids.shape
        starts = torch.arange(0, n * k + 1, k, device=self.ids.device)
        return Csr(starts, self.ids.reshape(-1), weights.detach().reshape(-1), n)

    def transposed(self, weights: Tensor) -> Csr:
        """The transpose of ``matrix``, which nothing is sorted for again."""
        n, k = self.ids.shape
        return Csr(self.starts, self.order // k, weights.detach().reshape(-1)[self.order], n)


class _Cosines(torch.autograd.Function):
    """⟨x̂_i, x̂_j⟩ at the places of neighbours. With A the gradient's matrix, that of x̂ is (A + Aᵀ) x̂."""

    @staticmethod
    def forward(ctx: Any, near: Neighbours, x: Tensor) -> Tensor:
        x = x.float()
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        scale = norm.masked_fill_(norm == 0, 1.0).reciprocal_()
        rows = x * scale
        ctx.near = near
        ctx.save_for_backward(rows, scale)
        return inner_products(rows, rows, near.ids)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        rows, scale = ctx.saved_tensors
        grad = ctx.near.matrix(grads[0]).times(rows).add_(ctx.near.transposed(grads[0]).times(rows))
        along = (grad * rows).sum(1, keepdim=True).neg_()
        return None, torch.addcmul(grad, rows, along).mul_(scale)


class _Times(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, near: Neighbours, weights: Tensor, x: Tensor) -> Tensor:
        ctx.near = near
        ctx.save_for_backward(weights, x)
        return near.matrix(weights).times(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        weights, x = ctx.saved_tensors
        of_weights = inner_products(grads[0], x, ctx.near.ids) if ctx.needs_input_grad[1] else None
        of_x = ctx.near.transposed(weights).times(grads[0].contiguous()) if ctx.needs_input_grad[2] else None
        return None, of_weights, of_x


@dataclass(frozen=True)
class Learned:
    """A learned graph S of one modality, entries ``weights`` (I, k), and the ``share`` it has where several are added up."""

    near: Neighbours
    weights: Tensor
    share: Tensor | float = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        """S x, (I, d) → (I, d)."""
        return self.near.times(self.weights, x)

    def alone(self) -> Learned:
        """The same graph, to be used by itself."""
        return replace(self, share=1.0)

    def detached(self) -> Learned:
        """The same numbers without gradients."""
        share = self.share if isinstance(self.share, float) else self.share.detach()
        return Learned(self.near, self.weights.detach(), share)


class LearnedGraphs(nn.Module):
    """For each modality a graph of the nearest items by its projected features, beside the frozen one of its raw features.

    Neighbours are chosen once an epoch, in its first batch, and whenever representations are asked for outside training.
    ``every``: cosines have gradients in all batches; else, as in the code of LATTICE and MICRO, in an epoch's first one, whose
    graphs then stay for the epoch.
    """

    def __init__(
        self,
        near: Mapping[str, tuple[Tensor, Tensor]],
        present: Mapping[str, Tensor],
        k: int,
        blend: float,
        every: bool,
        scaling: Scaling = "symmetric",
        weighed: bool = False,
        known: int | None = None,
    ) -> None:
        """``near``: modality → what ``knn`` says of its raw features, for graphs of weight λ = ``blend`` that do not learn.

        ``present``: modality → (I,) bool. ``weighed``: the modalities' shares are a softmax of numbers that learn; else each
        share is 1. ``known``: as for ``Neighbours.of``.
        """
        super().__init__()
        self.k, self.blend, self.every, self.scaling, self.known = k, blend, every, scaling, known
        self.frozen = nn.ModuleDict({m: ItemGraph(similarity_matrix(*lists, scaling)) for m, lists in near.items()})
        for m, there in present.items():
            self.register_buffer(f"present_{m}", there, persistent=False)
        self.weight = nn.Parameter(torch.full((len(near),), 0.5)) if weighed and len(near) > 1 else None
        self.near: dict[str, Neighbours] | None = None
        self.held: dict[str, Learned] | None = None

    def restart(self) -> None:
        """An epoch begins: neighbours are chosen again when they are next needed."""
        self.near = self.held = None

    def forward(self, feats: Feats) -> dict[str, Learned]:
        """The learned graph of each modality, before it is scaled."""
        if not self.training:
            return self._learned(feats, self._chosen(feats))
        if self.held is not None:
            return self.held
        if self.near is None:
            self.near = self._chosen(feats)
        found = self._learned(feats, self.near)
        if not self.every:
            self.held = {m: graph.detached() for m, graph in found.items()}
        return found

    def _chosen(self, feats: Feats) -> dict[str, Neighbours]:
        return {
            m: Neighbours.of(feats[m].values, self.get_buffer(f"present_{m}"), self.k, self.known) for m in self.frozen
        }

    def _learned(self, feats: Feats, near: Mapping[str, Neighbours]) -> dict[str, Learned]:
        shares: list[Tensor | float] = [1.0] * len(near)
        if self.weight is not None:
            shares = list(self.weight.softmax(0).unbind())
        return {
            m: Learned(places, places.cosines(feats[m].values), share)
            for (m, places), share in zip(near.items(), shares, strict=True)
        }

    def spread(self, graphs: Mapping[str, Learned], x: Tensor, layers: int = 1) -> Tensor:
        """G^layers x, (I, d) → (I, d): G = (1 − λ) N(Σ_m w_m S_m) + λ Σ_m w_m N(S_m of raw features), w the shares."""
        total = functools.reduce(torch.add, (g.share * g.weights.sum(1) for g in graphs.values())).unsqueeze(1)
        # an item is its own neighbour with weight 1: no sum is 0
        left, right = (total.rsqrt(), total.rsqrt()) if self.scaling == "symmetric" else (total.reciprocal(), None)
        for _ in range(layers):
            scaled = x if right is None else right * x
            learned = left * functools.reduce(torch.add, (g.share * g(scaled) for g in graphs.values()))
            frozen = functools.reduce(torch.add, (g.share * self.frozen[m](x) for m, g in graphs.items()))
            x = torch.lerp(learned, frozen, self.blend)
        return x
