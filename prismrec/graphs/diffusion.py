"""The user–item graph as one symmetric matrix whose entries may be left out at random, and diffusions over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prismrec.graphs.bipartite import Edges
from prismrec.graphs.csr import Csr, Frozen, from_edges
from prismrec.graphs.dropping import dropout

Hop = tuple[Csr, Csr]
"""A sparse matrix and its transpose."""


class Symmetric(nn.Module):
    """A symmetric sparse ``matrix`` (N, N); ``mirror`` (nnz,): the place of (j, i) for each of its entries (i, j), in order."""

    mirror: Tensor

    def __init__(self, matrix: Csr) -> None:
        super().__init__()
        self.matrix = matrix
        order = torch.argsort(matrix.indices.long() * matrix.rows + matrix.row())
        self.register_buffer("mirror", order, persistent=False)

    def hop(self, drop: float = 0.0) -> Hop:
        """The matrix and its transpose, or what is left of them: each entry falls out with probability ``drop``.

        The others are divided by 1 − ``drop``, so that the mean of all draws is the matrix. (i, j) and (j, i) are drawn apart.
        The structure stays as it is; only values change. Draws come from PyTorch's own generator.
        """
        if drop == 0:
            return self.matrix, self.matrix
        values = dropout(self.matrix.values, drop)
        kept, mirrored = (
            Csr(self.matrix.indptr, self.matrix.indices, part, self.matrix.columns)
            for part in (values, values[self.mirror])
        )
        return kept, mirrored


def whole(edges: Edges, loops: bool = False) -> Symmetric:
    """Â = D^-½ A D^-½ (N, N) of all N = U + I nodes, users first; ``loops``: of A + I, every node's own edge counted in D."""
    n, node = edges.n_users + edges.n_items, edges.n_users + edges.item
    own = torch.arange(n if loops else 0, device=node.device)
    row, column = torch.cat([edges.user, node, own]), torch.cat([node, edges.user, own])
    scale = torch.bincount(row, minlength=n).clamp(min=1).rsqrt()
    return Symmetric(from_edges(row, column, scale[row] * scale[column], n, n))


def walk(edges: Edges) -> Frozen:
    """(D + I)⁻¹(A + I) of all N = U + I nodes, users first: the mean over a node's neighbours and itself; rows sum to 1."""
    matrix = whole(edges, loops=True).matrix
    values = 1 / matrix.indptr.diff()[matrix.row()]
    return Frozen(Csr(matrix.indptr, matrix.indices, values, matrix.columns))


def powers_mean(matrix: Frozen, layers: int, x: Tensor) -> Tensor:
    """The mean over l = 0..``layers`` of M^l x, (N, d) → (N, d)."""
    total = x
    for _ in range(layers):  # Horner's scheme
        total = matrix(total) + x
    return total / (layers + 1) if layers > 0 else total


def weighted_powers(hops: Sequence[Hop], weights: Tensor, x: Tensor) -> Tensor:
    """Σ_k diag(w_k) M_k ⋯ M_1 x, k from 0: every node weighs what reaches it after each hop by numbers of its own.

    ``hops``: M_1 … M_K (N, N); ``weights`` w_0 … w_K (K + 1, N), ``x`` (N, d) → (N, d). Both get their gradients.
    """
    out: Tensor = _WeightedPowers.apply(hops, weights, x)  # type: ignore[no-untyped-call]
    return out


class _WeightedPowers(torch.autograd.Function):
    """The gradient of x is Σ_k M_1ᵀ ⋯ M_kᵀ diag(w_k) g by Horner's scheme; that of w_k is the row sums of g ⊙ M_k ⋯ M_1 x."""

    @staticmethod
    def forward(ctx: Any, hops: Sequence[Hop], weights: Tensor, x: Tensor) -> Tensor:
        states = [x]
        total = x * weights[0].unsqueeze(1)
        for (matrix, _), weight in zip(hops, weights[1:], strict=True):
            states.append(matrix.times(states[-1]))
            total.addcmul_(states[-1], weight.unsqueeze(1))
        ctx.hops = hops
        ctx.save_for_backward(weights, *states)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, Tensor]:
        weights, *states = ctx.saved_tensors
        (grad,) = grads
        of_weights = torch.stack([(grad * state).sum(1) for state in states])
        of_x = grad * weights[-1].unsqueeze(1)
        for (_, transposed), weight in zip(ctx.hops[::-1], weights[:-1].flip(0), strict=True):
            of_x = transposed.times(of_x).addcmul_(grad, weight.unsqueeze(1))
        return None, of_weights, of_x


def diffuse(hop: Hop, layers: int, alpha: float, beta: float, x: Tensor) -> Tensor:
    """h ← β M h + α x, K times from h = x, over γ = β^K + α Σ_{k<K} β^k: (N, d) → (N, d); x itself without layers.

    γ is 1 where α + β is. The Markov graph diffusion of Hu et al., IEEE TKDE 2024, arXiv:2204.02338.
    """
    if layers == 0:
        return x
    out: Tensor = _Diffusion.apply(hop, layers, alpha, beta, x)  # type: ignore[no-untyped-call]
    return out


class _Diffusion(torch.autograd.Function):
    """A polynomial in M; the gradient is the same one in Mᵀ: nothing is saved."""

    @staticmethod
    def forward(ctx: Any, hop: Hop, layers: int, alpha: float, beta: float, x: Tensor) -> Tensor:
        ctx.hop, ctx.layers, ctx.alpha, ctx.beta = hop, layers, alpha, beta
        return _diffusion(hop[0], layers, alpha, beta, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, None, None, Tensor]:
        return None, None, None, None, _diffusion(ctx.hop[1], ctx.layers, ctx.alpha, ctx.beta, grads[0])


def _diffusion(matrix: Csr, layers: int, alpha: float, beta: float, x: Tensor) -> Tensor:
    h = x = x.to(matrix.values.dtype)  # autocast may have made it narrower
    if alpha + beta == 1:  # γ is 1, and a step is one pass
        for _ in range(layers):
            h = matrix.times(h).lerp_(x, alpha)
        return h
    for _ in range(layers):
        h = matrix.times(h).mul_(beta).add_(x, alpha=alpha)
    return h.div_(beta**layers + alpha * sum(beta**k for k in range(layers)))
