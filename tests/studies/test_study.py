"""A study: what it trains and in which order, what may see the test part, and how it goes on after any interruption."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from inline import Here
from program import dataset, planted, with_rows

from prismrec.config import resolve
from prismrec.data.dataset import Dataset, Interactions
from prismrec.data.sources import read
from prismrec.errors import PrismError
from prismrec.run_folder import finished, saved_config
from prismrec.studies import study as module
from prismrec.studies.arms import FLOORS, arms, chains
from prismrec.studies.jobs import Task, final
from prismrec.studies.question import ArmOf, Question, begin, check, read_question
from prismrec.studies.search import DataOf
from prismrec.studies.study import Event, Study

QUICK = ["train.epochs=2", "model.dim=4"]
RUN = {"threads": 1, "seed": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted(tmp_path_factory.mktemp("study") / "data")


def question(data: Path, found: dict[str, ArmOf], **rest: Any) -> Question:
    known = read(data)
    where = DataOf(path=str(data), name=known.name, fingerprint=known.fingerprint)
    return Question(**{"kind": "compare", "data": where, "arms": found, "trials": 2, **rest})


def two_arms(seeds: int = 2) -> dict[str, ArmOf]:
    wanted: list[tuple[str, tuple[str, ...]]] = [("ease", ()), ("bpr", ())]
    return arms(wanted, QUICK, RUN, "default", seeds)


def finish(asked: Question, folder: Path, monkeypatch: pytest.MonkeyPatch, worker: Here) -> list[Event]:
    monkeypatch.setattr(module, "work", worker)
    return list(Study(asked, folder).work())


def test_floors_come_first_and_plug_ins_go_where_they_act() -> None:
    found, notes = chains(["bpr", "vbpr", "freedom+clear"], ["clear", "chns+synergy"])
    assert found[: len(FLOORS)] == [(floor, ()) for floor in FLOORS] and set(FLOORS) == {"mostpop", "itemknn", "ease"}
    assert found[len(FLOORS) :] == [
        ("bpr", ()),
        ("vbpr", ()),
        ("vbpr", ("clear",)),
        ("vbpr", ("chns", "synergy")),
        ("freedom", ("clear",)),
        ("freedom", ("clear", "chns", "synergy")),
    ]
    assert notes[0] == "bpr is not compared with clear: clear does not act on it."
    with pytest.raises(PrismError, match="There is no model 'vpbr'"):
        chains(["vpbr"], [])
    with pytest.raises(PrismError, match="There is no plug-in 'cleer'"):
        chains(["vbpr"], ["cleer"])


def test_an_assignment_counts_where_it_fits_and_is_not_searched() -> None:
    wanted: list[tuple[str, tuple[str, ...]]] = [("mostpop", ()), ("bpr", ()), ("vbpr", ("clear",))]
    found = arms(wanted, ["model.dim=8", "clear.rank=2", "train.lr=0.1"], RUN, "default", 3)
    assert list(found) == ["mostpop", "bpr", "vbpr+clear"]
    assert found["mostpop"].seeds == (3,) and found["bpr"].seeds == (3, 4, 5)  # a seed changes nothing of a floor
    assert resolve(found["bpr"].config).train.lr == 0.1 and "train.lr" not in found["bpr"].space
    both = found["vbpr+clear"]
    assert both.config["plugins"]["clear"]["rank"] == 2 and both.config["model"]["dim"] == 8
    assert "clear.rank" not in both.space and "clear.strength" in both.space and "model.reg" in both.space
    with pytest.raises(PrismError, match=r"'synergy.margin' sets the plug-in 'synergy', which this run does not use"):
        arms(wanted, ["synergy.margin=1"], RUN, "default", 3)
    with pytest.raises(PrismError, match=r"model.dim is 0; expected"):
        arms(wanted, ["model.dim=0"], RUN, "default", 3)


def test_a_file_of_a_space_gives_each_arm_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("model.reg: [0.1, 0.01]\nclear.rank: {low: 1, high: 4}\n")
    wanted: list[tuple[str, tuple[str, ...]]] = [("bpr", ()), ("vbpr", ("clear",)), ("mostpop", ())]
    found = arms(wanted, [], RUN, str(tmp_path / "mine.yaml"), 1)
    assert {name: set(arm.space) for name, arm in found.items()} == {
        "bpr": {"model.reg"},
        "vbpr+clear": {"model.reg", "clear.rank"},
        "mostpop": set(),
    }


def test_runs_have_the_best_settings_of_the_search_and_every_seed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = begin(question(data, two_arms()), tmp_path / "study")
    study = Study(asked, tmp_path / "study")
    monkeypatch.setattr(module, "work", Here())
    assert study.total == 2 + 1 + 2 + 2 and study.done == 0
    events = list(study.work())
    assert study.done == study.total == len(events) and not study.failures
    runs = study.runs()
    assert [run.result["seed"] for run in runs["bpr"]] == [3, 4] and len(runs["ease"]) == 1
    search = study.lines[1].search
    assert search is not None
    best = max((t for t in search.trials() if t.value is not None), key=lambda t: (t.value or 0, -t.number))
    for run in runs["bpr"]:
        cfg, _ = saved_config(run.folder)
        assert cfg.model_cfg.model_dump()["reg"] == best.settings["model.reg"]
        assert cfg.train.lr == best.settings["train.lr"] and cfg.train.epochs == 2
    assert study.results()["bpr"][0]["test"] == runs["bpr"][0].result["test"]


def test_whatever_chooses_never_sees_the_test_part(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part, choosing = Interactions.part, [True]

    def watched(self: Interactions, *names: str) -> Interactions:
        assert not (choosing[0] and "test" in names), "a trial read the test part"
        return part(self, *names)

    def look(task: Task) -> None:
        choosing[0] = task.do is not final

    monkeypatch.setattr(Interactions, "part", watched)
    asked = begin(question(data, two_arms(1)), tmp_path / "study")
    finish(asked, tmp_path / "study", monkeypatch, Here(before=look))
    on_valid = begin(question(data, two_arms(1), part="valid"), tmp_path / "valid")
    worker = Here(before=look)
    finish(on_valid, tmp_path / "valid", monkeypatch, worker)
    study = Study(on_valid, tmp_path / "valid")
    assert not any(finished(folder) for folder in (tmp_path / "valid").rglob("seed-*"))
    assert all("test" not in found for results in study.results().values() for found in results)
    assert len(study.results()["bpr"]) == 1 and study.done == study.total


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[set[Path], dict[str, list[Any]]]:
    """Where an uninterrupted study trained, and what its runs reached."""
    folder, worker = tmp_path_factory.mktemp("whole") / "study", Here()
    with pytest.MonkeyPatch.context() as patch:
        finish(begin(question(data, two_arms()), folder), folder, patch, worker)
    return {Path(place).relative_to(folder) for _, place in worker.done}, reached(Study(read_question(folder), folder))


def reached(study: Study) -> dict[str, list[Any]]:
    return {arm: [result["test"] for result in results] for arm, results in study.results().items()}


@pytest.mark.parametrize("most", [1, 3, 4, 6])
def test_a_study_stopped_anywhere_repeats_nothing_and_ends_the_same(
    most: int,
    data: Path,
    whole: tuple[set[Path], dict[str, list[Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = begin(question(data, two_arms()), tmp_path / "parts")
    first, second, third = Here(most), Here(), Here()
    with pytest.raises(KeyboardInterrupt):
        finish(asked, tmp_path / "parts", monkeypatch, first)
    again = begin(question(data, two_arms()), tmp_path / "parts")
    assert again == asked  # the same question takes up what stands there
    finish(again, tmp_path / "parts", monkeypatch, second)
    finish(again, tmp_path / "parts", monkeypatch, third)
    assert not third.done
    places = Counter(Path(folder).relative_to(tmp_path / "parts") for _, folder in first.done + second.done)
    assert set(places.values()) == {1}  # each trial and run was trained once
    assert (set(places), reached(Study(asked, tmp_path / "parts"))) == whole


def test_an_arm_that_fails_is_told_and_the_others_are_compared(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = two_arms(1)
    wild = resolve(found["bpr"].config).tree()
    wild["train"]["lr"] = 1e30
    found["wild"] = ArmOf(config=wild, seeds=(3,))
    asked = begin(question(data, found), tmp_path / "study")
    monkeypatch.setattr(module, "work", Here())
    study = Study(asked, tmp_path / "study")
    events = list(study.work())
    assert "became" in study.failures["wild"] and set(study.failures) == {"wild"}
    assert any(event.arm == "wild" and event.error for event in events)
    assert set(study.runs()) == {"ease", "bpr"}


def test_another_question_or_other_data_is_refused(data: Path, tmp_path: Path) -> None:
    asked = question(data, two_arms())
    begin(asked, tmp_path / "study")
    assert read_question(tmp_path / "study") == asked
    with pytest.raises(PrismError, match=r"asks something else \(trials\)"):
        begin(question(data, two_arms(), trials=3), tmp_path / "study")
    with pytest.raises(PrismError, match=r"asks something else \(arm bpr\)"):
        begin(question(data, two_arms(3)), tmp_path / "study")
    with pytest.raises(PrismError, match=r"is no study: it has no study\.yaml"):
        read_question(tmp_path)
    with pytest.raises(PrismError, match="asks about data with fingerprint"):
        read_question(tmp_path / "study", other(read(data)))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(PrismError, match="exists and holds no study"):
        begin(asked, tmp_path / "mine")


def other(data: Dataset) -> Dataset:
    return with_rows(dataset(seed=6), data.interactions)


def test_a_space_that_does_not_hold_is_refused_before_anything_is_trained(data: Path) -> None:
    found = two_arms()
    found["bpr"] = found["bpr"].model_copy(update={"space": {"model.layers": [1, 2]}})
    with pytest.raises(PrismError, match=r"bpr: .*layers"):
        check(question(data, found))
