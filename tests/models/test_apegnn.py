from __future__ import annotations

import math

import pytest
import torch
from tiny import ITEMS, USERS, batch, context, made, same, tables, train
from torch import Tensor
from torch.nn import functional as F

from prismrec.assembly import Assembly
from prismrec.models import ApeGNN, Context

N = USERS + ITEMS
KERNELS = ["heat", "pagerank"]


def adjacency(ctx: Context) -> Tensor:
    """Â in double precision, by its definition."""
    a = torch.zeros(N, N, dtype=torch.float64)
    a[ctx.user, USERS + ctx.item] = 1
    a += a.T.clone()
    root = a.sum(1).clamp(min=1).rsqrt()
    return root[:, None] * a * root


def start(assembly: Assembly) -> Tensor:
    return torch.cat([assembly.model.user, assembly.model.item]).detach().double()


def nodes(assembly: Assembly) -> Tensor:
    reps = assembly.represent()
    return torch.cat([reps.user, reps.item.values]).double()


def with_times(assembly: Assembly, t: float | Tensor) -> Assembly:
    with torch.no_grad():
        assembly.model.time.copy_(torch.as_tensor(t).expand(N))
    return assembly


def expected(ctx: Context, e: Tensor, t: Tensor, layers: int, kernel: str) -> Tensor:
    """Σ_k θ_k ⊙ Â^k E, every θ_k by its formula."""
    a, h, total = adjacency(ctx), e, torch.zeros_like(e)
    for k in range(layers + 1):
        theta = torch.exp(-t) * t**k / math.factorial(k) if kernel == "heat" else t * (1 - t) ** k
        total, h = total + theta.unsqueeze(1) * h, a @ h
    return total


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("layers", "pool"), [(0, "sum"), (2, "sum"), (4, "mean")])
def test_representations_are_those_of_the_equations_on_dense_matrices(kernel: str, layers: int, pool: str) -> None:
    ctx = context()
    assembly = made(ApeGNN, ctx, kernel=kernel, layers=layers, pool=pool)
    with_times(assembly, torch.randn(N, generator=torch.Generator().manual_seed(0)) * 2)  # t may leave (0, 1)
    reference = expected(ctx, start(assembly), assembly.model.time.detach().double(), layers, kernel)
    share = layers + 1 if pool == "mean" else 1
    assert torch.allclose(nodes(assembly), reference / share, atol=1e-5)


@pytest.mark.parametrize("bounded", [False, True])
def test_fact_1_times_start_from_the_degree(bounded: bool) -> None:
    ctx = context()
    degree = torch.cat([torch.bincount(ctx.user, minlength=USERS), torch.bincount(ctx.item, minlength=ITEMS)]).double()
    model = made(ApeGNN, ctx, bounded=bounded).model
    t = model.time.sigmoid() if bounded else model.time
    assert torch.allclose(t.double(), (degree + 1e-7) / (degree + 1e-7 + 1), rtol=1e-6)
    assert t[USERS - 1].item() == pytest.approx(1e-7, rel=1e-3)  # a user who took nothing


def test_fact_2_pagerank_that_always_stays_is_matrix_factorisation() -> None:
    assembly = with_times(made(ApeGNN, context(), kernel="pagerank"), 1.0)
    assert torch.equal(nodes(assembly), start(assembly))


@pytest.mark.parametrize("layers", [0, 1, 3, 6])
def test_fact_2_weights_of_pagerank_sum_to_one_but_for_the_walks_that_are_longer(layers: int) -> None:
    model = made(ApeGNN, context(), kernel="pagerank", layers=layers).model
    assert torch.allclose(model.kernel().sum(0), 1 - (1 - model.time) ** (layers + 1), atol=1e-6)


def test_fact_3_heat_at_time_zero_is_matrix_factorisation() -> None:
    assembly = with_times(made(ApeGNN, context()), 0.0)
    assert torch.equal(nodes(assembly), start(assembly))


def test_fact_3_heat_of_one_time_and_many_hops_is_the_matrix_exponential() -> None:
    ctx = context()
    assembly = with_times(made(ApeGNN, ctx, layers=14), 0.8)
    reference = torch.linalg.matrix_exp(-0.8 * (torch.eye(N) - adjacency(ctx))) @ start(assembly)
    assert torch.allclose(nodes(assembly), reference, atol=1e-5)


def test_fact_4_pagerank_of_one_time_differs_from_appnp_in_the_last_hop_alone() -> None:
    ctx, t, layers = context(), 0.3, 3
    assembly = with_times(made(ApeGNN, ctx, kernel="pagerank", layers=layers), t)
    a, e = adjacency(ctx), start(assembly)
    h = e
    for _ in range(layers):
        h = (1 - t) * a @ h + t * e
    last = torch.linalg.matrix_power(a, layers) @ e * (1 - t) ** layers
    assert torch.allclose(nodes(assembly), h - last + t * last, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_fact_5_the_time_of_a_node_changes_its_own_row_alone(kernel: str) -> None:
    assembly = made(ApeGNN, context(), kernel=kernel)
    before = nodes(assembly)
    with torch.no_grad():
        assembly.model.time[3] += 0.1
    changed = (nodes(assembly) != before).any(1)
    assert changed.nonzero().flatten().tolist() == [3]


def test_fact_6_without_hops_rows_are_scaled_embeddings() -> None:
    for kernel in KERNELS:
        assembly = made(ApeGNN, context(), kernel=kernel, layers=0)
        t = assembly.model.time.detach().double()
        scale = torch.exp(-t) if kernel == "heat" else t
        assert torch.allclose(nodes(assembly), scale.unsqueeze(1) * start(assembly), atol=1e-6)


def test_a_node_without_an_edge_keeps_its_embedding_by_heat_and_nearly_nothing_by_pagerank() -> None:
    for kernel, share in (("heat", 1.0), ("pagerank", 1e-7)):
        assembly = made(ApeGNN, context(), kernel=kernel)
        assert torch.allclose(nodes(assembly)[USERS - 1], share * start(assembly)[USERS - 1], rtol=1e-3, atol=0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_loss_and_the_gradients_of_times_are_those_of_the_equations(kernel: str) -> None:
    ctx = context()
    assembly, rows = made(ApeGNN, ctx, kernel=kernel, reg=0.3), batch(ctx)
    e, t = start(assembly).requires_grad_(), assembly.model.time.detach().double().requires_grad_()
    x = expected(ctx, e, t, 3, kernel)
    first = (torch.exp(-t) if kernel == "heat" else t).unsqueeze(1) * e  # the penalty is on hop 0 as it is weighed
    u, i, j = rows.user, USERS + rows.pos, USERS + rows.neg[:, 0]
    rank = F.softplus((x[u] * x[j]).sum(1) - (x[u] * x[i]).sum(1)).mean()
    size = sum((first[ids].square().sum() for ids in (u, i, j)), start=torch.zeros(())) / (2 * len(u))
    terms = assembly.loss(rows)
    assert torch.allclose(terms["rank"].double(), rank, atol=1e-6)
    assert torch.allclose(terms["reg"].double(), 0.3 * size, atol=1e-6)
    (rank + 0.3 * size).backward()
    (terms["rank"] + terms["reg"]).backward()
    model = assembly.model
    found = torch.cat([model.user.grad, model.item.grad])
    assert torch.allclose(found.double(), e.grad, atol=1e-6)
    assert torch.allclose(model.time.grad.double(), t.grad, atol=1e-6) and model.time.grad.any()


def test_departure_2_edges_fall_out_in_training_with_the_probability_asked_for_and_never_at_inference() -> None:
    ctx = context()
    thin, whole = (made(ApeGNN, ctx, drop=drop) for drop in (0.4, 0.0))
    assert same(tables(thin.represent()), tables(whole.represent()))
    torch.manual_seed(0)
    drawn = torch.stack([torch.cat([r.user, r.item.values]) for r in (thin.model({}) for _ in range(800))]).detach()
    assert not torch.equal(drawn[0], drawn[1])
    # hops are drawn apart, so that the mean of all draws is the full diffusion
    error = drawn.std(0) / math.sqrt(len(drawn))
    assert ((drawn.mean(0) - nodes(whole)).abs() < 5 * error + 1e-6).all()


def test_departure_4_bounded_times_stay_within_one() -> None:
    ctx = context()
    assembly = train(made(ApeGNN, ctx, kernel="pagerank", bounded=True), ctx, epochs=6)
    assert (assembly.model.kernel() >= 0).all() and (assembly.model.kernel().sum(0) <= 1).all()
