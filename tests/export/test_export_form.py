"""Whatever befalls the files of an export, it is refused when it is loaded, with a reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prismrec import io
from prismrec.errors import PrismError
from prismrec.export import Shelf, form, tensors
from prismrec.export.store import load


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model"))


def forge(folder: Path, kind: str | None, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest, and let it list a file as it now is: what a checksum does not show."""
    manifest = json.loads((folder / form.MANIFEST).read_text())
    if kind is not None:
        path = folder / manifest["files"][kind]["name"]
        manifest["files"][kind] |= {"size": path.stat().st_size, "sha256": io.sha256(path)}
    change(manifest)
    with suppress(ValueError):  # what is no manifest is refused before the digest is looked at
        manifest["sha256"] = form.Manifest.model_validate(manifest).digest()
    (folder / form.MANIFEST).write_text(json.dumps(manifest))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(file=st.integers(0, 3), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_flipped_bit_or_a_file_cut_short_is_noticed(
    folder: Path, tmp_path: Path, file: int, place: float, bit: int, cut: bool
) -> None:
    model = tmp_path / "model"
    shutil.rmtree(model, ignore_errors=True)
    shutil.copytree(folder, model)
    path = sorted(model.iterdir())[file]
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    if cut:
        del content[at:]
    else:
        content[at] ^= 1 << bit
    path.write_bytes(content)
    try:
        Shelf.load(model)
    except PrismError as error:
        assert len(str(error)) > 40 and "\n" not in str(error)
    else:  # white space between the words of the manifest means nothing
        assert path.name == form.MANIFEST
        assert form.read_manifest(model) == form.read_manifest(folder)


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_crash_the_reader_of_tensors(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, headed: bool
) -> None:
    path = tmp_path_factory.mktemp("junk") / "x.safetensors"
    path.write_bytes(len(junk).to_bytes(8, "little") + junk if headed else junk)
    try:
        found = tensors.load(path)
    except PrismError:
        return
    assert found == {}


HEADERS = [
    [],
    {"a": {}},
    {"a": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}},
    {"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}},
    {"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}},
    {"a": {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]}},
    {"a": {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]}},
    {"a": {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}},
    {"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}},
    {"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 8]}},
    {"a": {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]}},
]


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_headers_that_lie(tmp_path: Path, header: Any) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "x").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(PrismError, match="not a whole safetensors file"):
        tensors.load(tmp_path / "x")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("fused.user", np.zeros((89, 8), np.float32), "manifest says float32 of shape \\(90, 8\\)"),
        ("fused.item", np.zeros((8, 120), np.float32), "manifest says float32 of shape \\(120, 8\\)"),
        ("fused.item", np.zeros((120, 8), np.float16), "'fused.item' is float16"),
        ("fused.item", np.full((120, 8), np.nan, np.float32), "NaN or infinite"),
        ("text.item", None, "'text.item' is absent"),
        ("seen.indptr", np.zeros(91, np.int64), "point outside"),
        ("seen.indptr", np.zeros(7, np.int64), "'seen.indptr' is int64 of shape \\(7,\\)"),
        ("seen.indices", "far", "point outside"),
        ("popularity", np.zeros(3, np.int64), "'popularity' is int64 of shape \\(3,\\)"),
    ],
)
def test_tensors_that_do_not_fit(copy: Path, name: str, value: Any, says: str) -> None:
    path = copy / form.read_manifest(copy).files["tensors"].name
    arrays = {key: np.array(array) for key, array in tensors.load(path).items()}
    if value is None:
        del arrays[name]
    else:
        arrays[name] = arrays[name] + np.int32(1000) if isinstance(value, str) else value
    tensors.save(path, arrays)
    forge(copy, "tensors", lambda manifest: None)
    with pytest.raises(PrismError, match=says) as error:
        Shelf.load(copy)
    assert "is not a whole export" in str(error.value)


@pytest.mark.parametrize(
    ("kind", "frame", "says"),
    [
        ("users", pl.DataFrame({"user": ["a"] * 90}), "twice"),
        ("users", pl.DataFrame({"user": [f"u{i}" for i in range(89)]}), "lists 89 users where its manifest says 90"),
        ("items", pl.DataFrame({"item": [None, *range(119)]}), "twice or not at all"),
        ("items", pl.DataFrame({"title": ["a"]}), "the first must be 'item'"),
    ],
)
def test_ids_that_do_not_fit(copy: Path, kind: str, frame: pl.DataFrame, says: str) -> None:
    frame.write_parquet(copy / form.read_manifest(copy).files[kind].name)
    forge(copy, kind, lambda manifest: None)
    with pytest.raises(PrismError, match=says):
        Shelf.load(copy)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.update(kind="something"), "not the manifest of an export"),
        (lambda m: m.update(format=99), "has format 99"),
        (lambda m: m.update(users="90"), "not a valid manifest: users"),
        (lambda m: m.update(surprise=1), "not a valid manifest: surprise"),
        (lambda m: m["files"].pop("users"), "names no file for 'users'"),
        (lambda m: m["files"]["users"].update(name="../users.1.parquet"), "names no file for 'users'"),
        (lambda m: m["sides"].pop("fused"), "no 'fused' side"),
        (lambda m: m["sides"]["text"].update(user="image.item"), "it should have 90 rows"),
        (lambda m: m["sides"]["text"].update(user="fused.user"), "have 8 columns and items 5"),
        (lambda m: m["contents"].update(image="nothing"), "'nothing' is absent"),
        (lambda m: m["axes"].update(image=3), "names axes of 'image', but no content"),
        (lambda m: m["tables"]["fused.item"].update(width=7), "'fused.item' is float32 of shape"),
        (lambda m: m["tables"]["fused.item"].update(kind="float64"), "knows no tables of kind 'float64'"),
        (lambda m: m.update(near={"kind": "hnsw", "n": 500, "effort": 16, "info": {}}), "holds 500 dense items"),
        (lambda m: m.update(near={"kind": "hnsw", "n": 5, "effort": 16, "info": {}}), "no file for 'near'"),
    ],
)
def test_manifests_that_do_not_fit(copy: Path, change: Callable[[dict[str, Any]], None], says: str) -> None:
    forge(copy, None, change)
    with pytest.raises(PrismError, match=says):
        Shelf.load(copy)


def test_other_folders_are_left_alone(tmp_path: Path, shelf: Shelf) -> None:
    with pytest.raises(PrismError, match="holds no export"):
        Shelf.load(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(PrismError, match="name another folder"):
        shelf.save(tmp_path)
    (tmp_path / form.MANIFEST).write_text("{}")
    with pytest.raises(PrismError, match="not the manifest of an export"):
        shelf.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [form.MANIFEST, "notes.txt"]


def test_an_earlier_export_is_readable_until_the_new_one_counts(
    copy: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Shelf.load(copy)

    def full(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(io, "write_json", full)
        with pytest.raises(OSError, match="disk full"):
            shelf.forget(["u00000"]).save(copy)
    assert Shelf.load(copy).recommend(["u00000"], 3).equals(before.recommend(["u00000"], 3))
    shelf.forget(["u00000"]).save(copy)
    assert not Shelf.load(copy).knows("u00000")
    assert before.recommend(["u00000"], 3).equals(shelf.recommend(["u00000"], 3))  # what is open stays readable


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_stored_in_fewer_bits(shelf: Shelf, tmp_path: Path, dtype: Any) -> None:
    small = shelf.stored_as(dtype)
    small.save(tmp_path / "small")
    again = Shelf.load(tmp_path / "small")
    assert again.dtype == dtype and again.sides["image"].user is not again.sides["fused"].item
    who = shelf.users.external
    exact, rough = shelf.lists(who, 10).items, again.lists(who, 10)
    assert np.array_equal(rough.items, small.lists(who, 10).items)
    kept = np.mean([len(np.intersect1d(a, b)) for a, b in zip(exact, rough.items, strict=True)]) / 10
    assert kept > 0.97
    error = {"float16": 1e-2, "int8": 0.15}[dtype]
    np.testing.assert_allclose(rough.scores, np.take_along_axis(_scores(shelf, who), rough.items, 1), atol=error)
    with pytest.raises(PrismError, match="more than float16 can"):
        shelf.sides["fused"].item.__class__(np.full((1, 1), 1e6, np.float32)).as_type("float16")


def _scores(shelf: Shelf, who: pl.Series) -> np.ndarray:
    side = shelf.sides["fused"]
    return np.asarray(side.user.take(np.arange(len(who))) @ side.item.take(np.arange(len(shelf.items))).T)


def test_tables_too_large_to_decode_at_once_give_the_same_lists(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shelf.stored_as("int8").save(tmp_path / "m")
    at_once = Shelf.load(tmp_path / "m").lists(shelf.users.external, 9)
    monkeypatch.setattr("prismrec.export.tables._DECODED_AT_ONCE", 10)
    monkeypatch.setattr("prismrec.export.tables._ROWS", 50)
    in_blocks = Shelf.load(tmp_path / "m").lists(shelf.users.external, 9)
    assert np.array_equal(at_once.items, in_blocks.items)


def test_checksums_can_be_left_for_later(copy: Path) -> None:
    path = copy / form.read_manifest(copy).files["tensors"].name
    arrays = dict(tensors.load(path))
    tensors.save(path, {**arrays, "fused.item": arrays["fused.item"] + 1})
    assert load(copy, verify=False).items is not None
    with pytest.raises(PrismError, match="does not match its checksum"):
        load(copy)
