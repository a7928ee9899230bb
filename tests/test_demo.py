"""The demonstration from end to end, on a small catalogue, and what it does to folders that are there."""

import io
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from prismrec.data.store import load
from prismrec.demo import PAGE, run_demo
from prismrec.errors import PrismError
from prismrec.recommender import Recommender
from prismrec.runs import Run


def demo(out: Path, seed: int = 1) -> str:
    screen = io.StringIO()
    page = run_demo(out, seed=seed, quick=True, console=Console(file=screen, width=110, highlight=False))
    assert page == out / PAGE
    return screen.getvalue()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("demo") / "report"
    return out, demo(out)


def test_it_leaves_a_page_the_data_and_the_runs_with_pages_of_their_own(shown: tuple[Path, str]) -> None:
    out, _ = shown
    assert sorted(entry.name for entry in out.iterdir()) == ["data", PAGE, "runs"]
    assert sorted(entry.name for entry in (out / "runs").iterdir()) == ["bpr", "mostpop", "vbpr-clear"]
    page = (out / PAGE).read_text(encoding="utf-8")
    for link in re.findall(r'href="([^"#]+)"', page):
        assert (out / link).is_file()
    assert load(out / "data").n_users == 300
    assert not [entry for entry in out.parent.iterdir() if entry.name.endswith(".part")]


def test_the_leaderboard_shows_every_run_and_the_oracle_above_them(shown: tuple[Path, str]) -> None:
    out, text = shown
    lines = [line.split() for line in text.splitlines()]
    scores = {run.label: run.test.mean["recall@20"] for run in (Run.read(f) for f in (out / "runs").iterdir())}
    for label, score in scores.items():
        assert any(line[: len(label.split())] == label.split() and f"{score:.4f}" in line for line in lines)
    oracle = next(line for line in lines if line[:1] == ["oracle"])
    assert float(oracle[1]) > max(scores.values()) + 0.1
    assert max(len(line.rstrip()) for line in text.splitlines() if "%" in line and "–" in line) <= 80


def test_what_it_says_to_try_next_works(shown: tuple[Path, str]) -> None:
    out, text = shown
    command = next(line for line in text.splitlines() if " recommend " in line and "--user" in line)
    match = re.search(r"recommend (\S+) --user (\S+) --top 10", command)
    assert match is not None
    table = Recommender.load(match[1]).recommend([match[2]], 10)
    assert table.height == 10
    assert table["title"].null_count() == 0
    assert Path(match[1]).is_relative_to(out)


def test_a_second_time_replaces_the_first_with_the_same_numbers(shown: tuple[Path, str], tmp_path: Path) -> None:
    first, _ = shown
    shutil.copytree(first, tmp_path / "again")
    (tmp_path / "again" / PAGE).write_text("old")
    demo(tmp_path / "again")
    assert (tmp_path / "again" / PAGE).read_text(encoding="utf-8").startswith("<!doctype html>")
    for run in (first / "runs").iterdir():
        assert Run.read(run).test.mean == Run.read(tmp_path / "again" / "runs" / run.name).test.mean


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, shown: tuple[Path, str]) -> None:
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter.txt").write_text("years of work")
    with pytest.raises(PrismError, match="thesis"):
        demo(mine)
    assert (mine / "chapter.txt").read_text() == "years of work"
    added = shown[0] / "runs" / "my-own-run"
    added.mkdir()
    with pytest.raises(PrismError, match="something else"):
        demo(shown[0])
    added.rmdir()


def test_a_demonstration_that_fails_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: tuple[Path, str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    out, _ = shown
    before = (out / PAGE).read_text(encoding="utf-8")
    monkeypatch.setattr("prismrec.demo.write_leaderboard", fail)
    with pytest.raises(KeyboardInterrupt):
        demo(out, seed=3)
    assert (out / PAGE).read_text(encoding="utf-8") == before
    assert not [entry for entry in out.parent.iterdir() if entry.name.endswith(".part")]
