from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prismrec import evaluate as ev
from prismrec.data.dataset import Dataset, Interactions
from prismrec.data.ids import IdMap
from prismrec.errors import PrismError
from prismrec.evaluate import PROTOCOLS, Evaluator
from prismrec.metrics import Popularity
from prismrec.ranking import Csr, Ranked
from prismrec.types import Reps, Rows

SIX = ("recall", "ndcg", "precision", "map", "mrr", "hitrate")


def dataset(rows: list[tuple[int, int, int]], n_users: int, n_items: int) -> Dataset:
    """From (user, item, code of the part)."""
    user, item, split = (np.array(column) for column in zip(*rows, strict=True))
    table = Interactions(user.astype(np.int32), item.astype(np.int32), split.astype(np.int8))
    users = IdMap(pl.Series([f"u{i}" for i in range(n_users)]), "user")
    items = IdMap(pl.Series([f"i{i}" for i in range(n_items)]), "item")
    return Dataset("toy", users, items, table)


def random_dataset(seed: int, n_users: int = 20, n_items: int = 15, n: int = 120) -> Dataset:
    rng = np.random.default_rng(seed)
    rows = zip(
        rng.integers(0, n_users, n).tolist(),
        rng.integers(0, n_items, n).tolist(),
        rng.integers(0, 3, n).tolist(),
        strict=True,
    )
    return dataset([*rows, (0, 0, 0), (0, 1, 1), (0, 2, 2)], n_users, n_items)


def random_reps(data: Dataset, seed: int) -> Reps:
    rng = np.random.default_rng(seed)
    user = torch.from_numpy(rng.integers(-2, 3, (data.n_users, 3)).astype(np.float32))
    item = torch.from_numpy(rng.integers(-2, 3, (data.n_items, 3)).astype(np.float32))
    return Reps(user, Rows(item))


def naive(reps: Reps, data: Dataset, part: str, masks: tuple[str, ...], k: int) -> dict[int, dict[str, float]]:
    """Users with a target, one after the other: the whole evaluation as a textbook would write it."""
    scores = (reps.user @ reps.item.values.T).tolist()
    target, known = data.interactions.part(part), data.interactions.part(*masks)
    values = {}
    for user in range(data.n_users):
        wanted = set(target.item[target.user == user].tolist())
        hidden = set(known.item[known.user == user].tolist())
        if not wanted:
            continue
        order = sorted((-score, item) for item, score in enumerate(scores[user]) if item not in hidden)
        hit = [item in wanted for _, item in order[:k]]
        ranks = [rank for rank, found in enumerate(hit, 1) if found]
        possible = min(len(wanted), k)
        values[user] = {
            "recall": len(ranks) / len(wanted),
            "precision": len(ranks) / k,
            "hitrate": float(bool(ranks)),
            "mrr": 1 / ranks[0] if ranks else 0.0,
            "map": sum((nth + 1) / rank for nth, rank in enumerate(ranks)) / possible,
            "ndcg": sum(1 / math.log2(r + 1) for r in ranks) / sum(1 / math.log2(r + 2) for r in range(possible)),
        }
    return values


@settings(max_examples=40)
@given(
    st.integers(0, 2**31),
    st.sampled_from(["default", "mmrec"]),
    st.sampled_from(["valid", "test"]),
    st.sampled_from([1, 3, 10, 30]),
)
def test_an_evaluation_is_that_of_a_naive_loop(seed: int, protocol: str, part: str, k: int) -> None:
    data = random_dataset(seed)
    reps = random_reps(data, seed + 1)
    rules = PROTOCOLS[protocol]
    result = Evaluator.of(data, part, rules, [f"{name}@{k}" for name in SIX]).evaluate(reps)
    expected = naive(reps, data, part, rules.masks[part], k)
    assert result.per_user["user"].to_list() == sorted(expected)
    for name in SIX:
        column = f"{name}@{k}"
        by_hand = [expected[user][name] for user in sorted(expected)]
        np.testing.assert_allclose(result.per_user[column].to_numpy(), by_hand, rtol=1e-12)
        assert result.mean[column] == pytest.approx(float(np.mean(by_hand)), rel=1e-12)


def test_protocols_differ_in_the_validation_items_at_test() -> None:
    data = dataset([(0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 2, 0), (1, 1, 2)], 2, 4)
    reps = Reps(torch.ones(2, 1), Rows(torch.tensor([[4.0], [3.0], [2.0], [1.0]])))
    lists = {
        name: Evaluator.of(data, "test", PROTOCOLS[name], ["recall@2"]).rank(reps).items.tolist() for name in PROTOCOLS
    }
    assert lists == {"default": [[2, 3], [0, 1]], "mmrec": [[1, 2], [0, 1]]}
    valid = Evaluator.of(data, "valid", PROTOCOLS["default"], ["recall@2"])
    assert valid.users.tolist() == [0]
    assert valid.rank(reps).items.tolist() == [[1, 2]]


def test_what_protocols_say_of_stopping() -> None:
    for rules in PROTOCOLS.values():
        assert (rules.metric, rules.patience) == ("recall@20", 20)
    assert ev.protocol("mmrec") is PROTOCOLS["mmrec"]
    with pytest.raises(PrismError, match="Did you mean 'mmrec'"):
        ev.protocol("mrec")


def test_a_target_given_twice_counts_once() -> None:
    once = dataset([(0, 0, 0), (0, 1, 2), (1, 2, 2)], 2, 3)
    twice = dataset([(0, 0, 0), (0, 1, 2), (0, 1, 2), (1, 2, 2)], 2, 3)
    reps = random_reps(once, 0)
    first, second = (Evaluator.of(data, "test").evaluate(reps) for data in (once, twice))
    assert first.per_user.equals(second.per_user)
    assert second.per_user["n_relevant"].to_list() == [1, 1]


def test_users_without_a_target_are_not_counted_and_masked_targets_are() -> None:
    data = dataset([(0, 0, 0), (2, 1, 2), (2, 2, 2), (2, 1, 0)], 4, 3)
    result = Evaluator.of(data, "test", metrics=["recall@3"]).evaluate(random_reps(data, 0))
    assert result.per_user.to_dict(as_series=False) == {"user": [2], "n_relevant": [2], "recall@3": [0.5]}


def test_calling_gives_the_means_of_evaluating() -> None:
    data = random_dataset(3)
    reps = random_reps(data, 4)
    evaluator = Evaluator.of(data, "valid", metrics=[*ev.METRICS, *ev.LIST_METRICS])
    result = evaluator.evaluate(reps)
    assert evaluator(reps) == result.mean
    assert list(result.mean) == [str(metric) for metric in evaluator.metrics]
    assert {"coverage@20", "gini@20"} & set(result.per_user.columns) == set()
    for column in result.per_user.columns[2:]:
        assert result.mean[column] == result.per_user[column].to_numpy().mean()
    assert evaluator(reps) == evaluator(reps)


def test_sparse_representations_score_as_dense_ones() -> None:
    data = random_dataset(5)
    train = data.interactions.part("train")
    rows = Csr.of(train.user, train.item, data.n_users).tensor(data.n_items)
    weights = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (data.n_items, data.n_items))).float()
    evaluator = Evaluator.of(data, "test", metrics=["ndcg@5", "coverage@5"])
    assert len(evaluator.users) < data.n_users  # some are left out, so that rows are picked
    dense = evaluator(Reps(rows.to_dense(), Rows(weights)))
    place = weights.nonzero(as_tuple=True)
    packed = Csr.of(place[0].numpy(), place[1].numpy(), data.n_items)
    sparse_weights = Csr(packed.indptr, packed.indices, weights[packed.row, packed.indices]).tensor(data.n_items)
    assert evaluator(Reps(rows, Rows(weights))) == dense
    assert evaluator(Reps(rows, Rows(sparse_weights))) == dense


def test_the_function_evaluates_what_the_class_does() -> None:
    data = random_dataset(6)
    reps = random_reps(data, 7)
    target, seen = data.interactions.part("test"), ev.seen_for(data, "test", PROTOCOLS["default"])
    result = ev.evaluate(reps, target, seen, ["recall@5", "novelty@5"], ev.training_popularity(data))
    assert result.mean == Evaluator.of(data, "test", metrics=["recall@5", "novelty@5"])(reps)


def test_lists_from_elsewhere() -> None:
    data = dataset([(0, 0, 0), (0, 1, 2), (1, 2, 2)], 2, 4)
    evaluator = Evaluator.of(data, "test", metrics=["mrr@2"])
    lists = Ranked(torch.tensor([[3, 1], [2, -1]]), torch.zeros(2, 2))
    assert evaluator.evaluate_lists(lists).per_user["mrr@2"].to_list() == [0.5, 1.0]


def test_a_part_without_rows_is_refused() -> None:
    with pytest.raises(PrismError, match="no interactions"):
        Evaluator.of(dataset([(0, 0, 0)], 1, 2), "valid")


def test_a_model_that_diverged_is_refused() -> None:
    data = random_dataset(8)
    reps = random_reps(data, 8)
    broken: Tensor = torch.where(reps.user == 2, torch.nan, reps.user)
    with pytest.raises(PrismError, match="NaN"):
        Evaluator.of(data, "valid")(Reps(broken, reps.item))


def test_groups_of_users_and_of_targets() -> None:
    data = dataset(
        [(0, 0, 0), (1, 0, 0), (1, 1, 0), (2, 0, 0), (2, 1, 0), (2, 2, 0), (0, 3, 2), (1, 3, 2), (2, 4, 2), (1, 2, 2)],
        3,
        5,
    )
    reps = Reps(torch.ones(3, 1), Rows(torch.tensor([[1.0], [1.0], [2.0], [4.0], [3.0]])))
    evaluator = Evaluator.of(data, "test", metrics=["recall@1"])
    per_user = evaluator.evaluate(reps).per_user
    assert per_user["recall@1"].to_list() == [1.0, 0.5, 0.0]
    activity = ev.user_activity(data, n_groups=3)
    assert ev.by_group(per_user, activity).to_dict(as_series=False) == {
        "group": ["1 training items", "2 training items", "3 training items"],
        "users": [1, 1, 1],
        "recall@1": [1.0, 0.5, 0.0],
    }
    popularity = ev.target_popularity(data, "test", n_groups=2)
    assert popularity.to_dict(as_series=False) == {
        "user": [0, 2, 1],
        "group": ["0 training users per target"] * 2 + ["0.5 training users per target"],
    }
    cold = ev.by_group(per_user, ev.cold_targets(data, "test"))
    assert cold.to_dict(as_series=False) == {
        "group": ["all targets cold", "some targets cold"], "users": [2, 1], "recall@1": [0.5, 0.5]
    }  # fmt: skip


def test_popularity_on_real_data(shared_data: Path) -> None:
    """The reference figure of the data's own notes: popularity reaches recall@20 0.0495 on Baby, training items masked."""
    rows = pl.read_csv(shared_data / "baby" / "baby.inter", separator="\t")
    user, item, split = (rows[name].to_numpy() for name in ("userID", "itemID", "x_label"))
    table = Interactions(user.astype(np.int32), item.astype(np.int32), split.astype(np.int8))
    data = Dataset("baby", IdMap(pl.Series(range(19445)), "user"), IdMap(pl.Series(range(7050))), table)
    taken: Popularity = ev.training_popularity(data)
    reps = Reps(torch.ones(19445, 1), Rows(torch.from_numpy(taken.counts).float().unsqueeze(1)))
    assert Evaluator.of(data, "test", PROTOCOLS["mmrec"], ["recall@20"])(reps)["recall@20"] == pytest.approx(
        0.0495, abs=5e-5
    )


def test_a_sample_of_users_has_the_values_that_it_has_among_all() -> None:
    data = random_dataset(5, n_users=40, n=300)
    reps = random_reps(data, 1)
    for part in ("valid", "test"):
        everyone = Evaluator.of(data, part).evaluate(reps).per_user
        some = Evaluator.of(data, part, sample=9, seed=3).evaluate(reps).per_user
        assert len(some) == 9 and some["user"].is_sorted()
        assert everyone.filter(pl.col("user").is_in(some["user"].implode())).equals(some)
    again, other = (Evaluator.of(data, "test", sample=9, seed=seed).users for seed in (3, 4))
    assert again.tolist() == some["user"].to_list()
    assert not torch.equal(again, other)
    assert len(Evaluator.of(data, "test", sample=1000).users) == len(Evaluator.of(data, "test").users)
