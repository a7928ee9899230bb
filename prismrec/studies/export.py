"""A leaderboard for other programs and for papers: terminal, Markdown, LaTeX, CSV, JSON.

Terminal, Markdown and LaTeX show ``sheets``, rounded. CSV and JSON hold full precision; JSON holds everything.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prismrec.io import write_text
from prismrec.studies.board import Board
from prismrec.studies.row import Comparison, Row
from prismrec.studies.sheets import Cell, Sheet, sheets

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text


def write(board: Board, folder: str | Path) -> list[Path]:
    """``board.json``, ``.md``, ``.tex`` and ``.csv`` into a folder."""
    folder = Path(folder)
    board.write(folder / "board.json")
    for suffix, text in TEXTS.items():
        write_text(folder / f"board.{suffix}", text(board))
    return [folder / f"board.{suffix}" for suffix in ("json", *TEXTS)]


# terminal


def show(console: Console, board: Board, full: bool = False) -> None:
    """Print the leaderboard, gains over hosts and costs; with ``full``, the other sheets too."""
    from rich.text import Text

    said: set[str] = set()
    for sheet in sheets(board):
        if full or sheet.name in ("board", "gains", "costs"):
            for table in _fitting(console, sheet):
                console.print(table)
            new = [note for note in sheet.notes if note not in said]  # who reads on need not be told twice
            said.update(new)
            console.print(Text(" ".join(new), style="dim"))
            console.print()


def _fitting(console: Console, sheet: Sheet) -> Iterator[Table]:
    """One table, or several of about equal width with the first column repeated, so that none is wider than the console."""
    columns = len(sheet.columns) - 1
    for pieces in range(1, columns + 1):
        size = -(-columns // pieces)
        parts = [sheet.cut(start, start + size) for start in range(1, columns + 1, size)]
        if size == 1 or all(_width(console, part) <= console.width for part in parts):
            yield from (_table(part, title=part is parts[0]) for part in parts)
            return


def _width(console: Console, sheet: Sheet) -> int:
    return console.measure(_table(sheet), options=console.options.update(width=10_000)).maximum


def _table(sheet: Sheet, title: bool = False) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    above = Text(sheet.title, style="bold") if title else None
    table = Table(title=above, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    columns = []
    for i, name in enumerate(sheet.columns):
        head = Text(name, justify="left" if i < sheet.words else "right")
        table.add_column(head, no_wrap=True, overflow="fold" if i == 0 else "ellipsis")
        cells = [row[i] for row in sheet.rows]
        columns.append([Text(cell.text) for cell in cells] if i < sheet.words else _aligned(cells, len(name)))
    for drawn in zip(*columns, strict=True):
        table.add_row(*drawn)
    return table


def _widest(cells: Sequence[Cell]) -> tuple[str, str]:
    """What takes the most room beside the figures of a column: they stand below each other only if all leave that room."""
    return max((cell.aside for cell in cells), key=len), max((cell.marks for cell in cells), key=len)


def _aligned(cells: Sequence[Cell], least: int) -> list[Text]:
    """The cells of a column at least so wide, figures below each other whatever stands beside them."""
    from rich.text import Text

    beside = [len(text) + 1 if text else 0 for text in _widest(cells)]
    room = max(least - sum(beside), *(len(cell.text) for cell in cells))
    out = []
    for cell in cells:
        text = Text(" " * (room - len(cell.text))).append(cell.text, style=("", "bold", "underline")[cell.place])
        text.append(cell.aside.rjust(beside[0]), style="dim").append(cell.marks and f" {cell.marks}")
        out.append(text)
    return out


# Markdown


def markdown(board: Board) -> str:
    """A section for each sheet. The best is bold, the second is underlined by ``<ins>``, which GitHub shows."""
    return "\n".join(_section(sheet) for sheet in sheets(board))


def _section(sheet: Sheet) -> str:
    rule = ["---" if i < sheet.words else "---:" for i in range(len(sheet.columns))]
    lines = [list(map(_escaped_md, sheet.columns)), rule, *([_cell_md(cell) for cell in row] for row in sheet.rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"## {_escaped_md(sheet.title)}\n\n{table}\n\n{_escaped_md(sheet.note)}\n"


def _cell_md(cell: Cell) -> str:
    before, after = (("", ""), ("**", "**"), ("<ins>", "</ins>"))[cell.place]
    text = f"{before}{_escaped_md(cell.text)}{after}"
    return text + (f" {cell.aside}" if cell.aside else "") + (f" {cell.marks}" if cell.marks else "")


def _escaped_md(text: str) -> str:
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("&", "&amp;").replace("\n", " ")


# LaTeX

_SIGNS: Mapping[str, str] = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "[": "{[}", "]": "{]}", "*": "{*}",  # \\[ and \\* mean something
    "<": r"$<$", ">": r"$>$", "|": r"$|$", "±": r"$\pm$", "−": r"$-$", "≈": r"$\approx$", "↑": r"$\uparrow$",
    "↓": r"$\downarrow$", "–": "--", "“": "``", "”": "''", '"': "''", "≥": r"$\geq$", "≤": r"$\leq$", "\n": " ",
    "\N{THIN SPACE}": r"\,",
}  # fmt: skip


_PREAMBLE = r"""% In the preamble of the document: \usepackage{booktabs} \usepackage{graphicx}
% Across both columns: write table* for table.
\providecommand{\fitted}[1]{\sbox0{#1}\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi}
"""


def latex(board: Board) -> str:
    """A ``table`` for each sheet, for a document that loads booktabs and graphicx; what is too wide is made smaller."""
    return "\n".join([_PREAMBLE, *(_float(sheet) for sheet in sheets(board))])


def _float(sheet: Sheet) -> str:
    columns = "".join("l" if i < sheet.words else "r" for i in range(len(sheet.columns)))
    widest = [_widest([row[i] for row in sheet.rows])[0] for i in range(len(sheet.columns))]
    rows = [" & ".join(map(_cell_tex, row, widest)) + r" \\" for row in sheet.rows]
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{_escaped_tex(sheet.title)}. {_escaped_tex(sheet.note)}}}",
            rf"\label{{tab:{sheet.name}}}",
            r"\small",
            rf"\fitted{{\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(map(_escaped_tex, sheet.columns)) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def _cell_tex(cell: Cell, aside: str) -> str:
    """A cell of a column whose widest aside is this one."""
    text = (r"{}", r"\textbf{{{}}}", r"\underline{{{}}}")[cell.place].format(_escaped_tex(cell.text))
    if cell.aside:
        text += rf"\,{{\scriptsize {_escaped_tex(cell.aside)}}}"
    elif aside:
        text += rf"\,{{\scriptsize\phantom{{{_escaped_tex(aside)}}}}}"
    marks = "".join({"↑": r"\uparrow", "↓": r"\downarrow", "≈": r"\approx"}[mark] for mark in cell.marks)
    return text + (rf"\rlap{{$^{{{marks}}}$}}" if marks else "")


def _escaped_tex(text: str) -> str:
    return "".join(_SIGNS.get(sign, sign) for sign in text.replace(" %", "\N{THIN SPACE}%"))


# CSV


def table(board: Board) -> str:
    """CSV: a line for each arm, full precision; an empty cell where there is no value.

    Columns: what the arm is; for each metric its mean, sd, interval; the comparison with the host and with the best in each
    metric; costs. What is told of groups of users is in the JSON.
    """
    lines = [dict(_line(row, board)) for row in board.rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _line(row: Row, board: Board) -> Iterator[tuple[str, object]]:
    yield from (("arm", row.arm), ("model", row.model), ("plugins", "+".join(row.plugins)))
    yield "seeds", " ".join(map(str, row.seeds))
    for m, found in row.metrics.items():
        yield from (
            (f"{m} {key}" if key != "mean" else m, _cell(getattr(found, key))) for key in ("mean", "sd", "low", "high")
        )
    for against in ("host", "best"):
        named: Mapping[str, Comparison] = getattr(row, f"against_{against}")
        for m in board.metrics:
            if any(m in other.against_best or m in other.against_host for other in board.rows):
                for key in (
                    "other",
                    "mean",
                    "low",
                    "high",
                    "p",
                    "p_holm",
                    "d",
                    "won",
                    "lost",
                    "seeds_won",
                    "seeds",
                    "p_seeds",
                ):
                    yield f"{m} vs {against} {key}", _cell(getattr(named[m], key)) if m in named else ""
    for key, value in row.cost:
        yield key, _cell(value)


def _cell(value: object) -> object:
    return "" if value is None else repr(value) if isinstance(value, float) else value


TEXTS: Mapping[str, Callable[[Board], str]] = {"md": markdown, "tex": latex, "csv": table}
"""Suffix of a file → what writes its content."""
