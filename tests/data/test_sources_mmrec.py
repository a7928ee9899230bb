import time

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prismrec.data.sources import read
from prismrec.errors import PrismError


def write(folder, text, **features):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toy.inter").write_text(text)
    for name, values in features.items():
        np.save(folder / f"{name}_feat.npy", np.asarray(values, np.float32))
    return folder


SMALL = "userID\titemID\tx_label\n0\t0\t0\n0\t2\t1\n2\t1\t2\n"

rows_of_log = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 40), st.integers(0, 2)), min_size=1, max_size=60
).filter(lambda rows: any(label == 0 for *_, label in rows))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows_of_log, st.permutations(["userID", "itemID", "x_label"]))
def test_round_trip(tmp_path, rows, order):
    frame = pl.DataFrame(rows, schema=["userID", "itemID", "x_label"], orient="row").select(order)
    frame.write_csv(tmp_path / "toy.inter", separator="\t")
    dataset = read(tmp_path)
    seen = dataset.interactions
    assert list(zip(seen.user.tolist(), seen.item.tolist(), seen.split.tolist(), strict=True)) == rows
    assert dataset.n_users == max(r[0] for r in rows) + 1
    assert dataset.n_items == max(r[1] for r in rows) + 1
    assert dataset.items.external.to_list() == list(range(dataset.n_items))


def test_what_is_beside_the_interactions_is_read(tmp_path):
    features = [[1, 2], [0, 0], [3, 4], [5, 6]]
    write(tmp_path, SMALL, image=features, sound=np.ones((4, 7)))
    (tmp_path / "items.tsv").write_text('itemID\ttitle\n3\tNever "taken"\n0\tFirst\n')
    (tmp_path / "i_id_mapping.csv").write_text("asin,itemID\n000A,0\n000B,1\n")
    dataset = read(tmp_path)
    assert dataset.n_items == 4  # the item table knows one that nobody took
    assert dataset.item_table.columns == ["item", "title", "asin"]
    assert dataset.item_table["title"].to_list() == ["First", None, None, 'Never "taken"']
    assert dataset.item_table["asin"].to_list() == ["000A", "000B", None, None]
    assert list(dataset.modalities) == ["image", "sound"]
    assert dataset.modalities["image"].present.tolist() == [True, False, True, True]
    assert dataset.provenance["steps"][0]["missing"] == {"image": 1}


def test_ratings_are_no_weights_unless_asked_for(tmp_path):
    write(tmp_path, "userID\titemID\trating\ttimestamp\tx_label\n0\t0\t5\t100\t0\n1\t1\t1.5\t90\t0\n")
    rows = read(tmp_path).interactions
    assert rows.weight is None and rows.rating.tolist() == [5, 1.5] and rows.timestamp.tolist() == [100, 90]
    assert read(tmp_path, weight="rating").interactions.weight.tolist() == [5, 1.5]


def test_a_file_without_labels_has_no_split(tmp_path):
    dataset = read(write(tmp_path, "userID\titemID\n0\t0\n"))
    assert dataset.interactions.split is None
    with pytest.raises(PrismError, match="prismrec data split"):
        dataset.development()


def test_the_path_of_the_file_itself_will_do_and_the_name_can_be_set(tmp_path):
    write(tmp_path, SMALL)
    assert read(tmp_path / "toy.inter").name == "toy"
    assert read(str(tmp_path), name="other").name == "other"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "userID\titem\tx_label\n0\t0\t0\n",
            r"no column 'itemID'.*has 'userID', 'item', 'x_label'.*Did you mean 'item'",
        ),
        ("userID\titemID\tx_label\n0\t-1\t0\n", "'-1' in data row 1"),
        ("userID\titemID\tx_label\n0\t0\t0\nB00\t1\t0\n", "'B00' in data row 2"),
        ("userID\titemID\tx_label\n0\t1.5\t0\n", r"'1\.5'"),
        ("userID\titemID\tx_label\n0\t\t0\n", "None in data row 1"),
        ("userID\titemID\tx_label\n0\t99999999999\t0\n", "99999999999"),
        ("userID\titemID\tx_label\n0\t0\t3\n", "'3' in data row 1.*0 to 2"),
        ("userID\titemID\tx_label\n0\t0\t1\n", "train part is empty"),
        ("userID\titemID\tx_label\n", "no rows"),
        ("userID\titemID\trating\n0\t0\tgood\n", "'good'"),
        ("userID\titemID\ttimestamp\n0\t0\tyesterday\n", "'yesterday'"),
        ("", "cannot be read"),
    ],
)
def test_bad_interactions_are_refused_in_a_sentence(tmp_path, text, said):
    with pytest.raises(PrismError, match=f"toy.inter.*{said}|{said}.*toy.inter"):
        read(write(tmp_path, text))


def test_bad_company_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(PrismError, match="'image' have 2 rows, but the data has 3 items"):
        read(write(tmp_path / "a", SMALL, image=np.ones((2, 4))))
    with pytest.raises(PrismError, match=r"NaN or Inf in 1 of 3 rows \(first: 1.*--nan missing"):
        read(write(tmp_path / "b", SMALL, image=[[1, 1], [np.nan, 1], [1, 1]]))
    assert read(tmp_path / "b", nan="missing").modalities["image"].present.tolist() == [True, False, True]
    with pytest.raises(PrismError, match=r"no option 'weigth'. Did you mean 'weight'"):
        read(write(tmp_path / "c", SMALL), weigth="rating")
    with pytest.raises(PrismError, match="no column 'clicks' for the weight"):
        read(tmp_path / "c", weight="clicks")
    with pytest.raises(PrismError, match=r"weight 0 .*above 0"):
        read(write(tmp_path / "c", "userID\titemID\tclicks\n0\t0\t0\n"), weight="clicks")
    (write(tmp_path / "d", SMALL) / "items.tsv").write_text("itemID\ttitle\n1\ta\n1\tb\n")
    with pytest.raises(PrismError, match="item 1 more than once"):
        read(tmp_path / "d")
    (write(tmp_path / "e", SMALL) / "more.inter").write_text(SMALL)
    with pytest.raises(PrismError, match=r"2 \.inter files"):
        read(tmp_path / "e")


@pytest.mark.parametrize(
    ("name", "shape", "parts", "modalities"),
    [
        ("baby", (19_445, 7_050), (118_551, 20_559, 21_682), {"image": 128, "text": 128}),
        ("tiktok", (9_308, 6_710), (59_541, 3_051, 6_130), {"audio": 128, "image": 128}),
        ("ml100k", (943, 1_682), (80_808, 9_596, 9_596), {"text": 384}),
    ],
)
def test_shared_data_reads_as_it_is(shared_data, name, shape, parts, modalities):
    start = time.perf_counter()
    dataset = read(shared_data / name)
    assert time.perf_counter() - start < 5  # 0.1 s on an idle machine: this catches only the absurd
    assert (dataset.n_users, dataset.n_items) == shape
    assert tuple(np.bincount(dataset.interactions.split)) == parts
    assert {m: f.width for m, f in dataset.modalities.items()} == modalities
    assert dataset.item_table.height == dataset.n_items
