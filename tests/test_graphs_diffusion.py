from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from prismrec import graphs
from prismrec.graphs import Csr, Edges, Symmetric

USERS, ITEMS = 7, 9
N = USERS + ITEMS


def edges(seed: int = 0, rows: int = 25) -> Edges:
    """The last user and the last item have no edge."""
    rng = torch.Generator().manual_seed(seed)
    user, item = (torch.randint(n - 1, (rows,), generator=rng) for n in (USERS, ITEMS))
    return Edges(user, item, USERS, ITEMS)


def adjacency(of: Edges, loops: bool = False) -> Tensor:
    a = torch.zeros(N, N, dtype=torch.float64)
    a[of.user, USERS + of.item] = 1
    a += a.T.clone()
    if loops:
        a += torch.eye(N)
    root = a.sum(1).clamp(min=1).rsqrt()
    return root[:, None] * a * root


def dense(matrix: Csr) -> Tensor:
    return matrix.dense().double()


@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_whole_graph_is_the_normalised_adjacency_matrix(seed: int, loops: bool) -> None:
    graph = graphs.whole(edges(seed), loops)
    assert torch.allclose(dense(graph.matrix), adjacency(edges(seed), loops), atol=1e-6)
    values = torch.arange(len(graph.mirror)).float()  # each entry told from all others
    named = Csr(graph.matrix.indptr, graph.matrix.indices, values, N)
    mirrored = Csr(graph.matrix.indptr, graph.matrix.indices, values[graph.mirror], N)
    assert torch.equal(named.dense().T, mirrored.dense())


def test_a_graph_without_edges() -> None:
    nobody = torch.zeros(0, dtype=torch.int64)
    graph = graphs.whole(Edges(nobody, nobody, USERS, ITEMS))
    x = torch.randn(N, 3)
    assert not graph.matrix.times(x).any()
    assert torch.equal(graphs.whole(Edges(nobody, nobody, USERS, ITEMS), loops=True).matrix.times(x), x)


def test_entries_fall_out_as_often_as_asked_each_way_by_itself_and_the_mean_is_the_matrix() -> None:
    graph, drop, n = graphs.whole(edges(), loops=True), 0.3, 3_000
    torch.manual_seed(0)
    full = graph.matrix.values
    values = torch.stack([graph.hop(drop)[0].values for _ in range(n)])
    gone = values == 0
    error = 4.5 * math.sqrt(drop * (1 - drop) / n)
    assert (gone.float().mean(0) - drop).abs().max() < error
    assert torch.allclose(values[~gone], (full / (1 - drop)).expand_as(values)[~gone])
    assert (values.mean(0) / full - 1).abs().max() < error / (1 - drop)
    both = (gone & gone[:, graph.mirror]).float().mean(0)[graph.mirror != torch.arange(len(full))]
    assert abs(float(both.mean()) - drop**2) < 0.01  # (i, j) and (j, i) have nothing to do with each other


def test_what_is_left_comes_with_its_transpose_and_without_dropping_nothing_is_drawn_or_made() -> None:
    graph = graphs.whole(edges())
    before = torch.get_rng_state()
    assert graph.hop() == (graph.matrix, graph.matrix)
    assert torch.equal(torch.get_rng_state(), before)
    kept, mirrored = graph.hop(0.5)
    assert torch.equal(kept.dense().T, mirrored.dense()) and not torch.equal(kept.dense(), mirrored.dense())


@pytest.mark.parametrize("drop", [0.0, 0.4])
@pytest.mark.parametrize("hops", [0, 1, 3])
def test_weighted_powers_and_their_gradients_are_those_of_dense_matrices(hops: int, drop: float) -> None:
    graph = graphs.whole(edges())
    rng = torch.Generator().manual_seed(1)
    weights, x, g = (torch.randn(*shape, generator=rng) for shape in ((hops + 1, N), (N, 4), (N, 4)))
    steps = [graph.hop(drop) for _ in range(hops)]
    ours, theirs = ([t.clone().requires_grad_() for t in (weights, x)] for _ in range(2))
    state, expected = theirs[1], theirs[0][0].unsqueeze(1) * theirs[1]
    for (matrix, _), weight in zip(steps, theirs[0][1:], strict=True):
        state = matrix.dense() @ state
        expected = expected + weight.unsqueeze(1) * state
    found = graphs.weighted_powers(steps, *ours)
    assert torch.allclose(found, expected, atol=1e-5)
    found.backward(g)
    expected.backward(g)
    assert all(torch.allclose(a.grad, b.grad, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


def test_graphs_follow_their_module_and_are_not_saved() -> None:
    graph = graphs.whole(edges()).to(torch.float32)
    assert isinstance(graph, Symmetric) and graph.state_dict() == {}


@pytest.mark.parametrize("alpha", [0.1, 1.0, 0.0])
@pytest.mark.parametrize("beta", [0.9, 1.0, 0.5])
@pytest.mark.parametrize("layers", [0, 1, 4])
def test_a_markov_diffusion_is_its_unrolled_sum_and_its_gradient_the_transposed(
    alpha: float, beta: float, layers: int
) -> None:
    hop = graphs.whole(edges(), loops=True).hop(0.3)
    m = hop[0].dense().double()
    power = [torch.linalg.matrix_power(beta * m, k) for k in range(layers + 1)]
    gamma = beta**layers + alpha * sum(beta**k for k in range(layers))
    expected = (power[-1] + alpha * sum(power[:-1])) / gamma if layers else power[0]
    if alpha + beta == 1:
        assert gamma == pytest.approx(1)
    x, weight = torch.randn(N, 3, requires_grad=True), torch.randn(N, 3)
    out = graphs.diffuse(hop, layers, alpha, beta, x)
    assert torch.allclose(out.double(), expected @ x.double(), atol=1e-5)
    (gradient,) = torch.autograd.grad((out * weight).sum(), x)
    assert torch.allclose(gradient.double(), expected.T @ weight.double(), atol=1e-5)


@pytest.mark.parametrize("alpha", [0.1, 0.3])
def test_a_markov_diffusion_of_narrow_numbers_is_made_in_full_precision(alpha: float) -> None:
    hop, x = graphs.whole(edges(), loops=True).hop(), torch.randn(N, 3).bfloat16()
    assert torch.equal(graphs.diffuse(hop, 2, alpha, 0.9, x), graphs.diffuse(hop, 2, alpha, 0.9, x.float()))
