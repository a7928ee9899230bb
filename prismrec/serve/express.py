"""The way past the framework for the one request that most are: ``GET /recommend`` of a user, and nothing unusual about it.

Reading parameters, matching routes and building responses in general takes twice as long as all else about a list. Here the few
forms of that one request are read by hand; anything else, an error too, goes the usual way, and answers are the same bytes.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from urllib.parse import unquote_plus

from prismrec.serve import answers
from prismrec.serve.desk import Desk, json_of
from prismrec.serve.gate import App, Message, Receive, Send

PATH = "/recommend"
_ROUTE = SimpleNamespace(path_format=PATH)  # under which it is counted
_K = re.compile(rb"[1-9][0-9]{0,5}")
_LONGEST = 500
_TYPE = (b"content-type", b"application/json")


class Express:
    """An ASGI application before another."""

    def __init__(self, app: App, desk: Desk) -> None:
        self._app, self._desk = app, desk

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "GET":
            asked = read(scope["query_string"], self._desk.usual)
            if asked is not None and asked[1] <= self._desk.settings.max_k:
                await self._answer(*asked, scope, send)
                return
        await self._app(scope, receive, send)

    async def _answer(self, user: str, k: int, scope: Message, send: Send) -> None:
        scope["route"] = _ROUTE
        desk = self._desk
        catalogue = desk.exports[None]
        row = desk.user(catalogue, user)
        if row < 0:
            basis, items = "popular", await desk.quickly(catalogue, answers.popular, catalogue, k)
        else:
            length = min(k, len(catalogue.items))
            basis, items = "user", await desk.together.list_of(catalogue, row, length, None, True)
        body = json_of(desk.answer(catalogue, basis, user, items))
        head = [_TYPE, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})


def read(query: bytes, usual: int) -> tuple[str, int] | None:
    """User and k of a query that holds the two (or the user alone) and nothing else; None for any other."""
    first, _, second = query.partition(b"&")
    if not first.startswith(b"user="):
        first, second = second, first
    if not first.startswith(b"user=") or b"&" in first or b"&" in second or b";" in query:
        return None
    k = usual
    if second:
        if not second.startswith(b"k=") or not _K.fullmatch(second[2:]):
            return None
        k = int(second[2:])
    try:
        user = first[5:].decode("ascii")
        if "%" in user or "+" in user:
            user = unquote_plus(user, errors="strict")
    except UnicodeDecodeError:
        return None
    return (user, k) if 0 < len(user) <= _LONGEST else None
