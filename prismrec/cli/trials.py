"""What a person sees of a search: its question, its trials as they end, what it came to."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from prismrec.cli.tables import number, stdout
from prismrec.cli.watch import clock, pace, say
from prismrec.space import Choice, Dimension, short_path, span, word
from prismrec.studies.search import Search, Trial, best_of

_SHOWN = 5  # trials in the table at the end
_NEAR = 0.03  # share of a range that counts as its end


def announce(console: Console, search: Search) -> None:
    """What is searched, how, for how long, and what of it is done."""
    asked, threads = search.asked, search.threads
    budget = [f"{search.limit:,} trials"] if search.limit else []
    budget += [f"{asked.hours:g} hours"] if asked.hours else []
    at_a_time = f"{search.jobs} at a time, {threads} thread{'s' * (threads > 1)} each"
    say(console, f"{search.cfg.label} on {asked.data.name}: {search.metric} on validation, {' or '.join(budget)}, {at_a_time}",
         "bold")  # fmt: skip
    how = f"sampler {asked.sampler} · pruner {asked.pruner} · protocol {search.cfg.run.protocol} · seed {search.cfg.run.seed}"
    say(console, f"{how} · study folder: {search.folder}")
    for key, dimension in search.space.items():
        say(console, f"  {key}: {span(dimension)}", "dim")
    begun, stopped = len(search.trials()), len(search.interrupted)
    if begun:
        say(console, f"{begun} trials stand{f', of which {stopped} were interrupted and go on' if stopped else ''}.")


def at_an_end(dimension: Dimension, value: Any) -> bool:
    """Whether a value lies at an end of a range that could as well have gone on: 0 and 1 end by nature, so do short ones."""
    if isinstance(dimension, Choice) or (dimension.whole and dimension.high - dimension.low < 4):
        return False
    low, high = dimension.ends()
    scale = math.log if dimension.log else float
    share = (scale(value) - scale(low)) / (scale(high) - scale(low))
    return (share < _NEAR and low != 0) or (share > 1 - _NEAR and high != 1)


class Progress:
    """A line for each trial that ends; in a terminal also where those stand that are being trained."""

    def __init__(self, console: Console, search: Search) -> None:
        self.console, self.search = console, search
        self.began, self.ends = time.monotonic(), 0
        live = console.is_terminal and not console.quiet
        self.live = (
            Live(console=console, transient=True, get_renderable=self._standing, refresh_per_second=1) if live else None
        )

    def __enter__(self) -> Self:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.live is not None:
            self.live.stop()

    def ended(self, trial: Trial) -> None:
        """Show what a trial came to, how fast trials go, and the time that is left."""
        self.ends += 1
        trials = self.search.trials()
        self.console.print(self.line(trial, trials), markup=False, highlight=False, soft_wrap=True)

    def line(self, trial: Trial, trials: list[Trial]) -> str:
        """One trial in one line."""
        best = best_of(trials)
        parts = [f"trial {trial.number:>4}"]
        if trial.state == "failed":
            parts.append(f"failed: {trial.error}")
        else:
            parts.append(f"{self.search.metric} {trial.value:.4f}")
            if best is not None:
                parts.append(
                    "the best so far" if best.number == trial.number else f"(best {best.value:.4f} of {best.number})"
                )
            cut = ", cut short" if trial.state == "pruned" else ""
            parts.append(f"{trial.epochs} epochs in {clock(trial.seconds or 0)}{cut}")
        parts.append(self.pace(sum(t.state != "running" for t in trials)))
        parts += [f"{short_path(key)} {word(value)}" for key, value in trial.settings.items()]
        return "  ".join(parts)

    def pace(self, done: int) -> str:
        """How many are done, how fast, and how long the rest takes at most."""
        elapsed = time.monotonic() - self.began
        limit, hours = self.search.limit, self.search.asked.hours
        left = [(limit - done) * elapsed / self.ends] if limit else []
        left += [3600 * hours - self.search.seconds] if hours else []
        rest = clock(max(0.0, min(left, default=0.0)))
        return f"{done}{f' of {limit:,}' if limit else ''}, {pace(self.ends, elapsed)}, left {rest}"

    def _standing(self) -> Group:
        return Group(*(self._standing_of(n) for n in sorted(self.search.doing)))

    def _standing_of(self, n: int) -> Text:
        log = self.search.folder_of(n) / "metrics.jsonl"
        try:
            records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError):  # not begun, or the line is being written
            records = []
        known = [record["valid"][self.search.metric] for record in records if record["valid"]]
        stand = f"epoch {len(records)}, {self.search.metric} {max(known):.4f}" if known else "being built …"
        return Text(f"trial {n:>4}  {stand}", style="dim", overflow="ellipsis", no_wrap=True)


def conclude(search: Search, page: Path, quiet: bool) -> None:
    """The best trials, what mattered, and where it is written; ``page``: its report."""
    console, trials = stdout(), search.trials()
    best = best_of(trials)
    counts = Counter(trial.state for trial in trials)
    if best is not None:
        console.print(best_table(search, trials))
    if quiet:
        return
    say(
        console,
        f"{len(trials)} trials: {', '.join(f'{n} {state}' for state, n in counts.items())}; {clock(search.seconds)} here",
    )
    if counts["running"]:
        say(console, "Another machine is still at some of them; the same command shows what they came to.")
    failed = [trial for trial in trials if trial.state == "failed"]
    if failed:
        say(console, f"trial {failed[-1].number} failed: {failed[-1].error}")
    say(console, f"look at: {page} (every trial is in {search.place / 'search.json'})")
    if best is not None:
        for key, value in best.settings.items():
            if at_an_end(search.space[key], value):
                told = f"{short_path(key)} {word(value)} lies at the end of its range, {span(search.space[key])}"
                say(console, f"{told}: a wider one may hold better (--space FILE.yaml)")
        where = search.place / "best.yaml"
        say(console, f"best settings: {where}")
        say(console, f"next: prismrec train {search.asked.data.path} --config {where}")


def best_table(search: Search, trials: list[Trial]) -> Table:
    """The best trials side by side, a setting a line, with its share of what mattered where enough were trained."""
    ranked = sorted(
        (t for t in trials if t.state == "complete" and t.value is not None), key=lambda t: (-(t.value or 0), t.number)
    )
    shown, shares = ranked[:_SHOWN], search.importance()
    table = Table(box=box.SIMPLE_HEAD, padding=0, header_style="bold")
    table.add_column("trial", no_wrap=True)
    for trial in shown:
        table.add_column(str(trial.number), justify="right", no_wrap=True)
    if shares:
        table.add_column("importance", justify="right", no_wrap=True)
    table.add_row(search.metric, *(number(trial.value or 0) for trial in shown))
    table.add_row("epochs", *(str(trial.epochs) for trial in shown))
    table.add_row("time", *(clock(trial.seconds or 0) for trial in shown), end_section=True)
    for key in shares or search.space:
        share = [f"{shares[key]:.0%}"] if shares else []
        table.add_row(Text(short_path(key)), *(Text(word(trial.settings[key])) for trial in shown), *share)
    return table
