"""The example from raw files to recommendations runs as it stands, on a catalogue of a few films."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from program import call
from raws import light_encoders, movielens

from prismrec.data import store

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "ml100k.sh"


def commands(raw: Path, out: Path, place: Path) -> list[list[str]]:
    """What the script would run: the shell reads it, and a program that only notes its arguments takes the place of ours."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash to read the script")
    stub, notes = place / "prismrec", place / "notes"
    stub.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" >> "{notes}"\nprintf "\\n" >> "{notes}"\n')
    stub.chmod(0o755)
    environment = {**os.environ, "PATH": f"{place}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("USER_ID", None)
    subprocess.run([bash, str(SCRIPT), str(raw), str(out)], check=True, env=environment)
    return [line.split("\0")[:-1] for line in notes.read_text().splitlines()]


def test_the_example_runs_from_raw_files_to_lists_and_cold_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    movielens(raw)
    (tmp_path / "bin").mkdir()
    lines = commands(raw, out, tmp_path / "bin")
    assert [line[0] if line[0] != "data" else line[1] for line in lines] == [
        "prepare", "inspect", "train", "report", "recommend", "prepare", "cold",
    ]  # fmt: skip
    light_encoders(monkeypatch, tmp_path / "cache")
    said = {}
    for line in lines:
        quick = ["--set", "train.epochs=2", "--threads", "1"] if line[0] in ("train", "cold") else []
        said[line[0] + line[1] * (line[0] == "data")] = got = call(*line, *quick)
        assert got.status == 0, f"{line}: {got.err}"
    films = store.load(out / "data")
    assert films.item_table["plot"][3] == "a cowboy rides in film 3" and list(films.modalities) == ["image", "text"]
    assert "Film" in said["recommend"].out and said["recommend"].out.count("(1990)") == 10
    assert "mostpop" in said["cold"].out and "contentknn" in said["cold"].out and "freedom+clear" in said["cold"].out
    assert (out / "run/report.html").exists() or list((out / "run").rglob("*.html"))


def test_numbers_from_zero_are_taken_too(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    first = commands(tmp_path, tmp_path / "out", tmp_path / "bin")[0]
    assert first[2:5] == ["tables", f"{tmp_path}/ml100k.inter", f"{tmp_path}/items.tsv"]
