"""What a user of the Python interface meets."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from program import dataset, planted

import prismrec
from prismrec import recommender
from prismrec.errors import PrismError

DATA = dataset()
QUICK = {"train.epochs": 2, "model.dim": 8, "run.threads": 1}


def test_the_example_in_the_docstring_runs() -> None:
    assert doctest.testmod(recommender, raise_on_error=True).attempted >= 4


@pytest.fixture(scope="module")
def fitted() -> prismrec.Recommender:
    return prismrec.Recommender("freedom", plugins=["clear"], settings={**QUICK, "clear.rank": 4}, seed=1).fit(DATA)


def test_lists_are_on_external_ids_and_leave_out_what_was_taken(fitted: prismrec.Recommender) -> None:
    users = DATA.users.external[:3].to_list()
    lists = fitted.recommend(users, k=5)
    assert lists.columns == ["user", "rank", "item", "score", "title"]
    assert lists["user"].to_list() == [user for user in users for _ in range(5)]
    assert lists["rank"].to_list() == [1, 2, 3, 4, 5] * 3
    rows = DATA.interactions
    for position, user in enumerate(users):
        taken = set(DATA.items.decode(rows.item[rows.user == position]).to_list())
        assert not taken & set(lists.filter(pl.col("user") == user)["item"])
    everything = fitted.recommend(users[:1], k=DATA.n_items, exclude_seen=False)
    assert sorted(everything["item"]) == sorted(DATA.items.external) and everything["score"].is_sorted(descending=True)


def test_scores_agree_with_lists(fitted: prismrec.Recommender) -> None:
    lists = fitted.recommend(["u00004"], k=7)
    scores = fitted.scores(["u00004"] * 7, lists["item"])
    np.testing.assert_allclose(scores["score"], lists["score"], rtol=1e-6)


def test_similar_items_by_all_and_by_one_modality(fitted: prismrec.Recommender) -> None:
    similar = fitted.similar(["i00003"], k=4)
    assert similar.columns == ["item", "rank", "similar", "score", "title"] and "i00003" not in similar["similar"]
    by_image = fitted.similar(["i00003"], k=4, modality="image")
    assert by_image["similar"].to_list() != similar["similar"].to_list()
    with pytest.raises(PrismError, match=r"modality 'imgae'\. Did you mean 'image'"):
        fitted.similar(["i00003"], modality="imgae")


def test_means_on_validation_and_test_are_at_hand(fitted: prismrec.Recommender) -> None:
    assert 0 < fitted.valid["recall@20"] <= 1 and 0 < fitted.test["recall@20"] <= 1


def test_a_run_that_was_kept_loads_without_its_data(tmp_path: Path) -> None:
    data = planted(tmp_path / "data")
    kept = prismrec.Recommender("vbpr", settings=QUICK).fit(data, out=tmp_path / "run")
    (tmp_path / "data").rename(tmp_path / "gone")
    loaded = prismrec.load(tmp_path / "run")
    assert loaded.recommend(["u00001"], k=5).equals(kept.recommend(["u00001"], k=5))
    assert loaded.test == kept.test and loaded.model == "vbpr"


def test_an_interrupted_fit_goes_on_and_a_finished_one_is_not_overwritten(tmp_path: Path) -> None:
    made = prismrec.Recommender("vbpr", settings=QUICK)
    first = made.fit(DATA, out=tmp_path / "run").test
    with pytest.raises(PrismError, match="holds a finished run"):
        made.fit(DATA, out=tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(PrismError, match="holds a run with other settings"):
        prismrec.Recommender("vbpr", settings={**QUICK, "train.lr": 0.5}).fit(DATA, out=tmp_path / "run")
    with pytest.raises(PrismError, match="was trained on data with fingerprint"):
        made.fit(dataset(seed=6), out=tmp_path / "run")
    assert made.fit(DATA, out=tmp_path / "run").test == first


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    def scores(seed: int) -> list[float]:
        made = prismrec.Recommender("vbpr", settings=QUICK, seed=seed).fit(DATA)
        return made.recommend(["u00002"], k=5)["score"].to_list()

    assert scores(1) == scores(1) != scores(2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": "fredom"}, "There is no model 'fredom'. Did you mean 'freedom'"),
        ({"plugins": ["cleer"]}, "There is no plug-in 'cleer'"),
        ({"settings": {"model.layer": 3}}, "Unknown setting model.layer. Did you mean 'layers'"),
        ({"settings": {"modl.layers": 3}}, "no section 'modl'. Did you mean 'model'"),
        ({"settings": {"layers": 3}}, "'layers' names no setting"),
        ({"settings": {"clear.rank": 3}}, r"in Python plugins=\['clear'\]"),
        ({"settings": {"model.layers": "3"}}, "model.layers is '3'; expected an integer"),
        ({"seed": -3}, "run.seed is -3"),
        ({"device": "tpu"}, "run.device is 'tpu'; expected auto, cpu, cuda or cuda:N"),
        ({"protocol": "other"}, "run.protocol is 'other'; expected 'default' or 'mmrec'"),
    ],
)
def test_typos_are_refused_before_any_work(arguments: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(PrismError, match=said):
        prismrec.Recommender(**arguments).fit(DATA, out=tmp_path / "run")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_what_is_asked_too_early_or_of_nobody(fitted: prismrec.Recommender, tmp_path: Path) -> None:
    with pytest.raises(PrismError, match="not fitted yet; call fit"):
        prismrec.Recommender("bpr").recommend(["u00001"])
    with pytest.raises(PrismError, match="user 'nobody' is not among the 60 known users"):
        fitted.recommend(["nobody"])
    with pytest.raises(PrismError, match="k is 41, but the catalogue has 40 items"):
        fitted.recommend(["u00001"], k=41)
    with pytest.raises(PrismError, match="Give a list of users"):
        fitted.recommend("u00001")
    with pytest.raises(PrismError, match="is no run folder"):
        prismrec.load(str(tmp_path))
    assert prismrec.Recommender("bpr").valid == {}


def test_the_package_offers_what_it_says() -> None:
    for name in prismrec.__all__:
        assert getattr(prismrec, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Recomender'"):
        prismrec.Recomender  # noqa: B018
