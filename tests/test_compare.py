"""Bootstrap intervals against what theory says of a mean; tests against scipy and against what they promise."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from prismrec import compare
from prismrec.compare import bootstrap_means, gains, holm, interval, interval_by_user, paired, with_runs


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
    assert paired(same, same) == compare.Difference(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
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


def test_the_effect_is_cohens_d_of_the_differences_and_the_shares_are_of_users() -> None:
    rng = np.random.default_rng(7)
    theirs = rng.integers(0, 3, 500) / 2
    ours = np.clip(theirs + rng.integers(-1, 3, 500) / 2, 0, 1)
    found, gain = paired(ours, theirs), ours - theirs
    assert found.d == pytest.approx(stats.ttest_rel(ours, theirs).statistic / np.sqrt(500))  # t = d √n
    assert (found.won, found.lost, found.tied) == pytest.approx(
        [sum(g > 0 for g in gain) / 500, sum(g < 0 for g in gain) / 500, sum(g == 0 for g in gain) / 500]
    )


def test_rounding_wins_no_user() -> None:
    rng = np.random.default_rng(8)
    theirs = rng.random(1000)
    ours = np.mean([theirs] * 3, axis=0)
    assert (ours != theirs).any()
    assert paired(ours, theirs) == compare.Difference(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    assert gains(np.array([1e-9, 5e6, 0.0]), np.array([0.0, 5e6 + 1e-9, 0.0])).tolist() == [1e-9, 0.0, 0.0]
    assert gains(-ours, -theirs).tolist() == [0.0] * 1000


def test_a_gain_without_spread() -> None:
    same = paired(np.full(5, 0.75), np.full(5, 0.5))
    assert (same.p, same.d, same.won) == (0.0, None, 1.0)
    alone = paired(np.array([0.75]), np.array([0.5]))
    assert (alone.mean, alone.p, alone.d) == (0.25, 1.0, None)


def by_hand(p: list[float]) -> list[float]:
    """Holm, Step 1 on: the smallest p that would still be rejected at a level, for each test."""
    out = []
    for own in p:
        smaller = [q for q in p if q <= own]
        steps = [min(1.0, q * (len(p) - sum(r < q for r in p))) for q in smaller]
        out.append(max(steps))
    return out


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12, unique=True))
def test_holm_by_hand(p: list[float]) -> None:
    assert holm(p) == pytest.approx(by_hand(p), rel=1e-12)


@given(st.lists(st.floats(0, 1), max_size=12), st.randoms())
def test_holm_keeps_order_and_knows_no_places(p: list[float], random: Random) -> None:
    found = holm(p)
    assert all(a <= b <= 1 for a, b in zip(p, found, strict=True))
    order = sorted(range(len(p)), key=lambda i: p[i])
    assert all(found[a] <= found[b] for a, b in pairwise(order))
    random.shuffle(order)
    assert sorted(holm([p[i] for i in order])) == sorted(found)


def test_holm_of_a_textbook_family() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.5]) == [1.0, 1.0] and holm([0.03]) == [0.03] and holm([]) == []


def arms(rng: np.random.Generator, gain: float, users: int = 200, others: int = 6) -> list[float]:
    """Corrected p of ``others`` arms against one, each of three seeds averaged; the first is better by ``gain``."""
    taste = rng.beta(1, 4, size=(users, 1))  # users differ far more than arms do
    values = (rng.random((others + 1, users, 3)) < taste).mean(axis=2)
    values[0] = np.minimum(values[0] + gain * (rng.random(users) < 0.5), 1)
    return holm([paired(v, values[-1], resamples=2).p for v in values[:-1]])


def test_where_nothing_is_there_a_family_finds_something_as_rarely_as_it_says() -> None:
    rng = np.random.default_rng(9)
    families = [arms(rng, 0.0) for _ in range(300)]
    wrong = np.mean([min(p) < 0.05 for p in families])  # of 6 tests that share an arm; uncorrected it is about 0.2
    assert 0.01 < wrong < 0.075
    raw = np.mean([min(p) / 6 < 0.05 for p in families])
    assert raw > 0.12


def test_what_was_planted_is_found_and_nothing_else() -> None:
    rng = np.random.default_rng(10)
    families = [arms(rng, 0.2) for _ in range(100)]
    assert np.mean([p[0] < 0.05 for p in families]) > 0.9
    assert np.mean([min(p[1:]) < 0.05 for p in families]) < 0.12


def test_runs_are_a_second_source_of_chance() -> None:
    rng = np.random.default_rng(11)
    gain, a, b = rng.normal(0.1, 1, 400), rng.normal(0, 0.1, 5).tolist(), rng.normal(0, 0.1, 3).tolist()
    # without users' part it is Welch's test of the runs, without runs the paired test of the users
    still = np.full(400, np.mean(a) - np.mean(b))
    assert with_runs(still, [a, b]) == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert with_runs(still, [a]) == pytest.approx(stats.ttest_ind_from_stats(
        still[0], np.std(a, ddof=1), 5, 0.0, 0.0, 5, equal_var=False).pvalue)  # fmt: skip
    for side in ([], [[0.5] * 3, [0.2] * 2]):
        assert with_runs(gain, side) == pytest.approx(stats.ttest_1samp(gain, 0).pvalue)
    assert with_runs(gain, [a, b]) > stats.ttest_1samp(gain, 0).pvalue  # type: ignore[operator]
    assert with_runs(gain, [a, b[:1]]) is None and with_runs(gain[:1], [a, b]) == 1.0
    assert with_runs(np.zeros(9), [[0.5] * 2]) == 1.0 and with_runs(np.full(9, 0.1), [[0.5] * 2]) == 0.0


@pytest.mark.parametrize("luck", [0.0, 0.02, 0.1])
def test_where_only_seeds_and_users_differ_little_is_found(luck: float) -> None:
    """``luck``: standard deviation of a run's mean; the users alone make the mean of a difference vary by 0.02."""
    rng = np.random.default_rng(12)
    by_users, by_both = [], []
    for _ in range(400):
        ours, theirs = rng.normal(size=(2, 3, 300)) * 0.4 + rng.normal(size=(2, 3, 1)) * luck
        gain = gains(ours.mean(0), theirs.mean(0))
        by_users.append(stats.ttest_1samp(gain, 0).pvalue)
        by_both.append(with_runs(gain, [ours.mean(1).tolist(), theirs.mean(1).tolist()]))
    assert np.mean([p < 0.05 for p in by_both if p is not None]) < 0.07
    assert (np.mean(np.array(by_users) < 0.05) > 0.12) == (luck > 0)
