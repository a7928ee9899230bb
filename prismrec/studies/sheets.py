"""What a leaderboard shows people, as tables of text that know no format: which cell is best, which gain is significant.

Terminal, Markdown and LaTeX draw the same sheets (``export``). Numbers are rounded here and nowhere before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from prismrec.metrics import OF_HITS, Metric
from prismrec.studies.board import Board
from prismrec.studies.groups import PLACED_BY
from prismrec.studies.row import LEVEL, Comparison, Row

NONE = "–"
"""Where there is nothing to say."""

_HOST = "The host of an arm is what it builds on; of one that builds on none, the strongest arm without training."


@dataclass(frozen=True)
class Cell:
    """``text``, what is said ``aside`` in smaller type, the ``marks`` of tests; ``place`` 1 is the best, 2 the second."""

    text: str
    aside: str = ""
    marks: str = ""
    place: int = 0


@dataclass(frozen=True)
class Sheet:
    """A table: ``name`` for files and labels; ``notes`` say how to read it; the first ``words`` columns hold names."""

    name: str
    title: str
    notes: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: int = 1

    @property
    def note(self) -> str:
        """The notes in one paragraph."""
        return " ".join(self.notes)

    def cut(self, start: int, stop: int) -> Sheet:
        """Its first column and those from ``start`` to ``stop``."""
        rows = tuple((row[0], *row[start:stop]) for row in self.rows)
        words = 1 + len(range(start, min(stop, self.words)))
        return replace(self, columns=(self.columns[0], *self.columns[start:stop]), rows=rows, words=words)


def sheets(board: Board) -> list[Sheet]:
    """All that a board has to say; a sheet without rows is left out."""
    made = [leaderboard(board), gains(board), rivals(board), *by_group(board), costs(board)]
    return [sheet for sheet in made if sheet.rows]


def leaderboard(board: Board) -> Sheet:
    """Arms and metrics: mean ± standard deviation over seeds, best and second, marks of both tests."""
    places = {m: _places(board, m) for m in board.metrics}
    rows = [
        (
            Cell(row.arm),
            Cell(str(len(row.seeds))),
            *(
                Cell(
                    number(found.mean),
                    "" if found.sd is None else f"± {number(found.sd)}",
                    _marks(row, m),
                    places[m][i],
                )
                for m, found in row.metrics.items()
            ),
        )
        for i, row in enumerate(board.rows)
    ]
    marks = "".join(cell.marks for row in rows for cell in row)
    said = {
        "↑": ("↑, ↓: significantly better, worse than its host.", _HOST),
        "≈": ("≈: not significantly below the best.",),
    }
    notes = (
        "Mean ± standard deviation over seeds; the best in bold, the second underlined.",
        *(text for mark, texts in said.items() if mark in marks.replace("↓", "↑") for text in texts),
        *tested(board),
    )
    title = f"{board.data.name}, {board.part} part, protocol “{board.protocol}”"
    return Sheet("board", title, notes, ("arm", "seeds", *board.metrics), tuple(rows))


def tested(board: Board) -> tuple[str, ...]:
    """The test and its correction, in a sentence; nothing where nothing is compared."""
    asked = [c for row in board.rows for found in (row.against_best, row.against_host) for c in found.values()]
    if not asked:
        return ()
    known = sum(c.p_seeds is not None for c in asked)
    runs = ", with the variance between runs added" if known else ""
    if 0 < known < len(asked):
        runs += " where both sides have several"
    if not known:
        runs = "; one run each, so the luck of a seed is not in it"
    return (
        f"Two-sided paired t-test over the {board.data.tested:,} users of values averaged over seeds{runs}; p corrected by "
        f"Holm over the arms of a column; significant: p < {LEVEL:g}.",
    )


def gains(board: Board) -> Sheet:
    """Each arm against its host, in the main metric."""
    notes = (
        _HOST,
        "In brackets: 95 % bootstrap interval over users. p (users): the trained models taken as given; p (seeds): with the "
        "variance between runs; p (Holm): the latter, or else the former, corrected. d: Cohen's d of paired differences. "
        "won : lost: shares of users with a larger, a smaller value, averaged over seeds. seeds: pairs of runs won.",
        *tested(board),
    )
    found = [(row, row.against_host[board.metric]) for row in board.rows if board.metric in row.against_host]
    return _comparisons(board, "gains", f"Gain in {board.metric} over the host", notes, found)


def rivals(board: Board) -> Sheet:
    """Each arm against the best, in the main metric."""
    notes = ("The best was chosen by the figures that it is tested on, which favours it a little.", *tested(board))
    found = [(row, row.against_best[board.metric]) for row in board.rows if board.metric in row.against_best]
    return _comparisons(board, "rivals", f"Difference in {board.metric} from the best", notes, found)


def _comparisons(
    board: Board, name: str, title: str, notes: tuple[str, ...], found: Sequence[tuple[Row, Comparison]]
) -> Sheet:
    columns = (
        "arm",
        "against",
        "difference",
        "95 % interval",
        "relative",
        "p (users)",
        "p (seeds)",
        "p (Holm)",
        "d",
        "won : lost",
        "seeds",
    )
    rows = tuple(
        (
            Cell(row.arm),
            Cell(c.other),
            Cell(signed(c.mean), marks="↑" if c.verdict > 0 else "↓" if c.verdict < 0 else ""),
            Cell(f"[{signed(c.low)}, {signed(c.high)}]"),
            Cell(_relative(c.mean, board.row(c.other).metrics[board.metric].mean)),
            Cell(chance(c.p)),
            Cell(NONE if c.p_seeds is None else chance(c.p_seeds)),
            Cell(chance(c.p_holm)),
            Cell(NONE if c.d is None else signed(c.d, 2)),
            Cell(shares(c.won, c.lost)),
            Cell(f"{c.seeds_won}/{c.seeds}"),
        )
        for row, c in found
    )
    return Sheet(name, title, notes, columns, rows, words=2)


def by_group(board: Board) -> list[Sheet]:
    """Gains over the host in each group of users: a sheet for each grouping that tells users apart."""
    made = []
    for by in dict.fromkeys(group.by for group in board.groups):
        places = [i for i, group in enumerate(board.groups) if group.by == by]
        if len(places) < 2:
            continue
        labels, unit = _unit([board.groups[i].label for i in places])
        heads = [f"{label} ({board.groups[i].users:,})" for label, i in zip(labels, places, strict=True)]
        rows = tuple(
            (Cell(row.arm), Cell(c.other), *(_gain(c, i) for i in places))
            for row in board.rows
            if (c := row.against_host.get(board.metric)) is not None
        )
        notes = (
            f"Groups by {PLACED_BY.get(by, unit)}, with their number of users.",
            f"Gain in {board.metric}; in brackets, users won : lost. ↑, ↓: its 95 % bootstrap interval lies above, below 0 "
            "(not corrected: there are many).",
        )
        made.append(
            Sheet(by.replace(" ", "-"), f"Gain over the host by {by}", notes, ("arm", "against", *heads), rows, words=2)
        )
    return made


def _gain(comparison: Comparison, place: int) -> Cell:
    gain = comparison.groups[place]
    mark = "↑" if gain.low > 0 else "↓" if gain.high < 0 else ""
    return Cell(signed(gain.mean), marks=mark, aside=f"({shares(gain.won, gain.lost)})")


def _unit(labels: Sequence[str]) -> tuple[list[str], str]:
    """Labels without the words that end all of them, and these words."""
    words = [label.split() for label in labels]
    common = 0
    while all(len(w) > common + 1 and w[-1 - common] == words[0][-1 - common] for w in words):
        common += 1
    return [" ".join(w[: len(w) - common]) for w in words], " ".join(words[0][len(words[0]) - common :])


def costs(board: Board) -> Sheet:
    """What each arm takes."""
    notes = (
        "Means over seeds; memory is the largest peak of a process. To best: seconds of training and validation up to the "
        "epoch that was kept. Inference: ranking all items once for every user with a held-out item.",
    )
    columns = (
        "arm",
        "s/epoch",
        "epochs",
        "best epoch",
        "s to best",
        "s in all",
        "s inference",
        "peak MB",
        "parameters",
    )
    rows = tuple(
        (
            Cell(row.arm),
            Cell(NONE if c.seconds_per_epoch is None else seconds(c.seconds_per_epoch)),
            *(Cell(f"{n:,.0f}" if c.epochs else NONE) for n in (c.epochs, c.best_epoch)),
            *(Cell(seconds(s)) for s in (c.seconds_to_best, c.seconds, c.inference_seconds)),
            Cell(NONE if c.peak_memory_mb is None else f"{c.peak_memory_mb:,.0f}"),
            Cell(f"{c.parameters:,}"),
        )
        for row in board.rows
        for c in [row.cost]
    )
    return Sheet("costs", "Costs", notes, columns, rows)


def _places(board: Board, metric: str) -> Mapping[int, int]:
    """Row → 1 where it prints as the best, 2 as the second; 0 for the rest, and in metrics of which more is not better."""
    out = dict.fromkeys(range(len(board.rows)), 0)
    if Metric.parse(metric).name in OF_HITS and len(board.rows) > 1:
        means = [row.metrics[metric].mean for row in board.rows]
        printed = list(dict.fromkeys(number(value) for value in sorted(means, reverse=True)))
        for i, value in enumerate(means):
            out[i] = {0: 1, 1: 2}.get(printed.index(number(value)), 0)
    return out


def _marks(row: Row, metric: str) -> str:
    host, best = row.against_host.get(metric), row.against_best.get(metric)
    gain = {1: "↑", -1: "↓"}.get(host.verdict, "") if host is not None else ""
    return gain + ("≈" if best is not None and best.verdict == 0 else "")


def number(value: float) -> str:
    """Four decimals, fewer where the number is large."""
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"


def signed(value: float, digits: int = 4) -> str:
    """With its sign: +0.0012, −0.0012; 0.0000 has none."""
    text = f"{value:+.{digits}f}"
    return text[1:] if not text.strip("+-0.") else text.replace("-", "−")


def chance(p: float) -> str:
    """A p-value: 0.031, < 0.001."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def shares(won: float, lost: float) -> str:
    """Shares of users: 12 : 9 %."""
    return f"{100 * won:.0f} : {100 * lost:.0f} %"


def seconds(value: float) -> str:
    """Three significant digits or so: 0.031, 4.21, 37.5, 1,204."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def _relative(gain: float, base: float) -> str:
    return NONE if base == 0 else f"{signed(100 * gain / base, 1)} %"
