"""Processes of a local Ray cluster that train together. Ray is an extra that the checks do not install."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from program import call, planted
from test_parallel import SETTINGS, compare

from prismrec.io import read_json

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def installed() -> None:
    pytest.importorskip("ray", reason='Ray is not installed: pip install "prismrec[ray]"')


def start(data: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "prismrec", "train", str(data), *SETTINGS, "--workers", "2", "--ray", "local"]
    return subprocess.Popen([*command, "--threads", "1", "--out", str(out), *more],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip


def test_two_processes_of_a_cluster_come_to_what_one_comes_to(tmp_path: Path) -> None:
    data, out = planted(tmp_path / "data"), tmp_path / "run"
    process = start(data, out, "--set", "train.epochs=2")
    told, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert told.count("look at:") == 1 and err.count("epoch    1") == 1
    compare(out, data, 2)
    again = call("train", "--resume", out, "--ray", "local")
    assert again.status == 0 and "nothing to resume" in again.sentence


def test_a_process_of_a_cluster_that_is_lost_is_replaced(tmp_path: Path) -> None:
    data, out = planted(tmp_path / "data"), tmp_path / "run"
    settings = ("epochs=400", "patience=400", "checkpoint_seconds=0")
    process = start(data, out, *(text for one in settings for text in ("--set", f"train.{one}")))
    assert process.stderr is not None
    pids: dict[str, str] = {}
    for line in process.stderr:  # Ray tells who is who, then the first tells of its epochs
        pids |= {rank: pid for pid, rank in re.findall(r"pid=(\d+)\) world_rank=(\d)", line)}
        if line.startswith("epoch    1"):
            break
    until = time.monotonic() + 60
    while not (out / "checkpoint" / "checkpoint.json").exists() and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(int(pids["1"]), signal.SIGKILL)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert err.count("Started training worker group") == 1  # once more
    history = [json.loads(line)["epoch"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert history == list(range(1, 401)) and read_json(out / "result.json")["epochs"] == 400
