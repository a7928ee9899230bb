"""The exports being served, and how one takes the place of another while requests go on.

A request takes hold of a Catalogue once and answers from it to the end. A new one is read, checked and tried out in a thread;
only then does a single assignment put it in place. What cannot be read changes nothing but the log and the metrics.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from prismrec.errors import PrismError, nearest
from prismrec.export.form import MANIFEST
from prismrec.serve.catalogue import Catalogue
from prismrec.serve.log import Log
from prismrec.serve.metrics import Metrics
from prismrec.serve.settings import Settings

Stamp = tuple[int, int, int]


class Exports:
    """Name → Catalogue. ``load`` first; then ``watch`` runs beside the requests."""

    def __init__(self, settings: Settings, log: Log, metrics: Metrics) -> None:
        self._settings, self._log, self._metrics = settings, log, metrics
        self._served: dict[str, Catalogue] = {}
        self._stamps: dict[str, Stamp | None] = {}
        self._asked: asyncio.Event | None = None
        self.faults: dict[str, str] = {}

    def load(self) -> None:
        """Read all of them; the first that cannot be read is a ``PrismError``."""
        for name, folder in self._settings.exports.items():
            self._stamps[name] = stamp(folder)
            self._take(Catalogue.load(name, folder, self._settings.threads))

    def __getitem__(self, name: str | None) -> Catalogue:
        """The export of a name, or the first; ``KeyError`` with a sentence where there is none."""
        found = self._served.get(name or self._settings.first)
        if found is None:
            raise KeyError(f"No export is called {name!r}. {nearest(str(name), self._served)}")
        return found

    def all(self) -> list[Catalogue]:
        """Those served now, the first first."""
        return [self._served[name] for name in self._settings.exports if name in self._served]

    def ask(self) -> None:
        """Look at the folders now rather than when their turn comes; also at those whose manifest did not change."""
        self._stamps = dict.fromkeys(self._stamps)
        if self._asked is not None:
            self._asked.set()

    async def watch(self) -> None:
        """Look at each folder from time to time, and swap what changed. Runs until it is cancelled."""
        self._asked = asked = asyncio.Event()
        while True:
            await self.refresh()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.watch):
                    await asked.wait()
            asked.clear()

    async def refresh(self) -> None:
        """Swap what changed since it was read; what is bad is tried again when it changes again."""
        for name, folder in self._settings.exports.items():
            now = stamp(folder)
            if now == self._stamps.get(name) or (now is None and self._stamps.get(name) is not None):
                continue  # unchanged, or its manifest is gone: nothing to swap to
            self._stamps[name] = now
            try:
                found = await asyncio.to_thread(Catalogue.load, name, folder, self._settings.threads)
            except (PrismError, OSError, MemoryError, ValueError) as error:
                self.faults[name] = str(error)
                self._metrics.swaps.labels(name, "refused").inc()
                self._log.say("swap-refused", export=name, reason=str(error))
                continue
            if name in self._served and found.version == self._served[name].version:
                self.faults.pop(name, None)
                continue
            before = self._served.get(name)
            self._take(found)
            self._metrics.swaps.labels(name, "done").inc()
            self._log.say("swap", export=name, version=found.version, before=before.version if before else None,
                          users=len(found.users), items=len(found.items), pid=os.getpid())  # fmt: skip

    def _take(self, found: Catalogue) -> None:
        self._served[found.name] = found
        self.faults.pop(found.name, None)
        self._metrics.loaded.labels(found.name).set(found.loaded)


def stamp(folder: Path) -> Stamp | None:
    """What tells a manifest from the one before without reading it, through links; None where there is none."""
    try:
        found = (folder / MANIFEST).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
