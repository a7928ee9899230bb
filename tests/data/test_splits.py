from collections import Counter
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from prismrec.data import splits
from prismrec.data.dataset import Dataset, Interactions
from prismrec.data.ids import IdMap
from prismrec.errors import PrismError

PINNED = "000000200001201000000000"


def data(user, item, timestamp=None) -> Dataset:
    user, item = np.asarray(user, np.int32), np.asarray(item, np.int32)
    rows = Interactions(user, item, timestamp=None if timestamp is None else np.asarray(timestamp, np.int64))
    users, items = (IdMap(pl.Series(np.arange(a.max() + 1)), w) for a, w in ((user, "user"), (item, "item")))
    return Dataset("toy", users, items, rows)


@st.composite
def logs(draw, times=True):
    """Distinct pairs, with at least one user of three rows."""
    counts = draw(st.lists(st.integers(1, 25), min_size=1, max_size=8))
    assume(max(counts) >= 3)
    user = np.repeat(np.arange(len(counts)), counts)
    item = np.concatenate([draw(st.permutations(range(25)))[:n] for n in counts])
    time = draw(st.lists(st.integers(0, 40), min_size=len(user), max_size=len(user))) if times else None
    return data(user, item, time)


def label_of(dataset: Dataset) -> dict[tuple[int, int], int]:
    rows = dataset.interactions
    return {(int(u), int(i)): int(s) for u, i, s in zip(rows.user, rows.item, rows.split, strict=True)}


def counts_of(dataset: Dataset, user: int) -> tuple[int, int, int]:
    parts = Counter(dataset.interactions.split[dataset.interactions.user == user].tolist())
    return parts[0], parts[1], parts[2]


ALL = {
    "ratio": lambda d, seed: splits.by_ratio(d, seed=seed),
    "ratio by time": lambda d, seed: splits.by_ratio(d, order="time", seed=seed),
    "leave one out": lambda d, seed: splits.leave_one_out(d, seed=seed),
    "leave last out": lambda d, seed: splits.leave_one_out(d, order="time", seed=seed),
}


@settings(max_examples=40, deadline=None)
@given(logs(), st.sampled_from(sorted(ALL)), st.integers(0, 2**70), st.randoms(use_true_random=False))
def test_splits_are_reproducible_and_ignore_the_order_of_rows(dataset, name, seed, shuffler):
    one, again = ALL[name](dataset, seed), ALL[name](dataset, seed)
    assert one.fingerprint == again.fingerprint
    assert len(one.interactions) == len(dataset.interactions)
    assert np.array_equal(one.interactions.item, dataset.interactions.item)
    order = list(range(len(dataset.interactions)))
    shuffler.shuffle(order)
    shuffled = replace(dataset, interactions=dataset.interactions.take(np.array(order)))
    assert label_of(ALL[name](shuffled, seed)) == label_of(one)


@settings(max_examples=40, deadline=None)
@given(logs(times=False), st.integers(0, 99))
def test_every_user_follows_the_rule_of_the_benchmarks(dataset, seed):
    split = splits.by_ratio(dataset, seed=seed)
    for user, n in enumerate(np.bincount(dataset.interactions.user)):
        if n < 3:
            expected = (n, 0, 0)
        elif n < 10:
            expected = (n - 2, 1, 1)
        else:
            held = int(0.2 * n)
            expected = (n - held, held // 2, held - held // 2)
        assert counts_of(split, user) == expected


@settings(max_examples=30, deadline=None)
@given(
    logs(times=False),
    st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9)).filter(lambda r: r[1] + r[2] > 0),
)
def test_any_ratio_gives_a_part_nothing_where_its_share_is_zero(dataset, ratio):
    try:
        split = splits.by_ratio(dataset, ratio=ratio)
    except PrismError as error:
        assert "would be empty" in str(error)  # 9:0:1 of one user with 10 rows, say
        return
    for part, share in enumerate(ratio):
        assert (split.interactions.split == part).any() == (share > 0)


@settings(max_examples=30, deadline=None)
@given(logs(), st.integers(0, 99))
def test_by_time_no_user_trains_on_later_rows_than_they_are_tested_on(dataset, seed):
    for make in (splits.by_ratio, splits.leave_one_out):
        rows = make(dataset, order="time", seed=seed).interactions
        for user in range(dataset.n_users):
            own = rows.user == user
            times = [rows.timestamp[own & (rows.split == part)] for part in range(3)]
            for earlier, later in ((0, 1), (1, 2), (0, 2)):
                if len(times[earlier]) and len(times[later]):
                    assert times[earlier].max() <= times[later].min()


@settings(max_examples=30, deadline=None)
@given(logs(), st.integers(0, 99))
def test_leave_one_out_holds_out_one_row_for_each_part(dataset, seed):
    split = splits.leave_one_out(dataset, seed=seed)
    for user, n in enumerate(np.bincount(dataset.interactions.user)):
        assert counts_of(split, user) == ((n - 2, 1, 1) if n >= 3 else (n, 0, 0))


def test_another_seed_gives_another_split_and_the_shares_are_fair():
    user, item = np.repeat(np.arange(400), 10), np.tile(np.arange(10), 400)
    dataset = data(user, item)
    one, two = (splits.by_ratio(dataset, seed=seed).interactions.split for seed in (0, 1))
    assert 0.15 < (one != two).mean() < 0.45
    # Each place is held out equally often: 400 × 2 / 10 = 80 rows expected, standard deviation 8.
    held = np.bincount(item[one > 0], minlength=10)
    assert held.min() > 80 - 40 and held.max() < 80 + 40


def test_the_split_never_changes_between_versions():
    """Published results depend on these bits: a change here is a new major version."""
    dataset = data(np.repeat([0, 1], 12), np.tile(np.arange(12), 2))
    assert splits._mixed(np.array([0], np.uint64))[0] == 0xE220A8397B1DCDAF  # the published first output of SplitMix64
    assert "".join(map(str, splits.by_ratio(dataset, seed=7).interactions.split)) == PINNED


def test_cutoff_is_the_same_for_all_users():
    dataset = data([0, 0, 0, 1, 1, 1, 1, 2, 2, 2], range(10), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    split = splits.by_cutoff(dataset, at=(7, 9))
    assert split.interactions.split.tolist() == [0] * 6 + [1, 1, 2, 2]
    quantiles = splits.by_cutoff(dataset)
    assert quantiles.interactions.split.tolist() == [0] * 8 + [1, 2]
    assert quantiles.provenance["steps"][-1] == {"step": "split", "by": "cutoff", "at": [9, 10]}


@settings(max_examples=30, deadline=None)
@given(logs(), st.floats(0.05, 0.9), st.floats(0.05, 0.9))
def test_cutoff_partitions_time(dataset, a, b):
    assume(a < b)
    try:
        rows = splits.by_cutoff(dataset, quantiles=(a, b)).interactions
    except PrismError as error:
        assert "would be empty" in str(error)
        return
    train, valid, test = (rows.timestamp[rows.split == part] for part in range(3))
    assert train.max() < valid.min() <= valid.max() < test.min()


def test_the_published_split_has_the_counts_of_the_rule(shared_data):
    from prismrec.data.sources import read

    baby = read(shared_data / "baby")
    ours = splits.by_ratio(baby)
    for part, size in (("train", 118_551), ("valid", 20_559), ("test", 21_682)):
        per_user = [np.bincount(d.interactions.part(part).user, minlength=baby.n_users) for d in (baby, ours)]
        assert np.array_equal(*per_user) and per_user[1].sum() == size


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda d: splits.by_ratio(d, ratio=(0, 1, 1)), "0:1:1"),
        (lambda d: splits.by_ratio(d, ratio=(8, 0, 0)), "8:0:0"),
        (lambda d: splits.by_ratio(d, order="time"), "no timestamps"),
        (lambda d: splits.by_ratio(d, order="latest"), "'latest'"),
        (splits.by_cutoff, "no timestamps"),
        (lambda d: splits.by_ratio(data([0, 0, 1, 1], [0, 1, 0, 1])), "would be empty"),
        (lambda d: splits.by_cutoff(data([0, 0], [0, 1], [5, 5])), "would be empty"),
        (lambda d: splits.by_cutoff(data([0, 0], [0, 1], [5, 6]), at=(6, 5)), "earlier time first"),
        (lambda d: splits.by_cutoff(data([0, 0], [0, 1], [5, 6]), quantiles=(0.9, 0.8)), "0.9 and 0.8"),
    ],
)
def test_bad_requests_are_refused_in_a_sentence(call, said):
    with pytest.raises(PrismError, match=said):
        call(data([0, 0, 0, 0], [0, 1, 2, 3]))


def crowd(seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    pairs = np.argwhere(rng.random((40, 50)) < 0.4)
    return data(pairs[:, 0], pairs[:, 1], rng.integers(0, 1000, len(pairs)))


def test_cold_items_have_all_their_rows_in_one_held_out_part() -> None:
    split = splits.by_item(crowd(), share=(0.1, 0.2), seed=3)
    rows = split.interactions
    cold = ~splits.is_warm(split)
    assert cold.sum() == 15 and split.provenance["steps"][-1]["cold_items"] == {"valid": 5, "test": 10}
    parts = [set(rows.split[rows.item == i].tolist()) for i in np.flatnonzero(cold)]
    assert sorted(next(iter(p)) for p in parts) == [1] * 5 + [2] * 10 and all(len(p) == 1 for p in parts)
    order = np.random.default_rng(1).permutation(len(rows))
    shuffled = replace(crowd(), interactions=crowd().interactions.take(order))
    assert label_of(splits.by_item(shuffled, share=(0.1, 0.2), seed=3)) == label_of(split)
    other = splits.by_item(crowd(), share=(0.1, 0.2), seed=4)
    assert not np.array_equal(cold, ~splits.is_warm(other))


def test_warm_rows_are_divided_as_by_ratio() -> None:
    split = splits.by_item(crowd(), seed=5, order="time")
    rows, warm = split.interactions, splits.is_warm(split)
    kept = replace(split, interactions=rows.take(warm[rows.item]))
    assert np.array_equal(splits.by_ratio(kept, seed=5, order="time").interactions.split, kept.interactions.split)
    whole = splits.by_item(crowd(), seed=5, ratio=(1, 0, 0))
    held = whole.interactions.item[whole.interactions.split > 0]
    assert not splits.is_warm(whole)[held].any()


@pytest.mark.parametrize("make", [splits.by_item, splits.by_cutoff], ids=["by item", "by time"])
def test_the_warm_part_knows_nothing_of_cold_items(make) -> None:
    whole = crowd()
    new = whole.interactions.item >= 45  # five items come late
    times = np.where(new, 5000, whole.interactions.timestamp)
    split = make(replace(whole, interactions=replace(whole.interactions, timestamp=times)))
    warm = splits.is_warm(split)
    part = splits.warm_part(split)
    assert part.items.external.to_list() == split.items.external.filter(pl.Series(warm)).to_list()
    assert part.n_users == split.n_users and splits.is_warm(part).all() and not warm.all()
    assert len(part.interactions.part("train")) == len(split.interactions.part("train"))
    assert len(part.interactions) == int(warm[split.interactions.item].sum())


@pytest.mark.parametrize("share", [(0.0, 0.0), (0.5, 0.5), (-0.1, 0.3), (0.001, 0.001)])
def test_shares_that_draw_nothing_or_everything_are_refused(share) -> None:
    with pytest.raises(PrismError, match=r"expected shares of 0 or more, such as 0\.1 and 0\.1"):
        splits.by_item(crowd(), share=share)
