from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from prismrec.data.dataset import Dataset, Interactions
from prismrec.data.ids import IdMap
from prismrec.errors import PrismError
from prismrec.index import Index
from prismrec.ranking import Csr
from prismrec.types import Reps, Rows

N_USERS, N_ITEMS = 6, 8


@pytest.fixture
def data() -> Dataset:
    rng = np.random.default_rng(0)
    user, item = np.repeat(np.arange(N_USERS), 3), rng.integers(0, N_ITEMS, 3 * N_USERS)
    split = np.tile([0, 1, 2], N_USERS)
    table = pl.DataFrame({"item": np.arange(N_ITEMS) * 10, "title": [f"title {i}" for i in range(N_ITEMS)]})
    return Dataset(
        "toy",
        IdMap(pl.Series([f"u{i}" for i in range(N_USERS)]), "user"),
        IdMap(table["item"]),
        Interactions(user.astype(np.int32), item.astype(np.int32), split.astype(np.int8)),
        item_table=table,
    )


@pytest.fixture
def reps() -> Reps:
    generator = torch.Generator().manual_seed(0)
    user, item, visual = (torch.randn(n, 4, generator=generator) for n in (N_USERS, N_ITEMS, N_ITEMS))
    return Reps(user, Rows(item), modal={"visual": (user, Rows(visual))})


@pytest.fixture
def index(data: Dataset, reps: Reps) -> Index:
    return Index.of(reps, data, info={"model": "toy"})


def sparse_sides(data: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of the training matrix and dense weights of items, as the closed-form floors state them."""
    train = data.interactions.part("train")
    matrix = Csr.of(train.user, train.item, N_USERS).tensor(N_ITEMS)
    weights = torch.rand(N_ITEMS, N_ITEMS, generator=torch.Generator().manual_seed(3))
    return matrix, weights


def packed(dense: torch.Tensor) -> torch.Tensor:
    row, column = dense.nonzero(as_tuple=True)
    rows = Csr.of(row.numpy(), column.numpy(), len(dense))
    return Csr(rows.indptr, rows.indices, dense[rows.row, rows.indices]).tensor(dense.shape[1])


def test_recommended_are_the_best_unseen_items(index: Index, data: Dataset, reps: Reps) -> None:
    scores = reps.user @ reps.item.values.T
    table = index.recommend(["u4", "u1"], 3)
    assert table.columns == ["user", "rank", "item", "score", "title"]
    for user, position in (("u4", 4), ("u1", 1)):
        seen = set(data.interactions.item[data.interactions.user == position].tolist())
        expected = [i for i in scores[position].argsort(descending=True).tolist() if i not in seen][:3]
        mine = table.filter(pl.col("user") == user)
        assert mine["item"].to_list() == [10 * i for i in expected]
        assert mine["rank"].to_list() == [1, 2, 3]
        assert mine["title"].to_list() == [f"title {i}" for i in expected]
        np.testing.assert_allclose(mine["score"].to_numpy(), scores[position, expected].numpy(), rtol=1e-5)
    assert table["user"].unique(maintain_order=True).to_list() == ["u4", "u1"]


def test_seen_items_come_back_when_asked_for(index: Index, reps: Reps) -> None:
    table = index.recommend(["u0"], N_ITEMS, exclude_seen=False)
    order = (reps.user[0] @ reps.item.values.T).argsort(descending=True)
    assert table["item"].to_list() == (order * 10).tolist()
    assert len(index.recommend(["u0"], N_ITEMS)) < N_ITEMS


def test_only_the_named_parts_count_as_seen(data: Dataset, reps: Reps) -> None:
    train = data.interactions.part("train")
    index = Index.of(reps, data, parts=("train",))
    assert index.seen.indices.tolist() == train.item[np.argsort(train.user, kind="stable")].tolist()


def test_everybody_in_blocks(index: Index) -> None:
    whole = index.recommend([f"u{i}" for i in range(N_USERS)], 3)
    blocks = list(index.recommend_all(3, block=4))
    assert [len(block["user"].unique()) for block in blocks] == [4, 2]
    assert pl.concat(blocks).equals(whole)


def test_one_modality_alone(index: Index, reps: Reps) -> None:
    assert index.modalities == ("visual",)
    side = reps.modal["visual"][1].values
    best = (reps.user[2] @ side.T).argsort(descending=True)
    assert (
        index.recommend(["u2"], N_ITEMS, exclude_seen=False, modality="visual")["item"].to_list()
        == (best * 10).tolist()
    )
    unit = torch.nn.functional.normalize(side, dim=1)
    near = [i for i in (unit[3] @ unit.T).argsort(descending=True).tolist() if i != 3][:2]
    table = index.similar([30], 2, modality="visual")
    assert table.columns == ["item", "rank", "similar", "score", "title"]
    assert table["similar"].to_list() == [10 * i for i in near]
    assert table["title"].to_list() == [f"title {i}" for i in near]


def test_similar_is_a_cosine_and_leaves_out_the_item_itself(data: Dataset) -> None:
    item = torch.tensor(
        [[1.0, 0.0], [5.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [3.0, 1.0], [0.0, 2.0]]
    )
    index = Index.of(Reps(torch.ones(N_USERS, 2), Rows(item)), data)
    table = index.similar([0, 50], N_ITEMS - 1)
    first, zero = table.filter(pl.col("item") == 0), table.filter(pl.col("item") == 50)
    assert first["similar"].to_list() == [10, 60, 40, 20, 50, 70, 30]
    assert first["score"][0] == pytest.approx(1)
    assert first["score"][-1] == pytest.approx(-1)
    assert zero["score"].to_list() == [0.0] * 7
    assert zero["similar"].to_list() == [0, 10, 20, 30, 40, 60, 70]


def test_scores_of_pairs(index: Index, reps: Reps) -> None:
    table = index.scores(["u1", "u1", "u5"], [20, 0, 70])
    expected = reps.score(torch.tensor([1, 1, 5]), torch.tensor([2, 0, 7]))
    assert table["user"].to_list() == ["u1", "u1", "u5"]
    assert table["item"].to_list() == [20, 0, 70]
    np.testing.assert_allclose(table["score"].to_numpy(), expected.numpy(), rtol=1e-6)
    visual = index.scores(["u1"], [20], modality="visual")["score"][0]
    assert visual == pytest.approx(float(reps.score(torch.tensor([1]), torch.tensor([2]), "visual")))


@pytest.mark.parametrize("item_is_sparse", [False, True])
def test_users_that_are_rows_of_the_training_matrix(data: Dataset, item_is_sparse: bool, tmp_path: Path) -> None:
    matrix, weights = sparse_sides(data)
    weights = weights * (weights > 0.4)
    dense_scores = matrix.to_dense() @ weights.T
    index = Index.of(Reps(matrix, Rows(packed(weights) if item_is_sparse else weights)), data)
    index.save(tmp_path / "index")
    for one in (index, Index.load(tmp_path / "index")):
        table = one.recommend(["u3"], 3, exclude_seen=False)
        values, best = dense_scores[3].sort(descending=True, stable=True)
        assert table["item"].to_list() == (best[:3] * 10).tolist()
        np.testing.assert_allclose(table["score"].to_numpy(), values[:3].numpy(), rtol=1e-6)
        pair = one.scores(["u3", "u0"], [20, 50])
        np.testing.assert_allclose(pair["score"].to_numpy(), dense_scores[[3, 0], [2, 5]].numpy(), rtol=1e-6)
        similar = one.similar([20], 2)  # what having taken item 2 adds to the scores of others
        adds = weights[:, 2].clone()
        adds[2] = -1
        assert similar["similar"].to_list() == (adds.argsort(descending=True)[:2] * 10).tolist()


def test_nobody_asked_for(index: Index) -> None:
    assert index.recommend([], 3).columns == ["user", "rank", "item", "score", "title"]
    assert len(index.scores([], [])) == 0


def test_an_index_keeps_copies_of_its_own(data: Dataset, reps: Reps) -> None:
    index = Index.of(reps, data)
    before = index.recommend(["u0"], 3)
    reps.user.zero_()
    assert index.recommend(["u0"], 3).equals(before)


@pytest.mark.parametrize("k", [0, -1, N_ITEMS + 1])
def test_a_number_of_items_that_cannot_be_listed(index: Index, k: int) -> None:
    with pytest.raises(PrismError, match=f"k is {k}, but the catalogue has 8 items"):
        index.recommend(["u0"], k)
    with pytest.raises(PrismError, match="7 others"):
        index.similar([0], N_ITEMS if k > 0 else k)


def test_unknown_names_are_named(index: Index, data: Dataset, reps: Reps) -> None:
    with pytest.raises(PrismError, match="user 'u9' is not among the 6 known users"):
        index.recommend(["u0", "u9"], 2)
    with pytest.raises(PrismError, match="item 75 is not among"):
        index.similar([75], 2)
    with pytest.raises(PrismError, match="Did you mean 'visual'"):
        index.recommend(["u0"], 2, modality="visaul")
    with pytest.raises(PrismError, match="no sides by modality"):
        Index.of(Reps(reps.user, reps.item), data).similar([0], 2, modality="visual")
    with pytest.raises(PrismError, match=r"a list of users, such as \['u0'\]"):
        index.recommend("u0", 2)
    with pytest.raises(PrismError, match="2 users and 1 items"):
        index.scores(["u0", "u1"], [0])


def test_saved_and_loaded(index: Index, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "index"
    index.save(folder)
    loaded = Index.load(folder)
    assert loaded.info == index.info
    assert loaded.info["model"] == "toy"
    assert loaded.sides["fused"][0] is loaded.sides["visual"][0]  # stored once
    for modality in (None, "visual"):
        assert loaded.recommend(["u1"], 3, modality=modality).equals(index.recommend(["u1"], 3, modality=modality))
        assert loaded.similar([0], 3, modality=modality).equals(index.similar([0], 3, modality=modality))
    loaded.save(folder)
    assert len(list(folder.iterdir())) == 4
    assert Index.load(folder).recommend(["u1"], 3).equals(index.recommend(["u1"], 3))


def test_an_interrupted_save_leaves_the_earlier_index(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.save(tmp_path)
    before = index.recommend(["u1"], 3)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("prismrec.index.io.write_json", full_disk)
    other = Index(index.sides, index.users, index.items, Csr.empty(N_USERS))
    with pytest.raises(OSError, match="No space"):
        other.save(tmp_path)
    assert Index.load(tmp_path).recommend(["u1"], 3).equals(before)


def files(folder: Path) -> dict[str, Path]:
    return {path.name.split(".")[0]: path for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["reps", "users", "items"])
@pytest.mark.parametrize("harm", ["cut", "changed", "gone"])
def test_harmed_files_are_refused(index: Index, tmp_path: Path, kind: str, harm: str) -> None:
    index.save(tmp_path)
    path = files(tmp_path)[kind]
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-8] if harm == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(PrismError, match=r"checksum|does not exist|not a whole"):
        Index.load(tmp_path)


def test_a_pickle_is_refused(index: Index, tmp_path: Path) -> None:
    index.save(tmp_path)
    files(tmp_path)["reps"].write_bytes(pickle.dumps({"fused.user": 1}))
    with pytest.raises(PrismError, match="pickle"):
        Index.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": 99}, "has format 99, this version of PrismRec reads format 1"),
        ({"users": "many"}, "not the manifest of an index: users"),
        ({"files": {}}, "names no file for 'reps'"),
        ({"files": {"reps": ["../reps.safetensors", "0"]}}, "names no file for 'reps' in its folder"),
        ({"sides": {"fused": ["fused.user", "nothing"]}}, "'nothing'"),
    ],
)
def test_a_manifest_that_was_changed(index: Index, tmp_path: Path, change: dict[str, object], expected: str) -> None:
    index.save(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(PrismError, match=expected):
        Index.load(tmp_path)


def test_no_index_there(tmp_path: Path) -> None:
    with pytest.raises(PrismError, match="does not exist"):
        Index.load(tmp_path)
