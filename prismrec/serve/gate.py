"""What every request passes on its way in and out: host, key, rate, load, size, time; a number, a log line, the metrics."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import os
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException

from prismrec.serve.log import Log
from prismrec.serve.metrics import Metrics
from prismrec.serve.rate import Rate
from prismrec.serve.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

OPEN = frozenset({"/health", "/ready", "/", "/openapi.json"})
"""Paths that need no key: what a load balancer asks, and the page, which asks for the key itself."""
SAFE = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class _TooLarge(HTTPException):
    """Raised where the body is read, within FastAPI, which lets no other error through from there."""


class Refused(Exception):
    """A request that is not answered: a status and a sentence."""

    def __init__(self, status: int, sentence: str, reason: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.reason, self.headers = status, sentence, reason, headers


class Gate:
    """An ASGI application around another."""

    def __init__(self, app: App, settings: Settings, log: Log, metrics: Metrics) -> None:
        self._app, self._settings, self._log, self._metrics = app, settings, log, metrics
        self._rate = Rate(settings.rate, settings.burst) if settings.rate else None
        self._key = None if settings.api_key is None else _digest(settings.api_key.get_secret_value().encode())
        self._hosts = frozenset(host.encode() for host in settings.allowed_hosts)
        self._numbers = itertools.count(1)
        self._prefix = os.urandom(4).hex()
        self._waiting = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        number = f"{self._prefix}-{next(self._numbers)}"
        status, size, refused = 0, 0, ""

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *SAFE, (b"x-request-id", number.encode())]
            await send(message)

        async def receiving() -> Message:
            nonlocal size, refused
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._settings.max_body:
                refused = "size"
                raise _TooLarge(413, self._too_large())
            return message

        self._waiting += 1
        self._metrics.waiting.inc()
        try:
            self._admit(scope, start)
            async with asyncio.timeout(self._settings.timeout):
                await self._app(scope, receiving, sending)
        except Refused as no:
            refused = no.reason
            await _say(sending, no.status, no.sentence, no.headers)
        except TimeoutError:
            refused = "time"
            if not status:
                await _say(sending, 503, f"No answer within {self._settings.timeout:g} s. Ask for less, or later.")
        except Exception as error:
            self._log.say("fault", request=number, error=repr(error), trace=traceback.format_exc(limit=-6))
            if not status:
                await _say(sending, 500, f"A fault of the service; its log says more under {number}.")
        finally:
            self._waiting -= 1
            self._metrics.waiting.dec()
            seconds = time.perf_counter() - start
            route = getattr(scope.get("route"), "path_format", "other")
            self._metrics.answered(route, scope["method"], status, seconds)
            if refused:
                self._metrics.refused.labels(refused).inc()
            if self._settings.log:
                client = scope["client"][0] if scope.get("client") else None
                self._log.say("request", request=number, method=scope["method"], route=route, status=status,
                              ms=round(1000 * seconds, 3), client=client, refused=refused or None)  # fmt: skip

    def _admit(self, scope: Message, now: float) -> None:
        """Raise ``Refused`` for a request that may not come in."""
        settings, path = self._settings, scope["path"]
        host, key, length = b"", b"", b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"x-api-key":
                key = value
            elif name == b"authorization" and value[:7].lower() == b"bearer ":
                key = key or value[7:].strip()
            elif name == b"content-length":
                length = value
        if self._hosts and _without_port(host) not in self._hosts:
            raise Refused(400, "This service does not go by the name in the Host header; start it with --allow-host NAME.",
                          "host")  # fmt: skip
        if self._rate is not None and path not in ("/health", "/ready"):
            client = scope["client"][0] if scope.get("client") else ""
            wait = self._rate.wait(client, now)
            if wait:
                raise Refused(429, f"More than {settings.rate:g} requests a second. Ask again in {wait:.2f} s.", "rate",
                              ((b"retry-after", b"%d" % (int(wait) + 1)),))  # fmt: skip
        shut = self._key is not None and path not in OPEN and not path.startswith("/static/")
        if shut and not hmac.compare_digest(_digest(key), self._key or b""):
            raise Refused(401, "A key is needed, in the header Authorization (Bearer KEY) or X-API-Key.", "key",
                              ((b"www-authenticate", b"Bearer"),))  # fmt: skip
        if self._waiting > settings.max_waiting and path != "/health":
            raise Refused(503, "Too many requests at once. Ask again in a second.", "load", ((b"retry-after", b"1"),))
        if length and (not length.isdigit() or int(length) > settings.max_body):
            raise Refused(413, self._too_large(), "size", ((b"connection", b"close"),))

    def _too_large(self) -> str:
        return f"The body of a request may hold {self._settings.max_body:,} bytes."


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()  # of one length: comparing takes as long whatever was given


def _without_port(host: bytes) -> bytes:
    name, _, port = host.lower().rpartition(b":")
    return name if port.isdigit() else host.lower()


async def _say(send: Send, status: int, sentence: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    body = orjson.dumps({"detail": sentence})
    own = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body})
