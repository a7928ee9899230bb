"""Bootstrap intervals against what theory says of a mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from prismrec import compare
from prismrec.compare import bootstrap_means, interval, interval_by_user, paired


def test_the_interval_is_that_of_the_normal_approximation_for_many_users() -> None:
    values = np.random.default_rng(0).exponential(size=4000)
    low, high = interval(bootstrap_means(values, resamples=4000))
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        low, high = interval(bootstrap_means(rng.normal(2.0, 1.0, 200), resamples=300))
        held += int(low <= 2.0 <= high)
    assert 0.90 <= held / 300 <= 0.98


def test_means_are_paired_across_columns_and_calls() -> None:
    rng = np.random.default_rng(2)
    a = rng.random(300)
    b = a + 0.01
    together = bootstrap_means(np.stack([a, b], axis=1))
    assert np.allclose(together[:, 1] - together[:, 0], 0.01)
    assert np.allclose(bootstrap_means(b) - bootstrap_means(a), 0.01)
    assert np.allclose(bootstrap_means(a), together[:, 0])


def test_blocks_do_not_change_the_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).random(50)
    whole = bootstrap_means(values, resamples=70)
    monkeypatch.setattr(compare, "_CELLS", 50 * 8)
    assert np.allclose(bootstrap_means(values, resamples=70), whole, rtol=1e-15)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_an_interval_lies_within_the_values(values: list[float]) -> None:
    low, high = interval(bootstrap_means(np.array(values), resamples=50))
    assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12


def test_a_paired_difference_is_that_of_the_same_users() -> None:
    rng = np.random.default_rng(5)
    theirs = rng.exponential(size=3000)
    ours = theirs + rng.normal(0.1, 0.2, 3000)  # far less than what users differ by
    found = paired(ours, theirs)
    assert found.mean == pytest.approx((ours - theirs).mean())
    assert found.low < 0.1 < found.high and found.high - found.low < 0.02
    assert found.p == pytest.approx(stats.ttest_rel(ours, theirs).pvalue) and found.p < 1e-6
    backwards = paired(theirs, ours)
    assert backwards.mean == pytest.approx(-found.mean) and backwards.p == pytest.approx(found.p)


def test_p_holds_where_nothing_differs() -> None:
    same = np.array([0.5, 0.0, 1.0])
    assert paired(same, same) == compare.Difference(0.0, 0.0, 0.0, 1.0)
    rng = np.random.default_rng(6)
    small = [paired(*rng.normal(size=(2, 100)), resamples=10).p for _ in range(400)]
    assert 0.02 < np.mean(np.array(small) < 0.05) < 0.09


def test_rows_of_a_user_are_redrawn_together() -> None:
    rng = np.random.default_rng(0)
    taste = rng.normal(size=(400, 2))
    user = np.arange(400).repeat(5)
    rows = taste[user]  # five times the same of everybody: no more known than from one row each
    once = interval(bootstrap_means(taste, seed=0))
    np.testing.assert_allclose(interval_by_user(rows, user), once)
    shuffled = rng.permutation(len(user))
    np.testing.assert_allclose(interval_by_user(rows[shuffled], user[shuffled]), once)


def test_rows_that_are_not_known_count_for_nothing() -> None:
    values = np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan]])
    low, high = interval_by_user(values, np.array([0, 1, 1]))
    assert 1 <= low[0] < high[0] <= 3
    assert np.isnan(low[1]) and np.isnan(high[1])
