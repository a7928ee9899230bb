from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from prismrec.data.dataset import Dataset, Interactions
from prismrec.data.ids import IdMap
from prismrec.errors import PrismError
from prismrec.evaluate import PROTOCOLS, Evaluation, Evaluator
from prismrec.external import evaluate_external
from prismrec.index import Index
from prismrec.types import Reps, Rows

N_USERS, N_ITEMS = 12, 30
METRICS = ["recall@5", "ndcg@5", "coverage@5"]


@pytest.fixture
def data() -> Dataset:
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, N_USERS, 90), rng.integers(0, N_ITEMS, 90)
    return Dataset(
        "toy",
        IdMap(pl.Series([f"0{i}" for i in range(N_USERS)]), "user"),  # text that looks like numbers
        IdMap(pl.Series(np.arange(N_ITEMS) + 100)),
        Interactions(user.astype(np.int32), item.astype(np.int32), rng.integers(0, 3, 90).astype(np.int8)),
    )


@pytest.fixture
def reps() -> Reps:
    generator = torch.Generator().manual_seed(0)
    return Reps(torch.randn(N_USERS, 4, generator=generator), Rows(torch.randn(N_ITEMS, 4, generator=generator)))


@pytest.fixture
def ours(data: Dataset, reps: Reps) -> Evaluation:
    return Evaluator.of(data, "test", metrics=METRICS).evaluate(reps)


def arrays(reps: Reps) -> dict[str, np.ndarray]:
    return {"user": reps.user.numpy(), "item": reps.item.values.numpy()}


def test_embeddings_in_any_file_score_as_ours_do(data: Dataset, reps: Reps, ours: Evaluation, tmp_path: Path) -> None:
    save_file({name: torch.from_numpy(a) for name, a in arrays(reps).items()}, tmp_path / "reps.safetensors")
    np.savez(tmp_path / "reps.npz", **arrays(reps))  # type: ignore[arg-type]
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, array in arrays(reps).items():
        np.save(folder / f"{name}.npy", array)
    for path in (tmp_path / "reps.safetensors", tmp_path / "reps.npz", folder):
        result = evaluate_external(path, data, "test", metrics=METRICS)
        assert result.evaluation.mean == ours.mean
        assert result.evaluation.per_user.equals(ours.per_user)
        assert result.notes == ()


def test_rows_are_found_by_their_ids(data: Dataset, reps: Reps, ours: Evaluation, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    users, items = rng.permutation(N_USERS), rng.permutation(N_ITEMS)
    stranger = np.ones((1, 4), np.float32)
    np.savez(
        tmp_path / "reps.npz",
        user=reps.user.numpy()[users],
        user_ids=data.users.decode(users).to_numpy().astype(str),
        item=np.concatenate([stranger, reps.item.values.numpy()[items]]),
        item_ids=np.concatenate([[7], items + 100]),
    )
    result = evaluate_external(tmp_path / "reps.npz", data, "test", metrics=METRICS)
    assert result.evaluation.mean == ours.mean
    assert result.notes == ("1 items of the file are not in the data and were left out.",)


def test_lists_score_as_the_embeddings_behind_them(data: Dataset, reps: Reps, ours: Evaluation, tmp_path: Path) -> None:
    index = Index.of(reps, data, parts=())
    lists = index.recommend(data.users.external, N_ITEMS)
    shuffled = lists.sample(fraction=1, shuffle=True, seed=0)
    shuffled.write_parquet(tmp_path / "both.parquet")
    shuffled.drop("rank").write_parquet(tmp_path / "score.parquet")
    shuffled.drop("score").write_csv(tmp_path / "rank.csv")
    lists.drop("score", "rank").write_csv(tmp_path / "order.tsv", separator="\t")
    for name in ("both.parquet", "score.parquet", "rank.csv", "order.tsv"):
        result = evaluate_external(tmp_path / name, data, "test", metrics=METRICS)
        assert result.evaluation.mean == ours.mean
        assert len(result.notes) == 1
        assert "masked by the protocol" in result.notes[0]


def test_the_protocol_decides_what_is_masked(data: Dataset, reps: Reps, tmp_path: Path) -> None:
    np.savez(tmp_path / "reps.npz", **arrays(reps))  # type: ignore[arg-type]
    for rules in PROTOCOLS.values():
        expected = Evaluator.of(data, "test", rules, METRICS)(reps)
        assert evaluate_external(tmp_path / "reps.npz", data, "test", rules, METRICS).evaluation.mean == expected


def test_what_lists_lack_is_said(data: Dataset, tmp_path: Path) -> None:
    evaluator = Evaluator.of(data, "test", metrics=["hitrate@3"])
    user = int(evaluator.users[0])
    test = data.interactions.part("test")
    hit = int(test.item[test.user == user][0]) + 100
    table = pl.DataFrame({"user": [f"0{user}"], "item": [hit], "score": [0.5]})
    table.write_parquet(tmp_path / "one.parquet")
    result = evaluate_external(tmp_path / "one.parquet", data, "test", metrics=["hitrate@3"])
    n = len(evaluator.users)
    assert result.evaluation.mean["hitrate@3"] == pytest.approx(1 / n)
    assert result.notes[0].startswith(f"{n - 1} of {n} users have no list")
    assert result.notes[1].startswith("1 lists have fewer than 3 items")


def lists(**columns: list[object]) -> pl.DataFrame:
    return pl.DataFrame({"user": ["00", "00"], "item": [100, 101], "score": [1.0, 2.0]} | columns)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (lists(user=["00", "nobody"]), "user 'nobody' is not among"),
        (lists(item=[100, 999]), "item 999 is not among"),
        (lists(item=[100, 100]), "lists item 100 more than once for user '00'"),
        (lists(score=[1.0, float("nan")]), "'score' of .* holds nan"),
        (lists(score=["high", "2"]), "'score' of .* holds 'high'"),
        (lists(item=[100, None]), "'item' of .* has 1 empty cells"),
        (lists().rename({"user": "usr"}), "no column 'user'. Did you mean 'usr'"),
    ],
)
def test_lists_that_are_wrong(data: Dataset, table: pl.DataFrame, expected: str, tmp_path: Path) -> None:
    table.write_parquet(tmp_path / "lists.parquet")
    with pytest.raises(PrismError, match=expected):
        evaluate_external(tmp_path / "lists.parquet", data)


def broken(reps: Reps, name: str, change: np.ndarray) -> dict[str, np.ndarray]:
    return arrays(reps) | {name: change}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"user": np.ones((3, 4))}, "'user' in .* has 3 rows, but the data has 12 users"),
        ({"item": np.ones((N_ITEMS, 5))}, "users have 4 numbers and items 5"),
        ({"item": np.ones(N_ITEMS)}, "expected a matrix of numbers"),
        ({"item": np.full((N_ITEMS, 4), np.nan)}, "NaN or infinite numbers in 30 rows, the first is row 0"),
        ({"item_ids": np.arange(N_ITEMS) + 101}, "no row for 1 of 30 items, the first is 100"),
        ({"item_ids": np.arange(3)}, "one id for each of 30 rows"),
    ],
)
def test_embeddings_that_are_wrong(
    data: Dataset, reps: Reps, change: dict[str, np.ndarray], expected: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "reps.npz", **(arrays(reps) | change))  # type: ignore[arg-type]
    with pytest.raises(PrismError, match=expected):
        evaluate_external(tmp_path / "reps.npz", data, metrics=METRICS)


def test_an_id_twice_among_embeddings(data: Dataset, reps: Reps, tmp_path: Path) -> None:
    user = np.concatenate([reps.user.numpy(), reps.user.numpy()[:1]])
    names = np.array([f"0{i}" for i in [*range(N_USERS), 0]])
    np.savez(tmp_path / "reps.npz", user=user, user_ids=names, item=reps.item.values.numpy())
    with pytest.raises(PrismError, match="names 1 users more than once"):
        evaluate_external(tmp_path / "reps.npz", data, metrics=METRICS)


def test_files_that_cannot_be_read(data: Dataset, reps: Reps, tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", user=np.array([{"a": 1}], object), item=np.ones((2, 2)))
    (tmp_path / "reps.pkl").write_bytes(pickle.dumps(arrays(reps)))
    (tmp_path / "hidden.safetensors").write_bytes(pickle.dumps(arrays(reps)))
    (tmp_path / "hidden.npz").write_bytes(pickle.dumps(arrays(reps)))
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "whole.npz", **arrays(reps))  # type: ignore[arg-type]
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:200])
    np.savez(tmp_path / "names.npz", users=np.ones((2, 2)), item=np.ones((2, 2)))
    for name, expected in {
        "objects.npz": "pickles are never opened",
        "reps.pkl": "unknown suffix.*Pickles are never opened",
        "hidden.safetensors": "pickle",
        "hidden.npz": "pickles are never opened",
        "empty": r"lacks user.npy or item.npy",
        "cut.npz": "not a whole .npz archive",
        "names.npz": "no array 'user'. Did you mean 'users'",
        "absent.npz": "There is no file",
        "absent.csv": "There is no file",
        "absent.safetensors": "does not exist",
    }.items():
        with pytest.raises(PrismError, match=expected):
            evaluate_external(tmp_path / name, data, metrics=METRICS)
