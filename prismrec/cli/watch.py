"""What a person sees while a run trains: a live line in a terminal, plain lines elsewhere, nothing when asked."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:  # these two import torch, and whoever only wants the clock would wait for it
    from prismrec.checkpoint import Progress
    from prismrec.train import TrainConfig

_PAUSE = 2.0  # seconds between plain lines, so that a log of quick epochs stays readable


class Foot:
    """The line at the foot of a terminal that changes while something long goes on; elsewhere ``live`` is None.

    ``opening`` is what it says first.
    """

    def __init__(self, console: Console, opening: str) -> None:
        self.console, self.opening = console, opening
        live = console.is_terminal and not console.quiet
        self.live = Live(console=console, transient=True, refresh_per_second=8) if live else None

    def __enter__(self) -> Self:
        if self.live is None:
            say(self.console, self.opening, "dim")
        else:
            self.live.start()
            self.live.update(Text(self.opening, style="dim"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.live is not None:
            self.live.stop()


class Screen(Foot):
    """A Watcher for people. ``rows``: training rows an epoch, for the speed; ``label``: what is trained."""

    def __init__(self, console: Console, cfg: TrainConfig, rows: int, label: str) -> None:
        # neighbours of all items, or a matrix to invert: this can take longer than an epoch
        super().__init__(console, f"building {label}: tables, graphs, whatever is closed form …")
        self.cfg, self.rows, self.label = cfg, rows, label
        self.last = ""
        self.shown = float("-inf")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        super().__exit__(kind, error, at)
        if self.live is not None and self.last:
            say(self.console, self.last)

    def step(self, epoch: int, done: int, of: int) -> None:
        """Show how far the epoch is; only a live line has room for that."""
        if self.live is not None and (done == of or done % 8 == 0):
            filled = round(20 * done / of)
            bar = "━" * filled + "╌" * (20 - filled)
            self.live.update(Text(f"epoch {epoch} {bar} {done}/{of}\n{self.last}", overflow="ellipsis", no_wrap=True))

    def epoch(self, record: dict[str, Any], progress: Progress) -> None:
        """Show an epoch's terms, metric, speed and the time that is left at least."""
        self.last = self.line(record, progress)
        now = time.monotonic()
        if self.live is None and (progress.done or record["epoch"] <= 3 or now - self.shown >= _PAUSE):
            say(self.console, self.last)
            self.shown = now

    def line(self, record: dict[str, Any], progress: Progress) -> str:
        """One epoch in one line."""
        parts = [f"epoch {record['epoch']:>4}"]
        if record["valid"]:
            value = record["valid"][self.cfg.metric]
            parts.append(f"{self.cfg.metric} {value:.4f} (best {progress.best:.4f} at {progress.best_epoch})")
        parts.append(f"{record['seconds'] + record['seconds_evaluation']:.2f} s")
        if not progress.done:
            least, most = self.left(progress)
            parts.append(f"left {clock(least)} to {clock(most)}" if most > least else f"left {clock(most)}")
        parts += [f"{name} {value:.4g}" for name, value in record["terms"].items()]
        parts.append(f"{self.rows / max(record['seconds'], 1e-9) / 1000:,.0f}k rows/s")
        return "  ".join(parts)

    def left(self, progress: Progress) -> tuple[float, float]:
        """Seconds until training stops if nothing improves any more, and until its budget is spent."""
        pace = progress.seconds / progress.epoch
        budget = (self.cfg.epochs - progress.epoch) * pace
        if self.cfg.seconds:
            budget = min(budget, self.cfg.seconds - progress.seconds)
        waited = progress.epoch - progress.best_epoch
        return min(max(self.cfg.patience * self.cfg.every - waited, 0) * pace, budget), budget


def say(console: Console, text: str, style: str = "") -> None:
    """A line of plain text, as wide as it is."""
    console.print(text, style=style, markup=False, emoji=False, highlight=False, soft_wrap=True)


def interrupted(command: str) -> None:
    """Say how to go on after Ctrl-C: with ``command``."""
    say(Console(stderr=True), f"Interrupted. Go on with: {command}")


def pace(ended: int, seconds: float) -> str:
    """``3.2 a minute`` or ``5.0 an hour``."""
    rate = 60 * ended / max(seconds, 1e-9)
    return f"{rate:.1f} a minute" if rate >= 1 else f"{60 * rate:.1f} an hour"


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
