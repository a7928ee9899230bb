from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prismrec.errors import PrismError
from prismrec.export import Filter, Shelf, ann, form
from prismrec.export.tables import Dense

pytest.importorskip("faiss", reason="the extra 'ann' is not installed")
pytest.importorskip("usearch", reason="the extra 'ann' is not installed")


@pytest.fixture(scope="module", params=sorted(ann.KINDS))
def near(request: pytest.FixtureRequest, shelf: Shelf) -> Shelf:
    side = shelf.sides["fused"]
    assert isinstance(side.item, Dense)
    queries = side.user.take(np.arange(50))
    return replace(shelf, near=ann.build(side.item, queries, request.param, k=10, threads=1))


def test_it_reaches_the_recall_that_it_tells(near: Shelf, tmp_path: Path) -> None:
    assert near.near is not None
    assert near.near.info["recall"] >= 0.98 and near.near.info["k"] == 10 and near.near.info["queries"] == 50
    near.save(tmp_path / "m")
    again = Shelf.load(tmp_path / "m")
    who = near.users.external
    found, exact = again.lists(who, 10), again.lists(who, 10, exact=True)
    assert np.array_equal(found.items, near.lists(who, 10).items)
    kept = np.mean([len(np.intersect1d(a, b)) for a, b in zip(found.items, exact.items, strict=True)]) / 10
    assert kept >= 0.95
    for row, item in enumerate(found.items):  # unseen, and scored exactly
        assert not np.isin(item, near.seen.of(row)).any()
    same = found.items == exact.items
    np.testing.assert_allclose(found.scores[same], exact.scores[same], rtol=1e-5)
    path = tmp_path / "m" / form.read_manifest(tmp_path / "m").files["near"].name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(PrismError, match="cut short"):
        Shelf.load(tmp_path / "m")
    assert Shelf.load(tmp_path / "m", approximate=False).near is None


def test_what_it_cannot_answer_is_answered_exactly(near: Shelf) -> None:
    assert near.lists([], 5).rows() == []
    who = near.users.external[:5]
    plain = replace(near, near=None)
    for how in (
        {"only": Filter(deny=["i00003"])},
        {"modality": "text"},
        {"weights": {"text": 1.0}},
    ):
        assert np.array_equal(near.lists(who, 10, **how).items, plain.lists(who, 10, **how).items)
    assert np.array_equal(near.lists(who, 115).items, plain.lists(who, 115).items)  # nearly everything


def test_items_that_came_later_are_found_too(near: Shelf) -> None:
    (who,) = near.users.external[:1]
    best = {name: near.sides[name].user.take(np.array([0])) * 9 for name in near.sides}
    grown = near.add(["new"], sides=best)
    assert grown.lists([who], 3).rows()[0][0][0] == "new"
    assert near.lists([who], 3).rows()[0][0][0] != "new"


def test_a_library_that_is_missing_is_named(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    item = shelf.sides["fused"].item
    assert isinstance(item, Dense)
    with pytest.raises(PrismError, match=r'pip install "prismrec\[ann\]"'):
        ann.build(item, np.ones((1, 8), np.float32), "hnsw")
    with pytest.raises(PrismError, match=r"no approximate index 'hnws'\. Did you mean 'hnsw'"):
        ann.build(item, np.ones((1, 8), np.float32), "hnws")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no index at all, but long enough to look at")
    for kind in ann.KINDS:
        with pytest.raises(PrismError, match="no index that"):
            ann.load(tmp_path / "x", kind, (3, 8), 16, {})


def test_an_index_of_other_items_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    item = shelf.sides["fused"].item
    assert isinstance(item, Dense)
    for kind in ann.KINDS:
        near = ann.build(item, item.take(np.arange(3)), kind, k=3, threads=1)
        ann.KINDS[kind].save(near.index, tmp_path / kind)
        width = 8 + ann.KINDS[kind].widened
        with pytest.raises(PrismError, match=f"an index of 120 × {width} numbers; expected 119 × {width}"):
            ann.load(tmp_path / kind, kind, (119, 8), 16, {})
    with pytest.raises(PrismError, match="not a IndexIVF"):
        ann.load(tmp_path / "hnsw", "ivf", (120, 8), 16, {})
