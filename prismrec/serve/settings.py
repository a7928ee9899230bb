"""What whoever runs the service decides: where it listens, who may ask, and how much."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})


class Settings(BaseModel):
    """Settings of a service. Times are in seconds, sizes in bytes.

    ``exports``: name → folder; the first is what a request gets that names none. ``rate``: requests a second that one client
    may make in the long run, ``burst``: at once; 0: no limit. ``forgotten``: the file that remembers, by digest, which users
    were forgotten; None: a temporary one that goes with the service. ``hosts``: names under which the service may be asked, as
    the Host header has them; empty: any, but on loopback only its own names, lest a page elsewhere reads it by rebinding DNS.
    ``proxy``: addresses whose X-Forwarded-For is believed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    exports: dict[str, Path] = Field(min_length=1, max_length=8)
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=256)
    threads: int = Field(default=1, ge=1, le=256)
    api_key: SecretStr | None = None
    max_k: int = Field(default=100, ge=1, le=100_000)
    max_batch: int = Field(default=1000, ge=1, le=1_000_000)
    max_body: int = Field(default=1 << 20, ge=1 << 10)
    max_waiting: int = Field(default=512, ge=1)
    rate: float = Field(default=0.0, ge=0)
    burst: int = Field(default=0, ge=0)
    timeout: float = Field(default=10.0, gt=0)
    watch: float = Field(default=1.0, gt=0)
    proxy: str | None = None
    hosts: tuple[str, ...] = ()
    log: bool = True
    page: bool = True
    forgotten: Path | None = None

    @property
    def first(self) -> str:
        """The export that a request gets which names none."""
        return next(iter(self.exports))

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Names that a Host header may have, in lower case without a port; empty: any."""
        own = LOOPBACK if self.host in LOOPBACK else frozenset()
        return frozenset(host.lower() for host in self.hosts) | own if self.hosts or own else frozenset()
