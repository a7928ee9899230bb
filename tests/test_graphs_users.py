from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prismrec import graphs
from prismrec.data.sources import read
from prismrec.graphs.users import Pad

QUICK = settings(max_examples=40)


def log(seed: int, users: int = 30, items: int = 12, rows: int = 90) -> tuple[Tensor, Tensor]:
    """Rows with repetitions and popular items; the last user took nothing."""
    rng = torch.Generator().manual_seed(seed)
    item = (torch.rand(rows, generator=rng) ** 2 * items).long()
    return torch.randint(users - 1, (rows,), generator=rng), item


def naive(user: Tensor, item: Tensor, users: int, k: int) -> list[list[tuple[int, int]]]:
    """One pair of users after the other."""
    taken = [{int(i) for u, i in zip(user, item, strict=True) if u == v} for v in range(users)]
    out = []
    for u in range(users):
        common = {v: len(taken[u] & taken[v]) for v in range(users) if v != u}
        best = sorted((v for v in common if common[v]), key=lambda v: (-common[v], v))[:k]
        out.append([(v, common[v]) for v in best] + [(-1, 0)] * (k - len(best)))
    return out


@QUICK
@given(st.integers(0, 2**31), st.integers(1, 40), st.sampled_from([1, 1500, 1 << 20]), st.sampled_from([12, 60]))
def test_neighbours_are_those_of_a_naive_loop_whatever_the_blocks(seed: int, k: int, memory: int, items: int) -> None:
    user, item = log(seed, items=items)
    ids, counts = graphs.co_interactions(user, item, 30, items, k, memory)
    assert ids.dtype == torch.int64 and counts.dtype == torch.float32
    found = [list(zip(*row, strict=True)) for row in zip(ids.tolist(), counts.tolist(), strict=True)]
    assert found == naive(user, item, 30, k)


@pytest.mark.parametrize("k", [1, 7, 50, 600])
@pytest.mark.parametrize("memory", [20_000, 1 << 28])
@pytest.mark.parametrize("wide", [False, True])
def test_neighbours_are_those_of_a_dense_product_where_a_few_items_are_everybodys(
    k: int, memory: int, wide: bool
) -> None:
    users, items, rng = 500, 220, torch.Generator().manual_seed(k)
    chance = torch.rand(items, generator=rng) ** 4 * 0.2 + 0.005
    chance[[3, 50, 51, 199]] = torch.tensor([0.95, 0.6, 0.5, 0.3])
    r = (torch.rand(users, items, generator=rng) < chance).float()
    if wide:
        r[:60, 5:120] = 1  # more common items than are told apart on the way
    r[-1] = 0
    ids, counts = graphs.co_interactions(*r.nonzero(as_tuple=True), users, items, k, memory)
    c = (r @ r.T).fill_diagonal_(0)
    best, column = c.sort(dim=1, descending=True, stable=True)
    width = min(k, users)
    assert torch.equal(counts[:, :width], best[:, :width])
    assert torch.equal(ids[:, :width], torch.where(best > 0, column, -1)[:, :width])
    assert ids[:, width:].eq(-1).all() and not counts[:, width:].any()


def test_dualgnn_fact_1_counts_are_symmetric_without_diagonal_and_at_most_the_smaller_degree() -> None:
    user, item = log(1)
    ids, counts = graphs.co_interactions(user, item, 30, 12, 30)
    c = torch.zeros(30, 30)
    row, slot = (ids >= 0).nonzero(as_tuple=True)
    c[row, ids[row, slot]] = counts[row, slot]
    r = torch.zeros(30, 12)
    r[user, item] = 1
    assert torch.equal(c, c.T) and not c.diagonal().any()
    assert (c <= torch.minimum(r.sum(1)[:, None], r.sum(1))).all()
    assert torch.equal(c, (r @ r.T).fill_diagonal_(0))


def test_the_order_of_the_rows_and_repetitions_do_not_matter() -> None:
    user, item = log(2)
    first = graphs.co_interactions(user, item, 30, 12, 5)
    again = graphs.co_interactions(user.repeat(2).flip(0), item.repeat(2).flip(0), 30, 12, 5)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_nobody_shares_anything() -> None:
    ids, counts = graphs.co_interactions(torch.arange(3), torch.arange(3), 4, 3, 2)
    assert ids.eq(-1).all() and not counts.any() and ids.shape == counts.shape == (4, 2)
    assert not graphs.user_graph(ids, counts).dense().any()
    nobody = torch.zeros(0, dtype=torch.int64)
    assert graphs.co_interactions(nobody, nobody, 4, 3, 2)[0].eq(-1).all()


@QUICK
@given(st.integers(0, 2**31))
def test_graphs_have_the_weights_of_their_definitions(seed: int) -> None:
    ids, counts = graphs.co_interactions(*log(seed), 30, 12, 6)
    c = torch.zeros(30, 30, dtype=torch.float64)
    row, slot = (ids >= 0).nonzero(as_tuple=True)
    c[row, ids[row, slot]] = counts[row, slot].double()
    kept = (c > 0).double()
    total = c.sum(1)
    expected = {
        "softmax": torch.nan_to_num((c.exp() * kept) / (c.exp() * kept).sum(1, keepdim=True)),
        "uniform": kept / kept.sum(1, keepdim=True).clamp(min=1),
        "symmetric": c / (total[:, None] * total).clamp(min=1).sqrt(),
    }
    for weights, matrix in expected.items():
        assert torch.allclose(graphs.user_graph(ids, counts, weights).dense().double(), matrix, atol=1e-6)


def test_a_neighbour_that_stands_there_twice_counts_twice() -> None:
    ids, counts = (
        torch.tensor([[1, 2, 1], [0, -1, -1], [-1, -1, -1]]),
        torch.tensor([[3.0, 1, 3], [2, 0, 0], [0, 0, 0]]),
    )
    matrix = graphs.user_graph(ids, counts).dense()
    share = torch.tensor([3.0, 1, 3]).softmax(0)
    assert torch.allclose(matrix, torch.tensor([[0, share[0] + share[2], share[1]], [1, 0, 0], [0, 0, 0]]))


def test_short_lists_are_filled_up_with_copies_of_their_members() -> None:
    ids, counts = graphs.co_interactions(*log(6, items=40), 30, 40, 12)
    first, again, other = (graphs.fill_up(ids, counts, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], other[0])
    known = ids >= 0
    assert known.any(1).any() and not known.all(1).all()
    for filled, filled_counts in (first, other):
        assert torch.equal(filled[known], ids[known]) and torch.equal((filled >= 0).all(1), known.any(1))
        for u in known.any(1).nonzero().squeeze(1):
            count = dict(zip(ids[u].tolist(), counts[u].tolist(), strict=True))
            assert filled_counts[u].tolist() == [count[v] for v in filled[u].tolist()]
    assert torch.equal(graphs.fill_up(ids[:, :0], counts[:, :0], torch.Generator())[0], ids[:, :0])


def test_a_copy_makes_further_copies_likelier() -> None:
    ids = torch.tensor([[5, 6] + [-1] * 8]).repeat(4000, 1)
    filled, _ = graphs.fill_up(ids, ids.float(), torch.Generator().manual_seed(0))
    fives = (filled == 5).sum(1)
    # of an urn that starts with one of each, every composition is equally likely
    assert torch.allclose(torch.bincount(fives, minlength=10)[1:] / 4000, torch.full((9,), 1 / 9), atol=0.02)


def test_large_counts_do_not_overflow() -> None:
    matrix = graphs.user_graph(
        torch.tensor([[1, 2], [0, -1], [0, -1]]), torch.tensor([[900.0, 899], [900, 0], [899, 0]])
    )
    assert torch.allclose(matrix.dense()[0], torch.tensor([0, 0.7310586, 0.2689414]))


def test_a_frozen_matrix_has_the_gradient_of_its_transpose() -> None:
    matrix = graphs.user_graph(*graphs.co_interactions(*log(3), 30, 12, 4))
    frozen = graphs.Frozen(matrix)
    x, weight = torch.randn(30, 5, requires_grad=True), torch.randn(30, 5)
    out = frozen(x)
    (gradient,) = torch.autograd.grad((out * weight).sum(), x)
    assert torch.allclose(out, matrix.dense() @ x, atol=1e-6)
    assert torch.allclose(gradient, matrix.dense().T @ weight, atol=1e-6)


def test_baby_takes_a_moment(shared_data: Path) -> None:
    train = read(shared_data / "baby").interactions.part("train")
    user, item = torch.from_numpy(train.user).long(), torch.from_numpy(train.item).long()
    ids, counts = graphs.co_interactions(user, item, 19_445, 7_050, 200)
    order = user.argsort()
    groups = dict(enumerate(item[order].split(torch.bincount(user, minlength=19_445).tolist())))
    for u in (0, 777, 19_444):
        mine = set(groups[u].tolist())
        common = torch.tensor([len(mine & set(groups[v].tolist())) for v in groups])
        common[u] = 0
        best = sorted(common.nonzero().squeeze(1).tolist(), key=lambda v: (-int(common[v]), v))[:200]
        assert ids[u][ids[u] >= 0].tolist() == best
        assert counts[u][ids[u] >= 0].tolist() == common[best].tolist()


@pytest.mark.cuda
def test_on_cuda_the_same_comes_back_there() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    user, item = log(4)
    here, there = (
        graphs.co_interactions(user, item, 30, 12, 5),
        graphs.co_interactions(user.cuda(), item.cuda(), 30, 12, 5),
    )
    assert all(b.is_cuda and torch.equal(a, b.cpu()) for a, b in zip(here, there, strict=True))


def test_friends_fill_up_short_lists_in_training_alone() -> None:
    pads: tuple[Pad, Pad] = ("mask", "resample")
    plain, filled = (graphs.Friends(*log(3), 30, 12, 20, pad) for pad in pads)
    for friends in (plain, filled):
        friends.redraw(torch.Generator().manual_seed(1))
    x = torch.randn(30, 5)
    expected = graphs.user_graph(*graphs.co_interactions(*log(3), 30, 12, 20)).times(x)
    assert torch.equal(plain(x), expected) and not torch.allclose(filled(x), expected)
    assert torch.equal(filled.eval()(x), expected) and torch.equal(plain.eval()(x), expected)
