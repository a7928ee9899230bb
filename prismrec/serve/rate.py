"""How often one client may ask: a token bucket each."""

from __future__ import annotations

from collections import OrderedDict

_CLIENTS = 10_000  # those who asked least recently go first: their buckets are full again anyway


class Rate:
    """``per_second`` requests in the long run, ``burst`` at once (at least one; 0: what a second brings)."""

    def __init__(self, per_second: float, burst: int = 0) -> None:
        self._per_second = per_second
        self._most = float(max(1, burst or round(per_second)))
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str, now: float) -> float:
        """Take a token: 0, or in how many seconds there will be one."""
        tokens, before = self._buckets.pop(client, (self._most, now))
        tokens = min(self._most, tokens + (now - before) * self._per_second)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) / self._per_second
