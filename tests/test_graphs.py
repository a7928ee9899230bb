from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode

from prismrec import graphs
from prismrec.graphs import Bipartite, Csr, Edges, ItemGraph

QUICK = settings(max_examples=40)


def random_edges(seed: int, users: int = 7, items: int = 9, rows: int = 25) -> Edges:
    """Edges with repetitions; the last user and the last item have none."""
    rng = torch.Generator().manual_seed(seed)
    user, item = (torch.randint(n - 1, (rows,), generator=rng) for n in (users, items))
    return Edges(user, item, users, items)


def adjacency(edges: Edges, keep: Tensor | None = None) -> Tensor:
    """Â (U+I, U+I) by the definition: D^-1/2 [[0, R], [Rᵀ, 0]] D^-1/2, in double precision."""
    user, item = (edges.user, edges.item) if keep is None else (edges.user[keep], edges.item[keep])
    n = edges.n_users + edges.n_items
    a = torch.zeros(n, n, dtype=torch.float64)
    a[user, edges.n_users + item] = 1
    a += a.T.clone()
    root = a.sum(1).clamp(min=1).rsqrt()
    return root[:, None] * a * root


def dense(graph: Bipartite) -> Tensor:
    u, i = graph.to_user.rows, graph.to_item.rows
    a = torch.zeros(u + i, u + i, dtype=torch.float64)
    a[:u, u:], a[u:, :u] = graph.to_user.dense().double(), graph.to_item.dense().double()
    return a


# ------------------------------------------------------------------------------------------------- sparse matrices


@QUICK
@given(st.integers(0, 2**31), st.integers(0, 40))
def test_entries_in_any_order_make_the_matrix_they_describe(seed: int, n: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    row, column = torch.randint(5, (n,), generator=rng), torch.randint(8, (n,), generator=rng)
    values = torch.randn(n, generator=rng)
    expected = torch.zeros(5, 8).index_put_((row, column), values, accumulate=True)
    matrix = graphs.from_edges(row, column, values, 5, 8)
    x = torch.randn(8, 3, generator=rng)
    assert torch.allclose(matrix.dense(), expected, atol=1e-6)
    assert torch.allclose(matrix.transpose().dense(), expected.T, atol=1e-6)
    assert torch.allclose(matrix.times(x), expected @ x, atol=1e-5)
    assert (matrix.rows, matrix.columns, matrix.transpose().rows) == (5, 8, 8)
    ends = matrix.indptr.tolist()
    assert all(matrix.indices[a:b].diff().ge(0).all() for a, b in itertools.pairwise(ends))


def test_graphs_follow_their_module_and_are_not_saved() -> None:
    graph = ItemGraph(graphs.knn_matrix(torch.tensor([[0, 1], [1, 0]])))
    assert graph.state_dict() == {} and len(list(graph.buffers())) == 6
    assert graph.double().matrix.values.dtype == torch.float64


def test_a_product_under_autocast_is_made_in_full_precision() -> None:
    matrix = graphs.knn_matrix(torch.tensor([[0, 1], [1, 0]]))
    with torch.autocast("cpu", torch.bfloat16):
        assert matrix.times(torch.ones(2, 3, dtype=torch.bfloat16)).dtype == torch.float32


# ----------------------------------------------------------------------------------------- the user–item graph


def test_edges_are_distinct_and_sorted_by_user() -> None:
    edges = Edges(torch.tensor([2, 0, 2, 0]), torch.tensor([1, 3, 1, 0]), 3, 5)
    assert edges.user.tolist() == [0, 0, 2] and edges.item.tolist() == [0, 3, 1] and len(edges) == 3
    assert edges.item[edges.by_item].tolist() == [0, 1, 3]
    assert [d.tolist() for d in edges.degrees()] == [[2, 0, 1], [1, 1, 0, 1, 0]]


@QUICK
@given(st.integers(0, 2**31), st.booleans())
def test_the_graph_is_the_normalised_adjacency_matrix(seed: int, thinned: bool) -> None:
    edges = random_edges(seed)
    keep = torch.rand(len(edges), generator=torch.Generator().manual_seed(seed)) < 0.4 if thinned else None
    assert torch.allclose(dense(edges.graph(keep)), adjacency(edges, keep), atol=1e-7)


def test_lightgcn_fact_2_the_spectrum_is_symmetric_and_lies_within_one() -> None:
    edges = random_edges(4)
    a = dense(edges.graph())
    values = torch.linalg.eigvalsh(a)
    assert torch.allclose(a, a.T) and values.abs().max() <= 1 + 1e-6
    assert torch.allclose(values, -values.flip(0), atol=1e-6)
    root = torch.cat(edges.degrees()).double().sqrt()
    assert torch.allclose(a @ root, root, atol=1e-6)


def test_lightgcn_fact_3_an_entry_is_the_product_of_inverse_roots_of_degrees_and_rows_do_not_sum_to_one() -> None:
    edges = Edges(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2, 2)
    a = edges.graph().to_user.dense()
    assert torch.allclose(a, torch.tensor([[1 / math.sqrt(2), 0.5], [0.0, 1 / math.sqrt(2)]]))
    assert not torch.allclose(a.sum(1), torch.ones(2))


@QUICK
@given(st.integers(0, 2**31), st.integers(0, 4))
def test_propagation_is_the_mean_of_powers_and_so_is_its_gradient(seed: int, layers: int) -> None:
    edges = random_edges(seed)
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(16, 3, generator=rng, dtype=torch.float64)
    a = adjacency(edges)
    mean = sum(torch.linalg.matrix_power(a, n) for n in range(layers + 1)) / (layers + 1)
    user, item = x[:7].float().requires_grad_(), x[7:].float().requires_grad_()
    out = torch.cat(graphs.propagate_mean(edges.graph(), layers, user, item))
    assert torch.allclose(out.double(), mean @ x, atol=1e-5)
    weight = torch.randn(16, 3, generator=rng)
    gradient = torch.cat(torch.autograd.grad((out * weight).sum(), (user, item)))
    assert torch.allclose(gradient.double(), mean.T @ weight.double(), atol=1e-5)


@QUICK
@given(st.integers(0, 2**31), st.integers(0, 4))
def test_the_sum_of_layers_is_so_many_times_their_mean_and_so_is_its_gradient(seed: int, layers: int) -> None:
    graph = random_edges(seed).graph()
    user, item = torch.randn(7, 3, requires_grad=True), torch.randn(9, 3, requires_grad=True)
    weight = torch.randn(16, 3)
    total = torch.cat(graphs.propagate_sum(graph, layers, user, item))
    mean = torch.cat(graphs.propagate_mean(graph, layers, user, item))
    assert torch.allclose(total, (layers + 1) * mean, atol=1e-5)
    a, b = (torch.cat(torch.autograd.grad((out * weight).sum(), (user, item))) for out in (total, mean))
    assert torch.allclose(a, (layers + 1) * b, atol=1e-5)


@QUICK
@given(st.integers(0, 2**31), st.integers(0, 4))
def test_the_last_layer_alone_is_a_power_and_so_is_its_gradient(seed: int, layers: int) -> None:
    edges, rng = random_edges(seed), torch.Generator().manual_seed(seed)
    power = torch.linalg.matrix_power(adjacency(edges), layers)
    x, weight = (torch.randn(16, 3, generator=rng) for _ in range(2))
    user, item = x[:7].clone().requires_grad_(), x[7:].clone().requires_grad_()
    out = torch.cat(graphs.propagate_last(edges.graph(), layers, user, item))
    assert torch.allclose(out.double(), power @ x.double(), atol=1e-5)
    gradient = torch.cat(torch.autograd.grad((out * weight).sum(), (user, item)))
    assert torch.allclose(gradient.double(), power @ weight.double(), atol=1e-5)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_all_layers_apart_are_powers_and_so_are_their_gradients(layers: int) -> None:
    edges = random_edges(4)
    powers = [torch.linalg.matrix_power(adjacency(edges), n) for n in range(layers + 1)]
    x, weights = torch.randn(16, 3), torch.randn(layers + 1, 16, 3)
    user, item = x[:7].clone().requires_grad_(), x[7:].clone().requires_grad_()
    sides = graphs.propagate_each(edges.graph(), layers, user, item)
    out = torch.stack([torch.cat(pair) for pair in zip(*sides, strict=True)])
    assert torch.allclose(out.double(), torch.stack([power @ x.double() for power in powers]), atol=1e-5)
    gradient = torch.cat(torch.autograd.grad((out * weights).sum(), (user, item)))
    expected = torch.stack([power @ w for power, w in zip(powers, weights.double(), strict=True)]).sum(0)
    assert torch.allclose(gradient.double(), expected, atol=1e-5)


def test_mmgcn_fact_2_means_over_neighbours_have_rows_of_one_or_nothing_and_gradients_of_their_transposes() -> None:
    edges = random_edges(5)
    r = torch.zeros(7, 9)
    r[edges.user, edges.item] = 1
    for frozen, binary in zip(edges.means(), (r, r.T), strict=True):
        m = frozen.matrix.dense()
        assert torch.allclose(m, binary / binary.sum(1, keepdim=True).clamp(min=1))
        assert torch.allclose(m.sum(1), (binary.sum(1) > 0).float()) and not m[-1].any()
        x, weight = torch.randn(m.shape[1], 4, requires_grad=True), torch.randn(len(m), 4)
        out = frozen(x)
        (gradient,) = torch.autograd.grad((out * weight).sum(), x)
        assert torch.allclose(out, m @ x, atol=1e-6) and torch.allclose(gradient, m.T @ weight, atol=1e-6)


def test_mmssl_fact_1_halves_by_the_root_of_the_receivers_degree() -> None:
    edges = random_edges(5)
    r = torch.zeros(7, 9)
    r[edges.user, edges.item] = 1
    for frozen, binary in zip(edges.roots(), (r, r.T), strict=True):
        assert torch.allclose(frozen.matrix.dense(), binary * binary.sum(1, keepdim=True).clamp(min=1).rsqrt())
        assert torch.equal(frozen.transposed.dense(), frozen.matrix.dense().T)


def test_a_gradient_that_comes_from_users_alone() -> None:
    edges = random_edges(1)
    user, item = torch.randn(7, 3, requires_grad=True), torch.randn(9, 3, requires_grad=True)
    graphs.propagate_mean(edges.graph(), 2, user, item)[0].sum().backward()
    ones = torch.cat([torch.ones(7, 3), torch.zeros(9, 3)]).double()
    a = adjacency(edges)
    expected = (ones + a @ ones + a @ a @ ones) / 3
    assert user.grad is not None and item.grad is not None
    assert torch.allclose(torch.cat([user.grad, item.grad]).double(), expected, atol=1e-5)


def test_a_graph_without_edges_keeps_each_node_to_itself() -> None:
    edges = random_edges(2)
    graph = edges.graph(torch.zeros(len(edges), dtype=torch.bool))
    user, item = torch.randn(7, 3), torch.randn(9, 3)
    out = graphs.propagate_mean(graph, 2, user, item)
    assert torch.allclose(out[0], user / 3) and torch.allclose(out[1], item / 3)


# ------------------------------------------------------------------------------------------------- drawing edges


@QUICK
@given(st.integers(0, 2**31), st.sampled_from([0.05, 0.1, 0.2, 0.5, 0.9, 1.0]))
def test_freedom_fact_2_exactly_so_many_edges_are_kept(seed: int, prune: float) -> None:
    edges = random_edges(seed)
    kept = edges.sample(1 - prune, torch.Generator().manual_seed(seed))
    exact = len(edges) - math.ceil(round(len(edges) * prune, 9))
    assert kept.dtype == torch.bool and int(kept.sum()) == exact


def test_a_share_that_is_whole_in_decimal_is_not_rounded_down() -> None:
    edges = Edges(torch.arange(10), torch.arange(10), 10, 10)
    assert int(edges.sample(1 - 0.8, torch.Generator()).sum()) == 2  # 10 · (1 - 0.8) is 1.9999999999999996


def test_freedom_fact_2_draws_differ_between_generators_and_repeat_with_one() -> None:
    edges = random_edges(5, 40, 50, 300)
    draws = [edges.sample(0.3, torch.Generator().manual_seed(seed)) for seed in (1, 2, 1)]
    assert torch.equal(draws[0], draws[2]) and not torch.equal(draws[0], draws[1])


def test_freedom_fact_3_edges_between_rare_nodes_are_kept_more_often() -> None:
    """Item 0 has two users: one takes nothing else (d = 1), the other takes everything (d = 30)."""
    user = torch.tensor([0] + [1] * 30)
    item = torch.tensor([0, *range(30)])
    edges = Edges(user, item, 2, 30)
    rng = torch.Generator().manual_seed(0)
    kept = torch.stack([edges.sample(0.2, rng) for _ in range(1000)]).float().mean(0)
    assert kept[0] > 1.5 * kept[1]


def test_uniform_draws_keep_all_edges_equally_often() -> None:
    edges = Edges(torch.tensor([0] + [1] * 30), torch.tensor([0, *range(30)]), 2, 30)
    rng, n = torch.Generator().manual_seed(0), 4_000
    kept = torch.stack([edges.sample(0.2, rng, uniform=True) for _ in range(n)])
    assert (kept.sum(1) == 6).all()
    assert (kept.float().mean(0) - 6 / 31).abs().max() < 4.5 * math.sqrt(6 / 31 * 25 / 31 / n)


def test_draws_follow_the_law_of_sequential_draws_without_replacement() -> None:
    """Two of four edges: P{a, b} = p_a p_b / (1 - p_a) + p_a p_b / (1 - p_b)."""
    user, item = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 1])
    edges = Edges(user, item, 3, 2)
    d_user, d_item = edges.degrees()
    p = (d_user[edges.user] * d_item[edges.item]).double().rsqrt()
    p /= p.sum()
    rng, n = torch.Generator().manual_seed(7), 8_000
    draws = torch.stack([edges.sample(0.5, rng) for _ in range(n)])
    for a in range(4):
        for b in range(a):
            expected = float(p[a] * p[b] / (1 - p[a]) + p[a] * p[b] / (1 - p[b]))
            found = float((draws[:, a] & draws[:, b]).float().mean())
            assert abs(found - expected) < 4 * math.sqrt(expected * (1 - expected) / n)


# ------------------------------------------------------------------------------------------------------ neighbours


def naive_knn(values: Tensor, present: Tensor, k: int) -> list[list[int]]:
    """One item after the other: itself, then by (−cosine, id) among the items that have features; exact integers inside."""
    x = values.double()
    usable = [bool(p) and bool(row.any()) for p, row in zip(present, x, strict=True)]
    out = []
    for i in range(len(x)):
        rest = [j for j in range(len(x)) if usable[j] and j != i]
        cosine = {j: float(x[i] @ x[j] / x[i].norm() / x[j].norm()) for j in rest} if usable[i] else {}
        order = [i, *sorted(rest, key=lambda j: (-round(cosine[j], 5), j))][:k] if usable[i] else []
        out.append(order + [-1] * (min(k, len(x)) - len(order)))
    return out


@st.composite
def features(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    """Rows of axis-aligned integers (so that cosines of equal worth are equal in floating point), zeros, missing items."""
    n = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    axis, length = rng.integers(0, 4, n), rng.integers(0, 3, n)
    values = torch.zeros(n, 4)
    values[torch.arange(n), torch.from_numpy(axis)] = torch.from_numpy(
        2.0**length * rng.choice([-1.0, 0.0, 1.0], n)
    ).float()
    present = torch.from_numpy(rng.random(n) < 0.85)
    return values, present, draw(st.integers(1, 12))


@QUICK
@given(features(), st.sampled_from([1, 64 * 7, 128 << 20]))
def test_neighbours_with_ties_zero_rows_and_missing_items_are_those_of_a_naive_loop(
    problem: tuple[Tensor, Tensor, int], memory: int
) -> None:
    values, present, k = problem
    ids, cosine = graphs.knn(values, present, k, memory)
    assert ids.tolist() == naive_knn(values, present, k)
    assert (cosine[ids < 0] == 0).all()


@pytest.mark.parametrize("k", [1, 5, 40, 700])
def test_neighbours_of_random_features_are_those_of_a_full_sort(k: int) -> None:
    values = torch.randn(700, 16, generator=torch.Generator().manual_seed(k))
    present = torch.ones(700, dtype=torch.bool)
    present[::9] = False
    ids, cosine = graphs.knn(values, present, k, memory=700 * 4 * 50)
    assert torch.equal(ids >= 0, present[:, None] & (torch.arange(ids.shape[1]) < present.sum()))
    x = torch.nn.functional.normalize(values.double(), dim=1)
    exact = (x @ x.T).masked_fill(~present, -torch.inf)
    best = exact.sort(dim=1, descending=True).values[:, : ids.shape[1]]
    filled = ids >= 0
    assert torch.allclose(cosine[filled].double(), best[filled], atol=1e-6)
    assert torch.allclose(exact.gather(1, ids.clamp(min=0))[filled], best[filled], atol=1e-6)
    assert (ids[present, 0] == torch.arange(700)[present]).all() and (cosine[present, 0] == 1).all()


def test_an_item_with_more_copies_than_places_is_still_its_own_first_neighbour() -> None:
    ids, cosine = graphs.knn(torch.ones(30, 3), torch.ones(30, dtype=torch.bool), 4)
    assert ids[:, 0].tolist() == list(range(30))
    assert ids[20].tolist() == [20, 0, 1, 2] and torch.allclose(cosine, torch.ones(30, 4))
    assert (cosine <= 1).all()


def test_more_neighbours_than_items_gives_all_items() -> None:
    ids, _ = graphs.knn(torch.randn(3, 4), torch.tensor([True, False, True]), 10)
    assert ids.shape == (3, 3) and sorted(ids[0].tolist()) == [-1, 0, 2] and ids[1].tolist() == [-1] * 3


def test_what_stands_in_missing_rows_is_not_read() -> None:
    values, present = torch.randn(20, 4), torch.rand(20) < 0.7
    dirty = torch.where(present[:, None], values, torch.nan)
    assert torch.equal(graphs.knn(values, present, 5)[0], graphs.knn(dirty, present, 5)[0])


def test_neighbours_of_a_half_precision_file_in_memory_map_are_exact_and_the_file_is_unchanged(tmp_path: Path) -> None:
    half = np.random.default_rng(0).standard_normal((200, 12)).astype(np.float16)
    np.save(tmp_path / "features.npy", half)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="c")
    present = torch.ones(200, dtype=torch.bool)
    ids, cosine = graphs.knn(torch.from_numpy(mapped), present, 7)
    expected = graphs.knn(torch.from_numpy(half.astype(np.float32)), present, 7)
    assert torch.equal(ids, expected[0]) and torch.equal(cosine, expected[1])
    assert np.array_equal(np.load(tmp_path / "features.npy"), half)


class Largest(TorchFunctionMode):
    """Bytes of the largest tensor that any operation returns."""

    size = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor):
                self.size = max(self.size, tensor.untyped_storage().nbytes())
        return out


def test_nothing_of_items_squared_is_ever_allocated() -> None:
    n, memory = 3000, 1 << 20
    values, present = torch.randn(n, 8), torch.ones(n, dtype=torch.bool)
    with Largest() as seen:
        ids, _ = graphs.knn(values, present, 10, memory)
        graphs.ItemGraph(graphs.knn_matrix(ids))
    assert 0.5 * memory < seen.size <= memory < n * n


# ------------------------------------------------------------------------------------------------------- item graphs


def test_freedom_fact_1_entries_are_one_over_k_rows_sum_to_one_and_the_diagonal_is_positive() -> None:
    parts = []
    for seed in (0, 1):
        values = torch.randn(40, 6, generator=torch.Generator().manual_seed(seed))
        matrix = graphs.knn_matrix(graphs.knn(values, torch.ones(40, dtype=torch.bool), 5)[0])
        assert torch.allclose(matrix.values, torch.tensor(0.2))
        parts.append(matrix)
    whole = graphs.weighted_sum(parts, [0.1, 0.9])
    assert torch.allclose(whole.dense(), 0.1 * parts[0].dense() + 0.9 * parts[1].dense(), atol=1e-7)
    assert torch.allclose(whole.dense().sum(1), torch.ones(40), atol=1e-6)
    assert (whole.dense().diagonal() > 0.19).all()


def test_lists_shortened_by_missing_items_still_sum_to_one() -> None:
    present = torch.tensor([True, True, False, True])
    matrix = graphs.knn_matrix(graphs.knn(torch.randn(4, 6), present, 10)[0])
    assert torch.allclose(matrix.dense().sum(1), present.float())
    assert torch.allclose(matrix.values, torch.tensor(1 / 3))


def test_an_item_without_a_modality_has_its_other_neighbours_at_full_weight() -> None:
    rng = torch.Generator().manual_seed(3)
    present = [torch.rand(30, generator=rng) < 0.7 for _ in range(3)]
    parts = [graphs.knn_matrix(graphs.knn(torch.randn(30, 6, generator=rng), p, 4)[0]) for p in present]
    weights = [0.1, 0.9, 0.0]
    whole = graphs.weighted_sum(parts, weights).dense()
    known = present[0] | present[1]
    assert torch.allclose(whole.sum(1), known.float(), atol=1e-6)
    only = present[0] & ~present[1]
    assert only.any() and torch.allclose(whole[only], parts[0].dense()[only], atol=1e-6)
    both = present[0] & present[1]
    plain = 0.1 * parts[0].dense() + 0.9 * parts[1].dense()
    assert torch.allclose(whole[both], plain[both], atol=1e-7)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_the_item_graph_and_its_gradient_are_powers_of_the_matrix(layers: int) -> None:
    ids = graphs.knn(torch.randn(12, 6, generator=torch.Generator().manual_seed(0)), torch.arange(12) != 5, 3)[0]
    graph = ItemGraph(graphs.knn_matrix(ids))
    power = torch.linalg.matrix_power(graph.matrix.dense(), layers)
    x, weight = torch.randn(12, 4, requires_grad=True), torch.randn(12, 4)
    out = graph(x, layers)
    assert torch.allclose(out, power @ x, atol=1e-6)
    (gradient,) = torch.autograd.grad((out * weight).sum(), x)
    assert torch.allclose(gradient, power.T @ weight, atol=1e-6)
    (spread,) = torch.autograd.grad(graph(x, layers).sum(), x)  # a gradient that is one number for all
    assert torch.allclose(spread, power.T @ torch.ones(12, 4), atol=1e-6)


def test_csr_of_nobody() -> None:
    matrix: Csr = graphs.knn_matrix(torch.full((4, 2), -1))
    assert torch.equal(ItemGraph(matrix)(torch.ones(4, 3)), torch.zeros(4, 3))


@pytest.mark.parametrize("users", [True, False])
@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_what_starts_on_one_side_is_spread_as_by_the_powers_of_the_whole_matrix(layers: int, users: bool) -> None:
    edges = random_edges(3)
    a = adjacency(edges)
    x = torch.randn(edges.n_users if users else edges.n_items, 3, requires_grad=True)
    zeros = torch.zeros(edges.n_items if users else edges.n_users, 3)
    start = torch.cat([x, zeros] if users else [zeros, x]).double()
    expected = sum(torch.linalg.matrix_power(a, layer) @ start for layer in range(layers + 1))
    assert isinstance(expected, Tensor)
    sides = expected.split([edges.n_users, edges.n_items])
    own, other = graphs.spread(edges.graph(), layers, x, users)
    assert torch.allclose(own.double(), sides[0 if users else 1], atol=1e-5)
    assert torch.allclose(other.double(), sides[1 if users else 0], atol=1e-5)
    weights = [torch.randn_like(part) for part in (own, other)]
    mine = (own * weights[0] + 0).sum() + (other * weights[1]).sum()
    theirs = (sides[0 if users else 1] * weights[0]).sum() + (sides[1 if users else 0] * weights[1]).sum()
    gradients = [torch.autograd.grad(y, x)[0] for y in (mine, theirs)]
    assert torch.allclose(gradients[0].double(), gradients[1].double(), atol=1e-5)


@QUICK
@given(st.integers(0, 2**31), st.integers(1, 12))
def test_inner_products_are_entries_of_the_product_with_the_table(seed: int, k: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    rows, table = torch.randn(6, 8, generator=rng)[:, 4:], torch.randn(9, 4, generator=rng, requires_grad=True)
    places = torch.randint(9, (6, k), generator=rng)
    found = graphs.inner_products(rows, table, places)
    assert torch.allclose(found, (rows @ table.T).gather(1, places), atol=1e-5) and not found.requires_grad
    assert torch.equal(graphs.inner_products(rows, table, places.T.contiguous().T), found)
