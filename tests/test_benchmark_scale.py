"""The round of sizes runs, goes on where it was, and its pages say what was found."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks import scale, scale_page, scale_stages

pytest.importorskip("faiss", reason="the extra 'ann' is not installed")
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by Linux alone")
ROWS = 4000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("scale")
    scale_stages.draw(ROWS, place)
    return place


def test_every_stage_tells_seconds_and_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_stages, "USERS_EVALUATED", 20)
    prepared = scale_stages.prepare(ROWS, folder)
    assert list(prepared["laps"]) == ["read, ids", "duplicates", "5-core", "split", "save"]
    assert prepared["peak_mb"] >= max(lap["left_mb"] for lap in prepared["laps"].values()) > 0
    assert scale_stages.graph(ROWS, folder, neighbours=5)["found"]["recall"] >= 0.95
    trained = scale_stages.train(ROWS, folder, "vbpr", 4, 256, 3)
    assert trained["resumed_equal"] and trained["steps"] == 3 and trained["users_evaluated"] == 20
    assert trained["seconds_million"] > trained["seconds_best"] / 256 * 1e6
    assert not list(folder.glob("checkpoint*"))


def test_what_is_there_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "FOLDER", tmp_path / "results")
    asked = []

    def child(power: int, folder: Path, arguments: list[str], threads: int) -> dict[str, object] | None:
        asked.append(arguments[:2])
        return None if arguments[0] == "graph" else {"laps": {}, "peak_mb": 1.0}

    monkeypatch.setattr(scale, "child", child)
    args = argparse.Namespace(sizes=[5], folder=tmp_path, dims=[16], only=["draw", "graph", "train-bpr"], threads=1)
    scale.run(args)
    assert asked == [["draw"], ["graph"], ["train", "bpr"]]
    scale.run(args)
    assert asked[3:] == [["graph"]]  # killed the first time


def test_the_page_has_a_line_for_all_that_was_found(tmp_path: Path) -> None:
    lap = {"seconds": 2.0, "peak_mb": 300.0, "left_mb": 260.0}
    about = {"date": "2026-01-01", "processor": "P", "cores": 1, "threads": 1, "load": 0.0, "python": "3", "torch": "2",
             "prismrec": "0", "command": "c"}  # fmt: skip
    names = (
        "load",
        "build",
        "start of an epoch",
        "order",
        "first batch",
        "checkpoint",
        "resume",
        "represent",
        "evaluate",
    )
    stages = {
        "prepare": {"laps": {n: lap for n in ("read, ids", "duplicates", "5-core", "split", "save")},
                    "left": {"users": 9, "items": 8, "interactions": 7}},
        "graph": {"laps": {"neighbours": lap},
                  "found": {"items": 8, "recall": 0.97, "looked": 2, "cells": 5, "k": 10, "sample": 8}},
        "train-bpr-16": {"laps": {n: lap for n in names}, "model": "bpr", "dim": 16, "batch": 4, "steps": 2,
                         "seconds_step": 0.5, "seconds_best": 0.4,
                         "seconds_million": 1.25, "checkpoint_mb": 3, "resumed_equal": True},
    }  # fmt: skip
    for power in (6, 7):
        for name, stage in stages.items():
            record = {"size": 10**power, "peak_mb": 300.0, "about": about, **stage}
            (tmp_path / f"1e{power}-{name}.json").write_text(json.dumps(record))
    found = scale_page.results(tmp_path)
    said = scale_page.text(found)
    assert "| bpr" in said and "1.25" in said and "0.970" in said and said.endswith("bit for bit: all.")
    assert scale_page.seconds_million("prepare", found[6, "prepare"]) == 10.0
    assert scale_page.memory_million(found[7, "graph"]) == 5.0
    assert all(svg.startswith("<svg") for svg in scale_page.figures(found).values())
