"""Cold start, measured from a split to a table."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from program import call, dataset

from prismrec.cold import Trained, widened
from prismrec.data import store
from prismrec.data.dataset import Dataset
from prismrec.data.splits import by_cutoff, by_item, is_warm, warm_part
from prismrec.errors import PrismError
from prismrec.evaluate import Evaluator, by_warmth
from prismrec.experiment import configure, run
from prismrec.studies import cold

QUICK = {"train.epochs": 2, "model.dim": 8, "run.threads": 1}


@pytest.fixture(scope="module")
def shop() -> Dataset:
    return by_item(dataset(n_users=60, n_items=60, interactions=12.0), share=(0.15, 0.15))


def test_kinds_of_ranking_are_what_they_say(shop: Dataset) -> None:
    cfg, _ = configure(shop, "contentknn")
    warm = is_warm(shop)
    reps = widened(Trained.of(run(cfg, warm_part(shop)).assembly, warm_part(shop)), shop)
    assert len(reps.item.values) == shop.n_items
    found = by_warmth(shop, "test", metrics=["recall@5"])
    assert list(found) == ["all", "warm", "cold", "cold among all"]
    dense = reps.user.to_dense().numpy() @ reps.item.values.to_dense().numpy()[:, : reps.user.shape[1]].T
    rows = shop.interactions.part("test")
    seen = shop.interactions.part("train", "valid")
    dense[seen.user, seen.item] = -np.inf
    for kind, wanted, ranked in [("warm", warm, warm), ("cold", ~warm, ~warm), ("cold among all", ~warm, warm | True)]:
        evaluation = found[kind].evaluate(reps)
        for user, value in evaluation.per_user.select("user", "recall@5").iter_rows():
            targets = {i for i in rows.item[rows.user == user] if wanted[i]}
            order = [i for i in np.argsort(-dense[user], kind="stable") if ranked[i]]
            listed = [i for i in order if np.isfinite(dense[user, i])][:5]
            assert value == pytest.approx(len(targets & set(listed)) / len(targets)), (kind, user)
    whole = Evaluator.of(shop, "test", metrics=["recall@5"])(reps)
    assert found["all"](reps) == whole


def test_candidates_are_the_only_ones_listed(shop: Dataset) -> None:
    reps = widened(_content(shop), shop)
    listed = by_warmth(shop, "test", metrics=["recall@50"])["cold"].evaluate(reps).lists.items.numpy()
    cold_items = np.flatnonzero(~is_warm(shop))
    assert set(np.unique(listed)) <= {-1, *cold_items.tolist()} and (listed == -1).any()  # there are fewer than 50


def _content(shop: Dataset) -> Trained:
    cfg, _ = configure(shop, "contentknn")
    return Trained.of(run(cfg, warm_part(shop)).assembly, warm_part(shop))


def test_warm_items_keep_what_training_gave_them(shop: Dataset) -> None:
    cfg, _ = configure(shop, "vbpr", settings=QUICK)
    warm = warm_part(shop)
    result = run(cfg, warm)
    reps = widened(Trained.of(result.assembly, warm), shop)
    own = result.assembly.represent()
    assert reps.user.equal(own.user)
    assert reps.item.values[is_warm(shop)].equal(own.item.values)
    assert reps.item.values[~is_warm(shop)][:, :8].eq(0).all()  # no ID part


def test_training_does_not_know_that_cold_items_exist(shop: Dataset) -> None:
    other = by_item(dataset(n_users=60, n_items=60, interactions=12.0), share=(0.15, 0.15))
    hidden = ~is_warm(other)
    for modality in other.modalities.values():
        modality.values[hidden] = 7.0
    assert warm_part(other).fingerprint == warm_part(shop).fingerprint


def test_the_command_trains_ranks_and_goes_on(shop: Dataset, tmp_path: Path) -> None:
    store.save(shop, tmp_path / "data")
    words = [
        "cold",
        tmp_path / "data",
        "-m",
        "vbpr",
        "--set",
        "train.epochs=2",
        "--set",
        "model.dim=8",
        "-o",
        tmp_path / "runs",
    ]
    first = call(*words)
    assert first.status == 0, first.sentence
    assert "cold among all" in first.out and "contentknn" in first.out and "vbpr by text" in first.out
    again = call(*words, "--format", "json", "-q")
    found = json.loads(again.out)
    assert found == json.loads((tmp_path / "runs" / "cold-test.json").read_text())
    assert found["items"]["cold"] == 18 and 0 < found["items"]["chance@20"] <= 1
    labels = [entry["label"] for entry in found["entries"]]
    assert labels == ["mostpop", "contentknn", "vbpr", "vbpr by image", "vbpr by text"]
    gains = found["entries"][2]["against"]
    assert gains["label"] == "contentknn" and gains["kinds"]["cold"]["recall@20"]["low"] <= 1
    lines = call(*words, "--format", "csv", "-q").out.splitlines()
    assert len(lines) == 6 and lines[0].startswith("model,all recall@20")
    other = call(*words, "--set", "train.epochs=3")  # the run on warm items stands, with other settings
    assert other.status == 2 and "holds a run with other settings" in other.sentence


def test_items_that_came_late_are_cold_too(shop: Dataset) -> None:
    rows = shop.interactions
    late = rows.item >= 50
    times = np.where(late, 900, np.random.default_rng(0).integers(0, 1000, len(rows))).astype(np.int64)
    whole = by_cutoff(replace(shop, interactions=replace(rows, timestamp=times)), at=(500, 700))
    cfg, _ = configure(whole, "contentknn")
    (entry,) = cold.entries(cfg, whole, "test", metrics=["recall@5"])
    assert not is_warm(whole)[50:].any() and list(entry.kinds) == ["all", "warm", "cold", "cold among all"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "bpr"], "bpr says nothing of an item that it was not trained on"),
        (["-m", "bm3"], "bm3 says nothing of an item that it was not trained on: it ranks by IDs alone"),
        (["-m", "vbprr"], "Did you mean 'vbpr'"),
        ([], "Name data and models"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_training(
    shop: Dataset, tmp_path: Path, words: list[str], said: str
) -> None:
    store.save(shop, tmp_path / "data")
    refused = call("cold", tmp_path / "data", *words, "-o", tmp_path / "runs")
    assert refused.status == 2 and said in refused.sentence and not (tmp_path / "runs").exists()


def test_data_without_cold_items_or_features_is_refused(shop: Dataset) -> None:
    cfg, _ = configure(shop, "vbpr", settings=QUICK)
    with pytest.raises(PrismError, match="has a training row, so none is cold"):
        cold.check(cfg, warm_part(shop))
    strict = by_item(shop, share=(0.15, 0.15), ratio=(1, 0, 0))
    with pytest.raises(
        PrismError, match="have 0 rows in validation and 0 in test; training on them needs some in both"
    ):
        cold.check(cfg, strict)
    with pytest.raises(PrismError, match="has no features"):
        cold.check(cfg, replace(shop, modalities={}))


def test_the_benchmark_gives_the_floor_its_best_settings_and_writes_a_row_for_each_model(
    shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.path.insert(0, str(Path(__file__).parents[2]))  # the benchmarks are no part of the package
    from benchmarks import cold as bench

    monkeypatch.setattr(bench, "NEIGHBOURS", (5,))
    settings = ["train.epochs=2", "model.dim=8"]
    found = bench.measured(shop, ["vbpr", "bm3"], tmp_path, 1, settings, only_finished=False)
    labels = [entry["label"] for entry in found["entries"]]
    assert labels[0].startswith("contentknn, best of 3 (k = 5, ") and labels[1:4] == ["mostpop", "contentknn", "vbpr"]
    assert not any("bm3" in label for label in labels)  # it refuses
    text = bench.section(found)
    assert text.count("the floor |") == 1 and "vbpr by image" in text and text.count("\n|") == 2 + len(labels)
    again = bench.measured(shop, ["vbpr", "freedom"], tmp_path, 1, settings, only_finished=True)
    assert [entry["label"] for entry in again["entries"]] == labels
