import polars as pl
import pytest

from prismrec.data import store
from prismrec.data.sources import read
from prismrec.errors import PrismError

LOG = pl.DataFrame({"user": ["u1", "u2"], "item": ["a", "b"]})


def test_our_own_folder_and_its_manifest(tmp_path):
    LOG.write_csv(tmp_path / "log.csv")
    dataset = read(tmp_path / "log.csv")
    store.save(dataset, tmp_path / "own")
    assert (
        read(tmp_path / "own").fingerprint
        == read(tmp_path / "own" / "manifest.json").fingerprint
        == dataset.fingerprint
    )


def test_a_folder_with_interactions_takes_its_name_from_the_folder(tmp_path):
    (tmp_path / "shop").mkdir()
    LOG.write_csv(tmp_path / "shop" / "interactions.csv")
    pl.DataFrame({"item": ["b", "c"], "title": ["B", "C"]}).write_csv(tmp_path / "shop" / "items.csv")
    dataset = read(tmp_path / "shop")
    assert dataset.name == "shop" and dataset.items.external.to_list() == ["a", "b", "c"]
    assert dataset.item_table["title"].to_list() == [None, "B", "C"]


def test_a_folder_of_parquet_parts_is_one_log(tmp_path):
    (tmp_path / "log").mkdir()
    for k in range(3):
        pl.DataFrame({"user": [k, 7], "item": [1, k]}).write_parquet(tmp_path / "log" / f"part-{k}.parquet")
    dataset = read(tmp_path / "log")
    assert len(dataset.interactions) == 6 and dataset.users.external.to_list() == [0, 1, 2, 7]


def test_what_nobody_reads_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(PrismError, match="no layout that PrismRec knows"):
        read(tmp_path)
    (tmp_path / "notes.md").write_text("hello")
    with pytest.raises(PrismError, match=r"holds notes\.md"):
        read(tmp_path)
    with pytest.raises(PrismError, match=r"unknown suffix; expected one of .*\.csv"):
        read(tmp_path / "notes.md")
    with pytest.raises(PrismError, match=r"There is no .*note\.md\. Did you mean 'notes\.md'"):
        read(tmp_path / "note.md")
    with pytest.raises(PrismError, match="There is no"):
        read(tmp_path / "far" / "away")
    LOG.write_csv(tmp_path / "log.csv")
    with pytest.raises(
        PrismError, match=r"log\.csv is read as table layout, which has no option 'users'. Did you mean 'user'"
    ):
        read(tmp_path / "log.csv", users="user")
