from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prismrec.data import prepare as p
from prismrec.data.dataset import Dataset, Interactions
from prismrec.data.ids import IdMap
from prismrec.data.modalities import modality
from prismrec.errors import PrismError

ROWS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 5), st.sampled_from([1, 2, 3, 4, 5])),
    min_size=1,
    max_size=60,
)


def data(rows, *, times=True) -> Dataset:
    user, item, time, rating = (np.array(c) for c in zip(*rows, strict=True))
    n_users, n_items = int(user.max()) + 1, int(item.max()) + 1
    log = Interactions(
        user.astype(np.int32),
        item.astype(np.int32),
        timestamp=time.astype(np.int64) if times else None,
        rating=rating.astype(np.float32),
    )
    values = np.arange(1, n_items + 1, dtype=np.float32)[:, None]
    ids = [f"item {i}" for i in range(n_items)]
    return Dataset(
        "toy",
        IdMap(pl.Series([f"user {u}" for u in range(n_users)]), "user"),
        IdMap(pl.Series(ids), "item"),
        log,
        {"image": modality(values, "image", n_items)},
        pl.DataFrame({"item": ids}),
    )


def naive_core(pairs, users, items):
    while True:
        kept = [
            (u, i)
            for u, i in pairs
            if sum(a == u for a, _ in pairs) >= users and sum(b == i for _, b in pairs) >= items
        ]
        if kept == pairs:
            return kept
        pairs = kept


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 4), st.integers(0, 4))
def test_core_agrees_with_a_naive_loop_and_keeps_what_belongs_together(rows, users, items):
    dataset = data(rows)
    expected = naive_core([(u, i) for u, i, *_ in rows], users, items)
    if not expected:
        with pytest.raises(PrismError, match="Nothing is left"):
            p.core(dataset, users, items)
        return
    kept = p.core(dataset, users, items)
    seen = kept.interactions
    names = zip(kept.users.decode(seen.user), kept.items.decode(seen.item), strict=True)
    assert list(names) == [(f"user {u}", f"item {i}") for u, i in expected]
    assert np.bincount(seen.user, minlength=kept.n_users).min() >= users
    assert np.bincount(seen.item, minlength=kept.n_items).min() >= items
    assert kept.item_table["item"].equals(kept.items.external, check_dtypes=True)
    assert [f"item {int(v) - 1}" for v in kept.modalities["image"].values[:, 0]] == kept.items.external.to_list()


@settings(max_examples=60, deadline=None)
@given(ROWS, st.sampled_from(["first", "last", "sum", "keep"]), st.booleans())
def test_duplicates_agree_with_a_naive_loop(rows, keep, times):
    dataset = data(rows, times=times)
    seen = p.drop_duplicates(dataset, keep).interactions
    # In time, then by rating; in the order of rows where there are no times.
    ordered = sorted(rows, key=lambda r: r[2:]) if times else rows
    expected = {}
    for u, i, _, rating in ordered:
        expected.setdefault((u, i), []).append(rating)
    if keep == "keep":
        assert sorted(zip(seen.user, seen.item, seen.rating, strict=True)) == sorted((u, i, r) for u, i, _, r in rows)
        return
    got = {(int(u), int(i)): r for u, i, r in zip(seen.user, seen.item, seen.rating, strict=True)}
    assert len(got) == len(seen)
    assert got == {pair: ratings[0 if keep == "first" else -1] for pair, ratings in expected.items()}
    if keep == "sum":
        weights = {(int(u), int(i)): w for u, i, w in zip(seen.user, seen.item, seen.weight, strict=True)}
        assert weights == {pair: len(ratings) for pair, ratings in expected.items()}
    else:
        assert seen.weight is None


@settings(max_examples=40, deadline=None)
@given(ROWS, st.randoms(use_true_random=False), st.sampled_from(["first", "last", "sum"]))
def test_the_order_of_rows_does_not_matter_where_times_are_known(rows, shuffler, keep):
    dataset = data(rows)
    order = list(range(len(rows)))
    shuffler.shuffle(order)
    shuffled = replace(dataset, interactions=dataset.interactions.take(np.array(order)))
    ours, theirs = (p.prepare(d, duplicates=keep, k_core=(1, 1)).fingerprint for d in (dataset, shuffled))
    assert ours == theirs


def test_weights_add_up():
    dataset = data([(0, 0, 1, 3), (0, 0, 2, 4), (0, 1, 0, 5)])
    dataset = replace(dataset, interactions=replace(dataset.interactions, weight=np.array([0.5, 2, 4], np.float32)))
    assert p.drop_duplicates(dataset, "sum").interactions.weight.tolist() == [2.5, 4]


def test_the_last_opinion_counts_before_the_threshold():
    dataset = data([(0, 0, 1, 5), (0, 0, 2, 2), (0, 1, 0, 4)])
    kept = p.prepare(dataset, min_rating=4, k_core=(1, 1))
    assert kept.items.external.to_list() == ["item 1"]
    assert [step["step"] for step in kept.provenance["steps"]] == ["duplicates", "ratings", "k-core"]


def test_without_a_k_core_cold_users_and_items_stay():
    dataset = p.prepare(data([(4, 5, 1, 5)]), k_core=(0, 0))
    assert (dataset.n_users, dataset.n_items) == (5, 6)


def test_a_split_stays_with_its_rows():
    dataset = data([(0, 0, 1, 5), (0, 1, 1, 1), (0, 2, 1, 5)])
    dataset = replace(dataset, interactions=replace(dataset.interactions, split=np.array([0, 1, 2], np.int8)))
    assert p.prepare(dataset, min_rating=2, k_core=(1, 1)).interactions.split.tolist() == [0, 2]


def test_bad_requests_are_refused_in_a_sentence():
    dataset = data([(0, 0, 1, 3)])
    with pytest.raises(PrismError, match=r"rated 4 or higher \(the highest rating is 3"):
        p.drop_low_ratings(dataset, 4)
    bare = replace(dataset, interactions=replace(dataset.interactions, rating=None))
    with pytest.raises(PrismError, match=r"no ratings.*--rating"):
        p.drop_low_ratings(bare, 4)
    with pytest.raises(PrismError, match="'newest' was asked for"):
        p.drop_duplicates(dataset, "newest")
    with pytest.raises(PrismError, match="-1 rows per user"):
        p.core(dataset, -1, 2)
    with pytest.raises(PrismError, match="each user must have 5 and each item 5"):
        p.core(dataset)
