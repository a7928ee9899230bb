from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prismrec.errors import PrismError
from prismrec.ranking import Csr, rows_of, top_k

NO_LIMIT = settings(max_examples=60)


def naive(scores: Tensor, k: int, masked: Csr | None) -> list[list[int]]:
    """One user after the other, by a sort on (−score, id)."""
    lists = []
    for row, values in enumerate(scores.tolist()):
        hidden = set() if masked is None else set(of_row(masked, row))
        candidates = sorted((-value, item) for item, value in enumerate(values) if item not in hidden)
        best = [item for _, item in candidates[:k]]
        lists.append(best + [-1] * (k - len(best)))
    return lists


def of_row(rows: Csr, row: int) -> list[int]:
    return rows.indices[rows.indptr[row] : rows.indptr[row + 1]].tolist()


def sparse(dense: Tensor) -> Tensor:
    user, item = dense.nonzero(as_tuple=True)
    rows = Csr.of(user.numpy(), item.numpy(), len(dense))
    return Csr(rows.indptr, rows.indices, dense[rows.row, rows.indices]).tensor(dense.shape[1])


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, int, Csr]:
    """Small whole numbers, so that ties abound; some users and items are all zero; some users have everything masked."""
    seed = draw(st.integers(0, 2**31))
    n_users, n_items = draw(st.integers(1, 12)), draw(st.sampled_from([1, 2, 5, 33, 200, 700]))
    k = draw(st.sampled_from([1, 2, 3, 10, 40]))
    high = draw(st.sampled_from([1, 2, 5]))
    rng = np.random.default_rng(seed)
    user = torch.from_numpy(rng.integers(-high, high + 1, (n_users, 3)).astype(np.float32))
    item = torch.from_numpy(rng.integers(-high, high + 1, (n_items, 3)).astype(np.float32))
    user[rng.random(n_users) < 0.2] = 0
    n = int(rng.integers(0, 4 * n_users + 1))
    rows, items = rng.integers(0, n_users, n), rng.integers(0, n_items, n)
    everything = np.flatnonzero(rng.random(n_users) < 0.15)
    rows = np.concatenate([rows, np.repeat(everything, n_items)])
    items = np.concatenate([items, np.tile(np.arange(n_items), len(everything))])
    return user, item, k, Csr.of(rows, items, n_users)


@NO_LIMIT
@given(problems())
def test_lists_are_those_of_a_naive_loop(problem: tuple[Tensor, Tensor, int, Csr]) -> None:
    user, item, k, masked = problem
    scores = user @ item.T
    ranked = top_k(user, item, k, masked)
    assert ranked.items.tolist() == naive(scores, k, masked)
    filled = ranked.items >= 0
    assert torch.equal(ranked.scores[filled], scores.gather(1, ranked.items.clamp(min=0))[filled])
    assert (ranked.scores[~filled] == -torch.inf).all()


@NO_LIMIT
@given(problems())
def test_sparse_sides_give_the_same_lists(problem: tuple[Tensor, Tensor, int, Csr]) -> None:
    user, item, k, masked = problem
    dense = top_k(user, item, k, masked)
    for left, right in ((sparse(user), item), (user, sparse(item)), (sparse(user), sparse(item))):
        ranked = top_k(left, right, k, masked)
        assert torch.equal(ranked.items, dense.items)
        assert torch.equal(ranked.scores, dense.scores)


@NO_LIMIT
@given(problems(), st.integers(0, 2**31))
def test_chosen_users_have_the_lists_they_have_among_all(problem: tuple[Tensor, Tensor, int, Csr], seed: int) -> None:
    user, item, k, masked = problem
    users = torch.from_numpy(np.random.default_rng(seed).integers(0, len(user), 5))
    everybody = top_k(user, item, k, masked)
    assert torch.equal(top_k(user, item, k, masked, users).items, everybody.items[users])
    assert torch.equal(top_k(sparse(user), item, k, masked, users).items, everybody.items[users])


@pytest.mark.parametrize("n_items", [60, 900, 7050])
def test_when_everything_ties_the_lowest_ids_win(n_items: int) -> None:
    masked = Csr.of(np.array([0, 0, 1]), np.array([0, 2, n_items - 1]), 3)
    ranked = top_k(torch.zeros(3, 8), torch.randn(n_items, 8), 20, masked)
    assert ranked.items[0].tolist() == [1, *range(3, 22)]
    assert ranked.items[1].tolist() == ranked.items[2].tolist() == list(range(20))


def test_one_score_for_all_users_with_ties_at_every_place() -> None:
    count = torch.from_numpy(np.random.default_rng(0).integers(0, 5, 3000)).float()
    ranked = top_k(torch.ones(300, 1), count.unsqueeze(1), 50)
    assert ranked.items.tolist() == [count.sort(descending=True, stable=True).indices[:50].tolist()] * 300


def test_many_blocks_agree_with_a_full_sort() -> None:
    generator = torch.Generator().manual_seed(1)
    user, item = torch.randn(2500, 16, generator=generator), torch.randn(3001, 16, generator=generator)
    ranked = top_k(user, item, 50)
    values, order = (user @ item.T).sort(dim=1, descending=True)
    assert (ranked.items == order[:, :50]).float().mean() > 0.999  # another order of summation may swap neighbours
    assert torch.allclose(ranked.scores, values[:, :50], atol=1e-5)


def test_the_number_of_threads_changes_no_bit_and_is_left_as_it_was() -> None:
    generator = torch.Generator().manual_seed(2)
    user, item = torch.randn(3000, 16, generator=generator), torch.randn(2000, 16, generator=generator)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(top_k(user, item, 20))
            assert torch.get_num_threads() == threads
            inherited: list[int] = []
            thread = threading.Thread(target=lambda seen=inherited: seen.append(torch.get_num_threads()))
            thread.start()
            thread.join()
            assert inherited == [threads]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0].items, results[1].items)
    assert torch.equal(results[0].scores, results[1].scores)


def test_it_works_where_gradients_are_asked_for_and_in_inference_mode() -> None:
    user, item = torch.randn(40, 4, requires_grad=True), torch.randn(50, 4, requires_grad=True)
    plain = top_k(user, item, 5)
    assert not plain.scores.requires_grad
    with torch.inference_mode():
        assert torch.equal(top_k(user * 1.0, item * 1.0, 5).items, plain.items)


def test_half_precision_is_scored_in_single_precision() -> None:
    user, item = torch.randn(20, 4).bfloat16(), torch.randn(30, 4).bfloat16()
    ranked = top_k(user, item, 5)
    assert ranked.scores.dtype == torch.float32
    assert torch.equal(ranked.items, top_k(user.float(), item.float(), 5).items)


def test_more_places_than_items_are_left_empty() -> None:
    ranked = top_k(torch.ones(2, 1), torch.tensor([[1.0], [3.0], [2.0]]), 5)
    assert ranked.items.tolist() == [[1, 2, 0, -1, -1]] * 2
    assert ranked.first(2).items.tolist() == [[1, 2]] * 2


def test_nobody_asked_for() -> None:
    assert top_k(torch.ones(3, 2), torch.ones(4, 2), 2, users=torch.zeros(0, dtype=torch.int64)).items.shape == (0, 2)


def test_no_place_asked_for() -> None:
    with pytest.raises(PrismError, match="k is 0"):
        top_k(torch.ones(2, 1), torch.ones(2, 1), 0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_representations_that_are_not_finite_are_refused(bad: float) -> None:
    good, item = torch.ones(3, 2), torch.ones(4, 2)
    item[2, 1] = bad
    with pytest.raises(PrismError, match="item representations hold NaN or infinite"):
        top_k(good, item, 2)
    with pytest.raises(PrismError, match="user representations"):
        top_k(sparse(item), good[:, :2], 2)


def test_pairs_become_rows_sorted_and_distinct() -> None:
    rows = Csr.of(np.array([2, 0, 2, 2, 0], np.int32), np.array([5, 1, 3, 5, 0], np.int32), 4)
    assert [of_row(rows, row) for row in range(4)] == [[0, 1], [], [3, 5], []]
    assert rows.counts.tolist() == [2, 0, 2, 0]
    assert rows.row.tolist() == [0, 0, 2, 2]
    taken = rows.take(torch.tensor([2, 1, 0, 2]))
    assert [of_row(taken, row) for row in range(4)] == [[3, 5], [], [0, 1], [3, 5]]
    assert len(Csr.empty(3)) == 3


def test_rows_of_a_sparse_side() -> None:
    dense = torch.tensor([[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]])
    rows = torch.tensor([2, 0, 1])
    assert torch.equal(rows_of(sparse(dense), rows).to_dense(), dense[rows])
