"""The plan of the first round of evidence is fair, and its records say all that its page needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("benchmarks", reason="benchmarks are not part of the package")

from benchmarks import choices, models_plan, rounds, rounds_table, rounds_train
from benchmarks.methods_plan import ARMS, ROUND, TRIALS
from benchmarks.rounds import Arm, Round
from benchmarks.rounds_train import pack, unpack
from prismrec import train
from prismrec.config import assign, resolve
from prismrec.data.store import save
from prismrec.data.synthetic import draw
from prismrec.io import write_json
from prismrec.models import MODELS
from prismrec.recipes import RECIPES, expand

NAMES = {arm.name: arm for arm in ARMS}


@pytest.mark.parametrize("arm", [*ARMS, *choices.ARMS, *models_plan.ARMS], ids=lambda arm: arm.name)
def test_every_arm_is_a_run(arm: Arm) -> None:
    assert arm.tried and len({str(one) for one in arm.tried}) == len(arm.tried)
    for settings in arm.tried:
        tree = expand({"model": {"name": arm.model}, "plugins": {name: {} for name in arm.plugins}})
        for key, value in {**settings, "train.metric": arm.metric}.items():
            tree = assign(tree, key, value)
        cfg = resolve(tree)
        assert {p.name for p, _ in cfg.plugins} >= set(arm.plugins)


@pytest.mark.parametrize("plan", [ROUND, choices.ROUND], ids=lambda plan: plan.name)
def test_an_arm_tries_as_many_settings_as_the_one_it_is_compared_with(plan: Round) -> None:
    for arm in plan.arms:
        other = plan.arm(arm.against) if arm.against else arm
        assert other is not None
        assert (len(other.tried), other.metric) == (len(arm.tried), arm.metric)
    assert plan is not ROUND or {len(arm.tried) for arm in ARMS} == {TRIALS}


def test_every_model_and_recipe_has_an_arm() -> None:
    assert {arm.model for arm in models_plan.ARMS} == {model.name for model in MODELS} | {r.name for r in RECIPES}


def test_freedom_keeps_its_modalities_weight_above_0_or_no_method_could_act() -> None:
    hosts = [arm for arm in ARMS if arm.model == "freedom"]
    assert hosts and all(settings["model.reg"] > 0 for arm in hosts for settings in arm.tried)


def test_counts_survive_packing() -> None:
    counts = np.random.default_rng(0).integers(0, 9, 5000)
    assert np.array_equal(unpack(pack(counts)), counts)


def test_trials_come_before_seeds_and_a_page_says_what_is_missing(
    tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "RESULTS", tmp_path)
    host, arm = NAMES["vbpr"], NAMES["vbpr+clear"]
    assert ROUND.due([host], ["baby"]) == [("trial", "vbpr", "baby", n) for n in range(TRIALS)]
    for one, lift in ((host, 0.0), (arm, 0.02)):
        for n in range(TRIALS):
            write_json(
                ROUND.path(one, "baby", f"trial-{n}"),
                {
                    "settings": one.tried[n],
                    "valid": {"recall@20": [0.1, 0.3, 0.3, 0.2][n]},
                    "best_epoch": 3,
                    "epochs": 4,
                    "seconds": 5,
                },
            )
        assert ROUND.best_trial(one, "baby") == 1  # the first of equals
        for seed in ROUND.seeds[:2]:
            hits = np.random.default_rng(seed).integers(0, 2, 400) + (np.arange(400) < 8 * (lift > 0))
            kept = {"hits@20": pack(hits), "relevant": pack(np.full(400, 2))}
            test = {m: float((hits / 2).mean()) for m in ("recall@20", "ndcg@20", "recall@10", "ndcg@10")}
            write_json(
                ROUND.path(one, "baby", f"seed-{seed}"), {"seed": seed, "settings": one.tried[1], "test": test, **kept}
            )
    assert ROUND.due([host], ["baby"]) == [("final", "vbpr", "baby", ROUND.seeds[2])]
    (gain, said) = rounds_table.gain(ROUND, arm, "baby")
    assert gain.startswith("+") and said.startswith("+0.0100 [")  # eight users of 400 gain half their recall
    assert rounds_table.published_gain(ROUND, arm, "recall@20") == "+17.0%"
    page = "\n".join(rounds_table.results(ROUND, "baby"))
    assert "| vbpr+clear | 2 |" in page and "0.0776" in page
    assert "- baby, vbpr: seed 2" in ROUND.missing("baby")


@pytest.mark.parametrize("model", ["bpr", "mostpop"])
def test_a_round_trains_what_is_due_keeps_its_records_and_sees_the_test_part_with_the_chosen_settings_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(rounds, "RESULTS", tmp_path / "results")
    shop = draw(n_users=60, n_items=40, interactions=8, seed=1).dataset
    save(shop, tmp_path / "data" / "shop")
    common = {} if model == "mostpop" else {"model.dim": 8, "train.epochs": 2}
    arm = Arm(model, model, (common,))
    plan = Round("tried", (arm,), data=("shop",), seeds=(3, 4))
    work = tmp_path / "work"
    while jobs := plan.due([arm], ["shop"]):
        stage, _, data, number = jobs[0]
        {"trial": plan.trial, "final": plan.final}[stage](arm, tmp_path / "data", data, number, work)
    runs = plan.runs(arm, "shop")
    assert set(runs) == {3, 4} and plan.missing("shop") == []
    for record in runs.values():
        assert record["peak_mb"] > 0 and ("seconds_epoch" in record) == (model == "bpr")
        hits = unpack(record["hits@20"]) / unpack(record["relevant"])
        assert hits.mean() == pytest.approx(record["test"]["recall@20"], abs=1e-9)
    page = [*rounds_table.results(plan, "shop"), *rounds_table.search(plan, "shop")]
    assert sum(f"| {model} |" in line for line in page) == 2
    trial = plan.trials(arm, "shop")[0]
    assert "test" not in trial and trial["valid"] == runs[3]["valid"]


def test_a_training_that_was_killed_goes_on_where_it_was_and_one_of_other_settings_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = draw(n_users=60, n_items=40, interactions=8, seed=1).dataset
    save(shop, tmp_path / "shop")
    arm = Arm("bpr", "bpr", ({},))
    small = {"model.dim": 8, "train.epochs": 4, "train.checkpoint_seconds": 0.0}
    begun: list[int] = []
    cut_at = [2]
    real = train._train_epoch

    def epoch(*given: Any) -> Any:
        begun.append(given[5])
        if begun[-1] in cut_at:
            raise ConnectionAbortedError
        return real(*given)

    def run(name: str, settings: dict[str, Any]) -> dict[str, Any]:
        begun.clear()
        found = rounds_train.train(arm, settings, tmp_path, "shop", 3, tmp_path / "work" / f"{name}.safetensors")
        return {key: found[key] for key in ("valid", "epochs", "best_epoch")}

    def cut() -> None:
        with pytest.raises(ConnectionAbortedError):
            run("cut", small)

    monkeypatch.setattr(train, "_train_epoch", epoch)
    cut()
    cut_at.clear()
    assert run("cut", small) == run("whole", small)
    cut_at.append(2)
    cut()
    assert begun == [0, 1, 2]
    cut()
    assert begun == [2]
    cut_at.clear()
    run("cut", {**small, "model.dim": 4})
    assert begun == [0, 1, 2, 3]
    assert not any(path.is_dir() for path in (tmp_path / "work").iterdir())
