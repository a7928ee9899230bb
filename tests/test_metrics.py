from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prismrec import metrics
from prismrec.errors import PrismError
from prismrec.metrics import OVER_LISTS, PER_USER, Hits, Metric, Popularity

NO_LIMIT = settings(max_examples=80)
COUNTS = np.array([8, 4, 2, 1, 0, 0])


def record(
    lists: list[list[int]], relevant: list[set[int]], n_items: int, popularity: Popularity | None = None
) -> Hits:
    hit = np.array([[item in wanted for item in row] for row, wanted in zip(lists, relevant, strict=True)])
    n_relevant = np.array([len(wanted) for wanted in relevant])
    return Hits(hit, n_relevant, np.array(lists), n_items, popularity)


def naive(name: str, items: list[int], wanted: set[int], k: int) -> float:
    """Each metric of one user by its formula, written as a loop."""
    hits, total, gain, first = 0, 0.0, 0.0, 0.0
    for rank, item in enumerate(items[:k], 1):
        if item in wanted:
            hits += 1
            total += hits / rank
            gain += 1 / math.log2(rank + 1)
            first = first or 1 / rank
    possible = min(len(wanted), k)
    return {
        "recall": hits / len(wanted),
        "precision": hits / k,
        "hitrate": float(hits > 0),
        "mrr": first,
        "map": total / possible,
        "ndcg": gain / sum(1 / math.log2(rank + 1) for rank in range(1, possible + 1)),
    }[name]


@st.composite
def rankings(draw: st.DrawFn) -> tuple[list[list[int]], list[set[int]], int, int]:
    """Lists of distinct items, some ending early with −1; users with one to many relevant items; K ≤ places."""
    n_items, places = draw(st.integers(1, 30)), draw(st.integers(1, 35))
    lists, relevant = [], []
    for _ in range(draw(st.integers(1, 8))):
        length = draw(st.integers(0, min(n_items, places)))
        order = draw(st.permutations(range(n_items)))[:length]
        lists.append(order + [-1] * (places - length))
        relevant.append(draw(st.sets(st.integers(0, n_items - 1), min_size=1)))
    return lists, relevant, n_items, draw(st.integers(1, places))


@NO_LIMIT
@given(rankings())
def test_every_metric_agrees_with_a_naive_loop(drawn: tuple[list[list[int]], list[set[int]], int, int]) -> None:
    lists, relevant, n_items, k = drawn
    hits = record(lists, relevant, n_items)
    for name in ("recall", "precision", "hitrate", "mrr", "map", "ndcg"):
        values = PER_USER[name](hits, k)
        expected = [naive(name, items, wanted, k) for items, wanted in zip(lists, relevant, strict=True)]
        assert values.dtype == np.float64
        np.testing.assert_allclose(values, expected, rtol=1e-12, atol=0, err_msg=name)


@NO_LIMIT
@given(rankings())
def test_values_stay_in_their_range_and_grow_with_k(drawn: tuple[list[list[int]], list[set[int]], int, int]) -> None:
    lists, relevant, n_items, k = drawn
    hits = record(lists, relevant, n_items)
    for name in ("recall", "precision", "hitrate", "mrr", "map", "ndcg"):
        values = PER_USER[name](hits, k)
        assert (values >= 0).all()
        assert (values <= 1 + 1e-12).all()
    for name in ("recall", "hitrate", "mrr"):
        assert (PER_USER[name](hits, k) >= PER_USER[name](hits, max(k - 1, 1))).all()


def test_a_perfect_list_scores_one() -> None:
    hits = record([[3, 1, 2, 0]], [{1, 2, 3}], 5)
    assert metrics.ndcg(hits, 3) == metrics.average_precision(hits, 3) == metrics.recall(hits, 3) == 1
    assert metrics.ndcg(hits, 2) == metrics.average_precision(hits, 2) == 1  # the ideal and the divisor are min(n, K)
    assert metrics.recall(hits, 2) == pytest.approx(2 / 3)


def test_ranx_agrees_wherever_its_definitions_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """recall, precision, hit rate, MRR and NDCG always; MAP where n ≤ K, since ranx divides by n and we by min(n, K)."""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # compiling takes a minute, these few lists a moment
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ranx import Qrels, Run  # type: ignore[import-untyped]
        from ranx import evaluate as ranx_evaluate

        rng = np.random.default_rng(0)
        n_items, places = 60, 20
        lists = [rng.permutation(n_items)[:places].tolist() for _ in range(150)]
        relevant = [set(rng.choice(n_items, size=int(rng.integers(1, 40)), replace=False).tolist()) for _ in range(150)]
        qrels = Qrels({f"u{u:03}": {str(i): 1 for i in wanted} for u, wanted in enumerate(relevant)})
        run = Run({f"u{u:03}": {str(i): float(-p) for p, i in enumerate(row)} for u, row in enumerate(lists)})
        ours: dict[str, Any] = {
            "recall": "recall", "precision": "precision", "hitrate": "hit_rate", "mrr": "mrr", "ndcg": "ndcg", "map": "map",
        }  # fmt: skip
        hits = record(lists, relevant, n_items)
        for k in (1, 5, 10, 20):
            for name, theirs in ours.items():
                other = np.asarray(ranx_evaluate(qrels, run, f"{theirs}@{k}", return_mean=False))
                same = np.ones(len(other), bool) if name != "map" else hits.n_relevant <= k
                assert same.any()
                np.testing.assert_allclose(PER_USER[name](hits, k)[same], other[same], rtol=0, atol=1e-9)
                if name == "map" and k == 5:
                    scaled = other * hits.n_relevant / np.minimum(hits.n_relevant, k)
                    np.testing.assert_allclose(PER_USER[name](hits, k), scaled, rtol=0, atol=1e-9)


def test_novelty_and_popularity_of_lists() -> None:
    taken = Popularity(COUNTS, 16)
    hits = record([[0, 1], [4, -1], [-1, -1]], [{0}, {0}, {0}], 6, taken)
    np.testing.assert_allclose(
        metrics.novelty(hits, 2), [1.5, 4.0, 0.0]
    )  # log2 16/8, 16/4; item 4 counts as taken once
    np.testing.assert_allclose(metrics.popularity(hits, 2), [6.0, 0.0, 0.0])
    usual = (64 + 16 + 4 + 1) / 15
    np.testing.assert_allclose(metrics.popularity_ratio(hits, 2), [6.0 / usual, 0.0, 0.0])
    np.testing.assert_allclose(metrics.popularity(hits, 1), [8.0, 0.0, 0.0])


def test_popularity_counts_distinct_users() -> None:
    taken = Popularity.of(np.array([0, 0, 3, 3], np.int32), np.array([1, 1, 1, 2], np.int32), 4)
    assert taken.counts.tolist() == [0, 2, 1, 0]
    assert taken.n_users == 2


def test_training_counts_that_are_needed_and_missing() -> None:
    with pytest.raises(PrismError, match="training counts"):
        metrics.novelty(record([[0]], [{0}], 1), 1)


def test_coverage_and_gini() -> None:
    everyone_alike = record([[0, 1], [0, 1]], [{0}, {0}], 4)
    assert metrics.coverage(everyone_alike, 2) == 0.5
    assert metrics.coverage(everyone_alike, 1) == 0.25
    assert metrics.gini(everyone_alike, 2) == pytest.approx(0.5)
    assert metrics.gini(everyone_alike, 1) == pytest.approx(0.75)  # 1 − 1/I: one item takes all
    spread = record([[0, 1], [2, 3]], [{0}, {0}], 4)
    assert metrics.coverage(spread, 2) == 1
    assert metrics.gini(spread, 2) == pytest.approx(0)
    assert metrics.gini(record([[-1]], [{0}], 4), 1) == 0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=50))
def test_gini_is_the_mean_difference(items: list[int]) -> None:
    counts = np.bincount(items, minlength=10)
    expected = np.abs(counts[:, None] - counts[None]).sum() / (2 * 10 * counts.sum())
    assert metrics.gini(record([[item] for item in items], [{0}] * len(items), 10), 1) == pytest.approx(expected)


def test_names() -> None:
    assert metrics.parse(["recall@20", "NDCG@5 ", "recall@20"]) == (Metric("recall", 20), Metric("ndcg", 5))
    assert str(Metric("map", 10)) == "map@10"
    assert Metric("map", 10).per_user
    assert not Metric("gini", 10).per_user
    assert not set(PER_USER) & set(OVER_LISTS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("recal@20", "Did you mean 'recall'"),
        ("recall", "form name@K"),
        ("recall@0", "form name@K"),
        ("recall@-5", "form name@K"),
        ("@5", "form name@K"),
        ("popularity_ration@5", "Did you mean 'popularity_ratio'"),
    ],
)
def test_a_name_that_is_wrong(text: str, expected: str) -> None:
    with pytest.raises(PrismError, match=expected):
        Metric.parse(text)


def test_no_metric_asked_for() -> None:
    with pytest.raises(PrismError, match="No metric"):
        metrics.parse([])
