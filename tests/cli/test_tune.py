"""``prismrec tune``: what it writes and says, how it goes on, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml
from program import call, planted

from prismrec.cli.trials import at_an_end
from prismrec.data import store
from prismrec.experiment import configure, run
from prismrec.space import Choice, Range
from prismrec.studies import search
from prismrec.studies.jobs import Outcome, Task

QUICK = ("--set", "train.epochs=2", "--set", "model.dim=8")


def inline(tasks: Iterable[Task | None], jobs: int) -> Iterator[Outcome]:
    """``jobs.work`` in this process."""
    for task in tasks:
        assert task is not None
        yield Outcome(task, task.do(*task.arguments))


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small data set; searches train in this process."""
    monkeypatch.setattr(search, "work", inline)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return planted(tmp_path / "data")


@pytest.fixture
def data(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, and no page is drawn."""
    monkeypatch.setattr("prismrec.report.search.write_search", lambda folder, name: Path(folder) / "report.html")
    return drawn


def test_a_search_from_command_to_best_settings(drawn: Path, tmp_path: Path) -> None:
    said = call("tune", drawn, "--model", "bpr", *QUICK, "--trials", 3, "--seed", 4, "--jobs", 2)
    assert said.status == 0, said.sentence
    folder = tmp_path / "studies" / "planted-bpr"
    record = json.loads((folder / "trials/bpr/search.json").read_text())
    assert record["counts"] == {"complete": 3} and record["limit"] == 3 and record["metric"] == "recall@20"
    best = record["best"]
    assert best["value"] == max(trial["value"] for trial in record["trials"])
    assert "bpr on planted: recall@20 on validation, 3 trials, 2 at a time, 1 thread each" in said.sentence
    assert "model.reg: 1e-05 to 2, log" in said.sentence
    assert len(re.findall(r"trial +\d  recall@20 0\.\d{4}", said.err)) == 3
    assert re.search(r"3 of 3, [\d.]+ an? (minute|hour), left 0:00", said.sentence)
    assert f"{best['value']:.4f}" in said.out and "3 trials: 3 complete" in said.out
    assert "look at: studies/planted-bpr/report.html" in said.out
    assert "Nothing here has seen the test part" in (folder / "report.html").read_text()
    next_ = re.search(r"next: prismrec (train .*)", said.out)
    assert next_ is not None
    assert next_[1].split() == [
        "train",
        str(drawn.resolve()),
        "--config",
        str(Path("studies/planted-bpr/trials/bpr/best.yaml")),
    ]
    cfg, _ = configure(store.load(drawn), file=folder / "trials/bpr/best.yaml")
    assert run(cfg, store.load(drawn)).valid["recall@20"] == best["value"]
    assert not list(folder.rglob("result.json"))  # no trial opened the test part


def test_the_same_command_goes_on_and_a_larger_budget_goes_further(data: Path) -> None:
    command = ("tune", data, "--model", "bpr", *QUICK, "--out", "st")
    assert call(*command, "--trials", 2).status == 0
    again = call(*command, "--trials", 2)
    assert again.status == 0 and "2 trials stand." in again.sentence and "trial    " not in again.err
    assert "trial    2  recall@20" in call(*command, "--trials", 3).err
    more = call("tune", "--resume", "st", "--trials", 4)
    assert more.status == 0 and "trial    3  recall@20" in more.err and "4 trials: 4 complete" in more.out
    assert call("tune", "--resume", "st", "--quiet").err == ""


def test_a_grid_of_the_paper_and_a_space_of_one_s_own(data: Path) -> None:
    paper = call("tune", data, "--model", "freedom", *QUICK, "--space", "paper", "--trials", 2, "--out", "paper")
    assert paper.status == 0 and "sampler grid · pruner none" in paper.sentence and "2 trials" in paper.out
    Path("space.yaml").write_text("model.reg: [0.1, 0.01]\ntrain.lr: [0.01]\n")
    own = call("tune", data, "--model", "bpr", *QUICK, "--space", "space.yaml", "--sampler", "grid", "--out", "own")
    assert own.status == 0 and "2 trials: 2 complete" in own.out and "model.reg: 0.1, 0.01" in own.sentence
    kept = yaml.safe_load(Path("own/study.yaml").read_text())["tune"]
    assert kept["space"] == {"model.reg": [0.1, 0.01], "train.lr": [0.01]}
    assert kept["data"]["path"] == str(data.resolve())


def test_a_model_without_settings_is_one_trial(data: Path) -> None:
    said = call("tune", data, "--model", "mostpop", "--out", "st")
    assert said.status == 0 and "1 trials: 1 complete" in said.out


def test_a_search_of_failures_alone_is_an_error(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(tasks: Iterable[Task | None], jobs: int) -> Iterator[Outcome]:
        for task in tasks:
            assert task is not None
            yield Outcome(task, error="The loss term 'rank' became nan in epoch 1.")

    monkeypatch.setattr(search, "work", failing)
    said = call("tune", data, "--model", "bpr", *QUICK, "--trials", 2, "--out", "st")
    assert said.status == 2 and "nothing to choose. The loss term 'rank' became nan" in said.sentence
    said = call("tune", data, "--model", "bpr", *QUICK, "--trials", 5, "--out", "st")
    assert said.status == 2 and "All of the first 3 trials failed; the last one said: The loss term" in said.sentence


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "No data is named"),
        (("data",), "No model is named. Give --model NAME, or --config FILE"),
        (("data", "--model", "bprr"), "no model 'bprr'. Did you mean 'bpr'"),
        (("data", "--model", "micro", "--space", "paper"), "micro has no space 'paper': no such grid is known of it"),
        (("data", "--model", "bpr", "--space", "none.yaml"), "none.yaml does not exist"),
        (("data", "--model", "bpr", "--sampler", "grid"), "ranges of real numbers: model.reg, train.lr"),
        (
            ("data", "--model", "bpr", "--storage", "nosuch://u:pw@h/x"),
            "The storage nosuch://u:***@h/x cannot be opened",
        ),
        (("--resume", "data"), "data holds no search. Name the folder that `prismrec tune` wrote"),
        (("--resume", "data", "--model", "bpr", "--seed", "3"), "leave out --model, --seed, or begin another search"),
        (("data", "--model", "bpr", "--out", "data"), "data exists and holds no search"),
    ],
)
def test_what_is_refused(data: Path, arguments: tuple[str, ...], words: str) -> None:
    said = call("tune", *arguments)
    assert said.status == 2 and words in said.sentence
    assert not Path("studies").exists()  # nothing that would stand in the way of the right command


def test_another_question_in_the_same_folder_is_refused(data: Path, tmp_path: Path) -> None:
    first = ("tune", data, "--model", "bpr", *QUICK, "--trials", 1, "--out", "st")
    assert call(*first).status == 0
    for change, words in [
        (("--seed", "5"), "its settings (run.seed) was 999, now 5"),
        (("--sampler", "random"), "its sampler was tpe, now random"),
        (("--set", "train.lr=0.01"), "its settings (train.lr) was 0.001, now 0.01"),
        (("--storage", "sqlite:///other.db"), "keeps its trials in a file of its own, not in sqlite:///other.db"),
    ]:
        said = call(*first, *change)
        assert said.status == 2 and words in said.sentence and "--out" in said.sentence, said.sentence
    other = planted(tmp_path / "other", seed=9)
    said = call("tune", other, "--resume", "st")
    assert said.status == 2 and "but " in said.sentence and "Give it the data it began with" in said.sentence
    data.rename(tmp_path / "moved")
    assert "say where it is now: prismrec tune DATA --resume" in call("tune", "--resume", "st").sentence
    assert call("tune", tmp_path / "moved", "--resume", "st", "--trials", 2).status == 0


def test_two_at_once_are_refused(data: Path) -> None:
    from prismrec.io import locked

    command = ("tune", data, "--model", "bpr", *QUICK, "--trials", 1, "--out", "st")
    assert call(*command).status == 0
    with locked("st"):
        said = call(*command)
    assert said.status == 2 and "is being written by another process" in said.sentence


def test_a_password_is_not_kept_and_is_asked_for(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prismrec.studies import search_sampling

    real = search_sampling.storage
    monkeypatch.setattr(search_sampling, "storage", lambda url: real("sqlite:///shared.db"))
    url = "postgresql://me:secret@host/db"
    command = ("tune", data, "--model", "bpr", *QUICK, "--trials", 1, "--pruner", "none", "--out", "st")
    assert call(*command, "--storage", url).status == 0
    assert "secret" not in Path("st/study.yaml").read_text() and "me:***@host" in Path("st/study.yaml").read_text()
    said = call("tune", "--resume", "st", "--trials", 2)
    assert said.status == 2 and "whose password is not kept: give --storage URL" in said.sentence
    assert call("tune", "--resume", "st", "--trials", 2, "--storage", url).status == 0


@pytest.mark.parametrize(
    ("dimension", "value", "end"),
    [
        (Range(1e-4, 1e-2, log=True), 0.0098, True),
        (Range(1e-4, 1e-2, log=True), 0.005, False),
        (Range(1e-4, 1e-2, log=True), 1.05e-4, True),
        (Range(0.0, 0.9), 0.0, False),
        (Range(0.5, 1.0), 1.0, False),
        (Range(0.0, 0.9), 0.89, True),
        (Range(1, 3, whole=True), 3, False),
        (Range(4, 64, log=True, whole=True), 64, True),
        (Choice((1, 2)), 2, False),
    ],
)
def test_the_end_of_a_range_is_noticed(dimension: Range | Choice, value: float, end: bool) -> None:
    assert at_an_end(dimension, value) == end


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are those of POSIX")
def test_ctrl_c_ends_at_once_and_the_rest_is_done_once(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prismrec", "tune", str(data), "--model", "bpr", *QUICK, "--set", "train.epochs=100000",
               "--set", "train.patience=100000", "--set", "train.checkpoint_seconds=0", "--trials", "1",
               "--pruner", "none", "--out", "st"]  # fmt: skip
    place, deadline = tmp_path / "st/trials/bpr", time.monotonic() + 90
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while not list(place.glob("*/checkpoint/checkpoint.json")) and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everybody hears it
        start, said = time.monotonic(), []
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if line.startswith("Interrupted"):
                break  # all processes are dead by now; the interpreter takes as long as it likes to unload
        assert time.monotonic() - start < 20  # the trial would take hours; seconds are not for tests to count
        assert said[-1] == "Interrupted. Go on with: prismrec tune --resume st\n"
        assert process.stderr.read() == "" and "Traceback" not in "".join(said)
    assert process.returncode == 130
    asked = search.Asked.model_validate(yaml.safe_load(Path("st/study.yaml").read_text())["tune"])
    resumed = search.Search(asked, tmp_path / "st")
    task = resumed.next()
    assert task is not None and task.name == "bpr trial 0" and resumed.next() is None
    assert json.loads((place / "0000/checkpoint/checkpoint.json").read_text())  # whence it goes on
