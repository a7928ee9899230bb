import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prismrec.data.ids import IdMap
from prismrec.errors import PrismError

IDS = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, min_size=1, max_size=20),
    st.lists(st.text(max_size=6), unique=True, min_size=1, max_size=20),
)


@given(IDS, st.data())
def test_encode_and_decode_are_inverse(ids, data):
    known = IdMap(pl.Series(ids), "user")
    internal = np.array(data.draw(st.lists(st.integers(0, len(ids) - 1), max_size=20)), np.int64)
    assert known.encode(known.decode(internal)).tolist() == internal.tolist()
    assert len(known) == len(ids)


def test_text_is_read_as_the_type_of_the_ids():
    assert IdMap(pl.Series([7, 30])).encode(["30", "7"]).tolist() == [1, 0]
    assert IdMap(pl.Series(["7", "30"])).encode([30]).tolist() == [1]


def test_unknown_ids_are_named():
    known = IdMap(pl.Series(["a", "b"]), "user")
    assert known.find(["b", "zz"]).tolist() == [1, -1]
    with pytest.raises(PrismError, match=r"user 'zz' is not among the 2 known users \(nor is 1 other"):
        known.encode(["zz", "a", "y"])
    with pytest.raises(PrismError, match="item 'x' is not among"):
        IdMap(pl.Series([1, 2])).encode(["x"])


@given(IDS, st.data())
def test_few_ids_are_found_as_many_are(ids, data):
    known = IdMap(pl.Series(ids), "user")
    other = st.sampled_from(ids) | (st.integers(-9, 9) if isinstance(ids[0], int) else st.text(max_size=2))
    asked = data.draw(st.lists(other, min_size=1, max_size=6))
    assert known.find(asked).tolist() == known.find(asked * 300)[: len(asked)].tolist()
    assert known.names(known.find([ids[-1]])) == [ids[-1]] and known.names(np.arange(len(ids))) == ids


def test_ids_that_share_a_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(pl.Series, "hash", lambda self: pl.Series(np.zeros(len(self), np.uint64)))
    known = IdMap(pl.Series(["a", "b", "c"]))
    assert known.find(["c", "zz", "a"]).tolist() == [2, -1, 0]


def test_digests_tell_texts_apart_and_types_do_not_matter():
    digest = IdMap(pl.Series(["ab", "c"])).digest()
    assert digest != IdMap(pl.Series(["a", "bc"])).digest() != IdMap(pl.Series(["c", "ab"])).digest()
    assert IdMap(pl.Series([1, 2], dtype=pl.Int8)).digest() == IdMap(pl.Series(["1", "2"])).digest()


def test_new_ids_join_in_the_type_of_the_known_ones() -> None:
    known = IdMap(pl.Series([3, 7]), "item")
    assert known.new(["8", "9"]).to_list() == [8, 9]
    for ids, said in (
        (["8", "x"], r"\(Int64\); not so: \['x'\]"),
        ([7, 8], r"\[7\]"),
        ([8, 8], r"\[8, 8\]"),
        ("8", "not '8'"),
    ):
        with pytest.raises(PrismError, match=said):
            known.new(ids)
