"""``prismrec compare``: from a data set to a leaderboard, stopped and gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from inline import Here
from program import call, planted, snapshot

from prismrec.studies import study as module
from prismrec.studies.board import Board

ASKED = ["--models", "bpr", "--trials", 1, "--seeds", 1, "--set", "train.epochs=1", "--set", "model.dim=4", "--jobs", 2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted(tmp_path_factory.mktemp("compare") / "data")


@pytest.fixture(scope="module")
def compared(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "first"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "work", Here())
        said = call("compare", data, *ASKED, "--out", folder)
    assert said.status == 0, said.err
    assert "compare: 4 arms on planted" in said.sentence and "bpr trial 0" in said.sentence
    assert "a minute" in said.err or "an hour" in said.err
    assert "bpr" in said.out and "recall@20" in said.out and str(folder / "board.tex") in said.out.replace("\n", "")
    return folder


def test_a_comparison_leaves_a_board_in_every_form(compared: Path) -> None:
    board = Board.read(compared / "board.json")
    assert {row.arm for row in board.rows} == {"mostpop", "itemknn", "ease", "bpr"}
    assert board.part == "test" and board.metric == "recall@20"
    for name in ("board.md", "board.tex", "board.csv"):
        assert "bpr" in (compared / name).read_text(encoding="utf-8")
    result = json.loads((compared / "runs" / "bpr" / "seed-999" / "result.json").read_text())
    assert board.row("bpr").metrics["recall@20"].mean == result["test"]["recall@20"]


def test_the_same_command_or_resume_finds_all_done(compared: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(tasks: object, jobs: int) -> list[object]:
        assert list(tasks) == []  # type: ignore[call-overload]
        return []

    monkeypatch.setattr(module, "work", nothing)
    before = snapshot(compared)
    for command in (["compare", data, *ASKED, "--out", compared], ["compare", "--resume", compared]):
        said = call(*command)
        assert said.status == 0 and "are done" in said.sentence
        assert snapshot(compared) == before


@pytest.mark.slow
def test_processes_come_to_the_same_board(compared: Path, data: Path, tmp_path: Path) -> None:
    said = call("compare", data, *ASKED, "--out", tmp_path / "study")
    assert said.status == 0, said.err
    ours, theirs = (Board.read(folder / "board.json") for folder in (compared, tmp_path / "study"))
    assert {row.arm: row.metrics for row in ours.rows} == {row.arm: row.metrics for row in theirs.rows}


def test_an_interrupt_says_how_to_go_on(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "work", interrupted)
    said = call("compare", data, *ASKED, "--out", tmp_path / "study")
    assert said.status == 130
    assert f"Interrupted. Go on with: prismrec compare --resume {tmp_path / 'study'}" in said.sentence


def test_bad_input_is_refused_with_a_sentence(data: Path, tmp_path: Path, compared: Path) -> None:
    assert "No models are named" in call("compare", data).sentence
    assert "No data is named" in call("compare", "--models", "bpr").sentence
    assert "There is no model 'bprr'" in call("compare", data, "--models", "bprr").sentence
    said = call("compare", data, *ASKED, "--seeds", 2, "--out", compared)
    assert said.status == 2 and "asks something else (arm bpr)" in said.sentence
    said = call("compare", "--resume", compared, "--models", "bpr")
    assert said.status == 2 and "leave out --models" in said.sentence
    assert "is no study" in call("compare", "--resume", tmp_path).sentence
