"""The benchmark of when CLEAR helps: its catalogues are what they are called, its page adds up, its claims hold."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmarks are no part of the package

from benchmarks import clear_when
from prismrec.data.synthetic import Planted, draw

SMALL: dict[str, Any] = {"n_users": 60, "n_items": 120, "interactions": 8.0}


def spread(planted: Planted, group: str) -> float:
    return float(planted.utility(group).var()) if group in planted.item else 0.0


@pytest.mark.parametrize("name", clear_when.SETS)
def test_users_of_every_catalogue_care_as_much_and_for_what_its_name_says(name: str) -> None:
    planted = draw(**{**SMALL, "n_users": 800, "n_items": 400}, **clear_when.SETS[name])
    shared = spread(planted, "redundant")
    unique = [spread(planted, f"unique:{m}") for m in planted.dataset.modalities]
    assert shared + sum(unique) == pytest.approx(clear_when.TOTAL**2, rel=0.15)
    if "nobody cares" in name or "dominates" in name:
        assert shared == 0 and planted.item["redundant"].shape[1] >= 10
    if "nothing" in name:
        assert "redundant" not in planted.item
    if name.endswith(("only what is shared matters", "only shared", "everything is shared")):
        assert sum(unique) == 0
    if name.endswith("alike"):
        assert shared == pytest.approx(np.mean(unique), rel=0.2)


def test_the_page_shows_paired_differences_and_what_validation_chose() -> None:
    name = "nothing is shared"
    scores = dict(zip(clear_when.VARIANTS, (0.30, 0.31, 0.29, 0.28, 0.27, 0.30), strict=True))
    runs = [
        {"set": name, "seed": s, "model": "vbpr", "variant": v, "valid": x + 0.1 * s, "test": 2 * x, "seconds": 1.0}
        for s in range(2)
        for v, x in scores.items()
    ]
    noted = {"set": name, "seed": 0, "above chance": 0.0, "spectrum": 9.0, "energy": 0.5}
    about = clear_when.describe(1)
    page = clear_when.text({"about": about, "runs": runs, "shared": [noted]})
    row = next(line for line in page.splitlines() if line.startswith(f"| {name}"))
    assert [cell.strip() for cell in row.split("|")[2:-1]] == [
        "0.3500",
        "+0.0100 ± 0.0000",
        "-0.0100 ± 0.0000",
        "-0.0200 ± 0.0000",
        "-0.0300 ± 0.0000",
        "+0.0000 ± 0.0000",
        "2 of 2",
        "+0.0200 ± 0.0000",
    ]
    last = page.splitlines()[-1]
    assert [cell.strip() for cell in last.split("|")[1:-1]] == [name, "0.0", "9.0", "50%"]


@pytest.mark.parametrize("model", clear_when.MODELS)
def test_a_run_of_each_host_is_measured(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = draw(**SMALL, **clear_when.SETS["three modalities: alike"])
    found = clear_when.settings_of(model, ["image", "text"])
    monkeypatch.setattr(clear_when, "settings_of", lambda *_: {k: v for k, v in found.items() if k != "model.weights"})
    monkeypatch.setitem(clear_when.VARIANTS, "k=4, λ=0.9", {"clear.rank": 4, "clear.strength": 0.9, "train.epochs": 1})  # type: ignore[arg-type]
    measured = clear_when.measure(planted, model, "k=4, λ=0.9", seed=0, threads=1)
    assert 0 <= measured["valid"] <= 1 and 0 <= measured["test"] <= 1


@pytest.mark.slow
def test_clear_costs_vbpr_where_nothing_is_shared_and_less_so_with_directions_of_the_start() -> None:
    planted = draw(1000, 500, **clear_when.SETS["nothing is shared"])
    plain, damped, once = (
        clear_when.measure(planted, "vbpr", v, 0, 1)["valid"] for v in ("without", "k=10, λ=0.9", "k=10, λ=0.9, once")
    )
    assert damped < 0.95 * plain
    assert once > damped
