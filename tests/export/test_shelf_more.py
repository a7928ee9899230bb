"""Sessions, diverse lists, reasons, items added and users forgotten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from prismrec import sides
from prismrec.errors import PrismError
from prismrec.export import FUSED, Filter, Shelf
from prismrec.export.of_index import shelf_of
from prismrec.export.tables import Dense, gram
from prismrec.index import Index
from prismrec.models import MODELS
from prismrec.recommender import Recommender


def item_features() -> np.ndarray:
    """(120, 9); item 10 lacks the modality."""
    features = np.random.default_rng(4).standard_normal((120, 9)).astype(np.float32)
    features[10] = 0
    return features


@pytest.fixture(scope="module")
def described(shelf: Shelf) -> Shelf:
    """With contents: five axes of nine features."""
    rng = np.random.default_rng(3)
    axes = np.linalg.qr(rng.standard_normal((9, 5)))[0].astype(np.float32)
    features = item_features()
    made = replace(shelf, axes={"image": axes})
    return replace(made, contents={"image": Dense(made.content("image", features))})


# sessions


def test_a_session_is_folded_in_as_the_recommender_does(shelf: Shelf, index: Index) -> None:
    user, item = index.sides[FUSED]
    taken = torch.tensor([4, 9, 30])
    theirs = sides.folded(user, item, taken, sides.gram(item))
    np.testing.assert_allclose(gram(Dense(item.numpy())), sides.gram(item), rtol=1e-9)
    names = shelf.items.decode(taken.numpy()).to_list()
    found = shelf.session(names, 8)
    scores = (theirs @ item.T)[0].numpy()
    scores[taken] = -np.inf
    assert found.items[0].tolist() == np.argsort(-scores, kind="stable")[:8].tolist()
    again = shelf.session([*reversed(names), names[0]], 8)  # neither order nor repetition matters
    assert np.array_equal(found.items, again.items)


def test_a_session_takes_what_lists_take(shelf: Shelf) -> None:
    names = shelf.items.external[:3].to_list()
    denied = [item for item, _ in shelf.session(names, 2).rows()[0]]
    assert not {i for i, _ in shelf.session(names, 9, only=Filter(deny=denied)).rows()[0]} & {*denied, *names}
    assert not np.array_equal(shelf.session(names, 9, modality="text").items, shelf.session(names, 9).items)
    assert not np.array_equal(shelf.session(names, 9, weights={"text": 2}).items, shelf.session(names, 9).items)
    with pytest.raises(PrismError, match="at least one item"):
        shelf.session([])


def test_where_users_are_rows_of_the_training_matrix_a_session_is_exact(tmp_path: Path) -> None:
    from program import dataset

    shop = dataset(n_users=60, n_items=40)
    train = shop.interactions.part("train")
    for name in sorted(kind.name for kind in MODELS if kind.name in {"ease", "itemknn"}):
        index = Recommender(name).fit(shop).index
        shelf_of(index).save(tmp_path / name)
        shelf = Shelf.load(tmp_path / name)
        user = int(train.user[0])
        (who,) = shop.users.decode(np.array([user]))
        taken = np.unique(train.item[train.user == user])
        session = shelf.session(shop.items.decode(taken), 5, only=Filter(deny=shelf.history(who)))
        assert session.items.tolist() == shelf.lists([who], 5).items.tolist()
        np.testing.assert_allclose(session.scores, shelf.lists([who], 5).scores, rtol=1e-5)
        mine, theirs = shelf.recommend([who], 5), index.recommend([who], 5)
        assert mine.drop("score").equals(theirs.drop("score"))
        assert (
            shelf.similar(shop.items.external[:4], 3)
            .table()["similar"]
            .equals(index.similar(shop.items.external[:4], 3)["similar"])
        )
        reason = shelf.explain(who, mine["item"][0], near=len(taken))
        assert reason.evidence == "none by modality"
        assert sum(value for _, value in reason.near[FUSED]) == pytest.approx(reason.said[FUSED].score, rel=1e-3)


# diversity


def test_diversity_is_maximal_marginal_relevance(shelf: Shelf) -> None:
    users = shelf.users.external[:2].to_list()
    plain = shelf.lists(users, 30)
    share, k = 0.4, 6
    found = shelf.lists(users, k, diversity=share)
    views = [shelf.sides[m].item.take(np.arange(len(shelf.items))) for m in ("image", "text")]
    views = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in views]
    likeness = sum(v @ v.T for v in views) / 2
    for row in range(2):
        pool, score = plain.items[row], plain.scores[row]
        pairs = likeness[np.ix_(pool, pool)][~np.eye(30, dtype=bool)]
        alike = (likeness - pairs.min()) / (pairs.max() - pairs.min())
        relevance = dict(zip(pool, (score - score.min()) / (score.max() - score.min()), strict=True))
        picked: list[int] = []
        for _ in range(k):
            worth = {i: (1 - share) * r - share * max((alike[i, j] for j in picked), default=0)
                     for i, r in relevance.items() if i not in picked}  # fmt: skip
            picked.append(max(worth, key=worth.__getitem__))
        assert found.items[row].tolist() == picked
    assert np.array_equal(shelf.lists(users, k, diversity=0.0).items, plain.items[:, :k])
    least = shelf.lists(users, k, diversity=1.0)
    assert least.items[0, 0] == plain.items[0, 0] and set(least.items[0]) <= set(plain.items[0])
    with pytest.raises(PrismError, match="diversity is 2"):
        shelf.lists(users, diversity=2)


def test_diverse_lists_end_where_candidates_do(shelf: Shelf) -> None:
    only = Filter(allow=shelf.items.external[:4].to_list())
    found = shelf.lists([shelf.users.external[0]], 10, only=only, diversity=0.5, exclude_seen=False)
    assert sorted(found.items[0].tolist()) == [-1] * 6 + [0, 1, 2, 3]


# reasons


def test_why_an_item_is_listed(shelf: Shelf, index: Index) -> None:
    who = shelf.users.external[5]
    listed = shelf.recommend([who], 10)
    for place, item in enumerate(listed["item"].to_list(), 1):
        why = shelf.explain(who, item, k=10)
        assert why.said[FUSED].rank <= place  # equal scores share a rank
        assert why.said[FUSED].score == pytest.approx(listed["score"][place - 1], rel=1e-5)
        assert list(why.said) == [FUSED, "image", "text"] and list(why.near) == [FUSED, "image", "text"]
        hits = [m for m in ("image", "text") if why.said[m].rank <= 10]
        expected = {0: "synergy", 1: f"unique {hits[0] if hits else ''}", 2: "redundant"}[len(hits)]
        assert why.evidence == expected
        total = sum(why.shares.values())
        assert total == pytest.approx(1) or total == 0
        for near in why.near.values():
            assert len(near) == 3 and {i for i, _ in near} <= set(shelf.history(who)) - {item}
            assert [v for _, v in near] == sorted((v for _, v in near), reverse=True)
    worst = shelf.recommend([who], len(shelf.items))["item"][-1]
    assert shelf.explain(who, worst).evidence == "not listed"
    by_text = dict(shelf.explain(who, worst, near=2).near["text"])
    alike = index.similar([worst], 119, "text").filter(pl.col("similar").is_in(shelf.history(who)))
    assert list(by_text) == alike["similar"].to_list()[:2]


# what looks alike


def test_items_are_compared_by_their_features_where_the_export_holds_them(described: Shelf) -> None:
    values = described.contents["image"].take(np.arange(120))
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    found = described.similar(["i00002"], 4, modality="image")
    cosine = unit @ unit[2]
    cosine[2] = -np.inf
    assert found.items[0].tolist() == np.argsort(-cosine, kind="stable")[:4].tolist()
    np.testing.assert_allclose(found.scores[0], np.sort(cosine)[::-1][:4], rtol=1e-4)
    assert (described.similar(["i00010"], 4, modality="image").scores == 0).all()


# items added


def test_an_item_added_with_its_sides(shelf: Shelf) -> None:
    twin = {name: side.item.take(np.array([30, 31])) for name, side in shelf.sides.items()}
    grown = shelf.add(["new1", "new2"], sides=twin, table={"title": ["A", "B"], "price": [3, 4]})
    assert len(grown.items) == 122 and len(shelf.items) == 120
    who, old = grown.users.external[:5], shelf.items.external[30]
    for modality in (None, "text"):
        new = grown.scores(who, ["new1"] * 5, modality)["score"]
        assert new.equals(shelf.scores(who, [old] * 5, modality)["score"])
    assert grown.item("new2")["title"] == "B" and grown.item("new2")["category"] is None
    assert grown.similar(["new1"], 1).table()["similar"].to_list() == [old]
    assert dict(grown.popular(122).rows()[0])["new1"] == 0
    assert "new1" in grown.recommend([who[0]], 122)["item"].to_list()
    assert len(grown.lists([who[0]], 9, only=Filter(where={"price": [3.0, 4.0]})).rows()[0]) > 0


def test_an_item_of_which_only_features_are_known(described: Shelf, tmp_path: Path) -> None:
    features = item_features()[[50]] * 7  # length does not matter
    np.testing.assert_allclose(
        described.content("image", features), described.contents["image"].take(np.array([50])), rtol=1e-4
    )
    grown = described.add(["new"], features={"image": features})
    assert grown.similar(["new"], 1, modality="image").table()["similar"].to_list() == ["i00050"]
    near = [int(i[1:]) for i, _ in grown.similar(["i00050"], 10, modality="image").rows()[0] if i != "new"]
    old = described.sides[FUSED].item.take(np.array([50, *near]))
    new = grown.sides[FUSED].item.take(np.array([120]))[0]
    assert np.abs(new).max() <= np.abs(old).max() and np.linalg.norm(new) > 0
    grown.save(tmp_path / "grown")
    again = Shelf.load(tmp_path / "grown")
    assert again.items.external[-1] == "new" and "image" in again.axes
    assert again.item_table.equals(grown.item_table)


@pytest.mark.parametrize(
    ("ids", "how", "says"),
    [
        (["i00001"], {"sides": {}}, "is in the catalogue already"),
        (["a", "a"], {"sides": {}}, "distinct ids"),
        ([], {"sides": {}}, "at least one"),
        (["a"], {"sides": {"fused": np.zeros((1, 8))}}, "without the sides image, text"),
        (["a"], {"sides": {"fusd": np.zeros((1, 8))}}, "Did you mean 'fused'"),
        (["a"], {"sides": {n: np.zeros((1, 3)) for n in ("fused", "image", "text")}}, "has 3 columns; expected 8"),
        (["a"], {"sides": {"fused": np.full((1, 8), np.nan)}}, "not finite"),
        (["a"], {"features": {"image": np.zeros((1, 8))}}, "expected \\(items, 9\\)"),
        (["a"], {"features": {"image": np.zeros((1, 9))}}, "like no item"),
        (["a"], {"features": {"text": np.zeros((1, 9))}}, "does not know how to read"),
    ],
)  # fmt: skip
def test_items_that_cannot_be_added(described: Shelf, ids: list[str], how: dict[str, object], says: str) -> None:
    with pytest.raises(PrismError, match=says):
        described.add(ids, **how)  # type: ignore[arg-type]


# users forgotten


def test_a_user_forgotten_is_gone_from_the_files_too(shelf: Shelf, tmp_path: Path) -> None:
    who, others = shelf.users.external[7], shelf.users.external[8:20]
    history = shelf.history(who)
    less = shelf.forget([who])
    assert not less.knows(who) and shelf.knows(who) and len(less.users) == 89
    with pytest.raises(PrismError, match="not among the 89 known users"):
        less.recommend([who])
    assert less.recommend(others, 6).equals(shelf.recommend(others, 6))
    counts, before = dict(less.popular(120).rows()[0]), dict(shelf.popular(120).rows()[0])
    assert all(counts[i] == before[i] - (i in history) for i in before)
    shelf.save(tmp_path / "model")
    less.save(tmp_path / "model")
    again = Shelf.load(tmp_path / "model")
    assert not again.knows(who) and again.recommend(others, 6).equals(shelf.recommend(others, 6))
    kept = (row.tobytes() for row in again.sides[FUSED].user.take(np.arange(89)))
    assert shelf.sides[FUSED].user.take(np.array([7]))[0].tobytes() not in set(kept)
    assert not any(who.encode() in path.read_bytes() for path in (tmp_path / "model").iterdir())
    assert len(list((tmp_path / "model").iterdir())) == 4  # nothing of the earlier export is left


def test_items_that_the_model_describes_itself(tmp_path: Path) -> None:
    from program import dataset

    shop = dataset(n_users=60, n_items=50)
    features = {m: modality.values[:2] * 1.0 for m, modality in shop.modalities.items()}
    settings = {"train.epochs": 1, "run.threads": 1, "model.dim": 8}
    fitted = Recommender("vbpr", settings=settings).fit(shop)
    plain = shelf_of(fitted.index)
    index = fitted.add_items(features, ["new1", "new2"]).index
    whole = shelf_of(index)
    whole.save(tmp_path / "model")
    shelf, who = Shelf.load(tmp_path / "model"), shop.users.external[:20]
    assert shelf.recommend(who, 10).drop("score").equals(index.recommend(who, 10).drop("score"))
    sides_of_new = {name: side.item.take(np.array([50, 51])) for name, side in whole.sides.items()}
    grown = plain.add(["new1", "new2"], sides=sides_of_new)
    assert grown.recommend(who, 52).equals(shelf.recommend(who, 52))
