"""A line of JSON for each thing that happened, written by a thread of its own so that no request waits for a pipe."""

from __future__ import annotations

import queue
import sys
import threading
import time
from typing import Any, TextIO

_MOST = 100_000  # lines that may wait: beyond, the newest are dropped and counted


class Log:
    """Lines to ``out`` (stderr). Each holds ``time`` (UTC, ISO 8601), ``event`` and whatever belongs to it."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out
        self._lines: queue.SimpleQueue[tuple[float, str, dict[str, Any]] | None] = queue.SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def say(self, event: str, **details: Any) -> None:
        """Write a line, soon."""
        if self._lines.qsize() >= _MOST:
            self._dropped += 1
            return
        self._lines.put((time.time(), event, details))

    def close(self) -> None:
        """Write what is left, for two seconds at most."""
        self._lines.put(None)
        self._thread.join(2)

    def _write(self) -> None:
        import orjson

        open_ = True
        while open_:
            waiting = [self._lines.get()]
            time.sleep(0.05)  # many lines, one write
            while not self._lines.empty():
                waiting.append(self._lines.get())
            open_ = None not in waiting
            lines = []
            for line in waiting:
                if line is None:
                    continue
                at, event, details = line
                when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"
                lines.append(orjson.dumps({"time": when, "event": event, **details}, default=str).decode())
            if self._dropped:
                lines.append(f'{{"event":"log-dropped","lines":{self._dropped}}}')
                self._dropped = 0
            try:
                out = self._out or sys.stderr
                out.write("".join(line + "\n" for line in lines))
                out.flush()
            except (OSError, ValueError):
                return  # nobody listens any more; the service goes on
