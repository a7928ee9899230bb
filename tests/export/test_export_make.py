from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from program import call, dataset

from prismrec.data import store
from prismrec.data.dataset import Modality
from prismrec.errors import PrismError
from prismrec.export import Shelf
from prismrec.export.content import content_of
from prismrec.export.make import export
from prismrec.recommender import Recommender


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder beside its data set."""
    folder = tmp_path_factory.mktemp("made")
    store.save(dataset(n_users=60, n_items=80), folder / "data")
    settings = {"train.epochs": 2, "run.threads": 1, "model.dim": 8}
    Recommender("vbpr", settings=settings).fit(str(folder / "data"), out=folder / "run")
    return folder / "run"


def test_a_run_becomes_an_export(run: Path, tmp_path: Path) -> None:
    said = call("export", run, "-o", tmp_path / "model", "--dtype", "int8", "--threads", 1)
    assert said.status == 0, said.sentence
    assert "vbpr as int8" in said.out and "recall@20" in said.out and "prismrec serve" in said.out
    shelf, index = Shelf.load(tmp_path / "model"), Recommender.load(run).index
    assert shelf.dtype == "int8" and set(shelf.contents) == {"image", "text"} == set(shelf.axes)
    measured = shelf.measured
    assert measured is not None and measured["dtype"] == "int8" and measured["part"] == "valid"
    assert 0.9 < measured["overlap@20"] <= 1
    result = Recommender.load(run)
    assert measured["exact"]["recall@20"] == pytest.approx(result.valid["recall@20"], abs=1e-12)
    assert abs(measured["stored"]["recall@20"] - measured["exact"]["recall@20"]) < 0.05
    assert shelf.info["model"] == "vbpr" and shelf.info["data"] == index.info["data"]
    who = index.users.external
    overlap = shelf.recommend(who, 10).join(index.recommend(who, 10), on=["user", "item"])
    assert len(overlap) > 0.9 * 10 * len(who)


def test_the_test_part_is_never_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prismrec.data.dataset import Interactions

    part = Interactions.part

    def guarded(self: Interactions, *names: str) -> Interactions:
        assert "test" not in names
        return part(self, *names)

    monkeypatch.setattr(Interactions, "part", guarded)
    export(run)


def test_without_its_data_set_a_run_is_exported_all_the_same(run: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copytree(run, tmp_path / "alone"))
    config = alone / "config.yaml"
    config.write_text(config.read_text().replace(str(run.parent / "data"), str(tmp_path / "gone")))
    notes: list[str] = []
    shelf = export(alone, dtype="float16", say=notes.append)
    assert "no recall is measured" in notes[0] and not shelf.contents
    assert shelf.measured is not None and set(shelf.measured) == {"dtype", "overlap@20"}
    again = export(alone, data=run.parent / "data")
    assert again.contents and again.measured is not None and "exact" in again.measured
    other = tmp_path / "other"
    store.save(dataset(n_users=50, n_items=80), other)
    with pytest.raises(PrismError, match="fingerprint"):
        export(alone, data=other)


def test_pictures_by_item_id_and_never_from_elsewhere(run: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "i00003.jpg").write_bytes(b"a picture")
    (tmp_path / "secret.jpg").write_bytes(b"not for you")
    (pictures / "i00004.jpg").symlink_to(tmp_path / "secret.jpg")
    said = call("export", run, "-o", tmp_path / "model", "--pictures", pictures, "--threads", 1)
    assert said.status == 0 and "2 of 80 items have a picture" in said.sentence
    moved = Path(shutil.move(tmp_path / "model", tmp_path / "moved"))
    shelf = Shelf.load(moved)
    assert shelf.picture("i00003") == (pictures / "i00003.jpg").resolve()
    assert shelf.picture("i00004") is None and shelf.picture("i00005") is None
    bad = shelf.item_table.with_columns(picture=np.array(["../secret.jpg"] * 80))
    assert replace(shelf, item_table=bad).picture("i00003") is None
    with pytest.raises(PrismError, match="is not among"):
        shelf.picture("../secret")


def test_what_is_refused_before_anything_is_done(run: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for words, says in (
        ((tmp_path / "nothing", "-o", tmp_path / "m"), "is no run folder"),
        ((run, "-o", tmp_path / "full"), "holds no export; name another folder"),
        ((run, "-o", tmp_path / "m", "--pictures", tmp_path / "none"), "is no folder"),
    ):
        said = call("export", *words)
        assert said.status == 2 and says in said.sentence, said.sentence
    assert not (tmp_path / "m").exists()


def test_content_keeps_cosines_on_its_main_axes() -> None:
    rng = np.random.default_rng(0)
    values = (rng.standard_normal((300, 20)) @ rng.standard_normal((20, 200))).astype(np.float32)
    present = np.ones(300, bool)
    present[5] = False
    values[5] = 0
    content, axes, kept = content_of(Modality(values, present), width=32)
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    mine = content.take(np.arange(300))
    assert content.kind == "float16" and axes.shape == (200, 32) and kept == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(mine @ mine.T, unit @ unit.T, atol=3e-3)
    assert not mine[5].any()
    few, axes, kept = content_of(Modality(values, present), width=4)
    whole = np.linalg.svd(unit, compute_uv=False)
    assert few.width == 4 and kept == pytest.approx((whole[:4] ** 2).sum() / (whole**2).sum(), rel=1e-3)
    np.testing.assert_allclose(axes.T @ axes, np.eye(4), atol=1e-4)
    narrow, axes, kept = content_of(Modality(values[:, :7], present))
    assert narrow.width == 7 and np.array_equal(axes, np.eye(7)) and kept == pytest.approx(1)
