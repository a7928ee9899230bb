"""Lists of single users, ranked together: requests that arrive in one turn of the event loop share a matrix product.

For a catalogue that is quick to rank the block is ranked at the end of that turn, on the event loop itself: a list then costs
less than handing it to a thread would. For a large one a thread ranks, and those who come meanwhile make the next block.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prismrec.export import rank
from prismrec.export.score import Part
from prismrec.serve.catalogue import Catalogue
from prismrec.serve.metrics import Metrics

_TOGETHER = 64  # users of a block
Cards = list[dict[str, Any]]


@dataclass(frozen=True)
class Asked:
    """A list wanted: of whom, how long, and where to put it."""

    row: int
    k: int
    answer: asyncio.Future[Cards]


@dataclass(frozen=True)
class _Kind:
    """Those that can be ranked together."""

    catalogue: Catalogue
    modality: str | None
    exclude_seen: bool

    def __hash__(self) -> int:
        return hash((id(self.catalogue), self.modality, self.exclude_seen))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kind) and (self.catalogue is other.catalogue) and (
            (self.modality, self.exclude_seen) == (other.modality, other.exclude_seen)
        )  # fmt: skip


@dataclass
class Together:
    """Gathers requests and answers them. One for each event loop."""

    pool: ThreadPoolExecutor
    metrics: Metrics
    _waiting: dict[_Kind, list[Asked]] = field(default_factory=dict)
    _busy: set[_Kind] = field(default_factory=set)

    async def list_of(self, catalogue: Catalogue, row: int, k: int, modality: str | None, exclude_seen: bool) -> Cards:
        """The k best items of a known user, as cards with scores."""
        loop = asyncio.get_running_loop()
        kind = _Kind(catalogue, modality, exclude_seen)
        asked = Asked(row, k, loop.create_future())
        waiting = self._waiting.get(kind)
        if waiting is not None:
            waiting.append(asked)
        else:
            self._waiting[kind] = [asked]
            if kind not in self._busy:
                loop.call_soon(self._rank, kind)
        return await asked.answer

    def _rank(self, kind: _Kind) -> None:
        waiting = self._waiting.pop(kind)
        block, later = waiting[:_TOGETHER], waiting[_TOGETHER:]
        if later:
            self._waiting[kind] = later
        self.metrics.together.observe(len(block))
        if kind.catalogue.quick:
            if later:
                asyncio.get_running_loop().call_soon(self._rank, kind)
            try:
                _answer(block, lists(kind.catalogue, block, kind.modality, kind.exclude_seen))
            except Exception as error:
                _fail(block, error)
            return
        self._busy.add(kind)
        asyncio.ensure_future(self._rank_in_thread(kind, block))  # noqa: RUF006 - held by the futures that wait for it

    async def _rank_in_thread(self, kind: _Kind, block: list[Asked]) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                self.pool, lists, kind.catalogue, block, kind.modality, kind.exclude_seen
            )
            _answer(block, found)
        except Exception as error:
            _fail(block, error)
        finally:
            self._busy.discard(kind)
            if kind in self._waiting:
                self._rank(kind)


def lists(catalogue: Catalogue, block: list[Asked], modality: str | None, exclude_seen: bool) -> list[Cards]:
    """A list for each of a block."""
    shelf, side = catalogue.shelf, catalogue.shelf.side(modality)
    rows = np.array([asked.row for asked in block])
    k = max(asked.k for asked in block)
    masked = shelf.seen.take(rows) if exclude_seen else None
    found = rank.lists(shelf, block, [Part(side.user.take(rows), side.item)], masked, rank.Ask(k, exact=False))
    return cards_of(catalogue, found.items, found.scores, [asked.k for asked in block])


def cards_of(catalogue: Catalogue, items: np.ndarray, scores: np.ndarray, ks: list[int]) -> list[Cards]:
    """Lists of cards with scores of places (n, k); a place without an item ends its list, and so does the k of each."""
    counts = (items >= 0).sum(1).tolist()
    filled = items >= 0
    cards = catalogue.cards(items[filled])
    for card, score in zip(cards, scores[filled].tolist(), strict=True):
        card["score"] = score
    found, start = [], 0
    for count, k in zip(counts, ks, strict=True):
        found.append(cards[start : start + min(count, k)])
        start += count
    return found


def _answer(block: list[Asked], found: list[Cards]) -> None:
    for asked, cards in zip(block, found, strict=True):
        if not asked.answer.done():
            asked.answer.set_result(cards)


def _fail(block: list[Asked], error: Exception) -> None:
    for asked in block:
        if not asked.answer.done():
            asked.answer.set_exception(error)
