"""A browser, and pages to look at. Where there is no browser or no playwright, these tests skip and say so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from prismrec.data.synthetic import draw
from prismrec.diagnostics import Subject, diagnose
from prismrec.evaluate import Evaluator
from prismrec.experiment import configure, run
from prismrec.figures import grouped
from prismrec.io import write_json, write_text
from prismrec.report import write_board, write_diagnosis, write_leaderboard, write_run_report, write_study
from prismrec.report.reproduction import write_reproduction
from prismrec.runs import Run
from prismrec.studies.board import Board
from prismrec.studies.named import named
from prismrec.studies.named_beside import Best, beside
from prismrec.studies.named_data import Source
from prismrec.studies.search import DataOf, Trial

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("mostpop", ()), ("itemknn", ()), ("bpr", ()), ("vbpr", ()), ("vbpr", ("clear",)),
)  # fmt: skip

SEEN = ("neighbours", "singular_values", "subsets", "confusions")


def browser_path() -> str | None:
    """Where Chromium lies: as PRISMREC_CHROMIUM says, or the first known name on the path."""
    return os.environ.get("PRISMREC_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install -e .[test]"
    )
    where = browser_path()
    if where is None:
        pytest.skip(f"none of {', '.join(NAMES)} is on the path; name one with PRISMREC_CHROMIUM")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=where, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def reproduced(out: Path, board: Board) -> Path:
    """The page of a named study, as if the board were its own."""
    study = named("clear-table-3")
    source = Source("baby", "given", draw(60, 64, seed=1).dataset, DataOf(path="x", name="baby", fingerprint="0" * 16))
    rows = beside(study, "main", study.parts["main"], source, board)
    best = Best(data="baby", of="baby", part="main", setting="clear.rank", published=4, ours=8, tried=(2, 4, 8))
    figure = {"svg": grouped(["a", "b"], {"x": [0.1, 0.2]}, "share"), "title": "Shares", "caption": "Mean over seeds."}
    part = {"title": "baby", "note": "A note.", "figures": [figure, figure], "page": "study.html"}
    return write_reproduction(
        out / "reproduction.html", study, ["A word."], "prismrec reproduce", rows, [best], [part], []
    )


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Kind of page → its file, of small real runs."""
    planted = draw(120, 60, interactions=12, seed=1)
    data, out = planted.dataset, tmp_path_factory.mktemp("pages")
    folders = []
    for model, plugins in ARMS:
        settings = {"train.epochs": 4, "train.lr": 0.02}
        cfg, _ = configure(data, model, plugins, settings=settings, seed=3, device="cpu", threads=1)
        folders.append(out / "runs" / cfg.label)
        run(cfg, data, folders[-1])
    seen = Subject.of_run(folders[-1], data)
    found = {"diagnosis": write_diagnosis(folders[-1] / "diagnosis", diagnose(seen, SEEN))}
    written = [write_run_report(folder, data) for folder in folders]
    found |= {"run": written[-1], "floor": written[0]}
    metrics = list(Run.read(folders[0]).test.mean)
    oracle = Evaluator.of(data, "test", metrics=metrics).evaluate(planted.oracle())
    found["leaderboard"] = write_leaderboard(out / "board", folders, data, oracle=oracle, truth=planted.oracle())
    arms = {Run.read(folder).result["label"]: [Run.read(folder)] for folder in folders}
    for seed in (4, 5):
        settings = {"train.epochs": 3, "train.lr": 0.02}
        cfg, _ = configure(data, "vbpr", ("clear",), settings=settings, seed=seed, device="cpu", threads=1)
        run(cfg, data, out / "more" / f"seed-{seed}")
    arms["vbpr+clear"] = [Run.read(out / "more" / f"seed-{seed}") for seed in (4, 5)]
    board = Board.of(arms, data, ["recall@10", "recall@20", "ndcg@20"])
    found["study"] = write_board(out / "study.html", board, command="prismrec compare data --models vbpr")
    found["search"] = write_study(searched(out / "search"))
    found["reproduction"] = reproduced(out, board)
    return found


def searched(folder: Path) -> Path:
    """The folder of a search, as one leaves it."""
    settings = [{"model.reg": 10.0**-n, "model.fusion": word} for n, word in enumerate(["sum", "concat"] * 6)]
    trials = [Trial(n, "complete", 0.1 + 0.01 * (n % 5), at, 9, 7, 2.0) for n, at in enumerate(settings)]
    record = {
        "arm": "br-mrs-backbone", "metric": "recall@20", "sampler": "tpe", "pruner": "median", "seconds": 99.0,
        "space": {"model.reg": {"low": 1e-12, "high": 1}, "model.fusion": ["sum", "concat"]},
        "importance": {"model.reg": 0.9, "model.fusion": 0.1}, "best": asdict(trials[4]), "trials": [asdict(t) for t in trials],
    }  # fmt: skip
    write_json(folder / "trials" / "br-mrs-backbone" / "search.json", record)
    write_text(folder / "study.yaml", "tune: {data: {name: planted}}")
    return folder
