from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from prismrec.data.dataset import Dataset
from prismrec.data.ids import IdMap
from prismrec.errors import PrismError
from prismrec.export import Filter, Range, Shelf
from prismrec.index import Index


def same(a: pl.DataFrame, b: pl.DataFrame) -> bool:
    close = np.allclose(a["score"].to_numpy(), b["score"].to_numpy(), rtol=1e-4, atol=1e-5)
    return close and a.drop("score").equals(b.drop("score"))


def test_an_export_answers_as_the_index_does(shelf: Shelf, index: Index) -> None:
    users, items = index.users.external[:40], index.items.external[:40]
    for how in ({}, {"exclude_seen": False}, {"modality": "image"}, {"modality": "text"}):
        assert same(shelf.recommend(users, 7, **how), index.recommend(users, 7, **how)), how
    for modality in (None, "text"):
        assert same(shelf.similar(items, 6, modality=modality).table(), index.similar(items, 6, modality))
        assert same(shelf.scores(users, items, modality), index.scores(users, items, modality))
    assert shelf.modalities == index.modalities and shelf.info == index.info
    assert shelf.item_table.equals(index.item_table)


def test_everybody_in_blocks_is_everybody_at_once(shelf: Shelf) -> None:
    whole = shelf.recommend(shelf.users.external, 5)
    blocks = list(shelf.recommend_all(5, block=40))
    assert len(blocks) == 3 and same(pl.concat(blocks), whole)


def test_threads_change_no_bit(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    monkeypatch.setattr("prismrec.export.score._BLOCK", 1)  # blocks of 16 users
    one, three = (replace(shelf, threads=n).lists(shelf.users.external, 9) for n in (1, 3))
    assert np.array_equal(one.items, three.items) and np.array_equal(one.scores, three.scores)


def test_lists_in_plain_python(shelf: Shelf) -> None:
    users = shelf.users.external[:3].to_list()
    found = shelf.lists(users, 4)
    assert found.asked == users and len(found) == 3
    table = found.table()
    assert [pair for row in found.rows() for pair in row] == list(table.select("item", "score").iter_rows())
    everything = shelf.lists(users, len(shelf.items))
    assert [len(row) for row in everything.rows()] == [len(shelf.items) - len(shelf.history(user)) for user in users]


@pytest.mark.parametrize(
    ("only", "passes"),
    [
        (Filter(), lambda row: True),
        (Filter(where={"category": ["boots", "mug", "lamp", "scarf"]}),
         lambda row: row["category"] in ("boots", "mug", "lamp", "scarf")),
        (Filter(where={"price": Range(2, 5)}), lambda row: row["price"] is not None and 2 <= row["price"] <= 5),
        (Filter(where={"price": Range(most=3), "tags": "new"}),
         lambda row: row["price"] is not None and row["price"] <= 3 and "new" in row["tags"]),
        (Filter(where={"tags": ["red", "blue"]}), lambda row: "red" in row["tags"]),
        (Filter(where={"price": [1, 2]}), lambda row: row["price"] in (1.0, 2.0)),
        (Filter(allow=["i00005", "i00009", "i00011", "nobody"], deny=["i00009"]),
         lambda row: row["item"] in ("i00005", "i00011")),
        (Filter(deny=["i00000", "i00001", "gone"]), lambda row: row["item"] not in ("i00000", "i00001")),
        (Filter(allow=[]), lambda row: False),
    ],
)  # fmt: skip
def test_filters(shelf: Shelf, only: Filter, passes: Callable[[dict[str, Any]], bool]) -> None:
    user = shelf.users.external[4]
    allowed = [row["item"] for row in shelf.item_table.iter_rows(named=True) if passes(row)]
    everything = shelf.recommend([user], len(shelf.items))
    expected = everything.filter(pl.col("item").is_in(allowed))["item"].to_list()[:6]
    assert shelf.recommend([user], 6, only=only)["item"].to_list() == expected
    assert {item for item, _ in shelf.popular(6, only=only).rows()[0]} <= set(allowed)
    near = shelf.similar([shelf.items.external[0]], 6, only=only).table()["similar"].to_list()
    assert set(near) <= set(allowed) - {shelf.items.external[0]}


def test_weights_of_sides(shelf: Shelf, index: Index) -> None:
    user = shelf.users.external[2]
    scores = {name: (u[2] @ i.T).double().numpy() for name, (u, i) in index.sides.items()}
    spread = {name: score.std() for name, score in scores.items()}
    blend = scores["fused"] + 0.7 * scores["text"] * spread["fused"] / spread["text"]
    found = shelf.lists([user], 10, weights={"text": 0.7}, exclude_seen=False)
    assert found.items[0].tolist() == np.argsort(-blend, kind="stable")[:10].tolist()
    np.testing.assert_allclose(found.scores[0], np.sort(blend)[::-1][:10], rtol=1e-4)
    alone = shelf.lists([user], 10, weights={"fused": 0, "image": 2})
    assert np.array_equal(alone.items, shelf.lists([user], 10, modality="image").items)
    plain = shelf.lists([user], 10, weights={"image": 0})
    assert np.array_equal(plain.items, shelf.lists([user], 10).items)


def test_popular_items_stand_in_for_a_user_who_is_unknown(shelf: Shelf, shop: Dataset) -> None:
    assert not shelf.knows("nobody") and shelf.knows(shelf.users.external[0])
    (row,) = shelf.popular(5).rows()
    pairs = set(zip(shop.interactions.user.tolist(), shop.interactions.item.tolist(), strict=True))
    counts = np.bincount([item for _, item in pairs], minlength=shop.n_items)
    order = np.argsort(-counts, kind="stable")[:5]
    assert [item for item, _ in row] == shop.items.decode(order).to_list()
    assert [score for _, score in row] == counts[order].tolist()


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda s: s.recommend(["who"]), "user 'who' is not among the 90 known users"),
        (lambda s: s.recommend("u00000"), "Give a list of users"),
        (lambda s: s.recommend(["u00000"], 0), "k is 0"),
        (lambda s: s.recommend(["u00000"], 121), "there are 120 items"),
        (lambda s: s.recommend(["u00000"], modality="imagen"), "Did you mean 'image'"),
        (lambda s: s.recommend(["u00000"], weights={"txet": 1}), "Did you mean 'text'"),
        (lambda s: s.recommend(["u00000"], weights={"text": float("nan")}), "finite"),
        (lambda s: s.recommend(["u00000"], weights={"fused": 0}), "All weights are 0"),
        (lambda s: s.recommend(["u00000"], weights={"text": 1}, modality="text"), "not both"),
        (lambda s: s.recommend(["u00000"], only=Filter(where={"colour": 1})), "no column 'colour'"),
        (lambda s: s.recommend(["u00000"], only=Filter(where={"title": Range(1)})), "a column of numbers"),
        (lambda s: s.similar(["i00000"], 120), "an item has 119 others"),
        (lambda s: s.similar(["i00000"], 3, modality="audio"), "nothing on modality 'audio'"),
        (lambda s: s.scores(["u00000"], []), "as many of one as of the other"),
    ],
)  # fmt: skip
def test_what_is_refused(shelf: Shelf, ask: Callable[[Shelf], object], says: str) -> None:
    with pytest.raises(PrismError, match=says):
        ask(shelf)


def test_ids_come_out_as_they_are_in_the_data_and_nobody_gets_nothing(shelf: Shelf) -> None:
    numbered = Shelf(
        IdMap(pl.Series("user", range(len(shelf.users))), "user"),
        IdMap(pl.Series("item", range(len(shelf.items)))),
        shelf.sides,
        shelf.seen,
        shelf.popularity,
        shelf.item_table,
    )
    assert numbered.lists(["7", "3"], 2).asked == [7, 3]
    assert numbered.recommend(["7"], 2).schema["user"] == pl.Int64
    assert len(shelf.lists([], 3)) == 0 and shelf.lists([], 3).rows() == [] and shelf.recommend([], 3).height == 0
