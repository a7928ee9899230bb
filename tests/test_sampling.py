from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from prismrec.errors import PrismError
from prismrec.sampling import Sampler, generator

QUICK = settings(max_examples=50)


@st.composite
def training(draw: st.DrawFn) -> tuple[Tensor, Tensor, int, int]:
    """Rows with repetitions, users of every appetite, items nobody took; nobody owns all that anybody took."""
    n_users, n_items = draw(st.integers(1, 6)), draw(st.integers(2, 12))
    pairs = st.tuples(st.integers(0, n_users - 1), st.integers(0, n_items - 1))
    rows = draw(st.lists(pairs, min_size=1, max_size=60))
    user, item = torch.tensor(rows).T
    seen = set(item.tolist())
    assume(all({i for u, i in rows if u == owner} != seen for owner in range(n_users)))
    return user, item, n_users, n_items


def drawn(sampler: Sampler, epoch: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    batches = list(sampler.epoch(epoch))
    return tuple(torch.cat([getattr(b, name) for b in batches]) for name in ("user", "pos", "neg"))  # type: ignore[return-value]


@QUICK
@given(
    training(),
    st.integers(1, 40),
    st.integers(1, 3),
    st.sampled_from(["seen", "all"]),
    st.sampled_from([0.0, 0.75, -0.5]),
)
def test_an_epoch_has_every_row_once_and_negatives_that_their_user_never_took(
    rows: tuple[Tensor, Tensor, int, int], size: int, n_neg: int, pool: str, popularity: float
) -> None:
    user, item, n_users, n_items = rows
    sampler = Sampler(
        user, item, None, n_users, n_items, batch_size=size, n_neg=n_neg, pool=pool, popularity=popularity
    )  # type: ignore[arg-type]
    lengths = [len(b.user) for b in sampler.epoch(0)]
    assert len(lengths) == len(sampler) and set(lengths[:-1]) <= {size} and 0 < lengths[-1] <= size
    u, pos, neg = drawn(sampler)
    assert sorted(zip(u.tolist(), pos.tolist(), strict=True)) == sorted(zip(user.tolist(), item.tolist(), strict=True))
    assert neg.shape == (len(user), n_neg) and neg.dtype == torch.int64
    owned = set(zip(user.tolist(), item.tolist(), strict=True))
    offered = set(item.tolist()) if pool == "seen" else set(range(n_items))
    for owner, row in zip(u.tolist(), neg.tolist(), strict=True):
        assert all((owner, i) not in owned and i in offered for i in row)


@QUICK
@given(training(), st.integers(0, 5), st.integers(0, 2**40))
def test_the_same_epoch_has_the_same_bits_whatever_was_drawn_before(
    rows: tuple[Tensor, Tensor, int, int], epoch: int, seed: int
) -> None:
    user, item, n_users, n_items = rows
    first, second = (Sampler(user, item, None, n_users, n_items, batch_size=8, seed=seed) for _ in range(2))
    list(second.epoch(epoch + 1))
    torch.manual_seed(epoch)
    assert all(torch.equal(a, b) for a, b in zip(drawn(first, epoch), drawn(second, epoch), strict=True))


@QUICK
@given(training(), st.integers(2, 4))
def test_more_negatives_move_neither_the_first_ones_nor_the_order(
    rows: tuple[Tensor, Tensor, int, int], n_neg: int
) -> None:
    user, item, n_users, n_items = rows
    one, more = (drawn(Sampler(user, item, None, n_users, n_items, n_neg=n)) for n in (1, n_neg))
    assert torch.equal(one[0], more[0]) and torch.equal(one[1], more[1])
    assert torch.equal(one[2][:, 0], more[2][:, 0])


def big(**settings: object) -> tuple[Sampler, Tensor]:
    """One user with two items, and 40 others whose taking makes item i (of 10) i + 1 rows; → sampler, rows of each item."""
    item = torch.repeat_interleave(torch.arange(10), torch.arange(1, 11))
    user = torch.arange(len(item)) + 1
    user, item = torch.cat([torch.zeros(20_000, dtype=torch.int64), user]), torch.cat([torch.full((20_000,), 3), item])
    sampler = Sampler(user, item, None, int(user.max()) + 1, 12, batch_size=30_000, **settings)  # type: ignore[arg-type]
    return sampler, torch.bincount(item, minlength=12)


def test_epochs_columns_and_seeds_differ() -> None:
    sampler, _ = big(n_neg=2)
    u, pos, neg = drawn(sampler, 0)
    assert not torch.equal(neg[:, 0], neg[:, 1])
    assert not torch.equal(drawn(sampler, 1)[2], neg) and not torch.equal(drawn(sampler, 1)[0], u)
    assert not torch.equal(drawn(big(n_neg=2, seed=1)[0], 0)[2], neg)
    assert pos.shape == u.shape


@pytest.mark.parametrize("pool", ["seen", "all"])
@pytest.mark.parametrize("popularity", [0.0, 0.5, 1.0])
def test_negatives_are_spread_as_popularity_to_its_power_says(pool: str, popularity: float) -> None:
    """Those of user 0, who owns item 3 alone. Items 10 and 11 have no row; in the pool "all" they count as one row."""
    sampler, count = big(pool=pool, popularity=popularity)
    user, _, neg = drawn(sampler)
    found = torch.bincount(neg[user == 0, 0], minlength=12).double()
    chance = count.double().clamp(min=1 if pool == "all" else 0).pow(popularity)
    if pool == "seen":
        chance[count == 0] = 0
    chance[3] = 0
    expected = found.sum() * chance / chance.sum()
    assert found.sum() == 20_000 and not found[expected == 0].any()
    positive = expected > 0
    chi_square = ((found - expected).square()[positive] / expected[positive]).sum()
    freedom = int(positive.sum()) - 1
    assert chi_square < freedom + 5 * math.sqrt(2 * freedom)


def test_users_who_own_nearly_everything_get_what_is_left_in_the_right_shares() -> None:
    """998 of 1,000 items are owned: rejection gives up. The two that are left have 3 and 1 rows of others."""
    user = torch.cat([torch.zeros(998, dtype=torch.int64), torch.tensor([1, 2, 3, 4])])
    item = torch.cat([torch.arange(998), torch.tensor([998, 998, 998, 999])])
    for popularity, share in ((0.0, 0.5), (1.0, 0.75)):
        sampler = Sampler(user, item, None, 5, 1000, popularity=popularity, n_neg=3)
        u, _, neg = drawn(sampler)
        mine = neg[u == 0]
        assert mine.min() >= 998
        assert abs(float((mine == 998).float().mean()) - share) < 4 * math.sqrt(0.25 / mine.numel())


@pytest.mark.parametrize(("n_items", "pool", "remedy"), [(4, "seen", True), (3, "seen", False), (3, "all", False)])
def test_a_user_who_owns_all_is_refused_with_what_to_do(n_items: int, pool: str, remedy: bool) -> None:
    user, item = torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 2])
    with pytest.raises(PrismError, match=r"User number 1 has all 3 items .* no negative exists") as refusal:
        Sampler(user, item, None, 2, n_items, pool=pool)  # type: ignore[arg-type]
    assert ("train.negatives=all" in str(refusal.value)) == remedy and str(refusal.value).endswith(".")
    assert len(Sampler(user, item, None, 2, 4, pool="all")) == 1


def test_an_empty_training_split_is_refused() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(PrismError, match="training split is empty"):
        Sampler(nothing, nothing, None, 3, 4)


def test_weights_travel_with_their_rows_at_a_mean_of_one() -> None:
    user, item = torch.arange(6) % 3, torch.arange(6)
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    sampler = Sampler(user, item, weight, 3, 6, batch_size=4)
    batches = list(sampler.epoch(0))
    assert all(b.weight is not None and torch.allclose(b.weight, (b.pos + 1) / 3.5) for b in batches)
    assert torch.equal(weight, torch.arange(1.0, 7.0))
    assert all(b.weight is None for b in Sampler(user, item, None, 3, 6).epoch(0))


def test_streams_of_one_seed_are_apart() -> None:
    streams = [(0, 0), (0, 1), (1, 0), (1, 1), (2**21, 0), (0, 2**21)]
    first = {torch.rand(1, generator=generator(seed, *stream)).item() for seed in (0, 1) for stream in streams}
    assert len(first) == 2 * len(streams)
    assert generator(3, 4).initial_seed() == generator(3, 4).initial_seed()


@QUICK
@given(training(), st.integers(1, 40), st.integers(1, 3))
def test_lent_negatives_are_first_ones_of_the_batch_or_drawn_where_their_user_owns_them(
    rows: tuple[Tensor, Tensor, int, int], size: int, n_fresh: int
) -> None:
    user, item, n_users, n_items = rows
    owned = set(zip(user.tolist(), item.tolist(), strict=True))
    fresh, lent = (
        Sampler(user, item, None, n_users, n_items, batch_size=size, n_neg=5, n_fresh=n) for n in (None, n_fresh)
    )
    for a, b in zip(fresh.epoch(2), lent.epoch(2), strict=True):
        assert torch.equal(a.user, b.user) and torch.equal(a.neg[:, :n_fresh], b.neg[:, :n_fresh])
        first = b.neg[:, 0].tolist()
        for c in range(n_fresh, 5):
            column = b.neg[:, c].tolist()
            assert not owned & set(zip(b.user.tolist(), column, strict=True))
            shifts = [first[-by:] + first[:-by] for by in range(len(first))]
            taken = [[(u, i) in owned for u, i in zip(b.user.tolist(), turned, strict=True)] for turned in shifts]
            assert any(
                all(i == j or wrong for i, j, wrong in zip(column, turned, bad, strict=True))
                for turned, bad in zip(shifts, taken, strict=True)
            )


def test_lent_negatives_are_spread_as_drawn_ones_and_are_few_items_of_a_batch() -> None:
    user, item = torch.arange(4000), torch.arange(4000) % 1000
    sampler = Sampler(user, item, None, 4000, 1000, batch_size=100, n_neg=9, n_fresh=1)
    _, _, neg = drawn(sampler)
    columns = [torch.bincount(neg[:, c], minlength=1000) for c in range(9)]
    assert all(
        (columns[0].minimum(column)).sum() > 4000 * 0.95 for column in columns
    )  # the same items, but for collisions
    assert len({tuple(neg[:, c].tolist()) for c in range(9)}) == 9
    for rows in sampler.epoch(1):
        assert len(rows.neg.unique()) <= 100 + 10


def test_an_epoch_in_stretches_is_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    user, item = torch.randint(40, (700,), generator=rng), torch.randint(30, (700,), generator=rng)
    made = Sampler(user, item, torch.ones(700), 40, 30, batch_size=64, n_neg=2, n_fresh=1, seed=5)
    whole = list(made.epoch(1))
    monkeypatch.setattr("prismrec.sampling._STRETCH", 130)  # three batches of 64
    cut, again = list(made.epoch(1)), list(made.epoch(1))
    assert [len(batch.user) for batch in cut] == [len(batch.user) for batch in whole] and len(cut) == len(made)
    for a, b, c in zip(whole, cut, again, strict=True):
        assert torch.equal(a.user, b.user) and torch.equal(a.pos, b.pos)
        assert torch.equal(b.neg, c.neg) and b.user.dtype == b.neg.dtype == torch.int64
    assert not torch.equal(cut[0].neg, cut[3].neg)  # a stretch has streams of its own
    taken = set(zip(user.tolist(), item.tolist(), strict=True))
    for batch in cut:
        pairs = zip(batch.user.repeat_interleave(2).tolist(), batch.neg.reshape(-1).tolist(), strict=True)
        assert not taken & set(pairs)
