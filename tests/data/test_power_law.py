"""Drawing of any size: the same bytes from a seed, power laws, a taste to learn, memory by blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from program import call

from prismrec.data import power_law
from prismrec.data.power_law import PowerLaw, rows, write
from prismrec.data.sources import read
from prismrec.errors import PrismError

SPEC = PowerLaw(400, 100, 6000, {"image": 5}, groups=4, seed=3)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power_law, "BLOCK", 2500)
    monkeypatch.setattr(power_law, "_FEATURES", 30)


@pytest.mark.usefixtures("small_blocks")
def test_what_is_written_is_read_like_any_log(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    write(SPEC, tmp_path / "raw", lambda *what: told.append(what))
    assert [p.name for p in sorted((tmp_path / "raw").glob("interactions.*"))] == [
        f"interactions.{n}.parquet" for n in range(3)
    ]
    data = read(tmp_path / "raw")
    assert (len(data.interactions), data.n_items) == (6000, 100)
    assert data.n_users <= 400
    times = data.interactions.timestamp
    assert times is not None and (np.diff(times) >= 0).all()
    assert data.modalities["image"].values.shape == (100, 5)
    assert told[-1] == ("features of image", 100, 100) and ("interactions", 6000, 6000) in told


@pytest.mark.usefixtures("small_blocks")
def test_a_drawing_that_was_cut_short_ends_in_the_same_bytes(tmp_path: Path) -> None:
    whole, cut = write(SPEC, tmp_path / "whole"), write(SPEC, tmp_path / "cut")
    kept = (cut / "interactions.0.parquet").stat().st_mtime_ns
    for name in ("interactions.1.parquet", "image_feat.npy"):
        (cut / name).unlink()
    (cut / "interactions.1.parquet.7.part").write_bytes(b"half")
    write(SPEC, cut)
    assert {p.name: p.read_bytes() for p in cut.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}
    assert (cut / "interactions.0.parquet").stat().st_mtime_ns == kept
    with pytest.raises(PrismError, match="no part of this very drawing"):
        write(replace(SPEC, seed=4), cut)


def test_popularity_follows_a_power_law() -> None:
    drawn = rows(PowerLaw(1000, 500, 200_000, user_skew=0.0, item_skew=0.7, loyalty=0.0), 0)
    counts = np.sort(np.bincount(drawn["item"], minlength=500))[::-1]
    # the share of the first n of N ranks is (n / N)^(1 - skew)
    assert counts[:50].sum() / counts.sum() == pytest.approx(0.1**0.3, rel=0.02)
    users = np.bincount(drawn["user"], minlength=1000)
    assert users.std() == pytest.approx(np.sqrt(200), rel=0.15)  # uniform: Poisson


def test_features_tell_what_a_user_takes(tmp_path: Path) -> None:
    spec = PowerLaw(200, 100, 20_000, {"image": 16}, groups=5, loyalty=1.0, noise=0.1)
    data = read(write(spec, tmp_path))
    values = data.modalities["image"].values
    first = {user: values[item] for user, item in zip(data.interactions.user, data.interactions.item, strict=True)}
    apart = [
        np.linalg.norm(first[user] - values[item])
        for user, item in zip(data.interactions.user, data.interactions.item, strict=True)
    ]
    others = np.linalg.norm(values[:, None] - values[None], axis=2)
    assert np.mean(apart) < 0.75 * np.mean(others)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("users", 0, "0 users"),
        ("item_skew", 1.0, "skew of items is 1"),
        ("loyalty", 2.0, "loyalty is 2"),
        ("features", {"image": 0}, "0 wide"),
        ("groups", 0, "0 groups"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path: Path, field: str, value: object, said: str) -> None:
    with pytest.raises(PrismError, match=said):
        write(replace(SPEC, **{field: value}), tmp_path)  # type: ignore[arg-type]


def test_the_smallest_one_can_be_drawn() -> None:
    assert rows(PowerLaw(1, 1, 3), 0).select("user", "item").rows() == [(0, 0)] * 3


def test_the_command(tmp_path: Path) -> None:
    folder = str(tmp_path / "raw")
    sizes = ("--users", "50", "--items", "20", "--interactions", "900", "--feature", "image=4")
    assert call("data", "draw", *sizes, "-o", folder).status == 0
    assert pl.read_parquet(tmp_path / "raw" / "interactions.0.parquet").height == 900
    said = call("data", "draw", "--feature", "image", "-o", folder)
    assert said.status != 0 and "MODALITY=WIDTH" in said.err
