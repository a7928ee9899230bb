"""Contents → vectors, as a stream: files are read and prepared by threads while the model runs; batches are remembered.

What is encoded in one batch depends on the contents and on what the cache holds, and batches are kept in their order. So a
call that was killed and is made again forms the batches that it would have formed, and ends in the same bits.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from prismrec.encode import pictures
from prismrec.encode.base import Encoder, Ready, Unreadable
from prismrec.encode.cache import Cache, Known
from prismrec.encode.scratch import table

Content = Path | bytes | None
"""A file to read, the content itself, or nothing: the item has none."""

NONE = "none given"
NOT_FINITE = "the model gives no finite vector"

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Progress:
    """How far it is: items ``done`` of ``of``; ``encoded`` now, ``known`` before, ``repeated`` contents, ``without`` any."""

    of: int
    done: int = 0
    encoded: int = 0
    known: int = 0
    repeated: int = 0
    without: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started


Watch = Callable[[Progress], None]


@dataclass(frozen=True)
class Encoded:
    """Vectors of n items: ``values`` (n, width) float32, zeros where not ``present`` (n,).

    ``reasons``: position → why it has none. ``notes``: position → what had to be done. ``same``: position → the earlier
    position whose content is the same.
    """

    values: np.ndarray
    present: np.ndarray
    reasons: dict[int, str]
    notes: dict[int, tuple[str, ...]]
    same: dict[int, int]
    progress: Progress


@dataclass(frozen=True)
class Read:
    """A content of an item as it was read, or the ``reason`` why it could not be."""

    item: int
    digest: bytes = b""
    content: bytes = b""
    reason: str = ""


def encode(
    encoder: Encoder,
    contents: Sequence[Content],
    *,
    cache: Cache | None = None,
    batch: int = 0,
    workers: int = 1,
    watch: Watch | None = None,
) -> Encoded:
    """The vectors of all contents, in their order.

    ``batch``: how many go through the model at once, 0 for the encoder's own number. ``workers``: threads that read and
    prepare. ``watch`` is told after each batch. What ``cache`` knows is not encoded again; without one, a call that is
    killed starts anew.
    """
    batch = batch or encoder.batch
    job = Job(encoder, cache, Progress(len(contents)), watch)
    # longest first: texts of a length pad each other least, and the time left is not guessed too short
    order = sorted(range(len(contents)), key=lambda i: -len(found) if isinstance(found := contents[i], bytes) else 0)
    pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="prismrec-encode")
    with pictures.guarded():
        try:
            depth = 2 * batch + workers
            reads = _ahead(pool, lambda i: read(i, contents[i]), order, depth)
            ready = _ahead(pool, lambda one: (one, _prepare(encoder, one)), job.unknown(reads, depth), depth)
            waiting: list[tuple[bytes, Ready]] = []
            for one, made in ready:
                if isinstance(made, str):
                    job.refused(one.digest, made)
                    continue
                waiting.append((one.digest, made))
                if len(waiting) == batch:
                    job.through(waiting)
                    waiting = []
            if waiting:
                job.through(waiting)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return job.result()


def step(encoder: Encoder, contents: Sequence[Content]) -> list[Known | str]:
    """One batch, by itself: of each content its vector, or the reason why it has none. What a Ray worker runs."""
    out: list[Known | str] = [NONE] * len(contents)
    ready: list[tuple[int, Ready]] = []
    with pictures.guarded():
        for position, content in enumerate(contents):
            found = read(position, content)
            made = found.reason or _prepare(encoder, found)
            if isinstance(made, str):
                out[position] = made
            else:
                ready.append((position, made))
        if ready:
            vectors = encoder.encode([made.value for _, made in ready])
            for (position, made), vector in zip(ready, vectors, strict=True):
                out[position] = Known(vector, made.notes)
    return out


def read(item: int, content: Content) -> Read:
    """The bytes of a content and their digest, or the reason why there are none."""
    try:
        if isinstance(content, Path):
            if content.stat().st_size > pictures.BYTES:
                return Read(item, reason=pictures.LARGE)
            content = content.read_bytes()
    except FileNotFoundError:
        return Read(item, reason=pictures.MISSING)
    except OSError:
        return Read(item, reason="a file that cannot be read")
    if content is None:
        return Read(item, reason=NONE)
    return Read(item, hashlib.sha256(content).digest(), content)


def _prepare(encoder: Encoder, found: Read) -> Ready | str:
    try:
        return encoder.prepare(found.content)
    except Unreadable as reason:
        return str(reason)


def _ahead(pool: ThreadPoolExecutor, do: Callable[[T], R], source: Iterable[T], depth: int) -> Iterator[R]:
    """``do`` of each of ``source``, in order, with up to ``depth`` under way."""
    waiting: deque[Future[R]] = deque()
    for one in source:
        waiting.append(pool.submit(do, one))
        if len(waiting) >= depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class Job:
    """What is known so far of all items."""

    def __init__(self, encoder: Encoder, cache: Cache | None, progress: Progress, watch: Watch | None) -> None:
        self.encoder, self.cache, self.progress, self.watch = encoder, cache, progress, watch
        self.values = table(progress.of, encoder.width)
        self.present = np.zeros(progress.of, dtype=bool)
        self.reasons: dict[int, str] = {}
        self.notes: dict[int, tuple[str, ...]] = {}
        self.same: dict[int, int] = {}
        self.items: dict[bytes, list[int]] = {}  # digest → items of this content, the first one first
        self.settled: dict[bytes, tuple[str, ...] | str] = {}  # digest → its notes, or why there is no vector

    def unknown(self, reads: Iterable[Read], depth: int) -> Iterator[Read]:
        """The first of each content that must be encoded; the others find their vectors."""
        source = iter(reads)
        while part := [one for _, one in zip(range(depth), source, strict=False)]:
            new = []
            for one in part:
                if one.reason:
                    self._settle([one.item], one.reason)
                elif one.digest in self.items:
                    self._again(one)
                else:
                    self.items[one.digest] = [one.item]
                    new.append(one)
            known = self.cache.get([one.digest for one in new]) if self.cache is not None else {}
            for one in new:
                if found := known.get(one.digest):
                    self.progress.known += not isinstance(_whole(found), str)
                    self._found(one.digest, found)
                else:
                    yield one
            self._tell()

    def through(self, waiting: Sequence[tuple[bytes, Ready]]) -> None:
        """A batch through the model."""
        vectors = np.asarray(self.encoder.encode([made.value for _, made in waiting]), dtype=np.float32)
        pairs = zip(waiting, vectors, strict=True)
        self.came({digest: Known(vector, made.notes) for (digest, made), vector in pairs})

    def came(self, outcomes: Mapping[bytes, Known | str]) -> None:
        """What became of a batch: into the cache before anything else is done with it."""
        new = {digest: outcome for digest, outcome in outcomes.items() if isinstance(outcome, Known)}
        if self.cache is not None:
            self.cache.put(new)
        self.progress.encoded += sum(not isinstance(_whole(outcome), str) for outcome in new.values())
        for digest, outcome in outcomes.items():
            self._found(digest, outcome)
        self._tell()

    def refused(self, digest: bytes, reason: str) -> None:
        """A content that cannot be prepared."""
        self._found(digest, reason)

    def result(self) -> Encoded:
        """All of it."""
        return Encoded(self.values, self.present, self.reasons, self.notes, self.same, self.progress)

    def _again(self, found: Read) -> None:
        items = self.items[found.digest]
        self.same[found.item] = items[0]
        self.progress.repeated += 1
        settled = self.settled.get(found.digest)
        if settled is None:
            items.append(found.item)
        else:
            same = settled if isinstance(settled, str) else Known(self.values[items[0]], settled)
            self._settle([found.item], same)

    def _found(self, digest: bytes, outcome: Known | str) -> None:
        items, outcome = self.items[digest], _whole(outcome)
        self._settle(items, outcome)
        self.settled[digest] = outcome if isinstance(outcome, str) else outcome.notes
        self.items[digest] = items[:1]

    def _settle(self, items: Sequence[int], outcome: Known | str) -> None:
        self.progress.done += len(items)
        if isinstance(outcome, str):
            self.progress.without += len(items)
            self.reasons.update(dict.fromkeys(items, outcome))
            return
        self.values[items] = outcome.vector
        self.present[items] = True
        if outcome.notes:
            self.notes.update(dict.fromkeys(items, outcome.notes))

    def _tell(self) -> None:
        if self.watch is not None:
            self.watch(self.progress)


def _whole(outcome: Known | str) -> Known | str:
    """An outcome as it counts. A vector that is not finite is remembered like any other, so that batches stay the same."""
    return NOT_FINITE if isinstance(outcome, Known) and not np.isfinite(outcome.vector).all() else outcome
