"""What a comparison comes to: leaderboards in the terminal and in files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from prismrec.cli.pursue import say

if TYPE_CHECKING:
    from prismrec.studies.study import Study

COLUMNS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


def conclude(study: Study, quiet: bool) -> None:
    """Print the leaderboard and write it: board.json, .md, .tex, .csv and a page."""
    from prismrec.data.sources import read
    from prismrec.errors import PrismError
    from prismrec.report import write_board
    from prismrec.studies import export
    from prismrec.studies.board import Board

    runs = study.runs()
    if not runs:
        raise PrismError(f"No arm of {study.folder} has all of its runs; nothing can be compared.")
    some = next(iter(runs.values()))[0]
    columns = [metric for metric in COLUMNS if all(metric in run.test.mean for arm in runs.values() for run in arm)]
    board = Board.of(runs, read(study.question.data.path), columns, some.metric, study.hosts)
    console = Console()
    export.show(console, board)
    files = export.write(board, study.folder)
    page = write_board(study.folder / "report.html", board, command=f"prismrec compare --resume {study.folder}")
    if not quiet:
        say(console, f"look at: {page}", "")
        say(console, f"written: {', '.join(str(file) for file in files)}", "")
