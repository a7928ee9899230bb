import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prismrec.data.sources import read
from prismrec.errors import PrismError

TOKEN = st.text("abc019_-", min_size=1, max_size=5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TOKEN, TOKEN, st.integers(1, 5), st.integers(0, 10**9)), min_size=1, max_size=30))
def test_round_trip(tmp_path, rows):
    header = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    pl.DataFrame(rows, schema=header, orient="row").write_csv(tmp_path / "toy.inter", separator="\t")
    dataset = read(tmp_path)
    seen = dataset.interactions
    back = zip(
        map(str, dataset.users.decode(seen.user)),
        map(str, dataset.items.decode(seen.item)),
        seen.rating.tolist(),
        seen.timestamp.tolist(),
        strict=True,
    )
    assert list(back) == rows and dataset.name == "toy" and seen.split is None


def test_benchmark_files_bring_their_split_and_items_their_features(tmp_path):
    header = "user_id:token\titem_id:token\n"
    (tmp_path / "toy.train.inter").write_text(header + "1\ta\n2\tb\n")
    (tmp_path / "toy.valid.inter").write_text(header + "1\tb\n")
    (tmp_path / "toy.test.inter").write_text(header + "2\tc\n")
    (tmp_path / "toy.item").write_text(
        "item_id:token\ttitle:token_seq\tprice:float\temb:float_seq\nc\tA red c\t2.5\t1.0 2.0\nd\tUnsold\t\t\nb\tB\t1\t3 4\n"
    )
    dataset = read(tmp_path)
    assert dataset.items.external.to_list() == ["a", "b", "c", "d"] and dataset.users.external.to_list() == [1, 2]
    by_part = {part: len(dataset.interactions.part(part)) for part in ("train", "valid", "test")}
    assert by_part == {"train": 2, "valid": 1, "test": 1}
    assert dataset.item_table["price"].to_list() == [None, 1.0, 2.5, None]
    emb = dataset.modalities["emb"]
    assert emb.present.tolist() == [False, True, True, False] and np.array_equal(emb.values[2], [1, 2])


@pytest.mark.parametrize(
    ("inter", "item", "said"),
    [
        ("uid:token\titem_id:token\n1\t2\n", None, "recognised as the user; it has 'uid', 'item_id'"),
        ("user_id:token\titem_id:token\n1\t2\n", "id:token\n2\n", r"toy\.item has no column 'item_id'"),
        (
            "user_id:token\titem_id:token\n1\t2\n",
            "item_id:token\te:float_seq\n2\t1 2\n3\t1 x\n",
            "'1 x' in data row 2.*2 numbers",
        ),
        ("user_id:token\titem_id:token\n1\t2\n", "item_id:token\te:float_seq\n2\t1 2\n3\t1\n", "expected 2 numbers"),
    ],
)
def test_bad_files_are_refused_in_a_sentence(tmp_path, inter, item, said):
    (tmp_path / "toy.inter").write_text(inter)
    if item is not None:
        (tmp_path / "toy.item").write_text(item)
    with pytest.raises(PrismError, match=said):
        read(tmp_path)


def test_two_unrelated_files_are_refused(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.inter").write_text("user_id:token\titem_id:token\n1\t2\n")
    with pytest.raises(PrismError, match=r"one\.train\.inter"):
        read(tmp_path)
