"""An epoch of batches: shuffled training rows with negatives, drawn on the device that trains, from seeds alone.

Every epoch and every column of negatives has a generator of its own, seeded by (seed, epoch, stream). So an epoch can be
drawn again after an interruption, and asking for more negatives does not move the first ones.

Whoever only chooses among many negatives may have them from the other rows of the batch, whose items it has at hand anyway.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from prismrec.errors import PrismError
from prismrec.types import Batch, Sizes

Pool = Literal["seen", "all"]
_STRETCH = 1 << 24  # rows whose negatives are drawn together: what an epoch holds at once does not grow with it
_STREAMS = 1 << 22  # numbers of random streams for each stretch
_ROUNDS = 30  # rejections before the few rows left are drawn from their exact complement


def generator(seed: int, *stream: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A random generator for a stream of a seed: streams of different names, all of one length, are independent."""
    words = np.random.SeedSequence([seed, *stream]).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed(int(words[0]) << 32 | int(words[1]))


class Sampler:
    """Batches of one epoch after another.

    ``user``, ``item`` (N,) training rows on the device that is to train, integers, kept in 32 bits; ``weight`` (N,) or None. A
    negative is drawn from ``pool`` ("seen": items with a training row; "all": the catalogue) with probability
    ∝ (training rows)^``popularity`` (0: uniform; an item without a row counts as one with a single row) and is never a training
    item of its user.

    Of the ``n_neg`` negatives of a row, ``n_fresh`` (None: all) are drawn for it. Each further column holds the first
    negatives of the batch's other rows, shifted by a random number: a single one is distributed alike, those of a batch are
    few items. Where a row's user owns what it is lent, another is drawn.
    """

    def __init__(
        self,
        user: Tensor,
        item: Tensor,
        weight: Tensor | None,
        n_users: int,
        n_items: int,
        *,
        batch_size: int = 2048,
        n_neg: int = 1,
        n_fresh: int | None = None,
        pool: Pool = "seen",
        popularity: float = 0.0,
        seed: int = 0,
    ) -> None:
        if len(user) == 0:
            raise PrismError("The training split is empty: there is nothing to learn from. Split the data again.")
        self.user, self.item = user.int(), item.int()
        self.weight = None if weight is None else weight / weight.mean()
        self.n_users, self.n_items, self.batch_size, self.n_neg, self.seed = n_users, n_items, batch_size, n_neg, seed
        self.n_fresh = n_neg if n_fresh is None else n_fresh
        count = torch.bincount(item, minlength=n_items)
        self.pool = (count > 0).nonzero().squeeze(1) if pool == "seen" else torch.arange(n_items, device=user.device)
        self.chance = None if popularity == 0 else count[self.pool].double().clamp(min=1).pow(popularity)
        self.cumulative = None if self.chance is None else self.chance.cumsum(0)
        self.taken = _Set(user.long() * n_items + item)
        owned = torch.bincount(self.taken.keys // n_items, minlength=n_users)
        if int(owned.max()) >= len(self.pool):
            remedy = ", or set train.negatives=all" if len(self.pool) < n_items else ""
            raise PrismError(
                f"User number {int(owned.argmax())} has all {len(self.pool):,} items that negatives are drawn from in the "
                f"training split, so that no negative exists. Remove this user{remedy}."
            )

    def __len__(self) -> int:
        """Batches in an epoch; the last one may be short."""
        return math.ceil(len(self.user) / self.batch_size)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of epoch ``epoch`` (from 0): the same ones at every call."""
        device = self.user.device
        rng = generator(self.seed, epoch, 0, device=device)
        order = torch.randperm(len(self.user), generator=rng, device=device, dtype=torch.int32)
        for number, rows in enumerate(order.split(self.batch_size * math.ceil(_STRETCH / self.batch_size))):
            yield from self._stretch(epoch, number, rows)

    def _stretch(self, epoch: int, number: int, rows: Tensor) -> Iterator[Batch]:
        """The batches of some training rows (n,), the first of which starts one."""
        user, pos = self.user.index_select(0, rows).long(), self.item.index_select(0, rows).long()
        weight = None if self.weight is None else self.weight.index_select(0, rows).split(self.batch_size)
        columns: list[Tensor] = []
        for c in range(self.n_neg):
            rng = generator(self.seed, epoch, 1 + c + number * _STREAMS, device=user.device)
            lent = self._shifted(columns[0], rng) if c >= max(self.n_fresh, 1) else None
            columns.append(self._negatives(user, rng, lent))
        neg = torch.stack(columns).T if columns else pos.new_empty(len(pos), 0)  # no loss reads any
        split = (user.split(self.batch_size), pos.split(self.batch_size), neg.split(self.batch_size))
        sizes = self._sizes(user, torch.cat([pos.unsqueeze(1), neg], dim=1)) if user.is_cuda else None
        for i, (u, p, n) in enumerate(zip(*split, strict=True)):
            # turned a batch at a time, near the processor, so that nobody turns it again
            row_weight = None if weight is None else weight[i]
            yield Batch(u, p, n.contiguous(), row_weight, sizes=None if sizes is None else sizes[i])

    def _sizes(self, user: Tensor, items: Tensor) -> list[Sizes]:
        """What each batch of rows ``user`` (N,), ``items`` (N, 1 + K) holds: asked once, so that no step waits for a device."""
        users = self._distinct(user.unsqueeze(1), self.n_users)
        return [Sizes(n, tuple(k)) for (n,), k in zip(users, self._distinct(items, self.n_items), strict=True)]

    def _distinct(self, ids: Tensor, n: int) -> list[list[int]]:
        """Distinct ones of ``ids`` (N, C), values below ``n``, among the first 1..C columns of each batch → (batches, C)."""
        columns = ids.shape[1]
        batch = torch.arange(len(ids), device=ids.device).div(self.batch_size, rounding_mode="floor").unsqueeze(1)
        key = ((batch * n + ids) * columns + torch.arange(columns, device=ids.device)).flatten().sort().values
        own = key.div(columns, rounding_mode="floor")
        first = key[F.pad(own.diff() != 0, (1, 0), value=True)]  # of each batch and value, the first column
        where = first.div(n * columns, rounding_mode="floor") * columns + first % columns
        batches = math.ceil(len(ids) / self.batch_size)
        found = torch.bincount(where, minlength=batches * columns).view(-1, columns).cumsum(1)
        counts: list[list[int]] = found.tolist()
        return counts

    def _shifted(self, first: Tensor, rng: torch.Generator) -> Tensor:
        """``first`` (N,), each batch of it turned by one number of rows."""
        by = int(torch.randint(1, max(self.batch_size, 2), (1,), generator=rng, device=first.device))
        whole = len(first) // self.batch_size
        batches = first[: whole * self.batch_size].view(whole, self.batch_size)
        return torch.cat([batches.roll(by, 1).view(-1), first[whole * self.batch_size :].roll(by)])

    def _negatives(self, user: Tensor, rng: torch.Generator, drawn: Tensor | None = None) -> Tensor:
        """One column: for each of ``user`` (N,) an item that it does not own → (N,); of ``drawn`` where that will do."""
        base = user * self.n_items
        drawn = _draw(self.pool, self.cumulative, len(user), rng) if drawn is None else drawn
        wrong = self.taken.find(base + drawn)
        for _ in range(_ROUNDS):
            if len(wrong) == 0:
                return drawn
            drawn[wrong] = _draw(self.pool, self.cumulative, len(wrong), rng)
            wrong = wrong[self.taken.find(base[wrong] + drawn[wrong])]
        for owner in torch.unique(user[wrong]).tolist():  # who owns nearly everything: draw from what is left
            rows = wrong[user[wrong] == owner]
            free = ~self.taken.holds(owner * self.n_items + self.pool)
            cumulative = None if self.chance is None else self.chance[free].cumsum(0)
            drawn[rows] = _draw(self.pool[free], cumulative, len(rows), rng)
        return drawn


class _Set:
    """A set of int64 keys, exact: marks by hash rule out nearly all others; the rest is searched for.

    Marks are looked at twice: a few bytes for each key, which stay near the processor, then many, far away.
    """

    def __init__(self, keys: Tensor) -> None:
        ascending = bool((keys[1:] > keys[:-1]).all())  # as those of prepared rows
        self.keys = keys if ascending else torch.unique(keys)
        self.near = _marks(self.keys, 12, 22, 40)
        self.far = _marks(self.keys, 64, max(26, (4 * len(keys)).bit_length()), 20)  # 64 MB, or 4 to 8 bytes a key

    def find(self, keys: Tensor) -> Tensor:
        """Positions of those of ``keys`` (n,) that the set holds, ascending."""
        maybe = self.near.index_select(0, _hash(keys, self.near, 40)).nonzero().squeeze(1)
        chosen = keys[maybe]
        maybe = maybe[self.far.index_select(0, _hash(chosen, self.far, 20))]
        return maybe[self.holds(keys[maybe])]

    def holds(self, keys: Tensor) -> Tensor:
        """Which of ``keys`` (n,) the set holds, (n,) bool."""
        place = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        found: Tensor = self.keys[place] == keys
        return found


def _marks(keys: Tensor, each: int, most: int, shift: int) -> Tensor:
    """A table of bool, marked where ``keys`` fall: about ``each`` places a key, 2^``most`` at most."""
    marks = torch.zeros(1 << min(max(each * len(keys), 1).bit_length(), most), dtype=torch.bool, device=keys.device)
    for part in keys.split(_STRETCH):
        marks[_hash(part, marks, shift)] = True
    return marks


def _hash(keys: Tensor, marks: Tensor, shift: int) -> Tensor:
    return (keys * -7046029254386353131 >> shift) & (len(marks) - 1)  # 2⁶⁴ over the golden ratio, modulo 2⁶⁴


def _draw(pool: Tensor, cumulative: Tensor | None, n: int, rng: torch.Generator) -> Tensor:
    """n of ``pool`` with replacement: uniform, or with the chances whose running sum is ``cumulative``."""
    if cumulative is None:
        place = torch.randint(len(pool), (n,), generator=rng, device=pool.device)
    else:
        x = torch.rand(n, generator=rng, device=pool.device, dtype=torch.float64) * cumulative[-1]
        place = torch.searchsorted(cumulative, x, right=True).clamp(max=len(pool) - 1)
    return pool.index_select(0, place)
