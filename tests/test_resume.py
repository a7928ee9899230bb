"""A run that is killed and resumed ends in the bits of one that never was."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from program import call, die_at_event, die_writing_tensors, doomed, planted, snapshot
from safetensors.torch import load_file, save_file

from prismrec.data import store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by SIGKILL here")

KILLED = -signal.SIGKILL
TIMINGS = ("seconds", "seconds_evaluation")
RUNS = {
    "freedom": ["--model", "freedom", "--plugin", "clear", "--set", "clear.interval=2", "--set", "clear.rank=4"],
    "vbpr": ["--model", "vbpr", "--plugin", "clear", "--set", "clear.interval=2", "--set", "clear.rank=4", "--set",
             "train.lr=0.05", "--set", "train.schedule=cosine", "--set", "train.clip=0.5"],
}  # fmt: skip
COMMON = ["--set", "model.dim=8", "--set", "train.epochs=5", "--set", "train.batch_size=128", "--threads", "1", "--seed",
          "3", "--set", "train.checkpoint_seconds=0", "--quiet"]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted(tmp_path_factory.mktemp("data") / "planted")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    for name, arguments in RUNS.items():
        assert doomed(["train", data, *arguments, *COMMON, "--out", folder / name]) == 0
    return {name: folder / name for name in RUNS}


def facts(run: Path) -> dict[str, Any]:
    """All of a run that must not depend on interruptions: everything but time, memory and machine."""
    result = json.loads((run / "result.json").read_text())
    kept = (
        "valid",
        "test",
        "epochs",
        "best_epoch",
        "stopped",
        "config",
        "data_fingerprint",
        "parameters",
        "seed",
        "label",
    )
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    checkpoint = json.loads((run / "checkpoint" / "checkpoint.json").read_text())
    progress = {key: value for key, value in checkpoint["progress"].items() if key not in ("seconds", "history")}
    return {
        "result": {key: result[key] for key in kept},
        "log": [{key: value for key, value in line.items() if key not in TIMINGS} for line in lines],
        "progress": progress,
        "tensors": {role: entry["sha256"] for role, entry in checkpoint["files"].items()},
        "index": {
            name.split(".")[0]: digest for name, digest in snapshot(run / "index").items() if name != "manifest.json"
        },
        "per_user": {
            part: pl.read_parquet(run / "per_user" / f"{part}.parquet").to_dicts() for part in ("valid", "test")
        },
    }


def start(name: str, data: Path, out: Path) -> list[object]:
    """The command that starts a run, or goes on with it once it has begun."""
    if (out / "config.yaml").exists():
        return ["train", "--resume", out, "--quiet"]
    return ["train", data, *RUNS[name], *COMMON, "--out", out]


@pytest.mark.parametrize(("name", "steps"), [("freedom", (2, 9, 30, 13, 41)), ("vbpr", (5, 22, 17, 36, 28))])
def test_killed_again_and_again_at_any_touch_of_a_file(
    name: str, steps: tuple[int, ...], data: Path, whole: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    deaths = 0
    for which in itertools.chain(steps, itertools.repeat(0)):
        status = doomed(start(name, data, out), die_at_event, str(out), which)
        if status == 0:
            break
        assert status == KILLED
        deaths += 1
    assert deaths >= 4
    assert facts(out) == facts(whole[name])
    left = [path.name for path in out.rglob("*") if path.name.endswith(".part") or path.name.startswith(".tmp")]
    assert left == []


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_killed_at_every_touch_of_a_file(name: str, data: Path, whole: dict[str, Path], tmp_path: Path) -> None:
    expected = facts(whole[name])
    for which in itertools.count(1):
        out = tmp_path / str(which)
        if doomed(start(name, data, out), die_at_event, str(out), which) == 0:
            break
        assert doomed(start(name, data, out)) == 0
        assert facts(out) == expected, f"killed at event {which}"
        shutil.rmtree(out)
    assert which > 50


@pytest.mark.parametrize(("which", "share"), [(2, 0.0), (3, 0.4), (6, 0.9)])
def test_killed_while_a_checkpoint_is_written(
    which: int, share: float, data: Path, whole: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert doomed(start("vbpr", data, out), die_writing_tensors, which, share) == KILLED
    assert not (out / "result.json").exists()
    assert doomed(start("vbpr", data, out)) == 0
    assert facts(out) == facts(whole["vbpr"])


def test_killed_from_outside_at_arbitrary_moments(data: Path, whole: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    log = out / "metrics.jsonl"
    command = [sys.executable, "-m", "prismrec", *map(str, start("freedom", data, out))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and not (log.exists() and log.stat().st_size):
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == KILLED, err.decode()
    assert doomed(start("freedom", data, out)) == 0
    assert facts(out) == facts(whole["freedom"])


def test_killed_after_training_before_the_result(data: Path, whole: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole["vbpr"], out)
    (out / "result.json").unlink()
    shutil.rmtree(out / "per_user")
    assert call("train", "--resume", out).status == 0
    assert facts(out) == facts(whole["vbpr"])


def test_a_finished_run_is_shown_and_not_touched(whole: dict[str, Path]) -> None:
    run = whole["vbpr"]
    before = snapshot(run)
    said = call("train", "--resume", run)
    assert said.status == 0 and "is finished; there is nothing to resume" in said.err
    test = json.loads((run / "result.json").read_text())["test"]
    assert f"{test['recall@20']:.4f}" in said.out
    assert snapshot(run) == before


@pytest.fixture
def unfinished(data: Path, whole: dict[str, Path], tmp_path: Path) -> Path:
    """A run that ended before its result was written, so that resuming has something to do."""
    out = tmp_path / "unfinished"
    shutil.copytree(whole["vbpr"], out)
    (out / "result.json").unlink()
    return out


def damage(run: Path, how: str) -> None:
    index = run / "checkpoint" / "checkpoint.json"
    content = json.loads(index.read_text())
    last = run / "checkpoint" / content["files"]["last"]["name"]
    if how == "truncated":
        last.write_bytes(last.read_bytes()[:-100])
    elif how == "tampered":
        tensors = load_file(last)
        next(iter(tensors.values())).add_(1)
        save_file(tensors, last)
    elif how == "pickled":
        torch.save({"module.x": torch.zeros(2)}, last)
    elif how == "gone":
        last.unlink()
    elif how == "index cut short":
        index.write_text(index.read_text()[:-30])
    elif how == "index changed":
        content["progress"]["best_epoch"] = 1
        index.write_text(json.dumps(content))
    elif how == "index of nothing":
        index.write_text("{}")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("truncated", "last-5.safetensors is not a whole safetensors file"),
        ("tampered", "last-5.safetensors does not match its checksum"),
        ("pickled", "last-5.safetensors is a pickle"),
        ("gone", "last-5.safetensors does not exist"),
        ("index cut short", "checkpoint.json is not valid JSON"),
        ("index changed", "checkpoint.json does not match the checksum"),
        ("index of nothing", "checkpoint.json does not match the checksum"),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_nothing_changes(unfinished: Path, how: str, said: str) -> None:
    damage(unfinished, how)
    before = snapshot(unfinished)
    answer = call("train", "--resume", unfinished, "--quiet")
    assert answer.status == 2 and said in answer.sentence and "Traceback" not in answer.err
    assert answer.out == "" and len(answer.err.strip().splitlines()) == 1
    assert snapshot(unfinished) == before


def test_other_data_is_refused(unfinished: Path, tmp_path: Path) -> None:
    other = planted(tmp_path / "other", seed=6)
    before = snapshot(unfinished)
    answer = call("train", other, "--resume", unfinished)
    assert answer.status == 2 and "was trained on data with fingerprint" in answer.sentence
    assert store.load(other).fingerprint in answer.sentence
    assert snapshot(unfinished) == before


def test_data_that_has_moved_can_be_named(data: Path, unfinished: Path, whole: dict[str, Path], tmp_path: Path) -> None:
    config = unfinished / "config.yaml"
    config.write_text(config.read_text().replace(str(data), str(tmp_path / "gone")))
    answer = call("train", "--resume", unfinished)
    assert answer.status == 2 and f"{tmp_path / 'gone'}, which is not there any more" in answer.sentence
    assert call("train", data, "--resume", unfinished, "--quiet").status == 0
    assert facts(unfinished) == facts(whole["vbpr"])


def test_a_run_on_data_in_memory_asks_where_it_is(data: Path, unfinished: Path, whole: dict[str, Path]) -> None:
    config = unfinished / "config.yaml"
    config.write_text(config.read_text().replace(f"path: {data}", "path: null"))
    answer = call("train", "--resume", unfinished)
    assert (
        answer.status == 2
        and "was trained on data in memory" in answer.sentence
        and "prismrec train DATA" in answer.sentence
    )
    assert call("train", data, "--resume", unfinished, "--quiet").status == 0
    assert facts(unfinished) == facts(whole["vbpr"])


def test_other_settings_beside_resume_are_refused(unfinished: Path) -> None:
    before = snapshot(unfinished)
    answer = call("train", "--resume", unfinished, "--set", "train.epochs=9", "--seed", "4")
    assert answer.status == 2 and "leave out --set, --seed" in answer.sentence
    assert snapshot(unfinished) == before


def test_a_checkpoint_of_another_width_is_refused(unfinished: Path) -> None:
    config = unfinished / "config.yaml"
    config.write_text(config.read_text().replace("dim: 8", "dim: 12"))
    before = snapshot(unfinished)
    answer = call("train", "--resume", unfinished, "--quiet")
    assert answer.status == 2 and "The checkpoint does not fit this model" in answer.sentence
    assert snapshot(unfinished) == before


def test_two_processes_never_write_one_run(unfinished: Path) -> None:
    from prismrec.io import locked

    before = snapshot(unfinished)
    with locked(unfinished):
        answer = call("train", "--resume", unfinished, "--quiet")
    assert answer.status == 2 and "is being written by another process" in answer.sentence
    assert snapshot(unfinished) == before
