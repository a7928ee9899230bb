"""Standardise, PCA, whiten, unit: against plain computations, fitted on some rows, kept and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prismrec.encode import transform
from prismrec.errors import PrismError
from prismrec.io import load_arrays, save_arrays

RNG = np.random.default_rng(4)
VALUES = (RNG.normal(size=(60, 5)) @ RNG.normal(size=(5, 7)) * 3 + 10).astype(np.float32)  # rank 5
ROWS = np.arange(0, 60, 2)


def through(text: str, values: np.ndarray = VALUES) -> np.ndarray:
    return transform.apply(values, transform.fit(values, ROWS, transform.parse(text)))


def test_standardised_rows_have_mean_0_and_deviation_1() -> None:
    values = np.concatenate([VALUES, np.full((60, 1), 3, np.float32)], axis=1)
    out = through("standardise", values)
    np.testing.assert_allclose(out[ROWS].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(out[ROWS, :7].std(0), 1, rtol=1e-5)
    assert (out[:, 7] == 0).all()  # a column that never changes


def test_pca_keeps_the_directions_of_most_variance() -> None:
    parameters = transform.fit(VALUES, ROWS, transform.parse("pca:3"))
    out = transform.apply(VALUES, parameters)
    centred = VALUES[ROWS].astype(np.float64) - VALUES[ROWS].mean(0, dtype=np.float64)
    _, s, v = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(out[ROWS]), np.abs(centred @ v[:3].T), atol=2e-4)
    np.testing.assert_allclose(parameters["0.pca.share"], (s[:3] ** 2).sum() / (s**2).sum(), rtol=1e-5)


def test_with_fewer_rows_than_columns_it_is_the_same() -> None:
    few = ROWS[:6]
    wide = np.concatenate([VALUES, VALUES[:, ::-1] ** 2], axis=1)
    parameters = transform.fit(wide, few, transform.parse("pca:4"))
    centred = wide[few].astype(np.float64) - wide[few].mean(0, dtype=np.float64)
    _, s, v = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(parameters["0.pca.matrix"]), np.abs(v[:4].T), atol=1e-3)
    np.testing.assert_allclose(parameters["0.pca.variance"], s[:4] ** 2 / 6, rtol=1e-4)


def test_pca_gives_as_many_directions_as_there_are() -> None:
    assert through("pca:128").shape == (60, 5)
    assert through("whiten").shape == (60, 5)
    assert 1 <= through("pca:0.9").shape[1] < 5


def test_whitened_rows_have_the_identity_as_covariance() -> None:
    out = through("whiten")[ROWS].astype(np.float64)
    np.testing.assert_allclose(out.T @ out / len(ROWS), np.eye(5), atol=1e-4)


def test_unit_rows_have_length_1_and_a_row_of_zeros_stays() -> None:
    values = np.concatenate([VALUES, np.zeros((1, 7), np.float32)])
    out = through("unit", values)
    np.testing.assert_allclose(np.linalg.norm(out[:60], axis=1), 1, rtol=1e-6)
    assert (out[60] == 0).all()


def test_other_rows_do_not_move_what_is_fitted() -> None:
    changed = VALUES.copy()
    changed[1::2] *= -100
    a, b = (transform.fit(v, ROWS, transform.parse("standardise,pca:2,unit")) for v in (VALUES, changed))
    assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_parameters_are_kept_and_read_back(tmp_path: Path) -> None:
    parameters = transform.fit(VALUES, ROWS, transform.parse("standardise,pca:3,unit"))
    save_arrays(tmp_path / "t.safetensors", parameters)
    back = load_arrays(tmp_path / "t.safetensors")
    assert np.array_equal(transform.apply(VALUES, back), transform.apply(VALUES, parameters))
    assert transform.written(back) == "standardise,pca:3,unit"


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = transform.fit(VALUES, ROWS, transform.parse("whiten:4"))
    monkeypatch.setattr(transform, "_BLOCK", 7)
    parts = transform.fit(VALUES, ROWS, transform.parse("whiten:4"))
    np.testing.assert_allclose(parts["0.whiten.matrix"], whole["0.whiten.matrix"], rtol=1e-4)
    np.testing.assert_array_equal(transform.transformed(VALUES, whole), transform.apply(VALUES, whole))


def test_float16_is_refused_where_it_overflows() -> None:
    assert transform.transformed(VALUES, {}, "float16").dtype == np.float16
    with pytest.raises(PrismError, match="does not fit into float16"):
        transform.transformed(VALUES * 1e5, {}, "float16")


@pytest.mark.parametrize("text", ["pcaa:3", "pca", "pca:0", "pca:-2", "pca:x", "standardise:3", "whiten:1.5"])
def test_a_chain_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(PrismError):
        transform.parse(text)


def test_too_few_rows_other_widths_and_no_spread_are_refused() -> None:
    steps = transform.parse("pca:2")
    with pytest.raises(PrismError, match="no spread"):
        transform.fit(VALUES, ROWS[:1], steps)
    with pytest.raises(PrismError, match="no direction"):
        transform.fit(np.ones_like(VALUES), ROWS, steps)
    with pytest.raises(PrismError, match="fitted to 7 numbers"):
        transform.apply(VALUES[:, :4], transform.fit(VALUES, ROWS, steps))
    assert transform.parse("none") == transform.parse("") == ()
