"""Processes that train together: every row is somebody's, two give what one gives, and one that is lost is replaced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from program import planted
from tiny import batch, context, made, total

from prismrec.data import store
from prismrec.experiment import configure, run
from prismrec.index import Index
from prismrec.models.freedom import FREEDOM
from prismrec.parallel import Crew
from prismrec.plugins.clear import CLEAR

SETTINGS = ["--model", "freedom", "--plugin", "clear", "--set", "model.dim=8", "--set", "train.batch_size=100"]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_row_is_taken_once_and_shares_are_even(size: int) -> None:
    whole = batch(context(2), 2)
    parts = [Crew(rank, size).share(whole) for rank in range(size)]
    for name in ("user", "pos", "neg"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
    lengths = [len(part.user) for part in parts]
    assert max(lengths) - min(lengths) <= 1
    assert size > 1 or parts[0] is whole


def test_gradients_of_the_parts_are_that_of_the_batch() -> None:
    ctx = context(2)
    assembly = made(FREEDOM, ctx, (CLEAR,))
    assembly.start_epoch(0, torch.Generator().manual_seed(1))
    whole = batch(ctx, assembly.n_neg)
    total(assembly.loss(whole)).backward()
    wanted = {name: p.grad.clone() for name, p in assembly.named_parameters() if p.grad is not None}
    assembly.zero_grad()
    for rank in range(3):
        part = Crew(rank, 3).share(whole)
        (total(assembly.loss(part)) * len(part.user) / len(whole.user)).backward()
    for name, p in assembly.named_parameters():
        torch.testing.assert_close(p.grad, wanted[name], rtol=1e-4, atol=1e-6)


def start(data: Path, out: Path, epochs: int, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "prismrec", "train", str(data), *SETTINGS, "--set", f"train.epochs={epochs}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, "--workers", "2", "--threads", "1", "--out", str(out), *more],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)  # fmt: skip


def alone(data: Path, epochs: int) -> tuple[Index, list[float]]:
    settings = {"model.dim": 8, "train.batch_size": 100, "train.epochs": epochs}
    dataset = store.load(data)
    result = run(configure(dataset, "freedom", ["clear"], settings=settings, threads=1)[0], dataset)
    return result.index, [record["loss"] for record in result.progress.history]


def compare(out: Path, data: Path, epochs: int) -> None:
    """Two processes came to what one comes to, as far as rounding goes."""
    index, losses = alone(data, epochs)
    theirs = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert theirs == pytest.approx(losses, rel=1e-5)
    for mine, other in zip(index.sides["fused"], Index.load(out / "index").sides["fused"], strict=True):
        torch.testing.assert_close(other, mine, rtol=1e-3, atol=1e-4)


def test_two_processes_come_to_what_one_comes_to(tmp_path: Path) -> None:
    data = planted(tmp_path / "data")
    process = start(data, tmp_path / "run", 2)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.count("look at:") == 1 and err.count("epoch    1") == 1  # one of them speaks
    compare(tmp_path / "run", data, 2)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, -1], ids=["the first", "another"])
def test_one_that_is_lost_is_replaced_and_nothing_else_is(lost: int, tmp_path: Path) -> None:
    data, out = planted(tmp_path / "data"), tmp_path / "run"
    process = start(data, out, 40, "--set", "train.checkpoint_seconds=0", "--set", "train.patience=40")
    until = time.monotonic() + 120
    while not (out / "checkpoint" / "checkpoint.json").exists() and time.monotonic() < until:
        time.sleep(0.05)
    found = subprocess.run(["pgrep", "-f", f"train --resume {out}"], capture_output=True, text=True, check=True).stdout
    os.kill(int(found.split()[lost]), signal.SIGKILL)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 40
    assert (out / "result.json").is_file()
