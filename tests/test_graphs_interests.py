"""The graphs of SOIL against their definitions, one user and item after the other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from prismrec import graphs
from prismrec.graphs import Cosines, Csr, Edges

QUICK = settings(max_examples=30)
USERS, ITEMS = 12, 15


def edges(seed: int) -> Edges:
    rng = torch.Generator().manual_seed(seed)
    user, item = torch.randint(USERS - 1, (40,), generator=rng), torch.randint(ITEMS - 1, (40,), generator=rng)
    return Edges(user, item, USERS, ITEMS)


def features(seed: int, modalities: int = 2) -> list[tuple[Tensor, Tensor]]:
    """Rows that point about the same way, so that few cosines are negative; item 3 lacks the first modality."""
    rng = torch.Generator().manual_seed(seed)
    tables = []
    for m in range(modalities):
        present = torch.ones(ITEMS, dtype=torch.bool)
        present[3] = m > 0
        tables.append((torch.randn(ITEMS, 6, generator=rng) + 0.5, present))
    return tables


def cosines(tables: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """S^m, zero where an item lacks the modality."""
    out = []
    for values, present in tables:
        x = F.normalize(values.double(), dim=1) * present[:, None]
        out.append(x @ x.T)
    return out


def taken(edges: Edges) -> Tensor:
    r = torch.zeros(USERS, ITEMS, dtype=torch.float64)
    r[edges.user, edges.item] = 1
    return r


def made(tables: Sequence[tuple[Tensor, Tensor]]) -> list[Cosines]:
    return [Cosines(*table) for table in tables]


@QUICK
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(0, 4))
def test_second_order_edges_are_the_largest_entries_of_a_users_items_against_all(
    seed: int, modalities: int, extra: int
) -> None:
    e, tables = edges(seed), features(seed + 1, modalities)
    product = torch.stack([s.clamp(min=0) for s in cosines(tables)]).prod(0)
    product.fill_diagonal_(1)
    matrix = graphs.second_order(e, made(tables), extra).dense().double()
    for u, row in enumerate(taken(e)):
        mine = row.nonzero().squeeze(1)
        values, places = product[mine].flatten().sort(descending=True)
        kept = len(mine) + extra
        expected = torch.zeros(ITEMS, dtype=torch.float64)
        expected.index_add_(0, places[:kept] % ITEMS, values[:kept])
        assert torch.allclose(matrix[u].sum(), expected.sum(), atol=1e-5)
        if (
            kept >= len(values) or values[kept - 1] - values[kept] > 1e-6
        ):  # i's likeness to j is j's to i: such ties are open
            assert torch.allclose(matrix[u], expected, atol=1e-6)


@QUICK
@given(st.integers(0, 2**31))
def test_soil_fact_2_a_user_has_its_own_items_and_at_most_so_much_weight_more(seed: int) -> None:
    e = edges(seed)
    n, extra = taken(e).sum(1), 3
    matrix = graphs.second_order(e, made(features(seed)), extra).dense()
    mass = matrix.sum(1)
    assert (mass >= n - 1e-5).all() and (mass <= n + extra + 1e-5).all()
    assert (matrix[taken(e) > 0] >= 1).all() and not matrix[-1].any()


def test_copies_of_an_item_are_picked_after_the_item_itself_and_never_in_its_place() -> None:
    tables = [(torch.ones(ITEMS, 2), torch.ones(ITEMS, dtype=torch.bool))] * 2
    e = Edges(torch.tensor([0, 1]), torch.tensor([7, 2]), 2, ITEMS)
    matrix = graphs.second_order(e, made(tables), 2).dense()
    assert matrix[0].nonzero().flatten().tolist() == [0, 1, 7] and matrix[1].nonzero().flatten().tolist() == [0, 1, 2]


@QUICK
@given(st.integers(0, 2**31), st.integers(1, 20), st.sampled_from([1, 256 << 20]))
def test_what_a_user_is_drawn_to_has_the_largest_sum_of_cosines(seed: int, k: int, memory: int) -> None:
    e, tables = edges(seed), features(seed)
    scores = taken(e) @ cosines(tables)[0]
    ids = graphs.closest(e, made(tables)[0], k, memory)
    k = min(k, ITEMS)
    assert ids.shape == (USERS, k) and all(len(set(row)) == k for row in ids.tolist())
    assert torch.allclose(scores.gather(1, ids), scores.topk(k).values, atol=1e-5)
    assert ids[-1].tolist() == list(range(k))  # all sums are 0: the lowest ids


def test_blocks_of_columns_make_no_difference() -> None:
    rng = torch.Generator().manual_seed(0)
    user, item = torch.randint(50, (300,), generator=rng), torch.randint(700, (300,), generator=rng)
    e = Edges(user, item, 50, 700)
    table = Cosines(torch.randn(700, 8, generator=rng), torch.ones(700, dtype=torch.bool))
    assert torch.equal(graphs.closest(e, table, 9, 1), graphs.closest(e, table, 9))


@QUICK
@given(st.integers(0, 2**31), st.integers(1, 3), st.sampled_from([1, 128 << 20]))
def test_soil_fact_1_interest_weights_are_counts_times_cosines(seed: int, modalities: int, memory: int) -> None:
    e, tables = edges(seed), features(seed, modalities)
    drawn = torch.zeros(USERS, ITEMS, dtype=torch.float64)
    for table in made(tables):
        drawn.scatter_(1, graphs.closest(e, table, 4), 1.0)
    counts = taken(e).T @ drawn
    by_hand = torch.zeros(modalities, ITEMS, ITEMS, dtype=torch.float64)
    for u, i in zip(e.user.tolist(), e.item.tolist(), strict=True):
        for m, s in enumerate(cosines(tables)):
            by_hand[m, i] += s[i] * drawn[u]
    for m, matrix in enumerate(graphs.interest_weights(e, made(tables), 4, memory)):
        assert torch.allclose(matrix.dense().double(), counts * cosines(tables)[m], atol=1e-5)
        assert torch.allclose(matrix.dense().double(), by_hand[m], atol=1e-5)


def test_what_stands_in_rows_of_missing_items_is_not_read_and_half_precision_is_enough() -> None:
    e, tables = edges(0), [(values.half(), present) for values, present in features(0)]
    dirty = [(torch.where(p[:, None], v.float(), 77.0), p) for v, p in tables]
    for make in (lambda t: [graphs.second_order(e, made(t), 3)], lambda t: graphs.interest_weights(e, made(t), 4)):
        assert all(torch.equal(a.dense(), b.dense()) for a, b in zip(make(tables), make(dirty), strict=True))


# --------------------------------------------------------------------------------------------------- normalisation


def test_a_normalised_graph_divides_by_roots_of_row_sums_and_drops_what_is_not_positive() -> None:
    row, column = torch.tensor([0, 0, 0, 1, 2]), torch.tensor([0, 1, 2, 1, 3])
    values = torch.tensor([1.0, 3.0, -2.0, 4.0, -1.0])
    matrix = graphs.normalised(graphs.from_edges(row, column, values, 4, 4)).dense()
    expected = torch.zeros(4, 4)
    expected[0, 0], expected[0, 1], expected[1, 1] = 1 / 4, 3 / 4, 1.0
    assert torch.allclose(matrix, expected)


def test_an_item_without_neighbours_is_its_own_in_a_graph_weighted_by_cosine() -> None:
    ids, cosine = graphs.knn(torch.randn(6, 4), torch.arange(6) != 2, 3)
    matrix = graphs.similarity_matrix(ids, cosine).dense()
    alone = torch.zeros(6)
    alone[2] = 1
    assert torch.equal(matrix[2], alone) and torch.equal(matrix[:, 2], alone)


def test_a_weighted_bipartite_graph_is_the_normalised_adjacency_matrix_of_its_weights() -> None:
    w = torch.rand(5, 4) * (torch.rand(5, 4, generator=torch.Generator().manual_seed(1)) > 0.5)
    w[0], w[:, 3] = 0, 0
    row, column = w.nonzero(as_tuple=True)
    graph = graphs.weighted_bipartite(graphs.from_edges(row, column, w[row, column], 5, 4))
    a = torch.zeros(9, 9)
    a[:5, 5:], a[5:, :5] = w, w.T
    root = torch.where(a.sum(1) > 0, a.sum(1).rsqrt(), 0.0)
    a = root[:, None] * a * root
    assert torch.allclose(graph.to_user.dense(), a[:5, 5:]) and torch.allclose(graph.to_item.dense(), a[5:, :5])


def test_combined_matrices_add_up_and_keep_one_entry_a_place() -> None:
    a = graphs.from_edges(torch.tensor([0, 1, 1]), torch.tensor([2, 0, 0]), torch.tensor([1.0, 2.0, 3.0]), 2, 3)
    b: Csr = graphs.from_edges(torch.tensor([1, 0]), torch.tensor([0, 1]), torch.tensor([4.0, 5.0]), 2, 3)
    total = graphs.combined([(1.0, a), (0.5, b)])
    assert total.dense().tolist() == [[0.0, 2.5, 1.0], [7.0, 0.0, 0.0]] and len(total.values) == 3


@pytest.mark.parametrize("node", ["user", "item"])
def test_what_users_gather_has_the_gradient_of_its_transpose(node: str) -> None:
    graph = edges(2).graph()
    item, weight = torch.randn(ITEMS, 3, requires_grad=True), torch.randn(USERS, 3)
    out = graphs.gather_users(graph, item)
    (gradient,) = torch.autograd.grad((out * weight).sum(), item)
    if node == "user":
        assert torch.allclose(out, graph.to_user.dense() @ item, atol=1e-6)
    else:
        assert torch.allclose(gradient, graph.to_user.dense().T @ weight, atol=1e-6)


@pytest.mark.parametrize("memory", [1, 300, 1 << 20])
@pytest.mark.parametrize("k", [0, 1, 4, 9])
def test_users_are_drawn_to_the_best_of_what_they_did_not_take(memory: int, k: int) -> None:
    rng = torch.Generator().manual_seed(3)
    taken = torch.rand(7, 9, generator=rng) < 0.3
    log = Edges(*taken.nonzero(as_tuple=True), 7, 9)
    user, item = (torch.randint(-2, 3, (n, 3), generator=rng).float() for n in (7, 9))  # with ties
    ids = graphs.drawn_to(log, user, item, k, memory)
    scores = (user @ item.T).masked_fill(taken, -1)
    for u in range(7):
        order = sorted((i for i in range(9) if scores[u, i] > 0), key=lambda i: (-scores[u, i], i))[:k]
        assert ids[u].tolist() == order + [-1] * (k - len(order))
