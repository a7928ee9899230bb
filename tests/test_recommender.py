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


def newcomers(n: int = 2) -> dict[str, np.ndarray]:
    """Features of new items: near those of the first ``n`` known ones."""
    return {m: modality.values[:n] + np.float32(0.01) for m, modality in DATA.modalities.items()}


def test_new_items_are_recommended_and_nothing_that_was_known_moves(tmp_path: Path) -> None:
    data = planted(tmp_path / "data")
    model = prismrec.Recommender("freedom", plugins=["clear"], settings={**QUICK, "clear.rank": 4}, seed=1)
    model.fit(data, out=tmp_path / "run")
    users = DATA.users.external
    before = model.recommend(users, k=40, exclude_seen=False)
    titles = pl.DataFrame({"title": ["a lamp", "a rug"], "colour": ["red", "blue"]})
    assert model.add_items(newcomers(), ["n1", "n2"], titles) is model
    after = model.recommend(users, k=42, exclude_seen=False)
    assert after.filter(~pl.col("item").is_in(["n1", "n2"])).drop("rank").equals(before.drop("rank"))
    new = after.filter(pl.col("item") == "n1")
    assert len(new) == len(users) and new["score"].n_unique() > 1 and new["title"].unique().to_list() == ["a lamp"]
    assert model.index.item_table["colour"].to_list()[-3:] == [None, "red", "blue"]

    loaded = prismrec.load(tmp_path / "run").add_items(newcomers(1), ["n1"])  # the data lies where it was
    loaded.add_items({m: values[1:] for m, values in newcomers().items()}, ["n2"])
    assert np.allclose(loaded.recommend(users, k=42, exclude_seen=False)["score"], after["score"], atol=1e-6)
    loaded.index.save(tmp_path / "served")
    assert prismrec.index.Index.load(tmp_path / "served").info["added_items"] == 2
    assert loaded.similar(["n1"], k=3).height == 3
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(PrismError, match=r"is not there any more; say where it is now: add_items\(…, data=DATA\)"):
        prismrec.load(tmp_path / "run").add_items(newcomers(1), ["n1"])
    prismrec.load(tmp_path / "run").add_items(newcomers(1), ["n1"], data=tmp_path / "moved")


def test_new_items_are_refused_where_they_cannot_be_told(fitted: prismrec.Recommender) -> None:
    faults: list[tuple[list[str | None], str]] = [
        (["i00003", "n"], r"must be new, each its own.*\['i00003'\]"),
        (["n", "n"], r"must be new, each its own.*\['n', 'n'\]"),
        ([None, "n"], r"must be new, each its own.*\[None\]"),
        ([], r"Give a list of ids of new items, such as \['item-1'\], not \[\]"),
    ]
    for ids, said in faults:
        with pytest.raises(PrismError, match=said):
            fitted.add_items(newcomers(), ids)
    with pytest.raises(PrismError, match="has 1 rows for 2 items"):
        fitted.add_items(newcomers(), ["n1", "n2"], pl.DataFrame({"title": ["one"]}))
    with pytest.raises(PrismError, match="bpr says nothing of an item that it was not trained on"):
        prismrec.Recommender("bpr", settings=QUICK).fit(DATA).add_items(newcomers(), ["n1", "n2"])
    with pytest.raises(PrismError, match="not fitted yet"):
        prismrec.Recommender("freedom").add_items(newcomers(), ["n1", "n2"])
    assert fitted.recommend(["u00001"], k=40, exclude_seen=False).height == 40


def test_somebody_unknown_is_served_from_a_few_items(fitted: prismrec.Recommender) -> None:
    lists = fitted.recommend_for(["i00003", "i00017", "i00003"], k=5)
    assert lists.columns == ["rank", "item", "score", "title"] and lists["rank"].to_list() == [1, 2, 3, 4, 5]
    assert not {"i00003", "i00017"} & set(lists["item"])
    whole = fitted.recommend_for(["i00017", "i00003"], k=40, exclude_given=False)
    assert whole.height == 40 and {"i00003", "i00017"} <= set(whole["item"])
    assert not lists.equals(fitted.recommend_for(["i00003", "i00017"], k=5, modality="image"))
    for items, said in [
        ([], "got no items"),
        (["nothing"], "item 'nothing' is not among"),
        ("i00003", "a list of items"),
    ]:
        with pytest.raises(PrismError, match=said):
            fitted.recommend_for(items)


@pytest.mark.parametrize("model", ["ease", "itemknn", "contentknn"])
def test_folding_in_is_exact_where_a_user_is_what_he_took(model: str) -> None:
    made = prismrec.Recommender(model).fit(DATA)
    train = DATA.interactions.part("train")
    taken = DATA.items.decode(train.item[train.user == 4])
    known = made.recommend(["u00004"], k=40, exclude_seen=False)
    assert known.drop("user").equals(made.recommend_for(taken, k=40, exclude_given=False))
    if model == "contentknn":
        made.add_items(newcomers(), ["n1", "n2"])
        assert made.recommend_for(taken, k=42, exclude_given=False).height == 42
        with pytest.raises(PrismError, match="one of those named was added since"):
            made.recommend_for(["n1"])
        with pytest.raises(PrismError, match="one of those named was added since"):
            made.similar(["n1"])
