"""Facts 2 and 3, on the graph itself, are in tests/test_graphs.py; fact 1 is also in test_bpr.py."""

from __future__ import annotations

import math

import pytest
import torch
from tiny import DIM, ITEMS, USERS, batch, context, made
from torch import Tensor

from prismrec.models import Context, LightGCN


def adjacency(ctx: Context) -> Tensor:
    """Â in double precision, by its definition."""
    a = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.float64)
    a[ctx.user, USERS + ctx.item] = 1
    a += a.T.clone()
    root = a.sum(1).clamp(min=1).rsqrt()
    return root[:, None] * a * root


def test_fact_1_without_layers_it_is_matrix_factorisation() -> None:
    assembly = made(LightGCN, context(), layers=0)
    reps = assembly.represent()
    assert torch.equal(reps.user, assembly.model.user) and torch.equal(reps.item.values, assembly.model.item)


def test_fact_4_a_node_without_an_edge_keeps_its_share_of_layer_zero() -> None:
    assembly = made(LightGCN, context(), layers=3)
    reps = assembly.represent()
    assert torch.allclose(reps.user[-1], assembly.model.user[-1] / 4)
    assert torch.allclose(reps.item.values[-2:], assembly.model.item[-2:] / 4)


def test_fact_5_propagation_is_linear() -> None:
    ctx = context()
    x, y, both = (made(LightGCN, ctx, seed=seed) for seed in (1, 2, 3))
    with torch.no_grad():
        for name in ("user", "item"):
            getattr(both.model, name).copy_(2 * getattr(x.model, name) - 3 * getattr(y.model, name))
    a, b, c = (assembly.represent() for assembly in (x, y, both))
    assert torch.allclose(c.user, 2 * a.user - 3 * b.user, atol=1e-6)
    assert torch.allclose(c.item.values, 2 * a.item.values - 3 * b.item.values, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_fact_6_it_equals_the_mean_of_dense_powers_of_the_graph(layers: int) -> None:
    ctx = context()
    assembly = made(LightGCN, ctx, layers=layers)
    start = torch.cat([assembly.model.user, assembly.model.item]).double()
    mean = sum(torch.linalg.matrix_power(adjacency(ctx), n) for n in range(layers + 1)) / (layers + 1)
    reps = assembly.represent()
    assert torch.allclose(torch.cat([reps.user, reps.item.values]).double(), mean @ start, atol=1e-6)


def test_a_row_given_twice_is_one_edge() -> None:
    ctx = context()
    twice = Context(USERS, ITEMS, torch.cat([ctx.user, ctx.user[:9]]), torch.cat([ctx.item, ctx.item[:9]]), None, {})
    assert torch.equal(made(LightGCN, ctx).represent().user, made(LightGCN, twice).represent().user)


def test_the_penalty_is_on_the_embeddings_before_propagation() -> None:
    ctx = context()
    assembly, rows = made(LightGCN, ctx, reg=0.3, reg_kind="l2_sq"), batch(ctx)
    user, item = assembly.model.user, assembly.model.item
    parts = (user[rows.user], item[rows.pos], item[rows.neg])
    expected = 0.3 * sum(x.square().sum() for x in parts) / (2 * len(rows.user))
    assert torch.allclose(assembly.loss(rows)["reg"], expected)


def test_departure_1_the_start_is_xavier_uniform_on_each_table_unless_the_papers_is_asked_for() -> None:
    ctx = context()
    table = made(LightGCN, ctx, dim=4096).model.user
    assert table.abs().max().item() == pytest.approx(math.sqrt(6 / (USERS + 4096)), rel=0.01)
    normal = made(LightGCN, ctx, dim=4096, init="normal").model.item
    assert normal.std().item() == pytest.approx(0.1, rel=0.02)


def test_departure_2_the_default_penalty_is_the_unsquared_one() -> None:
    assert LightGCN.Config().reg_kind == "fro_norm"
    assert {name for name, _ in made(LightGCN, context()).named_parameters()} == {"model.user", "model.item"}
    assert made(LightGCN, context()).model.user.shape == (USERS, DIM)
