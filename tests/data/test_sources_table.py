from datetime import datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prismrec.data.sources import read
from prismrec.errors import PrismError

TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters='",'), min_size=1, max_size=6
)
NUMBERS = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(*(st.lists(st.tuples(u, i), min_size=1, max_size=30) for u in (TEXT, NUMBERS) for i in (TEXT, NUMBERS))),
    st.sampled_from(["parquet", "csv", "tsv"]),
)
def test_ids_of_any_type_come_back(tmp_path, pairs, suffix):
    users, items = zip(*pairs, strict=True)
    frame = pl.DataFrame({"who": users, "what": items})
    path = tmp_path / f"log.{suffix}"
    if suffix == "parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator="," if suffix == "csv" else "\t")
    dataset = read(path, user="who", item="what")
    rows = dataset.interactions
    assert [str(u) for u in dataset.users.decode(rows.user)] == [str(u) for u in users]
    assert [str(i) for i in dataset.items.decode(rows.item)] == [str(i) for i in items]
    if suffix == "parquet":
        assert dataset.users.decode(rows.user).to_list() == list(users)
    assert dataset.users.external.is_sorted() and dataset.users.external.is_unique().all()
    shuffled = tmp_path / f"shuffled.{suffix}"
    frame = frame.reverse()
    _ = (
        frame.write_parquet(shuffled)
        if suffix == "parquet"
        else frame.write_csv(shuffled, separator="," if suffix == "csv" else "\t")
    )
    assert read(shuffled, user="who", item="what").users.digest() == dataset.users.digest()


def test_leading_zeros_stay_and_plain_numbers_become_integers(tmp_path):
    (tmp_path / "a.csv").write_text("user,item\n007,10\n8,9\n")
    dataset = read(tmp_path / "a.csv")
    assert dataset.users.external.to_list() == ["007", "8"]
    assert dataset.items.external.to_list() == [9, 10]


def test_numbers_hidden_in_floats_and_categories(tmp_path):
    pl.DataFrame({"user": [3.0, 1.0], "item": pl.Series(["b", "a"], dtype=pl.Categorical)}).write_parquet(
        tmp_path / "a.parquet"
    )
    dataset = read(tmp_path / "a.parquet")
    assert dataset.users.external.to_list() == [1, 3] and dataset.items.external.to_list() == ["a", "b"]
    pl.DataFrame({"user": [3.5], "item": ["a"]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(PrismError, match=r"3\.5"):
        read(tmp_path / "b.parquet")
    huge = [2**63 + 5, 1]
    pl.DataFrame({"user": pl.Series(huge, dtype=pl.UInt64), "item": ["a", "b"]}).write_parquet(tmp_path / "c.parquet")
    assert read(tmp_path / "c.parquet").users.external.to_list() == sorted(huge)


def test_columns_are_recognised_by_usual_names_and_all_roles_are_kept(tmp_path):
    (tmp_path / "a.tsv").write_text(
        "Rating\tasin\treviewerID\ttimestamp\tsplit\tweight\n4.5\tB1\tA9\t17\ttrain\t2\n1\tB2\tA8\t18\tval\t3\n"
    )
    rows = read(tmp_path / "a.tsv").interactions
    assert rows.rating.tolist() == [4.5, 1] and rows.timestamp.tolist() == [17, 18]
    assert rows.split.tolist() == [0, 1] and rows.weight.tolist() == [2, 3] and rows.user.tolist() == [1, 0]


def test_times_of_all_kinds(tmp_path):
    day = datetime(2024, 5, 31)
    pl.DataFrame({"user": [1], "item": [1], "ts": [day]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"user": [1], "item": [1], "ts": [day.date()]}).write_parquet(tmp_path / "b.parquet")
    (tmp_path / "c.csv").write_text("user,item,ts\n1,1,2024-05-31T00:00:00\n")
    (tmp_path / "d.csv").write_text("user,item,ts\n1,1,1717113600.5\n")
    expected = 1_717_113_600_000_000
    for name, value in (
        ("a.parquet", expected),
        ("b.parquet", expected),
        ("c.csv", expected),
        ("d.csv", expected + 500_000),
    ):
        dataset = read(tmp_path / name)
        assert dataset.interactions.timestamp.tolist() == [value]
        assert dataset.provenance["steps"][0]["timestamp_unit"] == "us"
    (tmp_path / "e.csv").write_text("user,item,ts\n1,1,1717113600.0\n")
    dataset = read(tmp_path / "e.csv")
    assert (
        dataset.interactions.timestamp.tolist() == [1_717_113_600]
        and "timestamp_unit" not in dataset.provenance["steps"][0]
    )


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "log.csv").write_text("uid,sku\nu1,b\nu2,a\nu1,c\n")
    (tmp_path / "items.csv").write_text('sku,title\nd,Unsold\nc,"See, a comma"\nb,B\n')
    return tmp_path


def test_features_follow_the_item_table_whatever_its_order(shop):
    np.save(shop / "image.npy", np.array([[4, 4], [3, 3], [2, 2]], np.float32))
    vectors = pl.DataFrame({"sku": ["a", "zzz", "c"], "vector": [[1.0, 2.0, 3.0], [9.0, 9.0, 9.0], [7.0, 8.0, 9.0]]})
    vectors.write_parquet(shop / "text.parquet")
    dataset = read(
        shop / "log.csv",
        user="uid",
        items=shop / "items.csv",
        features={"image": shop / "image.npy", "text": shop / "text.parquet"},
    )
    assert dataset.items.external.to_list() == ["a", "b", "c", "d"]
    assert dataset.item_table["title"].to_list() == [None, "B", "See, a comma", "Unsold"]
    image, text = dataset.modalities["image"], dataset.modalities["text"]
    assert image.values.tolist() == [[0, 0], [2, 2], [3, 3], [4, 4]] and image.present.tolist() == [
        False,
        True,
        True,
        True,
    ]
    assert text.values.tolist() == [[1, 2, 3], [0, 0, 0], [7, 8, 9], [0, 0, 0]]
    assert dataset.provenance["steps"][0]["missing"] == {"image": 1, "text": 2}


def test_bad_features_and_item_tables(shop):
    np.save(shop / "image.npy", np.ones((2, 2), np.float32))
    with pytest.raises(PrismError, match=r"'image'.*has? 2 rows|2 rows, but .*items\.csv has 3 items"):
        read(shop / "log.csv", user="uid", items=shop / "items.csv", features={"image": shop / "image.npy"})
    with pytest.raises(PrismError, match=r"have no ids.*--items"):
        read(shop / "log.csv", user="uid", features={"image": shop / "image.npy"})
    pl.DataFrame({"sku": ["a", "b"], "v": [[1.0, 2.0], [1.0]]}).write_parquet(shop / "odd.parquet")
    with pytest.raises(PrismError, match="lists of one length"):
        read(shop / "log.csv", user="uid", features={"text": shop / "odd.parquet"})
    pl.DataFrame({"sku": ["a", "b"], "v": [1.0, 2.0]}).write_parquet(shop / "flat.parquet")
    with pytest.raises(PrismError, match="one of lists of numbers"):
        read(shop / "log.csv", user="uid", features={"text": shop / "flat.parquet"})
    (shop / "items.csv").write_text("sku,title\nb,B\nb,Again\n")
    with pytest.raises(
        PrismError, match=r"items\.csv has 2 rows whose 'sku' is missing or stands twice \(first: 'b'\)"
    ):
        read(shop / "log.csv", user="uid", items=shop / "items.csv")
    with pytest.raises(PrismError, match=r"There is no file .*nothing\.csv"):
        read(shop / "log.csv", user="uid", items=shop / "nothing.csv")


def test_rows_without_ids(tmp_path):
    (tmp_path / "a.csv").write_text("user,item,timestamp\nu,a,1\n,b,2\nv,,3\nw,c,4\n")
    with pytest.raises(PrismError, match=r"2 rows of .* no 'user' or no 'item' .first: data row 2"):
        read(tmp_path / "a.csv")
    dataset = read(tmp_path / "a.csv", null_ids="drop")
    assert dataset.interactions.timestamp.tolist() == [1, 4]
    assert dataset.users.external.to_list() == ["u", "w"] and dataset.provenance["steps"][0]["rows_without_ids"] == 2


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("uid,item\n1,2\n", {}, r"no column that is recognised as the user; it has 'uid_', 'item'|--user"),
        (
            "user,item\n1,2\n",
            {"user": "usr"},
            r"no column 'usr' for the user; it has 'user', 'item'. Did you mean 'user'",
        ),
        ("user,item,rating\n1,2,high\n", {}, r"'rating'.*'high' in data row 1"),
        ("user,item,rating\n1,2,inf\n", {}, "finite numbers"),
        ("user,item,split\n1,2,train\n1,3,dev\n", {}, "'dev' in data row 2"),
        ("user,item,split\n1,2,test\n", {}, "train part"),
        ("user,item,rating\n1,2,-1\n", {"weight": "rating"}, "weight -1"),
        ("user,item,timestamp\n1,2,soon\n", {}, "'soon'.*expected times"),
        ("user,item\n", {}, "no rows"),
        ("", {}, "cannot be read"),
        ("user,item\n1,2,3,4\n", {}, "cannot be read"),
    ],
)
def test_bad_tables_are_refused_in_a_sentence(tmp_path, text, options, said):
    (tmp_path / "log.csv").write_text(text.replace("uid", "uid_"))
    with pytest.raises(PrismError, match=said):
        read(tmp_path / "log.csv", **options)


def test_a_truncated_parquet_file_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": range(5000), "item": range(5000)}).write_parquet(path)
    whole = path.read_bytes()
    for end in (len(whole) // 2, 3, 0):
        path.write_bytes(whole[:end])
        with pytest.raises(PrismError, match=r"log\.parquet .* cannot be read"):
            read(path)
    pl.DataFrame({"user": [[1]], "item": [1]}).write_parquet(path)
    with pytest.raises(PrismError, match="ids must be numbers or text"):
        read(path)
