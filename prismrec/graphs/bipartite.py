"""The user–item graph, subsets of its edges, and LightGCN's propagation over it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prismrec.graphs.csr import Csr, Frozen, product


class Bipartite(nn.Module):
    """The user–item graph with symmetric normalisation: entry (u, i) is 1/√(d_u d_i), no self-loops.

    Kept as its two halves, ``to_user`` (U, I) and ``to_item`` (I, U), each the other's transpose: the whole matrix of
    U+I nodes is symmetric, so that a step costs the two halves and the gradient the same two.
    """

    def __init__(self, to_user: Csr, to_item: Csr) -> None:
        super().__init__()
        self.to_user, self.to_item = to_user, to_item


def weighted_bipartite(weights: Csr) -> Bipartite:
    """The user–item graph of positive ``weights`` W (U, I): entry (u, i) is w_ui/√(r_u r_i), r the sums of row and column."""
    row, column = weights.row(), weights.indices.long()
    r_user = torch.zeros(weights.rows, device=row.device).index_add_(0, row, weights.values)
    r_item = torch.zeros(weights.columns, device=row.device).index_add_(0, column, weights.values)
    values = weights.values * (r_user[row] * r_item[column]).rsqrt()
    to_user = Csr(weights.indptr, weights.indices, values, weights.columns)
    return Bipartite(to_user, to_user.transpose())


class Edges(nn.Module):
    """The distinct training edges, ``user`` and ``item`` (E,) sorted by user, and the order that sorts them by item.

    Subsets of the edges become graphs without sorting anything again. Kept in 32 bits: with a hundred million edges a column
    takes 400 MB.
    """

    _user: Tensor
    _item: Tensor
    _by_item: Tensor

    def __init__(self, user: Tensor, item: Tensor, n_users: int, n_items: int) -> None:
        super().__init__()
        self.n_users, self.n_items = n_users, n_items
        keys = user.long() * n_items + item.long()
        if not (keys[1:] > keys[:-1]).all():  # prepared rows stand in order
            keys = torch.unique(keys)
        self.register_buffer("_user", (keys // n_items).int(), persistent=False)
        self.register_buffer("_item", keys.remainder_(n_items).int(), persistent=False)
        del keys
        self.register_buffer("_by_item", torch.argsort(self._item, stable=True).int(), persistent=False)

    @property
    def user(self) -> Tensor:
        """The user of each edge (E,) int64."""
        return self._user.long()

    @property
    def item(self) -> Tensor:
        """The item of each edge (E,) int64."""
        return self._item.long()

    @property
    def by_item(self) -> Tensor:
        """Places of the edges in the order of items, then users (E,) int64."""
        return self._by_item.long()

    def __len__(self) -> int:
        return len(self._user)

    def degrees(self, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Number of edges of each user (U,) and item (I,), of all edges or of those that ``keep`` (E,) marks."""
        user, item = (self._user, self._item) if keep is None else (self._user[keep], self._item[keep])
        return torch.bincount(user, minlength=self.n_users), torch.bincount(item, minlength=self.n_items)

    def graph(self, keep: Tensor | None = None) -> Bipartite:
        """The normalised graph of all edges, or of those that ``keep`` (E,) marks, with the *kept* degrees."""
        d_user, d_item = self.degrees(keep)
        values = d_user.clamp(min=1).rsqrt().index_select(0, self._user)
        values *= d_item.clamp(min=1).rsqrt().index_select(0, self._item)
        return Bipartite(*self._halves(values, keep))

    def means(self) -> tuple[Frozen, Frozen]:
        """D⁻¹A in its two halves: the mean over a user's items, (U, I), and over an item's users, (I, U); 0 without any."""
        return self._scaled(torch.reciprocal)

    def roots(self) -> tuple[Frozen, Frozen]:
        """D^-½ A in its two halves, (U, I) and (I, U): a sum over neighbours divided by the root of their number."""
        return self._scaled(torch.rsqrt)

    def _scaled(self, scale: Callable[[Tensor], Tensor]) -> tuple[Frozen, Frozen]:
        """The sums over a user's items and over an item's users, each times ``scale`` of their number."""
        d_user, d_item = self.degrees()
        over_items, over_items_t = self._halves(scale(d_user).index_select(0, self._user))
        over_users_t, over_users = self._halves(scale(d_item).index_select(0, self._item))
        return Frozen(over_items, over_items_t), Frozen(over_users, over_users_t)

    def _halves(self, values: Tensor, keep: Tensor | None = None) -> tuple[Csr, Csr]:
        """The matrix (U, I) that holds ``values`` (E,) at the edges (that ``keep`` marks), and its transpose."""
        d_user, d_item = self.degrees(keep)
        by_user = slice(None) if keep is None else keep
        by_item = self._by_item if keep is None else self._by_item[keep.index_select(0, self._by_item)]
        columns = self._user.index_select(0, by_item), values.index_select(0, by_item)
        return (
            Csr(F.pad(d_user.cumsum(0), (1, 0)), self._item[by_user], values[by_user], self.n_items),
            Csr(F.pad(d_item.cumsum(0), (1, 0)), *columns, self.n_users),
        )

    def sample(self, share: float, rng: torch.Generator, uniform: bool = False) -> Tensor:
        """Marks ⌊E·``share``⌋ edges drawn without replacement with probability ∝ 1/√(d_u d_i) → (E,) bool.

        ``uniform``: every edge is as likely as any other. Exponential keys (Efraimidis & Spirakis, 2006) give the distribution
        of sequential draws at the cost of one pass.
        """
        key = torch.empty(len(self), device=self._user.device).exponential_(generator=rng)
        if not uniform:
            d_user, d_item = self.degrees()
            key /= d_user.rsqrt().index_select(0, self._user) * d_item.rsqrt().index_select(0, self._item)
        kept = math.floor(len(self) * share + 1e-6)  # 1 - 0.8 is a little less than 0.2
        chosen = key.topk(kept, largest=False, sorted=False).indices
        return torch.zeros(len(self), dtype=torch.bool, device=key.device).index_fill_(0, chosen, True)


class _Powers(torch.autograd.Function):
    """(1/share) Σ_l Â^l X for X = [users; items]. Â is symmetric, so the gradient is the same map: nothing is saved."""

    @staticmethod
    def forward(
        ctx: Any, graph: Bipartite, layers: int, share: int, user: Tensor, item: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.graph, ctx.layers, ctx.share = graph, layers, share
        return _powers(graph, layers, share, user, item)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, None, Tensor, Tensor]:
        return None, None, None, *_powers(ctx.graph, ctx.layers, ctx.share, *grads)


def _powers(graph: Bipartite, layers: int, share: int, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
    # Horner's scheme: x ← x₀ + Âx, L times, sums all powers with no accumulator of its own
    u, i = user, item
    for _ in range(layers):
        u, i = graph.to_user.times(i).add_(user), graph.to_item.times(u).add_(item)
    return (u, i) if share == 1 else (u.div_(share), i.div_(share))


def _propagate(graph: Bipartite, layers: int, share: int, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
    if layers == 0:
        return user, item
    out: tuple[Tensor, Tensor] = _Powers.apply(graph, layers, share, user, item)  # type: ignore[no-untyped-call]
    return out


def propagate_mean(graph: Bipartite, layers: int, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
    """LightGCN's propagation: the mean over layers 0..L of Â^l [user; item] → (U, d), (I, d) (He et al., SIGIR 2020)."""
    return _propagate(graph, layers, layers + 1, user, item)


def propagate_sum(graph: Bipartite, layers: int, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
    """The same with the sum in place of the mean, as DualGNN and GRCN have it."""
    return _propagate(graph, layers, 1, user, item)


class _Power(torch.autograd.Function):
    """Â^L X: the gradient is the same map again."""

    @staticmethod
    def forward(ctx: Any, graph: Bipartite, layers: int, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        ctx.graph, ctx.layers = graph, layers
        return _power(graph, layers, user, item)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, Tensor, Tensor]:
        return None, None, *_power(ctx.graph, ctx.layers, *grads)


def _power(graph: Bipartite, layers: int, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
    for _ in range(layers):
        user, item = graph.to_user.times(item), graph.to_item.times(user)
    return user, item


def propagate_last(graph: Bipartite, layers: int, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
    """The last layer alone: Â^L [user; item] → (U, d), (I, d)."""
    if layers == 0:
        return user, item
    out: tuple[Tensor, Tensor] = _Power.apply(graph, layers, user, item)  # type: ignore[no-untyped-call]
    return out


class _Each(torch.autograd.Function):
    """X, ÂX, …, Â^L X: the gradient is Σ_l Â^l G_l by Horner's scheme."""

    @staticmethod
    def forward(ctx: Any, graph: Bipartite, layers: int, user: Tensor, item: Tensor) -> tuple[Tensor, ...]:
        ctx.graph = graph
        out = []
        for _ in range(layers):
            user, item = graph.to_user.times(item), graph.to_item.times(user)
            out += [user, item]
        return tuple(out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, Tensor, Tensor]:
        *earlier, user, item = grads
        for k in range(len(earlier), 0, -2):
            user, item = (
                ctx.graph.to_user.times(item).add_(earlier[k - 2]),
                ctx.graph.to_item.times(user).add_(earlier[k - 1]),
            )
        return None, None, ctx.graph.to_user.times(item), ctx.graph.to_item.times(user)


def propagate_each(graph: Bipartite, layers: int, user: Tensor, item: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """All layers apart: Â^l [user; item] for l = 0..L → L + 1 of users (U, d), as many of items (I, d)."""
    users, items = [user], [item]
    if layers > 0:
        rest: tuple[Tensor, ...] = _Each.apply(graph, layers, user, item)  # type: ignore[no-untyped-call]
        users, items = [*users, *rest[::2]], [*items, *rest[1::2]]
    return users, items


def spread(graph: Bipartite, layers: int, x: Tensor, users: bool) -> tuple[Tensor, Tensor]:
    """What starts on one side alone: the sums of the even and of the odd powers of Â applied to [x; 0] or [0; x].

    ``x`` (U, d) where ``users``, else (I, d) → what arrives on its own side, as many rows, and on the other side. Every power
    lies on one side, so that a layer costs one product in place of two: for sides that start with different widths.
    """
    halves = (graph.to_item, graph.to_user) if users else (graph.to_user, graph.to_item)
    own, other = x, None
    for layer in range(layers):
        if layer % 2 == 0:
            x = product(*halves, x)
            other = x if other is None else other + x
        else:
            x = product(*halves[::-1], x)
            own = own + x
    return own, x.new_zeros(halves[0].rows, x.shape[1]) if other is None else other


def gather_users(graph: Bipartite, item: Tensor) -> Tensor:
    """What users get of their items' rows: the user half of the graph times ``item`` (I, d) → (U, d), with its gradient."""
    return product(graph.to_user, graph.to_item, item)
