"""``prismrec compare``: from a data set to a leaderboard, stopped and gone on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
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


def test_what_a_killed_study_left_half_written_is_swept(compared: Path, data: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    shutil.copytree(compared, study)
    whole = snapshot(study)
    for place in (study, study / "searches" / "bpr" / "trials" / "bpr"):
        assert place.is_dir()
        (place / "search.json.1.part").write_text("{")
    assert call("compare", data, *ASKED, "--out", study).status == 0
    assert snapshot(study).keys() == whole.keys()


@pytest.mark.slow
def test_processes_come_to_the_same_board(compared: Path, data: Path, tmp_path: Path) -> None:
    said = call("compare", data, *ASKED, "--out", tmp_path / "study")
    assert said.status == 0, said.err
    ours, theirs = (Board.read(folder / "board.json") for folder in (compared, tmp_path / "study"))
    assert {row.arm: row.metrics for row in ours.rows} == {row.arm: row.metrics for row in theirs.rows}


def test_each_run_gets_a_page_when_asked_and_the_board_links_to_it(compared: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    shutil.copytree(compared, study)
    for arm in ("mostpop", "itemknn", "ease"):  # pages take their time
        (study / "runs" / arm / "seed-999" / "result.json").unlink()
    page = "runs/bpr/seed-999/report.html"
    assert f'href="{page}"' not in (study / "report.html").read_text(encoding="utf-8")
    said = call("report", study, "--runs")
    assert said.status == 0 and said.err.count("written: ") == 1, said.err
    assert (study / page).is_file() and f'href="{page}"' in (study / "report.html").read_text(encoding="utf-8")
    said = call("report", study / "runs" / "bpr" / "seed-999", "--runs")
    assert said.status == 2 and "Leave out --runs" in said.sentence


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
    said = call("compare", data, "--models", "bpr", "--space", "defualt", "--out", tmp_path / "none")
    assert said.status == 2 and "There is no space 'defualt'. Did you mean 'default'?" in said.sentence
    said = call("compare", "--resume", compared, "--models", "bpr", "--seeds", 5, "--jobs", 2)
    assert said.status == 2 and "leave out --models, --seeds." in said.sentence
    if not torch.cuda.is_available():
        said = call("compare", data, *ASKED, "--device", "cuda", "--out", tmp_path / "none")
        assert said.status == 2 and "no CUDA device" in said.sentence
    assert not (tmp_path / "none").exists()  # nothing that would stand in the way of the right command
    assert "is no study" in call("compare", "--resume", tmp_path).sentence
