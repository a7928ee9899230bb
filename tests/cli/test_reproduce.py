"""``prismrec reproduce``: two quick studies whole, stopping and going on, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from inline import Here
from program import call, planted

from prismrec.diagnostics import View
from prismrec.report import looks
from prismrec.studies import named, named_beside
from prismrec.studies import study as module
from prismrec.studies.board import Board
from prismrec.studies.named import Named, stated


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    found = Here()
    monkeypatch.setattr(module, "work", found)
    return found


@pytest.fixture(autouse=True)
def quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The studies as they are, but for the size of the planted catalogue and the epochs."""
    read = stated

    def small(name: str) -> Named:
        study = read(name)
        sizes = {"users": 60, "items": 64, "epochs": 1, "points": 2, "settings": {"model.dim": 8}}
        sizes |= {"seeds": 1} if study.looks else {}
        splits = study.splits[-1:]
        return study.model_copy(update={"quick": study.quick.model_copy(update=sizes), "splits": splits})

    monkeypatch.setattr(named, "stated", small)


def test_the_list_names_all_studies() -> None:
    said = call("reproduce")
    assert said.status == 0 and "clear-table-3" in said.out and "br-mrs-section-5.6-synergy" in said.out


def test_a_quick_comparison_ends_in_tables_pages_and_an_honest_word(here: Here, tmp_path: Path) -> None:
    out = tmp_path / "study"
    said = call("reproduce", "clear-table-3", "--quick", "-o", out)
    assert said.status == 0, said.err
    plain = " ".join(said.out.split())
    assert "shows that the machinery runs" in plain and "Ours beside published" in plain
    board = Board.read(out / "planted" / "main" / "board.json")
    tree = json.loads((out / "reproduction.json").read_text())
    assert tree["quick"] is True and named_beside.QUICK in tree["says"]
    row = next(r for r in tree["beside"] if (r["arm"], r["metric"]) == ("vbpr+clear", "recall@20"))
    assert row["ours"] == board.row("vbpr+clear").metrics["recall@20"].mean and row["published"] == 0.0776
    assert row["ratio"] is None and row["of"] == "baby"  # other data: no ratio
    assert row["gain"] == pytest.approx(row["ours"] / board.row("vbpr").metrics["recall@20"].mean - 1)
    assert row["published_gain"] == pytest.approx(0.0776 / 0.0663 - 1)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert named_beside.QUICK in page and 'href="planted/main/report.html"' in page
    ran = len(here.done)
    assert ran == 3 + 4 * 2
    again = call("reproduce", "--resume", out, "-q")
    assert again.status == 0 and len(here.done) == ran  # nothing is repeated
    said = call("report", out)
    assert said.status == 2 and f"prismrec reproduce --resume {out} writes its page again" in said.sentence


def test_a_quick_diagnosis_looks_into_every_run(here: Here, tmp_path: Path) -> None:
    out = tmp_path / "study"
    said = call("reproduce", "br-mrs-section-5.6-synergy", "--quick", "-o", out, "-q")
    assert said.status == 0, said.err
    part = out / "planted-leave-one-out" / "main"
    table = pl.read_csv(part / "subsets.csv")
    assert set(table["arm"]) == {"both", "without synergy", "synergy alone", "neither"}
    total = table.group_by("arm", "seed").agg(pl.col("share").sum())["share"]
    assert total.to_list() == pytest.approx([1.0] * 4)
    assert (part / "runs" / "both" / "seed-999" / "diagnosis" / "index.html").is_file()
    before = (part / "subsets.csv").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(looks, "diagnose", None)  # nothing is measured twice
        assert call("reproduce", "--resume", out, "-q").status == 0
    assert (part / "subsets.csv").read_bytes() == before
    assert "Shares of users" in (out / "report.html").read_text(encoding="utf-8")


def test_what_was_lacking_is_measured_once_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = SimpleNamespace(folder=tmp_path / "run", result={"seed": 3})
    (tmp_path / "run" / "diagnosis").mkdir(parents=True)
    monkeypatch.setattr(looks.Subject, "of_run", lambda *_, **__: None)
    monkeypatch.setattr(looks, "write_diagnosis", lambda *_: None)
    for skipped in ({"map": "needs openTSNE"}, {}):
        monkeypatch.setattr(looks, "diagnose", lambda *_, of=skipped: SimpleNamespace(findings=[], skipped=of))
        lacking = looks.look_into({"arm": [run]}, ["map"], View(), tmp_path)  # type: ignore[list-item]
        assert lacking == {f"arm: {what}": why for what, why in skipped.items()}


def test_a_sweep_with_looks_draws_them_along_its_axis(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = named.stated("br-mrs-figure-1")
    one = study.model_copy(update={"parts": {"infonce": study.parts["infonce"]}})
    monkeypatch.setattr(named, "stated", lambda name: one)
    said = call("reproduce", "br-mrs-figure-1", "--quick", "-o", tmp_path / "study", "-q")
    assert said.status == 0, said.err
    table = pl.read_csv(tmp_path / "study" / "planted-leave-one-out" / "infonce" / "subsets.csv")
    assert set(table["arm"]) == {"infonce.weight=0.0", "infonce.weight=1.0"}
    tree = json.loads((tmp_path / "study" / "reproduction.json").read_text())
    assert [found["setting"] for found in tree["best"]] == ["infonce.weight"]


def test_an_arm_that_fails_leaves_the_others_their_table(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = named.stated("clear-table-3")
    narrow = study.quick.model_copy(update={"settings": {"model.dim": 4}})  # narrower than the rank of CLEAR
    monkeypatch.setattr(named, "stated", lambda name: study.model_copy(update={"quick": narrow}))
    said = call("reproduce", "clear-table-3", "--quick", "-o", tmp_path / "study")
    assert said.status == 0 and "vbpr+clear came to nothing" in said.sentence
    board = Board.read(tmp_path / "study" / "planted" / "main" / "board.json")
    assert {row.arm for row in board.rows} == {"mostpop", "itemknn", "ease", "vbpr", "freedom"}


def test_data_alone_is_counted_or_measured(tmp_path: Path) -> None:
    assert call("reproduce", "clear-table-1", "--quick", "-o", tmp_path / "a", "-q").status == 0
    tree = json.loads((tmp_path / "a" / "reproduction.json").read_text())
    assert {row["metric"]: row["published"] for row in tree["beside"]}["interactions"] == 160792
    said = call("reproduce", "clear-figure-1", "--quick", "-o", tmp_path / "b", "-q")
    assert said.status == 0 and (tmp_path / "b" / "planted" / "index.html").is_file()


def test_stopped_anywhere_it_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "work", Here(most=4))
    out = tmp_path / "study"
    said = call("reproduce", "clear-table-3", "--quick", "-o", out)
    assert said.status == 130 and f"prismrec reproduce --resume {out}" in said.sentence
    rest = Here()
    monkeypatch.setattr(module, "work", rest)
    assert call("reproduce", "clear-table-3", "--quick", "-o", out, "-q").status == 0
    assert len(rest.done) == 11 - 4


def test_interrupted_while_it_measures_it_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("prismrec.diagnostics.diagnose", stop)
    said = call("reproduce", "clear-figure-1", "--quick", "-o", tmp_path / "study")
    assert said.status == 130 and f"prismrec reproduce --resume {tmp_path / 'study'}" in said.sentence


def test_on_its_own_data_ours_is_set_beside_published_with_a_ratio(here: Here, tmp_path: Path) -> None:
    data, out = planted(tmp_path / "baby"), tmp_path / "study"
    said = call("reproduce", "clear-table-1", "--data-folder", tmp_path, "-o", out, "-q")
    assert said.status == 0, said.err
    tree = json.loads((out / "reproduction.json").read_text())
    assert {row["data"] for row in tree["beside"]} == {"baby"} and tree["quick"] is False
    assert tree["beside"][0]["ratio"] == pytest.approx(tree["beside"][0]["ours"] / 19445)
    other = call("reproduce", "clear-table-1", "--data", f"baby={data}", "--device", "cpu", "-o", out)
    assert "differs in its device" in other.sentence


def test_in_full_every_arm_is_searched_and_only_its_choice_sees_the_test_part(
    here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read = named.stated
    short = {"model.dim": 8, "train.epochs": 1}

    def small(name: str) -> Named:
        return read(name).model_copy(
            update={"trials": 2, "seeds": 1, "settings": short, "data": ("baby",), "splits": ("given",)}
        )

    monkeypatch.setattr(named, "stated", small)
    data, out = planted(tmp_path / "baby"), tmp_path / "study"
    said = call("reproduce", "br-mrs-table-2", "--data", f"baby={data}", "-o", out)
    assert said.status == 0, said.err
    arms = small("br-mrs-table-2").parts["main"].arms
    trials, runs = list(out.rglob("trial.json")), list(out.rglob("result.json"))
    assert len(trials) >= 2 * len(arms) and len(runs) == len(arms)  # no floors in this table
    assert not any("test" in json.loads(path.read_text()) for path in trials)
    tree = json.loads((out / "reproduction.json").read_text())
    rows = {(row["arm"], row["metric"]): row for row in tree["beside"]}
    row = rows["br-mrs", "recall@10"]
    assert tree["quick"] is False and row["ratio"] == pytest.approx(row["ours"] / 0.0819)
    ran = len(here.done)
    assert call("reproduce", "--resume", out, "-q").status == 0 and len(here.done) == ran  # nothing is repeated


def test_bad_input_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    for arguments, sentence in (
        (["clear-tabel-3"], "Did you mean 'clear-table-3'"),
        (["clear-table-3", "-o", tmp_path / "a"], "Give --data baby=PATH"),
        (["clear-table-3", "--quick", "--data", "baby=x", "-o", tmp_path / "a"], "runs on planted data"),
        (["clear-table-3", "--quick", "-o", tmp_path / "full"], "holds no reproduction"),
        (["--resume", tmp_path / "full"], "is no reproduction"),
        (["--quick"], "is for a study"),
        (["clear-table-3", "--resume", tmp_path], "leave out NAME"),
    ):
        said = call("reproduce", *arguments)
        assert said.status == 2 and sentence in said.sentence, said.err
