"""``prismrec report``: the page of a run, again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from program import call, planted


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a finished run on it."""
    folder = tmp_path_factory.mktemp("place")
    planted(folder / "data")
    said = call("train", folder / "data", "--model", "itemknn", "--out", folder / "run", "--threads", 1, "--quiet")
    assert said.status == 0, said.sentence
    return folder


def test_the_page_comes_out_again(place: Path, tmp_path: Path) -> None:
    page = place / "run" / "report.html"
    before = page.read_text(encoding="utf-8")
    page.unlink()
    said = call("report", place / "run")
    assert (said.status, said.err) == (0, "")
    assert said.out.split() == f"look at: {page}".split()
    assert page.read_text(encoding="utf-8") == before
    assert f"prismrec report {place / 'run'}" in before
    assert f"prismrec train {place / 'data'} --config {place / 'run'}/config.yaml" in before


def test_a_diagnosis_stands_on_it(place: Path) -> None:
    assert call("diagnose", place / "run", "--only", "neighbours").status == 0
    assert call("report", place / "run", "--users", 0).status == 0
    text = (place / "run" / "report.html").read_text(encoding="utf-8")
    assert "Do the modalities name the same neighbours?" in text
    assert 'href="diagnosis/index.html"' in text
    assert 'id="lists"' not in text
    shutil.rmtree(place / "run" / "diagnosis")
    assert call("report", place / "run").status == 0
    assert "same neighbours" not in (place / "run" / "report.html").read_text(encoding="utf-8")


def test_data_that_was_moved_is_named(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "there")
    (place / "data").rename(place / "moved")
    try:
        said = call("report", tmp_path / "there" / "run")
        assert said.status == 2 and "--data DATA" in said.sentence
        assert call("report", tmp_path / "there" / "run", "--data", place / "moved").status == 0
    finally:
        (place / "moved").rename(place / "data")


def test_what_is_no_run_is_refused(place: Path) -> None:
    said = call("report", place / "data")
    assert said.status == 2 and "is no run folder" in said.sentence
