import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prismrec.data.modalities import folder_features, load_array, missing_counts, modality
from prismrec.errors import PrismError


def save(path, array):
    np.save(path, array, allow_pickle=array.dtype == object)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_small_floats_are_memory_mapped_and_stay_as_they_are(tmp_path, dtype):
    values = np.arange(1, 13, dtype=dtype).reshape(4, 3)
    seen = modality(load_array(save(tmp_path / "a.npy", values)), "image", 4)
    assert isinstance(seen.values, np.memmap) and seen.values.dtype == dtype
    assert np.array_equal(seen.values, values) and seen.present.all() and seen.width == 3


def test_other_floats_become_native_float32(tmp_path):
    for dtype in ("float64", ">f4", ">f2"):
        seen = modality(load_array(save(tmp_path / "a.npy", np.ones((2, 3), dtype))), "image", 2)
        assert seen.values.dtype.isnative and seen.values.dtype.itemsize <= 4


def test_zero_rows_are_missing_not_silently_zero():
    values = np.array([[0, 0], [1, 0], [0, -2], [0, 0]], np.float32)
    seen = modality(values, "image", 4)
    assert seen.present.tolist() == [False, True, True, False]
    assert missing_counts({"image": seen, "text": modality(values + 5, "text", 4)}) == {"image": 2}


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 20), st.integers(1, 5)), elements=st.floats(width=32)))
def test_bad_rows_are_refused_or_marked(values):
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        with pytest.raises(
            PrismError, match=rf"'image' hold NaN or Inf in {bad.sum()} of.*first: {np.flatnonzero(bad)[0]}\b"
        ):
            modality(values, "image", len(values))
    before = values.copy()
    seen = modality(values, "image", len(values), nan="missing")
    assert np.isfinite(seen.values).all()
    assert np.array_equal(seen.present, ~bad & (values != 0).any(axis=1))
    assert np.array_equal(seen.values[~bad], values[~bad]) and not seen.values[bad].any()
    assert np.array_equal(values, before, equal_nan=True)


def test_float64_beyond_float32_is_infinite_and_refused():
    with pytest.raises(PrismError, match="NaN or Inf"):
        modality(np.array([[1e300]]), "image", 1)


def test_large_finite_float32_and_float16_pass():
    assert modality(np.full((2, 100), 3e38, np.float32), "a", 2).present.all()
    assert modality(np.full((2, 100), 60000, np.float16), "a", 2).present.all()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.ones((3, 2), np.float32), "3 rows, but the data has 4 items"),
        (np.ones(4, np.float32), r"shape \(4,\)"),
        (np.ones((4, 2), np.int64), "int64"),
        (np.ones((4, 0), np.float32), "no columns"),
    ],
)
def test_features_that_do_not_fit_are_refused(values, said):
    with pytest.raises(PrismError, match=said):
        modality(values, "image", 4)


def test_pickles_truncated_files_and_archives_are_refused(tmp_path):
    save(tmp_path / "object.npy", np.array([{"a": 1}], dtype=object))
    whole = io.BytesIO()
    np.save(whole, np.ones((100, 10)))
    (tmp_path / "short.npy").write_bytes(whole.getvalue()[:-100])
    (tmp_path / "text.npy").write_text("not an array")
    (tmp_path / "empty.npy").write_bytes(b"")
    np.savez(tmp_path / "archive.npz", a=np.ones(3))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    assert zipfile.is_zipfile(tmp_path / "archive.npy")
    for name in ("object", "short", "text", "empty", "archive", "absent"):
        with pytest.raises(PrismError, match=f"{name}.npy"):
            load_array(tmp_path / f"{name}.npy")


def test_any_number_of_named_modalities_in_a_folder(tmp_path):
    assert folder_features(tmp_path, 3) == {}
    for name in ("video_clip", "audio", "image"):
        save(tmp_path / f"{name}_feat.npy", np.ones((3, 2), np.float32))
    assert list(folder_features(tmp_path, 3)) == ["audio", "image", "video_clip"]
