"""The parts of the service, one by one."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from serving import alone
from shelves import KINDS, planted

from prismrec.data.ids import IdMap
from prismrec.errors import PrismError
from prismrec.serve import maps
from prismrec.serve.batching import Together
from prismrec.serve.catalogue import Catalogue, plain
from prismrec.serve.express import read
from prismrec.serve.forgotten import Forgotten, digest
from prismrec.serve.known import TextIds
from prismrec.serve.metrics import Metrics


def test_ids_are_found_by_their_text(monkeypatch: pytest.MonkeyPatch) -> None:
    words = TextIds(IdMap(pl.Series(["b", "a", "", "é", "a b"])))
    assert [words.row(text) for text in ("b", "a", "", "é", "a b", "c", "B")] == [0, 1, 2, 3, 4, -1, -1]
    numbers = TextIds(IdMap(pl.Series([7, -3, 10**12])))
    assert [numbers.row(text) for text in ("7", "-3", "1000000000000", "07", "7.0")] == [0, 1, 2, -1, -1]
    assert numbers.texts(np.array([2, 0])) == ["1000000000000", "7"]
    import builtins

    monkeypatch.setattr(builtins, "hash", lambda _: 1)  # all in one place
    clash = TextIds(IdMap(pl.Series(["x", "y", "z"])))
    assert [clash.row(text) for text in "zyxw"] == [2, 1, 0, -1]


def test_ids_and_titles_are_found_by_a_part() -> None:
    known = TextIds(IdMap(pl.Series(["a1", "b1", "c11", "d"])))
    titles = pl.Series(["One", None, "1.* two", "B day"])
    assert known.like("1", titles, 9) == [2, 0, 1]  # what begins with it comes first
    assert known.like("B", titles, 9) == [1, 3] and known.like(".*", titles, 9) == [2]
    assert known.like("1", None, 2) == [0, 1] and known.like("  ", None, 3) == [0, 1, 2]


def test_the_file_of_the_forgotten_is_shared_and_names_nobody(tmp_path: Path) -> None:
    path = tmp_path / "state" / "forgotten"
    one, two = Forgotten(path), Forgotten(path)
    assert "ann" not in one and "ann" not in two
    one.add("ann")
    two.add("bob")
    one.add("ann")
    assert all(user in ledger for user in ("ann", "bob") for ledger in (one, two)) and len(one) == 2
    assert path.read_text().split() == [digest("ann"), digest("bob")] and "ann" not in path.read_text()
    with path.open("a") as file:
        file.write(digest("cut short")[:20])
    two.add("cut short")
    assert "cut short" in one and len(one) == 3 and "cut short" in Forgotten(path)
    assert path.stat().st_mode & 0o077 == 0
    one.close()
    two.close()
    path.write_text("x" * 130)
    with pytest.raises(PrismError, match="not a list of digests"):
        Forgotten(path)
    with pytest.raises(PrismError, match="cannot be written"):
        Forgotten(tmp_path)


@pytest.mark.parametrize(("query", "expected"), [
    (b"user=a", ("a", 20)), (b"user=a&k=5", ("a", 5)), (b"k=5&user=a%20b+c", ("a b c", 5)), (b"user=%C3%A9", ("é", 20)),
    (b"user=a&k=05", None), (b"user=a&k=", None), (b"user=", None), (b"k=5", None), (b"", None), (b"user=a&k=5&k=6", None),
    (b"user=a&user=b", None), (b"user=%FF", None), (b"user=a&export=b", None), (b"user=\xff", None),
])  # fmt: skip
def test_only_the_usual_request_takes_the_express(query: bytes, expected: Any) -> None:
    assert read(query, 20) == expected


@pytest.mark.parametrize("quick", [True, False])
def test_those_who_come_together_are_ranked_together(
    quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(200, 60).save(tmp_path / "model")
    catalogue = Catalogue.load("shop", tmp_path / "model")
    monkeypatch.setattr(Catalogue, "quick", quick)
    metrics = Metrics()

    async def ask() -> list[Any]:
        with ThreadPoolExecutor(1) as pool:
            together = Together(pool, metrics)
            asked = [together.list_of(catalogue, row, 1 + row % 7, None, True) for row in range(200)]
            return await asyncio.gather(*asked)

    found = alone(ask)
    for row, cards in enumerate(found):
        expected = catalogue.shelf.recommend([f"u{row:05d}"], 1 + row % 7)["item"].to_list()
        assert [card["item"] for card in cards] == expected
    text = metrics.text()[0].decode()
    assert "prismrec_ranked_together_sum 200.0" in text and "prismrec_ranked_together_count 4.0" in text


@pytest.mark.parametrize("quick", [True, False])
def test_a_block_that_fails_tells_all_and_holds_up_nobody(
    quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted().save(tmp_path / "model")
    catalogue = Catalogue.load("shop", tmp_path / "model")
    monkeypatch.setattr(Catalogue, "quick", quick)

    async def ask() -> list[Any]:
        with ThreadPoolExecutor(1) as pool:
            together = Together(pool, Metrics())
            bad = [together.list_of(catalogue, row, 3, None, True) for row in (1, 9999)]
            first = await asyncio.gather(*bad, return_exceptions=True)
            return [*first, await together.list_of(catalogue, 1, 3, None, True)]

    *failed, good = alone(ask)
    assert all(isinstance(one, IndexError) for one in failed) and len(good) == 3


def test_points_of_a_map_lie_within_it_and_like_items_near_each_other(tmp_path: Path) -> None:
    planted(40, 300).save(tmp_path / "model")
    catalogue = Catalogue.load("shop", tmp_path / "model")
    vectors = maps.vectors(catalogue, "image", maps.shown(catalogue))
    components = maps.principal(vectors)
    spread = components.var(0)
    assert (np.diff(spread) <= 1e-6).all()
    np.testing.assert_allclose(spread.sum(), vectors.var(0).sum(), rtol=1e-4)
    points = maps.fitted(components[:, :2])
    assert points.shape == (300, 2) and np.abs(points).max() <= 1
    names, group = maps.groups_of(catalogue, np.arange(300))
    assert sorted(names) == sorted(KINDS) and set(group) == set(range(6))
    own = np.linalg.norm(points - np.array([points[np.array(group) == g].mean(0) for g in range(6)])[group], axis=1)
    assert own.mean() < 0.75 * np.linalg.norm(points - points.mean(0), axis=1).mean()


def test_a_map_is_drawn_at_once_and_again_when_there_is_a_better_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openTSNE", reason="openTSNE is not installed: pip install -e .[diagnose]")
    planted(40, 60).save(tmp_path / "model")
    catalogue = Catalogue.load("shop", tmp_path / "model")
    kept, pool = maps.Maps(), ThreadPoolExecutor(1)
    monkeypatch.setattr(kept, "_workers", lambda: pool)  # else a process, which takes seconds to start
    first = orjson.loads(kept.of(catalogue, None))
    assert first["method"] == "principal components" and first["awaited"] and len(first["x"]) == 60
    pool.shutdown()
    second = orjson.loads(kept.of(catalogue, None))
    assert (
        second["method"] == "t-SNE"
        and not second["awaited"]
        and second["x"] != first["x"]
        and second["items"] == first["items"]
    )
    assert np.abs([second["x"], second["y"]]).max() <= 1
    assert orjson.loads(maps.Maps(tsne=False).of(catalogue, "image"))["awaited"] is False
    with pytest.raises(PrismError, match="smell"):
        kept.of(catalogue, "smell")
    kept.close()


def test_values_become_json() -> None:
    import datetime

    given = {"a": float("nan"), 1: [datetime.date(2026, 1, 2), (True, None)], "big": 1 << 60}
    assert plain(given) == {"a": None, "1": ["2026-01-02", [True, None]], "big": str(1 << 60)}
