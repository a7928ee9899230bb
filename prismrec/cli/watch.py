"""What a person sees while a run trains: a live line in a terminal, plain lines elsewhere, nothing when asked."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from prismrec.checkpoint import Progress
from prismrec.train import TrainConfig


class Screen:
    """A Watcher for people. ``rows``: training rows an epoch, for the speed."""

    def __init__(self, console: Console, cfg: TrainConfig, rows: int) -> None:
        self.console, self.cfg, self.rows = console, cfg, rows
        self.live = Live(console=console, transient=True, refresh_per_second=8) if console.is_terminal else None
        self.last = ""
        self.shown = float("-inf")

    def __enter__(self) -> Self:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.live is not None:
            self.live.stop()

    def step(self, epoch: int, done: int, of: int) -> None:
        """Show how far the epoch is; only a live line has room for that."""
        if self.live is not None and (done == of or done % 8 == 0):
            filled = round(20 * done / of)
            bar = "━" * filled + "╌" * (20 - filled)
            self.live.update(Text(f"epoch {epoch:>4} {bar} {done}/{of} batches   {self.last}", no_wrap=True))

    def epoch(self, record: dict[str, Any], progress: Progress) -> None:
        """Show an epoch's terms, metric, speed and the time that is left at most."""
        self.last = self.line(record, progress)
        now = time.monotonic()
        if self.live is None and (progress.done or record["epoch"] <= 3 or now - self.shown >= 2):
            self.console.print(f"epoch {record['epoch']:>4}  {self.last}", highlight=False, soft_wrap=True)
            self.shown = now

    def line(self, record: dict[str, Any], progress: Progress) -> str:
        """One epoch in one line."""
        terms = "  ".join(f"{name} {value:.4f}" for name, value in record["terms"].items())
        metric = ""
        if record["valid"]:
            value = record["valid"][self.cfg.metric]
            metric = f"  {self.cfg.metric} {value:.4f} (best {progress.best:.4f} at {progress.best_epoch})"
        pace = record["seconds"] + record["seconds_evaluation"]
        waited = progress.epoch - progress.best_epoch
        soonest = min(self.cfg.patience * self.cfg.every - waited, self.cfg.epochs - progress.epoch)
        left = max(soonest, 0) * pace
        speed = self.rows / max(record["seconds"], 1e-9)
        return f"{terms}{metric}  {pace:.2f} s  {speed / 1000:,.0f}k rows/s  stops in ≥ {_clock(left)}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
