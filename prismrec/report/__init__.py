"""Self-contained HTML pages of a run, of several, of a study, of a diagnosis: no network, light and dark."""

from prismrec.report.board import write_board
from prismrec.report.diagnosis import write_diagnosis
from prismrec.report.leaderboard import leaderboard_rows, write_leaderboard
from prismrec.report.run import write_run_report
from prismrec.report.search import write_search
from prismrec.report.study import write_study

__all__ = [
    "leaderboard_rows",
    "write_board",
    "write_diagnosis",
    "write_leaderboard",
    "write_run_report",
    "write_search",
    "write_study",
]
