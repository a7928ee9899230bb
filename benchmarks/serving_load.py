"""Load on a service, from a process of its own: so many connections, as fast as answers come or at a rate of its own.

At a rate, requests are due at random times (a Poisson process) whether or not earlier ones were answered, and a latency counts
from when a request was due: a service that stalls is not spared the requests that it kept waiting.

A connection that breaks before its answer is made anew and the request, which changes nothing, sent again: what any client
does, and how often is counted. A request is lost when five tries bring no answer, or one other than 200.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_TRIES = 5
_HEAD = b"\r\n\r\n"


class Line(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.answer: asyncio.Future[bytes] | None = None
        self._read = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        end = self._read.find(_HEAD)
        if end < 0:
            return
        head = self._read[:end].lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(self._read) >= end + 4 + length and self.answer is not None and not self.answer.done():
            self.answer.set_result(self._read)
            self._read = b""

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(ConnectionResetError())


@dataclass
class Told:
    """What came of it."""

    seconds: list[float] = field(default_factory=list)
    lost: int = 0
    again: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    personal: int = 0


async def ask(line: Line | None, host: str, port: int, request: bytes, told: Told) -> tuple[Line | None, bytes]:
    """An answer, and the line for the next request."""
    loop = asyncio.get_running_loop()
    for left in reversed(range(_TRIES)):
        try:
            if line is None or line.transport is None or line.transport.is_closing():
                _, line = await loop.create_connection(Line, host, port)
            line.answer = loop.create_future()
            line.transport.write(request)
            return line, await asyncio.wait_for(line.answer, 15)
        except (OSError, TimeoutError):
            line = None
            if left:
                told.again += 1
                await asyncio.sleep(0.02)
    return None, b""


async def load(
    host: str, port: int, users: list[str], lines: int, rate: float, seconds: float, expected: dict[str, Any], k: int
) -> Told:
    """``expected``: version → user → items, against which answers are held where they are in it."""
    told, rng = Told(), random.Random(0)
    requests = [
        (user, f"GET /recommend?user={user}&k={k} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()) for user in users
    ]
    begin = time.perf_counter() + 0.2
    due = begin

    async def work() -> None:
        nonlocal due
        line: Line | None = None
        while True:
            if rate:
                at, due = due, due + rng.expovariate(rate)
                if at > begin + seconds:
                    return
                wait = at - time.perf_counter()
                if wait > 0:
                    await asyncio.sleep(wait)
            else:
                at = time.perf_counter()
                if at > begin + seconds:
                    return
            user, request = rng.choice(requests)
            line, answer = await ask(line, host, port, request, told)
            told.seconds.append(time.perf_counter() - at)
            status = answer[9:12].decode()
            told.statuses[status or "none"] += 1
            told.personal += b'"basis":"user"' in answer
            if status != "200":
                told.lost += 1
            elif expected:
                body = json.loads(answer[answer.index(_HEAD) + 4 :])
                told.versions[body["version"]] += 1
                known = expected.get(body["version"], {}).get(user)
                told.wrong += known is not None and known != [card["item"] for card in body["items"]]

    await asyncio.gather(*(work() for _ in range(lines)))
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--form", default="{}", help="of the n-th user's id")
    parser.add_argument("--lines", type=int, default=32)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; 0: as fast as answers come")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--expected", action="store_true", help="read what is expected, as JSON, from stdin")
    args = parser.parse_args()
    expected = json.load(sys.stdin) if args.expected else {}
    import uvloop

    users = [args.form.format(n) for n in range(args.users)]
    told = uvloop.run(load(args.host, args.port, users, args.lines, args.rate, args.seconds, expected, args.k))
    ordered = sorted(told.seconds)

    def at(share: float) -> float:
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

    print(json.dumps({
        "requests": len(ordered), "per_second": len(ordered) / args.seconds, "p50": at(0.5), "p99": at(0.99), "p999": at(0.999),
        "max": at(1.0), "lost": told.lost, "again": told.again, "statuses": told.statuses, "versions": told.versions,
        "wrong": told.wrong, "personal": told.personal,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
