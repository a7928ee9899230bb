"""Leaderboards in the terminal, Markdown, LaTeX and CSV: what stands there, and that each format takes it."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from boards import board, dataset, floor, hits, run, seeds, users
from rich.console import Console

from prismrec.studies import sheets
from prismrec.studies.board import Board, Data
from prismrec.studies.export import latex, markdown, show, table, write
from prismrec.studies.groups import GROUPINGS
from prismrec.studies.row import Comparison, Cost, Estimate, Gain, Group, Row
from prismrec.studies.sheets import Sheet

HOSTILE = r"[50%_of] \{x} & $5 #1 ~^ <b>*two*|`c` ~ “é”"


@pytest.fixture(scope="module")
def example() -> Board:
    return board()


def column(sheet: Sheet, name: str) -> list[str]:
    place = sheet.columns.index(name)
    return [row[place].text for row in sheet.rows]


def of(example: Board, name: str) -> Sheet:
    return next(sheet for sheet in sheets.sheets(example) if sheet.name == name)


# what is shown


def test_the_leaderboard_says_best_second_and_which_gains_are_real(example: Board) -> None:
    sheet = sheets.leaderboard(example)
    assert column(sheet, "arm") == [row.arm for row in example.rows] and column(sheet, "seeds") == list("33112")
    cells = [row[sheet.columns.index("recall@20")] for row in sheet.rows]
    assert [cell.text for cell in cells] == [f"{row.metrics['recall@20'].mean:.4f}" for row in example.rows]
    assert [cell.place for cell in cells] == [1, 2, 0, 0, 0]
    assert [cell.marks for cell in cells] == ["↑", "", "", "", "↓"]
    assert [bool(cell.aside) for cell in cells] == [True, True, False, False, True]
    assert cells[0].aside == f"± {example.best.metrics['recall@20'].sd:.4f}"
    assert {row[sheet.columns.index("coverage@20")].place for row in sheet.rows} == {0}  # no better, no worse
    assert "↑, ↓: significantly better" in sheet.note and "≈" not in sheet.note and "Holm" in sheet.note


def test_arms_that_print_alike_are_marked_alike_and_what_is_not_told_apart_says_so() -> None:
    base = hits(0.4, 1)
    almost = base + np.where(np.arange(len(base)) == 0, 1e-5, 0)
    found = sheets.leaderboard(board({"bpr": [run(values=almost)], "vbpr": [run("vbpr", values=base)],
                                      "grcn": [run("grcn", values=np.minimum(base, hits(0.5, 2)))]}))  # fmt: skip
    cells = [row[2] for row in found.rows]
    assert [cell.place for cell in cells] == [1, 1, 2] and [cell.marks for cell in cells] == ["", "≈", ""]
    assert "≈: not significantly below the best" in found.note and "↑" not in found.note


def test_gains_are_those_of_the_board(example: Board) -> None:
    sheet, compared = of(example, "gains"), example.best.against_host["recall@20"]
    assert column(sheet, "arm") == ["freedom+clear", "freedom", "freedom+infonce"]
    assert column(sheet, "against") == ["freedom", "ease", "freedom"]
    first = dict(zip(sheet.columns, sheet.rows[0], strict=True))
    assert first["difference"].text == f"{compared.mean:+.4f}" and first["difference"].marks == "↑"
    assert (
        first["p (users)"].text == first["p (Holm)"].text == "< 0.001"
        and first["seeds"].text == "3/3"
        and first["d"].text == f"{compared.d:+.2f}"
    )
    assert first["relative"].text == f"{100 * compared.mean / example.row('freedom').metrics['recall@20'].mean:+.1f} %"
    assert column(of(example, "rivals"), "against") == ["freedom+clear"] * 4


def test_groups_have_a_sheet_each_where_they_tell_users_apart(example: Board) -> None:
    names = [sheet.name for sheet in sheets.sheets(example)]
    assert names == [
        "board",
        "gains",
        "rivals",
        "activity",
        "popularity",
        "missing-features",
        "costs",
    ]  # no target is cold
    sheet = of(example, "activity")
    groups = [group for group in example.groups if group.by == "activity"]
    assert "the user's number of training items" in sheet.note and len(sheet.columns) == 2 + len(groups)
    assert sheet.columns[2] == f"{groups[0].label.removesuffix(' training items')} ({groups[0].users})"
    gain = example.best.against_host["recall@20"].groups[0]
    cell = sheet.rows[0][2]
    assert cell.text == f"{gain.mean:+.4f}" and cell.aside == f"({100 * gain.won:.0f} : {100 * gain.lost:.0f} %)"


def test_numbers_are_printed_as_people_read_them() -> None:
    assert [sheets.number(x) for x in (0.08214, 7.30011, 1234.56)] == ["0.0821", "7.3001", "1,234.6"]
    assert [sheets.signed(x) for x in (0.0012, -0.00125, 0.0, -1e-6)] == ["+0.0012", "−0.0013", "0.0000", "0.0000"]
    assert [sheets.chance(p) for p in (0.0, 0.00099, 0.0312, 1.0)] == ["< 0.001", "< 0.001", "0.031", "1.000"]
    assert [sheets.seconds(s) for s in (0.0314, 4.212, 37.51, 1204.4)] == ["0.031", "4.21", "37.5", "1,204"]


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "compare.md").read_text(encoding="utf-8")


def test_the_page_explains_every_column(example: Board) -> None:
    explained = {part.strip(" `*") for cell in re.findall(r"^\| ([^|]+) \|", PAGE, re.M) for part in cell.split(",")}
    for sheet in (of(example, "gains"), of(example, "costs")):
        missing = set(sheet.columns) - explained - {"arm", "against"}
        assert not missing, missing
    assert {"arm", "seeds", "a metric", "↑ ↓", "≈"} <= explained
    assert set(GROUPINGS) <= explained


def test_the_page_names_every_key_of_the_json() -> None:
    *_, shape = re.findall(r"^```\w*\n(.*?)^```", PAGE, re.M | re.S)
    named = set(re.findall(r"\w+", shape)) | set(re.findall(r"`(\w+)`", PAGE))
    for record in (Board, Data, Group, Row, Estimate, Comparison, Gain, Cost):
        missing = record.model_fields.keys() - named - {"version"}
        assert not missing, f"{record.__name__}: {missing}"


# the formats


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_terminal_shows_every_figure_whatever_its_width(example: Board, width: int) -> None:
    console = Console(width=width, file=io.StringIO(), record=True)
    show(console, example, full=True)
    text = console.export_text()
    assert max(len(line) for line in text.splitlines()) <= width
    for sheet in sheets.sheets(example):
        assert sheet.title in " ".join(text.split()) and "…" not in text
        for name in sheet.columns:
            assert name in text
        for row in sheet.rows:
            assert all(cell.text in text and cell.aside in text for cell in row)


def test_what_was_said_is_not_said_again_on_the_screen_alone(example: Board) -> None:
    console = Console(width=200, file=io.StringIO(), record=True)
    show(console, example, full=True)
    text = " ".join(console.export_text().split())
    for note in {note for sheet in sheets.sheets(example) for note in sheet.notes}:
        assert text.count(note) == 1
    assert latex(example).count("Two-sided paired") == 3  # a caption stands alone


def test_figures_stand_below_each_other(example: Board) -> None:
    console = Console(width=120, file=io.StringIO(), record=True)
    show(console, example)
    lines = [line for line in console.export_text().splitlines() if re.search(r"0\.\d{4}", line)][:5]
    assert len({line.index("0.") for line in lines}) == 1
    assert "by activity" not in console.file.getvalue()  # only where all is asked for


def rows_md(section: str) -> list[list[str]]:
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_markdown_has_a_table_for_each_sheet(example: Board) -> None:
    sections = markdown(example).split("## ")[1:]
    for sheet, section in zip(sheets.sheets(example), sections, strict=True):
        cells = rows_md(section)
        assert {len(line) for line in cells} == {len(sheet.columns)} and len(cells) == len(sheet.rows) + 2
    head, _, first, second, *_ = rows_md(sections[0])
    assert head[:3] == ["arm", "seeds", "recall@20"]
    assert re.fullmatch(r"\*\*0\.\d{4}\*\* ± 0\.\d{4} ↑", first[2])
    assert re.fullmatch(r"<ins>0\.\d{4}</ins> ± 0\.\d{4}", second[2])


def tabulars(text: str) -> list[list[list[str]]]:
    """The cells of each LaTeX table; refuses what would not compile."""
    depth = 0
    for sign in re.sub(r"\\.", "", text):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0
    opened = re.findall(r"\\(begin|end)\{(\w+)\}", text)
    stack: list[str] = []
    for what, name in opened:
        if what == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert not stack
    out = []
    for columns, body in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.S):
        rules = re.findall(r"\\(toprule|midrule|bottomrule)", body)
        assert rules == ["toprule", "midrule", "bottomrule"]
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        cells = [re.split(r"(?<!\\)&", line.removesuffix(r"\\")) for line in lines]
        assert {len(line) for line in cells} == {len(columns)}
        assert not any(line.lstrip().startswith(("[", "*")) for line in lines)  # \\[ and \\* mean something else
        out.append([[cell.strip() for cell in line] for line in cells])
    return out


def test_latex_marks_best_and_second_and_says_how_it_was_tested(example: Board) -> None:
    text = latex(example)
    first, *others = tabulars(text)
    assert len(others) + 1 == len(sheets.sheets(example)) == text.count(r"\caption{") == text.count(r"\label{tab:")
    bold, underlined = first[1][2], first[2][2]
    assert re.fullmatch(r"\\textbf\{0\.\d{4}\}\\,\{\\scriptsize \$\\pm\$ 0\.\d{4}\}\\rlap\{\$\^\{\\uparrow\}\$\}", bold)
    assert underlined.startswith(r"\underline{0.") and text.count(r"\textbf{") == text.count(r"\underline{") == 2
    assert r"\phantom{" in first[3][2]  # one run has no spread, and leaves its room
    caption = text.split(r"\caption{", 1)[1].split(r"\label", 1)[0]
    for word in ("paired t-test", "averaged over seeds", "Holm", r"p $<$ 0.05", r"$\uparrow$"):
        assert word in caption
    assert text.isascii()


def hostile() -> Board:
    return board({HOSTILE: seeds("bpr", (), [hits(0.5, 1), hits(0.5, 2)]), "*": [floor(values=hits(0.2, 3))]})


def test_names_cannot_break_out_of_a_table() -> None:
    tables = tabulars(latex(hostile()))
    assert tables[0][1][0] == (
        r"{[}50\%\_of{]} \textbackslash{}\{x\} \& \$5 \#1 \textasciitilde{}\textasciicircum{} $<$b$>${*}two{*}$|$`c` "
        r"\textasciitilde{} ``é''"
    )
    sections = markdown(hostile()).split("## ")[1:]
    assert {len(line) for line in rows_md(sections[0])} == {5}
    console = Console(width=200, file=io.StringIO(), record=True)
    show(console, hostile())
    assert HOSTILE in console.export_text()
    assert next(csv.DictReader(io.StringIO(table(hostile()))))["arm"] == HOSTILE


def test_latex_compiles(tmp_path: Path) -> None:
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("pdflatex is not installed; the structure is checked by the tests above")
    (tmp_path / "board.tex").write_text(latex(hostile()), encoding="utf-8")
    document = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}\input{board}\end{document}"
    (tmp_path / "doc.tex").write_text(document)
    done = subprocess.run(
        [program, "-interaction=nonstopmode", "-halt-on-error", "doc.tex"],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
    )
    log = done.stdout.decode("latin1")
    assert done.returncode == 0, log[-2000:]
    assert "Overfull" not in log and (tmp_path / "doc.pdf").is_file()


def test_csv_holds_full_precision(example: Board) -> None:
    lines = list(csv.DictReader(io.StringIO(table(example))))
    assert [line["arm"] for line in lines] == [row.arm for row in example.rows]
    for line, row in zip(lines, example.rows, strict=True):
        assert None not in line and None not in line.values()
        assert line["plugins"] == "+".join(row.plugins) and line["seeds"] == " ".join(map(str, row.seeds))
        for m, found in row.metrics.items():
            assert float(line[m]) == found.mean
            assert line[f"{m} sd"] == ("" if found.sd is None else repr(found.sd))
        host = row.against_host.get("recall@20")
        assert line["recall@20 vs host p_holm"] == ("" if host is None else repr(host.p_holm))
        assert float(line["seconds_to_best"]) == row.cost.seconds_to_best


def test_files_are_written_together(example: Board, tmp_path: Path) -> None:
    written = write(example, tmp_path / "study")
    assert [path.name for path in written] == ["board.json", "board.md", "board.tex", "board.csv"]
    assert sorted(path.name for path in (tmp_path / "study").iterdir()) == sorted(path.name for path in written)
    read = Board.read(written[0])
    for path, text in zip(written[1:], (markdown, latex, table), strict=True):
        assert path.read_text(encoding="utf-8") == text(read)  # the JSON says all that the others show


def test_a_board_of_one_arm_is_shown(tmp_path: Path) -> None:
    alone = board({"bpr": [run()]})
    assert [sheet.name for sheet in sheets.sheets(alone)] == ["board", "costs"]
    assert sheets.leaderboard(alone).rows[0][2].place == 0  # the best of one is no news
    write(alone, tmp_path)
    assert len(users()) == alone.data.tested and alone.data.name == dataset().name
