"""The page of a comparison says what its board says, and finds the runs behind it or does without."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from prismrec.data.dataset import Dataset
from prismrec.data.synthetic import draw
from prismrec.experiment import configure, run
from prismrec.report import write_board, write_study
from prismrec.report.board import group_maps, learning, said
from prismrec.runs import Run
from prismrec.studies.board import Board
from prismrec.studies.row import Comparison
from prismrec.studies.search import Trial


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return draw(120, 60, interactions=12, seed=1).dataset


@pytest.fixture(scope="module")
def arms(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[Run]]:
    out = tmp_path_factory.mktemp("study") / "runs"
    wanted = {"mostpop": (1,), "ease": (1,), "vbpr": (1, 2), "vbpr+clear": (1, 2)}
    found = {}
    for arm, seeds in wanted.items():
        model, *plugins = arm.split("+")
        for seed in seeds:
            settings = {"train.epochs": 4, "train.lr": 0.02}
            cfg, _ = configure(dataset, model, plugins, settings=settings, seed=seed, device="cpu", threads=1)
            run(cfg, dataset, out / arm / f"seed-{seed}")
        found[arm] = [Run.read(out / arm / f"seed-{seed}") for seed in seeds]
    return found


@pytest.fixture(scope="module")
def board(arms: Mapping[str, list[Run]], dataset: Dataset) -> Board:
    return Board.of(arms, dataset, ["recall@10", "recall@20", "ndcg@20"])


def home(arms: Mapping[str, list[Run]]) -> Path:
    return arms["vbpr"][0].folder.parents[2]


def test_the_page_says_what_the_board_says(arms: Mapping[str, list[Run]], board: Board) -> None:
    text = write_board(home(arms) / "report.html", board, command="prismrec compare x").read_text(encoding="utf-8")
    for row in board.rows:
        for found in row.metrics.values():
            assert f"{found.mean:.4f}" in text
        assert f"Settings of {row.arm}" in text
    assert "prismrec compare x" in text
    assert text.count("<figure") == 3 + len(group_maps(board))
    assert board.data.fingerprint in text
    assert "loads nothing" in text and not re.search(r'(src|href)="(?!#)', text)


def test_runs_that_were_moved_with_the_page_are_found(
    arms: Mapping[str, list[Run]], board: Board, tmp_path: Path
) -> None:
    shutil.copytree(home(arms), tmp_path / "study")
    (tmp_path / "study" / "runs" / "vbpr" / "seed-1" / "report.html").write_text("a page")
    gone = board.model_copy(
        update={"rows": tuple(row.model_copy(update={"folders": ("gone",) * len(row.seeds)}) for row in board.rows)}
    )
    text = write_board(tmp_path / "study" / "report.html", gone).read_text(encoding="utf-8")
    assert 'href="runs/vbpr/seed-1/report.html"' in text
    assert "Settings of vbpr" in text
    without = write_board(tmp_path / "alone" / "report.html", gone).read_text(encoding="utf-8")
    assert "Settings of vbpr" not in without and ">Learning<" not in without and f"{board.data.tested}" in without


def test_words_follow_the_figures(board: Board) -> None:
    told = " ".join(said(board))
    best = board.best
    assert told.startswith(f"{best.arm} is first of 4 in recall@20, with {best.metrics['recall@20'].mean:.4f}")
    assert "Plug-ins against their hosts" in told and "One seed" not in told


def test_a_board_of_one_arm_has_a_page(arms: Mapping[str, list[Run]], dataset: Dataset, tmp_path: Path) -> None:
    alone = Board.of({"mostpop": arms["mostpop"]}, dataset, ["recall@20", "coverage@20"])
    assert said(alone)[0].startswith("mostpop is first of 1 in recall@20") and len(said(alone)) == 1
    text = write_board(tmp_path / "report.html", alone).read_text(encoding="utf-8")
    assert 'id="gains"' not in text and 'id="groups"' not in text and text.count("<figure") == 1
    single = Board.of({**arms, "vbpr": arms["vbpr"][:1]}, dataset, ["recall@20"])
    assert "One seed stands behind vbpr: another one may order them otherwise." in said(single)


def judged(board: Board, verdicts: Mapping[str, int]) -> Board:
    """The same board with the outcome of each arm's test against its host, and against the best, set by hand."""

    def forced(found: Mapping[str, Comparison], sign: int) -> dict[str, Comparison]:
        tested = {"p": 1e-6, "p_holm": 1e-6} if sign else {"p": 0.9, "p_holm": 0.9}
        return {m: c.model_copy(update={**tested, "mean": 0.01 * (sign or 1)}) for m, c in found.items()}

    rows = [
        row.model_copy(
            update={
                "against_host": forced(row.against_host, verdicts.get(row.arm, 0)),
                "against_best": forced(row.against_best, -abs(verdicts.get(row.arm, 0))),
            }
        )
        for row in board.rows
    ]
    return board.model_copy(update={"rows": tuple(rows)})


def test_words_tell_significant_from_not(board: Board) -> None:
    assert "none of 1 differs significantly" in " ".join(said(judged(board, {})))
    assert "No test tells it from" in said(judged(board, {}))[0]
    ahead = said(judged(board, dict.fromkeys(("mostpop", "ease", "vbpr", "vbpr+clear"), 1)))
    assert "significantly better than every other" in ahead[0]
    assert any("vbpr+clear significantly better" in sentence for sentence in ahead)
    assert any("vbpr+clear significantly worse" in sentence for sentence in said(judged(board, {"vbpr+clear": -1})))


def test_learning_is_the_mean_over_seeds(arms: Mapping[str, list[Run]]) -> None:
    only = {"vbpr": arms["vbpr"]}
    drawn = learning(only)
    assert drawn is not None and "validation recall@20" in drawn["svg"]
    assert learning({"ease": arms["ease"]}) is None and learning({}) is None
    short = replace(arms["vbpr"][1], epochs=arms["vbpr"][1].epochs[:2])
    fewer = learning({"vbpr": [arms["vbpr"][0], short]})
    assert fewer is not None and fewer["svg"] != drawn["svg"]


def test_a_study_shows_its_board_and_what_its_searches_came_to(
    arms: Mapping[str, list[Run]], board: Board, tmp_path: Path
) -> None:
    board.write(tmp_path / "board.json")
    asked = {"kind": "compare", "data": {"name": "planted", "fingerprint": board.data.fingerprint}, "arms": {}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(asked), encoding="utf-8")
    trial = asdict(Trial(0, "complete", 0.2, {"model.reg": 0.1}, 4, 3, 1.0))
    record = {
        "arm": "vbpr",
        "metric": "recall@20",
        "space": {"model.reg": [0.1]},
        "importance": {},
        "best": trial,
        "trials": [trial],
    }
    searched = tmp_path / "searches" / "vbpr" / "trials" / "vbpr"
    searched.mkdir(parents=True)
    (searched / "search.json").write_text(json.dumps(record), encoding="utf-8")
    text = write_study(tmp_path).read_text(encoding="utf-8")
    assert f"prismrec compare --resume {tmp_path}" in text and "<h1>Comparison" in text
    heads = re.findall(r'<h2 id="([^"]+)"', text)
    assert heads[:2] == ["board", "figures"] and "searches" in heads
    assert "<summary>Search for vbpr</summary>" in text
