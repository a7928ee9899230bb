"""Pages of studies: searches, sweeps, comparisons; as far as each has come."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from program import call

from prismrec.errors import PrismError
from prismrec.report import write_study
from prismrec.report.search import said, section, together
from prismrec.report.study import sweep
from prismrec.studies.search import Trial, best_of

GRID = {"model.reg": [0.001, 0.1], "train.lr": [0.01, 0.03]}
DATA = {"path": "data/shop", "name": "shop", "fingerprint": "0123456789abcdef"}


def record(trials: list[Trial], space: Mapping[str, Any] = GRID, **more: Any) -> dict[str, Any]:
    """What a search writes."""
    best = best_of(trials)
    return {
        "arm": "vbpr", "metric": "recall@20", "sampler": "grid", "pruner": "none", "space": dict(space), "limit": len(trials),
        "seconds": 3.0, "best": None if best is None else asdict(best), "importance": {},
        "trials": [asdict(trial) for trial in trials], **more,
    }  # fmt: skip


def trials() -> list[Trial]:
    points = [(reg, lr) for reg in GRID["model.reg"] for lr in GRID["train.lr"]]
    ended = [
        Trial(n, "complete", 0.1 + 0.01 * n, {"model.reg": reg, "train.lr": lr}, 5, 4, 1.0)
        for n, (reg, lr) in enumerate(points)
    ]
    return [*ended, Trial(4, "failed", None, {"model.reg": 0.001, "train.lr": 0.01}, error="the loss became nan")]


def write(path: Path, tree: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(tree) if path.suffix == ".yaml" else json.dumps(tree), encoding="utf-8")


def tuned(folder: Path, **more: Any) -> Path:
    write(folder / "study.yaml", {"tune": {"data": DATA}})
    write(folder / "trials" / "vbpr" / "search.json", record(trials(), **more))
    return folder


def test_a_search_in_words() -> None:
    first, last = said(record(trials()))
    assert first == (
        "4 trials were trained to their end, 1 failed. Trial 3 reached most on validation: recall@20 0.1300, with reg 0.1, "
        "train.lr 0.03."
    )
    assert last == "Nothing here has seen the test part."
    assert (
        "train.lr, with 80% of the importance"
        in said(record(trials(), importance={"train.lr": 0.8, "model.reg": 0.2}))[1]
    )
    assert said(record(trials()[-1:])) == [
        "0 trials were trained to their end, 1 failed: nothing can be chosen yet.",
        "Nothing here has seen the test part.",
    ]


def test_two_settings_in_every_combination_are_a_heat_map_and_others_are_clouds() -> None:
    grid = section(record(trials()))
    assert [figure["title"] for figure in grid["figures"]] == ["Trial by trial", "reg and train.lr"]
    assert "largest 0.1300 at 0.03, 0.1" in grid["figures"][1]["svg"] and grid["clouds"] == []
    drawn = [
        Trial(n, "complete", 0.1 * n, {"model.reg": 0.1**n, "model.fusion": word}, 5, 4, 1.0)
        for n, word in enumerate(("sum", "sum", "concat"))
    ]
    space = {"model.reg": {"low": 0.01, "high": 1.0}, "model.fusion": ["sum", "concat"]}
    free = section(record(drawn, space, importance={"model.fusion": 0.7, "model.reg": 0.3}))
    assert [figure["title"] for figure in free["figures"]] == ["Trial by trial", "What mattered"]
    assert [figure["title"] for figure in free["clouds"]] == ["fusion", "reg"]
    assert section(record(trials()[-1:]))["figures"] == []


def test_the_table_of_trials_has_the_best_first_and_failures_last() -> None:
    (table,) = section(record(trials()))["sheets"]
    assert [row[0]["text"] for row in table["rows"]] == ["3", "2", "1", "0", "4"]
    assert [row[1]["place"] for row in table["rows"]] == ["best", "", "", "", ""]
    assert table["rows"][-1][1]["text"] == "–" and table["rows"][-1][-1]["text"] == "failed"
    tied = [Trial(n, "complete", 0.5, {}, 1, 1, 1.0) for n in range(3)]
    (table,) = section(record(tied, {}))["sheets"]
    assert [row[0]["text"] for row in table["rows"]] == ["0", "1", "2"]


def test_the_page_of_a_search_and_its_command(tmp_path: Path) -> None:
    folder = tuned(tmp_path / "a search")
    said_ = call("report", folder)
    assert said_.status == 0 and said_.sentence == ""
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "prismrec tune --resume" in text and "Search for vbpr" in text and "0.1300" in text
    assert not re.search(r'(src|href)="(?!#)', text)


def swept(folder: Path, axes: list[str], opened: bool) -> dict[str, Any]:
    asked: dict[str, Any] = {"kind": "sweep", "data": DATA, "axes": axes, "arms": {}}
    for reg in (0.001, 0.1):
        for rank in (1, 4) if len(axes) == 2 else (4,):
            name = f"{reg}-{rank}"
            config = {
                "model": {"name": "vbpr", "reg": reg},
                "plugins": {"clear": {"rank": rank}},
                "train": {"metric": "recall@20"},
            }
            asked["arms"][name] = {"config": config, "seeds": [1, 2]}
            for seed in (1, 2):
                value = {"recall@20": reg + 0.01 * rank + 0.001 * seed}
                came = {"config": config, "valid": value} | ({"test": value} if opened else {})
                write(folder / "runs" / name / f"seed-{seed}" / f"{'result' if opened else 'trial'}.json", came)
    write(folder / "study.yaml", asked)
    return asked


def test_a_sweep_of_one_setting_is_a_curve_and_of_two_a_heat_map(tmp_path: Path) -> None:
    one = sweep(swept(tmp_path / "one", ["model.reg"], opened=True), tmp_path / "one")
    assert one is not None and [figure["title"] for figure in one["figures"]] == [
        "Validation, along reg",
        "Test, along reg",
    ]
    assert one["note"] == "Of 2 settings, validation is best at reg 0.1: recall@20 0.1415."
    two = sweep(swept(tmp_path / "two", ["model.reg", "clear.rank"], opened=False), tmp_path / "two")
    assert two is not None and [figure["title"] for figure in two["figures"]] == ["Validation", "Validation, along reg"]
    assert "largest 0.1415 at 4, 0.1" in two["figures"][0]["svg"]
    assert "clear.rank 4" in two["figures"][1]["svg"]
    (points,) = two["sheets"]
    assert points["columns"] == ["reg", "clear.rank", "validation recall@20", "seeds"]
    best = [cell["text"] + cell["aside"] for cell in points["rows"][0]]
    assert best == ["0.1", "4", "0.1415± 0.0007", "2"] and len(points["rows"]) == 4
    page = write_study(tmp_path / "two").read_text(encoding="utf-8")
    assert "best at reg 0.1, clear.rank 4" in page and f"prismrec sweep --resume {tmp_path / 'two'}" in page


def test_a_sweep_with_gaps_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    asked = swept(tmp_path, ["model.reg", "clear.rank"], opened=False)
    for seed in (1, 2):
        (tmp_path / "runs" / "0.1-4" / f"seed-{seed}" / "trial.json").unlink()
    found = sweep(asked, tmp_path)
    assert found is not None and "reg 0.1, clear.rank 1" in found["note"] and ">·<" in found["figures"][0]["svg"]
    assert sweep(asked, tmp_path / "nothing") is None and sweep({**asked, "axes": []}, tmp_path) is None


def test_what_is_no_study_or_has_nothing_to_show_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrismError, match="is no study"):
        write_study(tmp_path)
    write(tmp_path / "study.yaml", {"kind": "compare", "data": DATA, "arms": {}})
    with pytest.raises(PrismError, match=f"Go on with it: prismrec compare --resume {re.escape(str(tmp_path))}"):
        write_study(tmp_path)
    write(tmp_path / "study.yaml", {"tune": {"data": DATA}})
    with pytest.raises(PrismError, match="prismrec tune --resume"):
        write_study(tmp_path)


def test_searches_of_a_study_stand_together_each_folded() -> None:
    found = together([record(trials()), record(trials()[-1:], arm="bpr")])
    assert [fold["title"] for fold in found["folds"]] == ["Search for vbpr", "Search for bpr"]
    (figure,) = found["figures"]
    assert "vbpr" in figure["svg"] and "bpr</text>" not in figure["svg"].replace("vbpr</text>", "")
    assert together([record(trials()[-1:])])["figures"] == []
