"""A search: what it tries, in which order, what it remembers, and what it never sees. Outcomes are made up where training
is not the point."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from program import dataset, planted, with_rows

from prismrec.config import RunConfig
from prismrec.data import store
from prismrec.data.dataset import PARTS, Dataset
from prismrec.errors import PrismError
from prismrec.experiment import configure, run
from prismrec.space import Choice, Range, Space
from prismrec.studies import search_sampling as sampling
from prismrec.studies.jobs import Outcome, Task
from prismrec.studies.search import Asked, DataOf, Search, Trial
from prismrec.studies.search_space import written
from prismrec.studies.search_trial import Pruned, Pruning, attempt, telling

SPACE: Space = {
    "model.reg": Range(1e-5, 1.0, log=True),
    "model.dim": Range(4, 64, log=True, whole=True),
    "train.lr": Range(1e-4, 1e-2, log=True),
}
GRID: Space = {"model.reg": Choice((0.1, 0.01, 0.001)), "model.dim": Choice((4, 8))}
HERE = iter(range(1000))


@pytest.fixture
def memory() -> Iterator[str]:
    """A database that forgets; one for all tests, so that those who share a question are to differ in its seed."""
    yield "sqlite://"


def configured(seed: int = 0, **settings: Any) -> RunConfig:
    settings = {"model.dim": 8, "train.epochs": 3, **settings}
    return configure(dataset(), "bpr", settings=settings, seed=seed, threads=1)[0]


@lru_cache
def tree(seed: int) -> dict[str, Any]:
    return configured(seed).tree()


def asked(seed: int, space: Space = SPACE, name: str = "made-up", **rest: Any) -> Asked:
    source = DataOf(path="nowhere", name=name, fingerprint="0" * 16)
    return Asked(data=source, config=tree(seed), space=written(space), **{"trials": 10, **rest})


def told(task: Task, value: float) -> Outcome:
    """What a task that trained would say."""
    facts = {"epochs": 3, "best_epoch": 2, "seconds": 1.0, "stopped": "all 3 epochs", "valid": {"recall@20": value}}
    return Outcome(task, facts)


def settings_of(search: Search, task: Task) -> Mapping[str, Any]:
    number = task.arguments[0].number
    return next(trial.settings for trial in search.trials() if trial.number == number)


def drive(search: Search, reach: Callable[[Mapping[str, Any]], float], most: int = 1000) -> list[Trial]:
    """Trials one after the other, each reaching what ``reach`` makes of its settings."""
    done = []
    for _ in range(most):
        task = search.next()
        if task is None:
            break
        done.append(search.take(told(task, reach(settings_of(search, task)))))
    return done


def hill(settings: Mapping[str, Any]) -> float:
    """Highest at reg = 0.01, a little higher for slow learning; the width is of no account."""
    return 1.0 - (math.log10(settings["model.reg"]) + 2) ** 2 / 9 - 0.01 * settings["train.lr"]


def test_it_begins_where_the_settings_stand_and_ends_with_its_budget(tmp_path: Path, memory: str) -> None:
    search = Search(asked(1, trials=4), tmp_path, storage=memory)
    done = drive(search, hill)
    assert [trial.number for trial in done] == [0, 1, 2, 3] and search.next() is None
    assert done[0].settings == {"model.reg": 0.01, "model.dim": 8, "train.lr": 1e-3}
    assert all(trial.settings["model.dim"] in SPACE["model.dim"] for trial in done)
    assert len({trial.settings["train.lr"] for trial in done}) == 4
    more = Search(asked(1, trials=6), tmp_path, storage=memory)  # the same question with a larger budget goes on
    assert [trial.number for trial in drive(more, hill)] == [4, 5]


def test_settings_outside_the_space_are_not_tried(tmp_path: Path, memory: str) -> None:
    space = {**SPACE, "model.dim": Range(16, 64, whole=True)}
    (first,) = drive(Search(asked(2, space, trials=1), tmp_path, storage=memory), hill)
    assert first.settings["model.dim"] >= 16


def test_tpe_climbs_where_random_wanders(tmp_path: Path, memory: str) -> None:
    ends = {}
    for sampler in ("tpe", "random"):
        search = Search(asked(11, sampler=sampler, trials=24), tmp_path / sampler, storage=memory)
        ends[sampler] = float(np.mean([hill(trial.settings) for trial in drive(search, hill)[-8:]]))
    assert ends["tpe"] > 0.8 and ends["tpe"] > ends["random"] + 0.1


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_the_same_seed_tries_the_same_however_often_it_was_stopped(tmp_path: Path, sampler: Any, memory: str) -> None:
    space = GRID if sampler == "grid" else SPACE

    def tried(folder: str, stops: list[int], seed: int = 21) -> list[Mapping[str, Any]]:
        name = f"{sampler} {folder}"  # a study of its own: the same one would hold the other's trials
        question = asked(seed, space, name, sampler=sampler, trials=0 if sampler == "grid" else 11)
        found: list[Trial] = []
        for most in stops:
            search = Search(question, tmp_path / folder, storage=memory)
            found += drive(search, lambda s: -abs(math.log10(s["model.reg"]) + 2), most)
        return [trial.settings for trial in found]

    whole = tried("whole", [20])
    assert len(whole) == (6 if sampler == "grid" else 11)
    assert tried("stopped", [4, 20]) == whole
    assert tried("other", [3], seed=22) != whole[:3]


def test_a_grid_tries_each_point_once_on_machines_that_share_it(tmp_path: Path, memory: str) -> None:
    machines = [Search(asked(31, GRID, sampler="grid", trials=0), tmp_path / name, storage=memory) for name in "ab"]
    assert machines[0].limit == 6
    begun = [(machine, task) for machine in [*machines, *machines] if (task := machine.next()) is not None]
    assert len(begun) == 4
    for machine, task in begun:
        machine.take(told(task, 0.5))
    for machine in machines:
        drive(machine, lambda settings: 0.5)
    trials = machines[0].trials()
    assert sorted((t.settings["model.reg"], t.settings["model.dim"]) for t in trials) == sorted(
        itertools.product((0.1, 0.01, 0.001), (4, 8))
    )
    assert {trial.here for trial in trials} == {True, False}
    assert machines[0].best() == replace(trials[0], here=trials[0].here)  # the earliest of equals


def test_a_grid_of_ranges_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrismError, match=r"ranges of real numbers: model.reg, train.lr\. Take --sampler tpe"):
        Search(asked(0, sampler="grid"), tmp_path)


def test_what_was_interrupted_goes_on_and_counts_once(tmp_path: Path) -> None:
    question = asked(41, trials=3)
    search = Search(question, tmp_path, jobs=2)
    first, second = search.next(), search.next()
    assert first is not None and second is not None and search.doing == {0, 1}
    search.take(told(first, 0.1))
    del search  # killed: trial 1 was in a process
    again = Search(question, tmp_path)
    assert [t.number for t in again.interrupted] == [1]
    order = again.next()
    assert order is not None and order.arguments == second.arguments  # threads too, though jobs differ
    again.take(told(order, 0.2))
    assert [trial.number for trial in drive(again, hill)] == [2]
    assert [trial.state for trial in again.trials()] == ["complete"] * 3


def test_a_trial_that_was_stopped_before_it_began_counts_for_nothing(tmp_path: Path) -> None:
    question = asked(42, GRID, sampler="grid", trials=0)
    search = Search(question, tmp_path)
    search.study.ask()  # and killed: no settings were drawn
    again = Search(question, tmp_path)
    assert again.interrupted == []
    points = {(t.settings["model.reg"], t.settings["model.dim"]) for t in drive(again, lambda settings: 0.1)}
    assert len(points) == 6


def test_another_machine_s_trials_are_left_to_it(tmp_path: Path, memory: str) -> None:
    theirs = Search(asked(43, trials=2), tmp_path / "theirs", storage=memory)
    assert theirs.next() is not None
    ours = Search(asked(43, trials=2), tmp_path / "ours", storage=memory)
    assert ours.interrupted == [] and [trial.number for trial in drive(ours, hill)] == [1]


def test_failed_trials_are_recorded_and_do_not_end_a_search(tmp_path: Path, memory: str) -> None:
    search = Search(asked(51, trials=5), tmp_path, storage=memory)
    states = []
    for error in ("", "The loss term 'rank' became nan in epoch 2.", "", "Its process ended.", ""):
        task = search.next()
        assert task is not None
        states.append(search.take(Outcome(task, error=error) if error else told(task, 0.3)).state)
    assert states == ["complete", "failed", "complete", "failed", "complete"]
    assert search.trials()[1].error.startswith("The loss term") and search.trials()[1].value is None
    record = json.loads((search.place / "search.json").read_text())
    assert record["counts"] == {"complete": 3, "failed": 2} and record["best"]["number"] == 0


def test_a_search_whose_first_trials_all_fail_says_why(tmp_path: Path, memory: str) -> None:
    search = Search(asked(52), tmp_path, storage=memory)
    for _ in range(2):
        task = search.next()
        assert task is not None
        search.take(Outcome(task, error="no such thing"))
    task = search.next()
    assert task is not None
    with pytest.raises(PrismError, match="All of the first 3 trials failed; the last one said: no such thing"):
        search.take(Outcome(task, error="no such thing"))


def test_a_full_disk_ends_a_search_and_loses_nothing(tmp_path: Path) -> None:
    search = Search(asked(53), tmp_path)
    task = search.next()
    assert task is not None
    with pytest.raises(PrismError, match="disk is full"):
        search.take(Outcome(task, error="OSError: [Errno 28] No space left on device"))
    assert [t.number for t in Search(search.asked, tmp_path).interrupted] == [0]


def test_no_trial_begins_after_the_hours(tmp_path: Path, memory: str) -> None:
    search = Search(asked(54, trials=0, hours=0.5), tmp_path, storage=memory)
    assert search.limit is None and search.next() is not None
    search.started -= 1801
    assert search.next() is None and search.seconds >= 1801
    search.write(search.trials())
    assert Search(search.asked, tmp_path, storage=memory).next() is not None  # the one in hand was interrupted
    assert Search(search.asked, tmp_path, storage=memory).seconds >= 1801  # hours count over all interruptions


def test_nothing_to_choose_is_one_trial(tmp_path: Path, memory: str) -> None:
    search = Search(asked(55, {}, trials=9), tmp_path, storage=memory)
    assert search.limit == 1 and len(drive(search, lambda settings: 0.5)) == 1


def test_the_question_makes_the_study_not_its_budget() -> None:
    one = asked(61)
    assert one.name == asked(61, trials=99, hours=3.0).name and one.home != asked(61).home
    others = [asked(62), asked(61, GRID), asked(61, pruner="none"), asked(61, sampler="random")]
    assert len({one.name, *(other.name for other in others)}) == 5
    threads = one.model_copy(update={"config": configured(61, **{"run.threads": 3}).tree()})
    assert threads.name == one.name  # a machine's affair


def test_importance_finds_what_matters_and_says_nothing_of_few() -> None:
    rng = np.random.default_rng(3)
    points = [
        {"model.reg": float(10 ** rng.uniform(-5, 0)), "model.dim": int(rng.integers(4, 65)), "train.lr": 0.001}
        for _ in range(30)
    ]
    shares = sampling.importance(SPACE, [(point, hill(point)) for point in points])
    assert next(iter(shares)) == "model.reg" and shares["model.reg"] > 0.6
    assert sum(shares.values()) == pytest.approx(1)
    assert sampling.importance(SPACE, [(point, hill(point)) for point in points[:9]]) == {}
    assert sampling.importance(SPACE, [(point, 0.5) for point in points]) == {}


def test_a_storage_that_cannot_be_opened_is_a_sentence_without_its_password() -> None:
    for url in ("nosuch://u:secret@host/db", "postgresql+nodriver://u:secret@host/db", "not a url"):
        with pytest.raises(PrismError, match="cannot be opened") as raised:
            sampling.storage(url)
        assert "secret" not in str(raised.value)


# pruning


def with_curves(url: str, curves: list[list[float]]) -> tuple[optuna.Study, optuna.storages.RDBStorage]:
    """A study whose trials reported these values; the last one is not told."""
    database = sampling.storage(url)
    study = optuna.create_study(study_name=f"curves-{next(HERE)}", storage=database, direction="maximize")
    for values in curves:
        trial = study.ask({})
        for step, value in enumerate(values, 1):
            trial.report(value, step)
        study.tell(trial.number, values[-1])
    study.ask({})
    return study, database


def watch(watcher: Pruning, values: list[float]) -> int:
    """Epochs until the watcher stops training, or their number."""
    from prismrec.checkpoint import Progress

    progress = Progress()
    for epoch, value in enumerate(values, 1):
        record = {"epoch": epoch, "valid": {"recall@20": value}}
        progress = progress.after(record, value, 0.1)
        try:
            watcher.epoch(record, progress)
        except Pruned:
            return epoch
    return len(values)


def test_the_median_stops_who_lags_after_a_warm_up(memory: str) -> None:
    good = [[0.1 * step for step in range(1, 31)] for _ in range(5)]
    study, database = with_curves(memory, good)
    judge = sampling.pruner("median")
    assert watch(Pruning(study, database, judge, 5), [0.01] * 30) == 10
    study.ask({})
    assert watch(Pruning(study, database, judge, 6), [9.0] * 30) == 30
    long, database = with_curves(memory, [*good, [0.1 * step for step in range(1, 100)]])
    assert (
        watch(Pruning(long, database, judge, 6), [3.1 + 0.001 * step for step in range(80)]) == 80
    )  # outlives five of six
    few, database = with_curves(memory, good[:4])
    assert watch(Pruning(few, database, judge, 4), [0.01] * 30) == 30


def test_hyperband_stops_laggards_at_its_rungs_and_never_the_best(memory: str) -> None:
    study, database = with_curves(memory, [[0.5] * 30])
    judge, ends = sampling.pruner("hyperband"), []
    for number in range(1, 25):
        best = number % 2 == 1  # better than all before; the others are worse than all before
        values = [float(number) if best else 0.5 - 0.01 * number] * 30
        ended = watch(Pruning(study, database, judge, number), values)
        study.tell(number, values[0], skip_if_finished=True)
        study.ask({})
        assert ended == 30 or not best
        ends += [] if best else [ended]
    assert set(ends) <= {5, 15, 30} and min(ends) == 5  # brackets begin with 5 validations, with 15, or see to the end


def test_a_trial_gone_on_with_reports_no_step_twice(memory: str) -> None:
    study, database = with_curves(memory, [])
    watch(Pruning(study, database, sampling.pruner("none"), 0), [0.1, 0.2])
    again = Pruning(study, database, sampling.pruner("none"), 0)
    watch(again, [0.5, 0.5, 0.5])
    assert study.trials[0].intermediate_values == {1: 0.1, 2: 0.2, 3: 0.5}


def test_later_validations_are_reported_less_often() -> None:
    said = [count for count in range(1, 201) if telling(count)]
    assert said == [*range(1, 21), *range(25, 101, 5), *range(125, 201, 25)]


# with training


def trained(folder: Path, data: Path, seed: int, **rest: Any) -> Search:
    """A search that trains, in this process."""
    known = store.load(data)
    cfg = configure(known, "bpr", settings={"model.dim": 8, "train.epochs": 3}, seed=seed, threads=1)[0]
    space: Space = {"model.reg": Range(1e-4, 1.0, log=True), "train.lr": Range(1e-3, 1e-1, log=True)}
    search = Search(Asked.of(cfg, known, str(data), space, **{"trials": 3, **rest}), folder, storage="sqlite://")
    for task in iter(search.next, None):
        search.take(Outcome(task, attempt(*task.arguments)))
    return search


def shuffled_test(data: Dataset) -> Dataset:
    """The same data with other items in the test part."""
    rows = data.interactions
    assert rows.split is not None
    held = rows.split == PARTS["test"]
    item = rows.item.copy()
    item[held] = np.roll(item[held], 7)
    assert (item != rows.item).any()
    return with_rows(data, replace(rows, item=item))


def test_it_never_sees_the_test_part(tmp_path: Path) -> None:
    data = planted(tmp_path / "a")
    store.save(shuffled_test(store.load(data)), tmp_path / "b")
    one = trained(tmp_path / "one", data, 71, trials=2)
    two = trained(tmp_path / "two", tmp_path / "b", 71, trials=2)
    assert one.asked.data.fingerprint != two.asked.data.fingerprint
    for a, b in zip(one.trials(), two.trials(), strict=True):
        assert (a.value, a.settings, a.epochs) == (b.value, b.settings, b.epochs)
    for folder in one.place.glob("0*"):
        assert not (folder / "result.json").exists() and not (folder / "per_user").exists()


def test_the_best_is_kept_and_is_what_a_run_of_its_own_comes_to(tmp_path: Path) -> None:
    data = planted(tmp_path / "data")
    search = trained(tmp_path / "study", data, 72)
    best = search.best()
    assert best is not None and best.value == max(trial.value or 0 for trial in search.trials())
    kept = [folder.name for folder in search.place.glob("0*") if (folder / "checkpoint").exists()]
    assert kept == [f"{best.number:04d}"]
    again, source = configure(store.load(data), file=search.place / "best.yaml")
    assert again == search.config_of(best) and source.endswith("best.yaml")
    assert run(again, store.load(data)).valid["recall@20"] == best.value
    assert "on validation" in (search.place / "best.yaml").read_text().splitlines()[0]


def test_a_pruned_trial_says_so_and_goes_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = planted(tmp_path / "data")
    known = store.load(data)
    settings = {"model.dim": 8, "train.epochs": 30, "train.metric": "recall@7"}
    cfg = configure(known, "bpr", settings=settings, seed=73, threads=1)[0]
    question = Asked.of(cfg, known, str(data), {"model.reg": Range(0.1, 1.0)}, trials=6)
    search = Search(question, tmp_path / "study", storage="sqlite://")
    study = search.database.get_study_id_from_name(question.name)
    assert search.metric == "recall@7"
    for _ in range(5):
        task = search.next()
        assert task is not None
        number = search.database.get_trial_id_from_study_id_trial_number(study, task.arguments[0].number)
        search.database.set_trial_intermediate_value(number, 10, 0.99)
        outcome = told(task, 0.99)
        outcome.value["valid"] = {"recall@7": 0.99}
        search.take(outcome)
    task = search.next()
    assert task is not None
    said = attempt(*task.arguments)
    assert said["pruned"] and said["epochs"] == 10 and said["stopped"] == "pruned at epoch 10"
    assert attempt(*task.arguments) == said  # killed before it was told: not trained again
    trial = search.take(Outcome(task, said))
    assert trial.state == "pruned" and trial.value == said["valid"]["recall@7"] < 0.99
    assert search.best() != trial and not (search.folder_of(5) / "checkpoint").exists()
