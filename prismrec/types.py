"""The records that flow through PrismRec, and the one legend of shapes.

======  =====================================================================
``U``   number of users
``I``   number of items
``B``   rows of a batch
``K``   negatives per row
``d``   width of a representation; ``d_m`` of modality ``m``; ``r_m`` of its raw features
``n``   rows of a partial table (the items that a batch touches)
======  =====================================================================

Ids of users and items are global (``0..U-1``, ``0..I-1``) everywhere outside :class:`Rows`; the
mapping from ids to rows of a partial table is made once, there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

T = TypeVar("T")


def take(table: Tensor, ids: Tensor) -> Tensor:
    """Rows of ``table`` (n, d) at ``ids`` (any shape) → (\\*shape, d).

    On a CPU the gradient is summed by ``index_add_``, which costs a third of what the embedding's own does there; on a GPU
    the embedding's is the one that gives the same bits every time. A table whose rows lie with several processes (a
    ``DTensor``) gives all of them the same rows.
    """
    if hasattr(table, "full_tensor"):
        return _take_spread(table, ids)
    if table.is_cuda:
        return F.embedding(ids, table)
    return table.index_select(0, ids.reshape(-1)).view(*ids.shape, table.shape[1])


def _take_spread(table: Any, ids: Tensor) -> Tensor:
    """Each process looks up those of the rows that it holds; the sum over all is what was asked for."""
    from torch.distributed.tensor import DTensor, Partial

    mesh, own = table.device_mesh, table.to_local()
    place = ids.reshape(-1) - mesh.get_local_rank() * -(-len(table) // mesh.size())
    mine = (place >= 0) & (place < len(own))
    rows = take(own, place.clamp(0, len(own) - 1)) * mine.unsqueeze(1)
    summed: Tensor = DTensor.from_local(rows, mesh, [Partial()], run_check=False).full_tensor()
    return summed.view(*ids.shape, table.shape[1])


@dataclass(frozen=True)
class ItemIds:
    """The distinct items of a partial table, and where each of them stands.

    ``ids`` (n,) is sorted and unique; ``position`` (I,) holds the row of each id (undefined for ids that are absent).
    """

    ids: Tensor
    position: Tensor

    @staticmethod
    def of(items: Tensor, n_items: int, count: int | None = None) -> ItemIds:
        """The distinct values of ``items`` (any shape, values in ``0..n_items-1``); ``count``: how many, where it is known.

        Who knows it does not wait for the device to say how long the table is to be.
        """
        items = items.reshape(-1)
        touched = torch.zeros(n_items, dtype=torch.bool, device=items.device)
        touched[items] = True
        position = touched.cumsum(0) - 1
        if count is None:
            return ItemIds(touched.nonzero().squeeze(1), position)
        return ItemIds(items.new_empty(count).scatter_(0, position[items], items), position)


@dataclass(frozen=True)
class Rows:
    """A table of which row i belongs to item i (``index`` is None) or to item ``index.ids[i]``.

    ``source``: the table (n, d), or what makes it, times a matrix (d, d') if given one. ``at`` takes global ids, so that
    nobody else needs to know which case holds.
    """

    source: Tensor | Callable[[Tensor | None], Tensor]
    index: ItemIds | None = None

    @cached_property
    def values(self) -> Tensor:
        """(n, d), made when first asked for."""
        if isinstance(self.source, Tensor):
            return self.source
        with torch.enable_grad():  # whoever is the first to ask, others may want the gradient
            return self.source(None)

    def times(self, matrix: Tensor) -> Rows:
        """The same rows times ``matrix`` (d, d'). Rows that are still to be made take it into the layer that makes them."""
        make = self._maker()
        if make is None:
            return self.with_values(self.values @ matrix)
        return Rows(lambda after: make(matrix if after is None else matrix @ after), self.index)

    def plus(self, row: Tensor) -> Rows:
        """The same rows, ``row`` (d,) added to each; those that are still to be made are still to be made."""
        make = self._maker()
        if make is None:
            return self.with_values(self.values + row)
        return Rows(lambda after: make(after) + (row if after is None else row @ after), self.index)

    def _maker(self) -> Callable[[Tensor | None], Tensor] | None:
        return None if isinstance(self.source, Tensor) or "values" in vars(self) else self.source

    def at(self, items: Tensor) -> Tensor:
        """Rows of ``items`` (any shape of global ids) → (\\*shape, d)."""
        return take(self.values, self.places(items))

    def places(self, items: Tensor) -> Tensor:
        """Where ``items`` (any shape of global ids) stand in ``values``."""
        return items if self.index is None else self.index.position[items]

    def with_values(self, values: Tensor) -> Rows:
        """The same rows with other values (n, d')."""
        return Rows(values, self.index)

    @property
    def width(self) -> int:
        """d."""
        return self.values.shape[-1]


Feats = dict[str, Rows]
"""modality → projected features of all items, or of the items that a batch touches."""

Terms = dict[str, Tensor]
"""name → scalar, already weighted; the objective is their sum."""


def distinct(ids: Tensor, count: int | None = None) -> Tensor:
    """The distinct values of ``ids`` (n,), ascending; ``count``: how many, where it is known, as for ``ItemIds.of``."""
    found: Tensor
    if count is None:
        found = torch.unique(ids)
    else:
        ids = ids.sort().values
        found = ids.new_empty(count).scatter_(0, F.pad(ids.diff() != 0, (1, 0)).cumsum(0), ids)
    return found


@dataclass(frozen=True)
class Sizes:
    """Distinct ones that a batch holds: ``users``, and ``items`` among the positives and the first k negatives, k = 0..K."""

    users: int
    items: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """Training rows: ``user`` (B,), ``pos`` (B,), ``neg`` (B, K), ``weight`` (B,) or None; int64 ids, float32 weights.

    ``weight`` is the strength of an interaction (view, cart, buy), relative to a mean of one over the training split.
    ``picks``: name of a plug-in → the negatives (B, k) that it picked among its candidates.
    ``sizes``: known where asking would make the host wait for a device; other rows have others, so that whoever replaces
    rows leaves them out.
    """

    user: Tensor
    pos: Tensor
    neg: Tensor
    weight: Tensor | None = None
    picks: Mapping[str, Tensor] = field(default_factory=dict)
    sizes: Sizes | None = None

    @property
    def items(self) -> Tensor:
        """All items of the rows, (B·(1 + K + picks),), with repetitions."""
        return torch.cat([self.pos, self.neg.reshape(-1), *(picked.reshape(-1) for picked in self.picks.values())])

    @property
    def n_items(self) -> int | None:
        """Number of distinct ``items``, where it is known."""
        return None if self.sizes is None or self.picks else self.sizes.items[self.neg.shape[1]]

    @property
    def users_once(self) -> Tensor:
        """The distinct users, ascending."""
        return distinct(self.user, None if self.sizes is None else self.sizes.users)

    @property
    def positives_once(self) -> Tensor:
        """The distinct positive items, ascending."""
        return distinct(self.pos, None if self.sizes is None else self.sizes.items[0])

    @property
    def items_once(self) -> Tensor:
        """The distinct positives and negatives, ascending."""
        items = torch.cat([self.pos, self.neg.reshape(-1)])
        return distinct(items, None if self.sizes is None else self.sizes.items[self.neg.shape[1]])

    def negatives(self, k: int) -> Batch:
        """The same rows with the first ``k`` negatives: a model sees its own number, whatever a plug-in asked for."""
        return self if self.neg.shape[1] == k else replace(self, neg=self.neg[:, :k])

    def to(self, device: torch.device) -> Batch:
        """The same rows on ``device``."""
        weight = None if self.weight is None else self.weight.to(device)
        picks = {name: picked.to(device) for name, picked in self.picks.items()}
        return Batch(self.user.to(device), self.pos.to(device), self.neg.to(device), weight, picks, self.sizes)


@dataclass(frozen=True)
class Reps:
    """What a model says of users and items. Every score is an inner product of a row of each.

    ``user`` (U, d), ``item`` (I, d) or a batch's rows. ``modal``: modality → its own two sides, (U, d_m) and (I, d_m) or a
    batch's rows; empty where a model has none. ``views``: further named tensors that a loss of the same model needs.
    ``user`` and ``item`` of the closed-form floors may be sparse CSR tensors (ItemKNN: d = I).
    """

    user: Tensor
    item: Rows
    modal: Mapping[str, tuple[Tensor, Rows]] = field(default_factory=dict)
    views: Mapping[str, Tensor] = field(default_factory=dict)
    _made: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def sides(self, modality: str | None = None) -> tuple[Tensor, Rows]:
        """The fused sides, or those of one modality."""
        return (self.user, self.item) if modality is None else self.modal[modality]

    def once(self, what: str, given: tuple[Tensor, ...], make: Callable[[], T]) -> T:
        """``make()``, or what it gave when it was last asked for ``what`` with these tensors (or views like them).

        Several losses of a batch read the same rows: taken once, their gradient goes back into the table once.
        """
        if torch.compiler.is_compiling():  # the compiler finds by itself what is asked twice
            return make()
        key = (what, torch.is_grad_enabled(), *((_address(t), t.shape, t.stride()) for t in given))
        if key not in self._made:
            self._made[key] = make(), given  # kept, so that no other tensor takes their place in memory
        made: T = self._made[key][0]
        return made

    def users(self, user: Tensor, modality: str | None = None) -> Tensor:
        """Rows of ``user`` (B,) on a side → (B, d), for training: taken once."""
        table, _ = self.sides(modality)
        if _columns_of(table, self.user):  # cut from the fused rows: a gradient of the whole table costs half a step
            start = table.storage_offset() - self.user.storage_offset()
            stop = start + table.shape[1]
            return self.once("columns", (table, user), lambda: self.users(user)[:, start:stop])
        return self.once("user", (table, user), lambda: take(table, user))

    def items(self, batch: Batch, modality: str | None = None) -> Tensor:
        """Rows of the positives and of the negatives on a side → (1 + K, B, d), for training: taken once, together."""
        _, items = self.sides(modality)
        rows = (items.values, batch.pos, batch.neg)
        return self.once("item", rows, lambda: items.at(torch.cat([batch.pos.unsqueeze(0), batch.neg.T])))

    def score(self, user: Tensor, item: Tensor, modality: str | None = None) -> Tensor:
        """s(u, i) of paired global ids: ``user`` (B,), ``item`` (B,) → (B,); ``item`` (B, K) → (B, K)."""
        users, items = self.sides(modality)
        u, i = take(users, user), items.at(item)
        if item.dim() == user.dim():
            return (u * i).sum(-1)
        return torch.einsum("bd,bkd->bk", u, i)


def _columns_of(part: Tensor, whole: Tensor) -> bool:
    """Whether ``part`` is a view of some columns of ``whole``, or of what ``whole`` is a view of, with the same gradient."""
    if torch.compiler.is_compiling() or part is whole or part.dim() != 2 or _base(part) is not _base(whole):
        return False
    start = part.storage_offset() - whole.storage_offset()
    return (
        part.requires_grad == whole.requires_grad
        and (len(part), part.stride()) == (len(whole), whole.stride())
        and 0 <= start <= whole.shape[1] - part.shape[1]
    )


def _address(table: Tensor) -> int:
    """What tells a table from others: where it lies, or which object it is if it does so in several places."""
    return id(table) if hasattr(table, "full_tensor") else table.data_ptr()


def _base(view: Tensor) -> Tensor:
    base: Tensor | None = view._base
    return view if base is None else base
