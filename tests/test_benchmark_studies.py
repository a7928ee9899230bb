"""The plan of the studies holds together, and its pages say what the records say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("benchmarks", reason="benchmarks are not part of the package")

from benchmarks import rounds, studies, studies_brmrs, studies_clear, studies_mrdib, studies_table
from benchmarks.rounds import Arm, Round, Settings
from benchmarks.rounds_train import pack
from benchmarks.studies_data import both_splits
from benchmarks.studies_plan import ARMS, RANKS, ROUND, STRENGTHS, draws
from prismrec.config import assign, resolve
from prismrec.data.synthetic import draw
from prismrec.io import write_json
from prismrec.recipes import expand

NAMES = {arm.name: arm for arm in ARMS}
Fill = Callable[..., None]


def chains(arm: Arm, data: str) -> list[Settings]:
    """Each of an arm's settings on top of the first of its base's."""
    below = chains(NAMES[arm.base], data)[0] if arm.base else {}
    return [{**below, **one} for one in arm.tried_on.get(data, arm.tried)]


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_every_arm_is_a_run_on_each_of_its_data_sets(arm: Arm) -> None:
    for data in arm.where:
        assert data in ROUND.data
        tried = chains(arm, data)
        assert len({str(one) for one in tried}) == len(tried) > 0
        for settings in tried:
            tree = expand({"model": {"name": arm.model}, "plugins": {name: {} for name in arm.plugins}})
            for key, value in {**settings, "train.metric": arm.metric}.items():
                tree = assign(tree, key, value)
            resolve(tree)


def test_arms_build_on_and_are_compared_with_arms_of_the_same_metric_that_run_where_they_do() -> None:
    assert len(NAMES) == len(ARMS)
    for arm in ARMS:
        for other in filter(None, (arm.base, arm.against)):
            assert NAMES[other].metric == arm.metric
            assert set(arm.where) <= set(NAMES[other].where)


def test_draws_are_seeded_and_distinct() -> None:
    assert draws(20) == draws(20) != draws(20, seed=1)
    assert len({str(one) for one in draws(20)}) == 20


def test_both_splits_hold_the_same_rows() -> None:
    found = both_splits(draw(n_users=60, n_items=40, interactions=8, seed=1).dataset)
    given, left_out = found.values()
    assert [name.endswith("-loo") for name in found] == [False, True]
    assert len(given.interactions) == len(left_out.interactions)
    assert np.bincount(left_out.interactions.part("test").user, minlength=60).max() == 1


@pytest.fixture
def fill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fill:
    """Writes records of an arm: validation ``score(n)`` of trial n, and two seeds of the best if ``test`` is given."""
    monkeypatch.setattr(rounds, "RESULTS", tmp_path)
    monkeypatch.setattr(studies_table, "RESULTS", tmp_path)
    monkeypatch.setattr(studies, "RESULTS", tmp_path)

    def write(plan: Round, arm: Arm, data: str, score: Callable[[int], float], test: float | None = None) -> None:
        metrics = [f"{m}@{k}" for m in rounds.METRICS for k in (5, 10, 20, 50)]
        extra: dict[str, Any] = {"arm": arm.name, "data": data, "best_epoch": 3, "epochs": 4, "seconds": 36.0}
        extra["subsets"] = {
            "none hits": 0.7,
            "unique image": 0.1,
            "unique text": 0.1,
            "synergy": 0.05,
            "degradation": 0.05,
        }
        extra["directions"] = {"basis_image": 3, "basis_text": 4}
        for number, (settings, seed) in enumerate(plan.planned(arm, data)):
            valid = dict.fromkeys(metrics, score(number))
            record = {"settings": settings, "seed": seed, "valid": valid, **extra}
            write_json(plan.path(arm, data, f"trial-{number}"), record)
        if test is not None:
            number = plan.best_trial(arm, data)
            assert number is not None
            for seed in plan.seeds[:2]:
                hits = np.random.default_rng(seed).random(400) < test
                kept = {f"hits@{arm.cutoff}": pack(hits), "relevant": pack(np.ones(400))}
                means = dict.fromkeys(metrics, float(hits.mean()))
                settings = plan.tried(arm, data)[number]
                record = {
                    "settings": settings,
                    "seed": seed,
                    "valid": dict.fromkeys(metrics, 0.0),
                    "test": means,
                    **extra,
                    **kept,
                }
                write_json(plan.path(arm, data, f"seed-{seed}"), record)

    return write


def test_a_method_waits_for_its_host_and_opens_the_test_part_with_a_gain_alone(fill: Fill) -> None:
    host, arm = NAMES["vbpr"], NAMES["vbpr+clear"]
    both = [host, arm]
    count = len(host.tried_on["ml100k"])
    assert ROUND.due(both, ["ml100k"]) == [("trial", "vbpr", "ml100k", n) for n in range(count)]
    fill(ROUND, host, "ml100k", lambda n: 0.3 - 0.01 * n)
    cells = len(STRENGTHS) * len(RANKS)
    assert ROUND.due(both, ["ml100k"]) == [("trial", "vbpr+clear", "ml100k", n) for n in range(cells)]
    assert ROUND.tried(arm, "ml100k")[0] == {**host.tried_on["ml100k"][0], "clear.strength": 0.1, "clear.rank": 1}
    fill(ROUND, arm, "ml100k", lambda n: 0.3)
    assert ROUND.due(both, ["ml100k"]) == [] and not ROUND.opens(arm, "ml100k")  # level is no gain
    fill(ROUND, arm, "ml100k", lambda n: 0.31 if n == 7 else 0.29)
    assert {job[:3] for job in ROUND.due(both, ["ml100k"])} == {("final", one.name, "ml100k") for one in both}
    assert "- ml100k, vbpr: seeds 999, 1, 2, 3, 4" in ROUND.missing("ml100k")


def test_several_seeds_of_a_trial_are_averaged_and_a_sweep_takes_a_point_that_its_base_has(fill: Fill) -> None:
    base = Arm("base", "vbpr", ({"model.reg": 0.1}, {"model.reg": 0.2}), where={"shop": 2})
    sweep = Arm("sweep", "vbpr", ({"model.reg": 0.2}, {"model.reg": 0.5}), base="base", test="never", where={"shop": 1})
    plan = Round("tried", (base, sweep), data=("shop",), seeds=(3, 4))
    fill(plan, base, "shop", lambda n: [0.1, 0.3, 0.4, 0.3][n])
    assert plan.scores(base, "shop") == [[0.1, 0.4], [0.3, 0.3]] and plan.best_trial(base, "shop") == 1
    assert plan.due([sweep], ["shop"]) == [("trial", "sweep", "shop", 1)]
    assert plan.trials(sweep, "shop")[0]["arm"] == "base"


def test_an_earlier_round_spares_what_it_has_run(fill: Fill) -> None:
    old = Arm("vbpr", "vbpr", ({"model.reg": 0.5},))
    fill(Round("methods", (old,), data=("tiktok",), seeds=(999, 1)), old, "tiktok", lambda n: 0.1, test=0.3)
    new = Round("studies", (Arm("host", "vbpr", old.tried, known="methods/vbpr"),), data=("tiktok",), seeds=(999, 1, 2))
    assert new.due(list(new.arms), ["tiktok"]) == [("final", "host", "tiktok", 2)]


def test_the_page_shows_what_stands_and_lists_what_does_not(fill: Fill, tmp_path: Path) -> None:
    for name, best, test in (("vbpr", 0.30, 0.3), ("vbpr+clear", 0.32, 0.36), ("vbpr+clear by rule", 0.29, None)):
        fill(ROUND, NAMES[name], "ml100k", lambda n, best=best: best - 0.001 * n, test)
    for name, best, test in (("vbpr@5", 0.1, 0.3), ("vbpr+mrdib@5", 0.12, 0.3), ("vbpr+mrdib@5 auto", 0.115, 0.3)):
        fill(ROUND, NAMES[name], "ml100k", lambda n, best=best: best - 0.001 * n, test)
    for arm in ARMS:
        if arm.name.startswith(("vbpr+mrdib@5 ", "br-mrs")) and "ml100k" in arm.where and "auto" not in arm.name:
            fill(ROUND, arm, "ml100k", lambda n: 0.2 - 0.001 * n, None if arm.test == "never" else 0.3)
    text = Path(studies.write()).read_text(encoding="utf-8")
    assert "30 of 30 cells, from 0.2910 to 0.3200" in text and "which 20 cells exceed" in text
    assert "| energy, share 0.5 | 0.3 | 3 and 4 | 0.2900 |" in text
    assert "which would be place 6 among 20 draws" in text
    assert "### Terms left out: vbpr on ML-100k" in text and "### Each weight by itself: vbpr on ML-100k" in text
    assert "| synergy | 5.00 |" in text and "### Whose hard negatives: ML-100k" in text
    assert "- TikTok, vbpr+clear: 30 of 30 trials" in text and "- ML-100k, vbpr: seeds 2, 3, 4" in text
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"studies-clear-vbpr-ml100k.svg", "studies-subsets-infonce-ml100k.svg"} <= drawn
    assert {f"figures/{name}" for name in drawn} == {
        part.split(")")[0] for part in text.split("](") if part.startswith("fig")
    }
    for arm in ("vbpr", "vbpr+clear"):
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {arm} |") and "0.3" in line)
        assert ("%" in line) == (arm != "vbpr")


def test_nothing_run_makes_no_section(fill: Fill) -> None:
    for part in (studies_clear, studies_mrdib, studies_brmrs):
        assert len(part.section(Round("nothing", ARMS, ROUND.data, ROUND.seeds))) == 2
