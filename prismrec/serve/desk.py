"""What the answers of all routes share: the exports, who is forgotten, who ranks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import orjson

from prismrec.serve.batching import Together
from prismrec.serve.catalogue import Catalogue
from prismrec.serve.exports import Exports
from prismrec.serve.forgotten import Forgotten
from prismrec.serve.gate import Refused
from prismrec.serve.log import Log
from prismrec.serve.maps import Maps
from prismrec.serve.metrics import Metrics
from prismrec.serve.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")
_THREADS = 2  # that rank what is not ranked on the event loop


class Desk:
    """One of each for an application; ``open`` before the first request, ``close`` after the last."""

    def __init__(self, settings: Settings, forgotten: Forgotten, log: Log, metrics: Metrics) -> None:
        self.settings, self.forgotten, self.log, self.metrics = settings, forgotten, log, metrics
        self.pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="rank")
        self.exports = Exports(settings, log, metrics)
        self.together = Together(self.pool, metrics)
        self.maps = Maps()
        self.usual = min(20, settings.max_k)
        self._made_for = {basis: metrics.lists.labels(basis) for basis in ("user", "session", "popular")}

    def export(self, name: str | None) -> Catalogue:
        """The export of a name, or the first."""
        try:
            return self.exports[name]
        except KeyError as error:
            raise Refused(404, error.args[0], "export") from None

    def user(self, catalogue: Catalogue, user: str) -> int:
        """The row of a user who is known and not forgotten, or −1."""
        row = catalogue.users.row(user)
        return -1 if row >= 0 and user in self.forgotten else row

    def known_user(self, catalogue: Catalogue, user: str) -> int:
        """The same; somebody else is refused."""
        row = self.user(catalogue, user)
        if row < 0:
            raise Refused(404, f"User {user!r} is not known.", "user")
        return row

    def known_item(self, catalogue: Catalogue, item: str) -> int:
        """The row of an item; an unknown one is refused."""
        row = catalogue.items.row(item)
        if row < 0:
            raise Refused(404, f"Item {item!r} is not known.", "item")
        return row

    def answer(self, catalogue: Catalogue, basis: str, user: str | None, items: Any) -> dict[str, Any]:
        """A list with what belongs to it; see ``forms.AnswerList``."""
        self._made_for[basis].inc()
        return {"user": user, "basis": basis, "export": catalogue.name, "version": catalogue.version, "items": items}

    def within(self, k: int) -> int:
        """k, if it is not more than one may ask for."""
        if k > self.settings.max_k:
            raise Refused(422, f"k is {k}; a list may have {self.settings.max_k:,} items.", "k")
        return k

    async def quickly(self, catalogue: Catalogue, work: Callable[P, T], *args: P.args, **how: P.kwargs) -> T:
        """Do it here and now for a catalogue that is quick to rank, else in a thread."""
        return work(*args, **how) if catalogue.quick else await self.slowly(work, *args, **how)

    async def slowly(self, work: Callable[P, T], *args: P.args, **how: P.kwargs) -> T:
        """Do it in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.pool, lambda: work(*args, **how))

    def close(self) -> None:
        """Let go of threads and files."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.maps.close()
        self.forgotten.close()


def json_of(value: Any) -> bytes:
    """As the API writes it."""
    return orjson.dumps(value)


def about(desk: Desk) -> dict[str, Any]:
    """What is being served, and within what limits."""
    limits = {"max_k": desk.settings.max_k, "max_batch": desk.settings.max_batch}
    return {"exports": [catalogue.about() for catalogue in desk.exports.all()], **limits}
