"""What Prometheus is told."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Histogram

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_TOGETHER = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHARED = "PROMETHEUS_MULTIPROC_DIR"  # set before the library is imported: then all workers count together


class Metrics:
    """Counters of one application, in a registry of their own."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        registry = CollectorRegistry()
        self._registry = registry
        self.requests = Counter(
            "prismrec_requests", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self.seconds = Histogram(
            "prismrec_request_seconds", "From a request's head to its answer.", ["route"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.refused = Counter(
            "prismrec_refused", "Requests turned away at the gate: key, rate, size, host, load, time.", ["reason"],
            registry=registry,
        )  # fmt: skip
        self.waiting = Gauge(
            "prismrec_requests_in_progress", "Requests being answered.", multiprocess_mode="livesum", registry=registry
        )
        self.lists = Counter(
            "prismrec_lists", "Lists made: for a known user, a session, or of popular items.", ["kind"],
            registry=registry,
        )  # fmt: skip
        self.together = Histogram(
            "prismrec_ranked_together", "Users ranked in one block.", buckets=_TOGETHER, registry=registry
        )
        self.swaps = Counter("prismrec_swaps", "New exports met.", ["export", "outcome"], registry=registry)
        self.loaded = Gauge(
            "prismrec_export_loaded_timestamp_seconds", "When the export was loaded, since 1970.", ["export"],
            multiprocess_mode="mostrecent", registry=registry,
        )  # fmt: skip
        self._timers: dict[str, Histogram] = {}
        self._counters: dict[tuple[str, str, int], object] = {}

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer."""
        key = (route, method, status)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self.requests.labels(route, method, str(status))
            self._timers.setdefault(route, self.seconds.labels(route))
        counter.inc()  # type: ignore[attr-defined]
        self._timers[route].observe(seconds)

    def text(self) -> tuple[bytes, str]:
        """All of it in Prometheus' text format, and its media type."""
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = self._registry
        if os.environ.get(SHARED):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST
