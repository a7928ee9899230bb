import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prismrec.data import store
from prismrec.data.dataset import COLUMNS, Dataset, Interactions
from prismrec.data.ids import IdMap
from prismrec.data.modalities import modality
from prismrec.errors import PrismError


@st.composite
def datasets(draw):
    users = draw(st.lists(st.text(max_size=5), unique=True, min_size=1, max_size=6))
    items = draw(st.lists(st.integers(-(2**60), 2**60), unique=True, min_size=1, max_size=6))
    n = draw(st.integers(0, 12))

    def column(elements, dtype):
        return draw(hnp.arrays(dtype, n, elements=elements))

    optional = {
        "split": (st.integers(0, 2), np.int8),
        "weight": (st.floats(2**-20, 100, width=32), np.float32),
        "timestamp": (st.integers(-(2**62), 2**62), np.int64),
        "rating": (st.floats(-5, 5, width=32), np.float32),
    }
    rows = Interactions(
        column(st.integers(0, len(users) - 1), np.int32),
        column(st.integers(0, len(items) - 1), np.int32),
        **{name: column(*kind) for name, kind in optional.items() if draw(st.booleans())},
    )
    values = draw(hnp.arrays(st.sampled_from([np.float16, np.float32]), (len(items), 3), elements=st.integers(0, 2)))
    return Dataset(
        draw(st.text(min_size=1, max_size=5)),
        IdMap(pl.Series("user", users, dtype=pl.String), "user"),
        IdMap(pl.Series("item", items), "item"),
        rows,
        {
            name: modality(values, name, len(items))
            for name in draw(st.sets(st.sampled_from(["image", "text_2", "x-y"])))
        },
        pl.DataFrame({"item": items, "title": [f"t{i}" for i in items]})
        if draw(st.booleans())
        else pl.DataFrame({"item": items}),
        {"steps": [{"step": "draw"}]},
    )


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(datasets())
def test_round_trip(tmp_path, dataset):
    path = store.save(dataset, tmp_path / "data", overwrite=True)
    back = store.load(path, verify="full")
    assert back.fingerprint == dataset.fingerprint and back.name == dataset.name
    assert back.users.external.to_list() == dataset.users.external.to_list()
    assert back.items.external.dtype == dataset.items.external.dtype
    for name, dtype in COLUMNS.items():
        ours, theirs = getattr(dataset.interactions, name), getattr(back.interactions, name)
        assert (ours is None) == (theirs is None)
        assert ours is None or (theirs.dtype == dtype and np.array_equal(ours, theirs))
    for name, m in dataset.modalities.items():
        loaded = back.modalities[name]
        assert isinstance(loaded.values, np.memmap) and loaded.values.dtype == m.values.dtype
        assert np.array_equal(loaded.values, m.values) and np.array_equal(loaded.present, m.present)
    assert back.item_table.equals(dataset.item_table) and back.provenance == dataset.provenance
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


@pytest.fixture
def toy() -> Dataset:
    rows = Interactions(np.array([0, 1], np.int32), np.array([1, 0], np.int32), np.zeros(2, np.int8))
    ids = (IdMap(pl.Series(["u", "v"]), "user"), IdMap(pl.Series([7, 9]), "item"))
    values = np.array([[1, 2], [0, 0]], np.float32)
    return Dataset("toy", *ids, rows, {"image": modality(values, "image", 2)})


def test_the_manifest_says_what_is_there(toy, tmp_path):
    manifest = json.loads((store.save(toy, tmp_path / "data") / "manifest.json").read_text())
    assert manifest["users"] == manifest["items"] == manifest["interactions"] == 2
    assert manifest["user_id_type"] == "String" and manifest["item_id_type"] == "Int64"
    assert manifest["split"] == {"train": 2, "valid": 0, "test": 0}
    assert manifest["modalities"] == {"image": {"width": 2, "type": "float32", "missing": 1}}
    assert manifest["fingerprint"] == toy.fingerprint
    assert set(manifest["files"]) == {
        p.relative_to(tmp_path / "data").as_posix() for p in (tmp_path / "data").rglob("*.*")
    } - {"manifest.json"}


def test_nothing_is_replaced_unasked_and_foreign_folders_never(toy, tmp_path):
    path = store.save(toy, tmp_path / "data")
    with pytest.raises(PrismError, match=r"exists already.*--overwrite"):
        store.save(toy, path)
    store.save(toy, path, overwrite=True)
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    store.save(toy, tmp_path / "empty" / "deep")
    (foreign / "chapter.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(PrismError, match="thesis"):
            store.save(toy, foreign, overwrite=overwrite)
    assert (foreign / "chapter.txt").read_text() == "years of work"


def test_a_failed_save_leaves_the_earlier_data_as_it_was(toy, tmp_path, monkeypatch):
    path = store.save(toy, tmp_path / "data")
    bad = Dataset("bad", toy.users, toy.items, toy.interactions, {"../image": toy.modalities["image"]})
    with pytest.raises(PrismError, match=r"'\.\./image'"):
        store.save(bad, path, overwrite=True)
    real = Path.rename

    def fails(self, target):
        if self.suffix == ".part":
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="No space"):
        store.save(toy, path, overwrite=True)
    monkeypatch.undo()
    assert store.load(path, verify="full").fingerprint == toy.fingerprint
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("name", ["interactions.parquet", "users.parquet", "items.parquet", "features/image.npy"])
def test_files_that_were_changed_cut_short_or_lost_are_refused(toy, tmp_path, name):
    path = store.save(toy, tmp_path / "data")
    content = bytearray((path / name).read_bytes())
    content[-1] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(PrismError, match=rf"{name} does not match the checksum"):
        store.load(path)
    (path / name).write_bytes(content[:-3])
    with pytest.raises(PrismError, match=rf"{name} has .* bytes where its manifest says"):
        store.load(path)
    os.remove(path / name)  # noqa: PTH107
    with pytest.raises(PrismError, match=rf"lacks the file {name}"):
        store.load(path)


def test_large_files_have_their_checksum_verified_on_request(toy, tmp_path, monkeypatch):
    path = store.save(toy, tmp_path / "data")
    monkeypatch.setattr(store, "SMALL", 0)
    content = bytearray((path / "features/image.npy").read_bytes())
    content[-1] ^= 1
    (path / "features/image.npy").write_bytes(content)
    store.load(path)
    with pytest.raises(PrismError, match=r"image\.npy does not match"):
        store.load(path, verify="full")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(format=99), "format 99"),
        (lambda m: m.pop("format"), "format None"),
        (lambda m: m.update(users="two"), "users: "),
        (lambda m: m.update(colour="red"), "colour: "),
        (lambda m: m["files"].pop("users.parquet"), "does not list the files"),
        (lambda m: m["files"].update({"../secret": {"size": 1, "sha256": ""}}), "does not list the files"),
        (lambda m: m["columns"].append("price"), "does not list the files and columns"),
        (lambda m: m.update(name="other", fingerprint="0" * 16), "fingerprint"),
    ],
)
def test_a_broken_manifest_is_refused_in_a_sentence(toy, tmp_path, change, said):
    path = store.save(toy, tmp_path / "data") / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(PrismError, match=said):
        store.load(path.parent, verify="full")
    path.write_text("{")
    with pytest.raises(PrismError, match="not valid JSON"):
        store.load(path.parent)
    path.unlink()
    with pytest.raises(PrismError, match="not a data set of PrismRec"):
        store.load(path.parent)
