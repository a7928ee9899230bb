"""``prismrec ablate`` and ``prismrec sweep``."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from inline import Here
from program import call, planted

from prismrec.run_folder import saved_trial
from prismrec.studies import study as module
from prismrec.studies.board import Board

QUICK = ["--set", "train.epochs=1", "--set", "model.dim=4", "--seeds", 1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted(tmp_path_factory.mktemp("variants") / "data")


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "work", Here())


def test_an_ablation_compares_each_variant_with_the_whole(data: Path, tmp_path: Path) -> None:
    metric = ["--set", "train.metric=recall@7"]  # none of those that are reported unless asked for
    said = call("ablate", data, "-m", "vbpr", "-p", "mrdib", *QUICK, *metric, "-o", tmp_path / "study")
    assert said.status == 0, said.err
    board = Board.read(tmp_path / "study" / "board.json")
    assert board.metric == "recall@7"
    assert {row.arm: row.host for row in board.rows} == {
        "full": None,
        "without mrdib": "full",
        "without mrdib compress": "full",
        "without mrdib redundant": "full",
        "without mrdib unique": "full",
    }
    assert "Ablation of vbpr+mrdib" in (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    again = call("ablate", "--resume", tmp_path / "study", "-q")
    assert again.status == 0 and "without mrdib" in again.out


def test_a_sweep_of_two_axes_is_a_table_and_a_heat_map_of_validation(data: Path, tmp_path: Path) -> None:
    axes = ["--over", "clear.rank=1,2", "--over", "clear.strength=0.5:0.9:2"]
    said = call("sweep", data, "-m", "vbpr", "-p", "clear", *axes, *QUICK, "-o", tmp_path / "study")
    assert said.status == 0, said.err
    table = pl.read_csv(tmp_path / "study" / "sweep.csv")
    assert table["clear.rank"].to_list() == [1, 1, 2, 2] and table["clear.strength"].to_list() == [0.5, 0.9, 0.5, 0.9]
    first = saved_trial(tmp_path / "study" / "runs" / "clear.rank=1,clear.strength=0.5" / "seed-999")
    assert table["recall@20"][0] == first["valid"]["recall@20"]
    assert not list((tmp_path / "study").rglob("result.json"))  # the test part stayed closed
    assert "<svg" in (tmp_path / "study" / "report.html").read_text(encoding="utf-8")


def test_a_sweep_of_one_axis_may_open_the_test_part_when_asked(data: Path, tmp_path: Path) -> None:
    command = [
        "sweep",
        data,
        "-m",
        "bpr",
        "--over",
        "model.reg=0.1,0.01",
        *QUICK,
        "--part",
        "test",
        "-o",
        tmp_path / "study",
    ]
    said = call(*command)
    assert said.status == 0, said.err
    assert len(list((tmp_path / "study").rglob("result.json"))) == 2 and "on the test part" in said.out


def test_bad_input_is_a_sentence(data: Path) -> None:
    assert "Nothing is varied" in call("sweep", data, "-m", "bpr").sentence
    assert (
        "is an axis twice"
        in call("sweep", data, "-m", "bpr", "--over", "model.reg=1", "--over", "model.reg=2").sentence
    )
    assert "--over 'model.reg=a:b:c' is no axis" in call("sweep", data, "--over", "model.reg=a:b:c").sentence
    assert "points would not compare" in call("sweep", data, "-m", "bpr", "--over", "run.seed=1,2").sentence
    assert "--off 'reg' is no assignment" in call("ablate", data, "-m", "bpr", "--off", "reg").sentence
    assert "No model is named" in call("ablate", data).sentence
    assert "no component that is known" in call("ablate", data, "-m", "bpr").sentence
    assert "No data is named" in call("sweep", "-m", "bpr", "--over", "model.reg=1").sentence
