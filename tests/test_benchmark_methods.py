"""The plan of the first round of evidence is fair, and its records say all that its page needs."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("benchmarks", reason="benchmarks are not part of the package")

from benchmarks import methods, methods_table
from benchmarks.methods_plan import ARMS, TRIALS, Arm
from prismrec.config import assign, resolve
from prismrec.io import write_json
from prismrec.recipes import expand

NAMES = {arm.name: arm for arm in ARMS}


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_every_arm_is_a_run_and_tries_as_many_settings_as_its_host(arm: Arm) -> None:
    assert len(arm.tried) == TRIALS and len({str(one) for one in arm.tried}) == TRIALS
    if arm.against:
        assert NAMES[arm.against].metric == arm.metric
    for settings in arm.tried:
        tree = expand({"model": {"name": arm.model}, "plugins": {name: {} for name in arm.plugins}})
        for key, value in settings.items():
            tree = assign(tree, key, value)
        cfg = resolve(tree)
        assert {p.name for p, _ in cfg.plugins} >= set(arm.plugins)
        assert cfg.model.name != "freedom" or cfg.model_cfg.model_dump()["reg"] > 0


def test_counts_survive_packing() -> None:
    counts = np.random.default_rng(0).integers(0, 9, 5000)
    assert np.array_equal(methods.unpack(methods.pack(counts)), counts)


def test_trials_come_before_seeds_and_a_page_says_what_is_missing(
    tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "KEPT", tmp_path)
    monkeypatch.setattr(methods_table, "KEPT", tmp_path)
    host, arm = NAMES["vbpr"], NAMES["vbpr+clear"]
    assert methods.due([host], ["baby"]) == [("trial", "vbpr", "baby", n) for n in range(TRIALS)]
    for one, lift in ((host, 0.0), (arm, 0.02)):
        for n in range(TRIALS):
            write_json(
                methods.trial_path(one, "baby", n),
                {
                    "settings": one.tried[n],
                    "valid": {"recall@20": [0.1, 0.3, 0.3, 0.2][n]},
                    "best_epoch": 3,
                    "epochs": 4,
                    "seconds": 5,
                },
            )
        assert methods.best_trial(one, "baby") == 1  # the first of equals
        for seed in methods.SEEDS[:2]:
            hits = np.random.default_rng(seed).integers(0, 2, 400) + (np.arange(400) < 8 * (lift > 0))
            kept = {"hits@20": methods.pack(hits), "relevant": methods.pack(np.full(400, 2))}
            test = {m: float((hits / 2).mean()) for m in ("recall@20", "ndcg@20", "recall@10", "ndcg@10")}
            write_json(
                methods.seed_path(one, "baby", seed), {"seed": seed, "settings": one.tried[1], "test": test, **kept}
            )
    assert methods.due([host], ["baby"]) == [("final", "vbpr", "baby", methods.SEEDS[2])]
    (gain, said) = methods_table.gain(arm, "baby")
    assert gain.startswith("+") and said.startswith("+0.0100 [")  # eight users of 400 gain half their recall
    assert methods_table.published_gain(arm, "recall@20") == "+17.0%"
    page = "\n".join(methods_table.results("baby"))
    assert "| vbpr+clear | 2 |" in page and "0.0776" in page
    assert "- baby, vbpr: seed 2" in methods_table.missing("baby")
