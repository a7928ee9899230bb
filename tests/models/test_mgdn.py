"""The diffusion itself, and the dropping of edges, are in tests/test_graphs_diffusion.py."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from tiny import ITEMS, USERS, batch, context, loss, made, same, tables
from torch import Tensor
from torch.nn import functional as F

from prismrec import losses
from prismrec.assembly import Assembly
from prismrec.errors import PrismError
from prismrec.models import MGDN, Context, LightGCN

N = USERS + ITEMS
STILL: dict[str, Any] = {"drop_start": 0.0, "drop_edges": 0.0, "drop_end": 0.0}
"""Nothing is left out in training."""


def adjacency(ctx: Context, loops: bool) -> Tensor:
    """Â in double precision, by its definition."""
    a = torch.zeros(N, N, dtype=torch.float64)
    a[ctx.user, USERS + ctx.item] = 1
    a += a.T.clone() + (torch.eye(N) if loops else 0)
    root = a.sum(1).clamp(min=1).rsqrt()
    return root[:, None] * a * root


def start(assembly: Assembly) -> Tensor:
    return torch.cat([assembly.model.user, assembly.model.item]).detach().double()


def nodes(assembly: Assembly) -> Tensor:
    reps = assembly.represent()
    return torch.cat([reps.user, reps.item.values]).double()


@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize(("alpha", "beta", "layers"), [(0.1, 0.9, 4), (0.5, 0.8, 2), (1.0, 1.0, 3)])
def test_representations_are_those_of_the_equations(alpha: float, beta: float, layers: int, self_loops: bool) -> None:
    ctx = context()
    assembly = made(MGDN, ctx, alpha=alpha, beta=beta, layers=layers, self_loops=self_loops)
    a, x = adjacency(ctx, self_loops), start(assembly)
    h = x
    for _ in range(layers):
        h = beta * a @ h + alpha * x
    gamma = beta**layers + alpha * sum(beta**k for k in range(layers))
    assert torch.allclose(nodes(assembly), h / gamma, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 3])
def test_fact_1_with_equal_shares_and_no_loops_it_is_lightgcn(layers: int) -> None:
    ctx = context()
    mgdn = made(MGDN, ctx, alpha=1.0, beta=1.0, layers=layers, self_loops=False)
    lightgcn = made(LightGCN, ctx, layers=layers)
    lightgcn.load_state_dict(mgdn.state_dict())
    assert torch.allclose(nodes(mgdn), nodes(lightgcn), atol=1e-6)


def test_fact_2_with_shares_that_sum_to_one_it_is_appnp() -> None:
    ctx, alpha = context(), 0.2
    assembly = made(MGDN, ctx, alpha=alpha, beta=1 - alpha, layers=5)
    a, x = adjacency(ctx, True), start(assembly)
    weights = [alpha * (1 - alpha) ** k for k in range(5)] + [(1 - alpha) ** 5]
    expected = torch.stack([w * torch.linalg.matrix_power(a, k) @ x for k, w in enumerate(weights)]).sum(0)
    assert sum(weights) == pytest.approx(1) and torch.allclose(nodes(assembly), expected, atol=1e-6)


def test_fact_3_special_shares_are_sgc_and_matrix_factorisation() -> None:
    ctx = context()
    sgc = made(MGDN, ctx, alpha=0.0, beta=0.7, layers=3)
    expected = torch.linalg.matrix_power(adjacency(ctx, True), 3) @ start(sgc)
    assert torch.allclose(nodes(sgc), expected, atol=1e-6)
    for settings in ({"alpha": 0.4, "beta": 0.0, "layers": 3}, {"layers": 0}):
        still = made(MGDN, ctx, **settings)
        assert torch.allclose(nodes(still), start(still), atol=1e-7)


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(PrismError, match="alpha = 0 and beta = 0"):
        made(MGDN, context(), alpha=0.0, beta=0.0)
    made(MGDN, context(), alpha=0.0, beta=0.0, layers=0)


def test_fact_4_with_loops_the_diagonal_and_the_spectrum_are_as_they_must_be() -> None:
    ctx = context()
    a = made(MGDN, ctx).model.graph.matrix.dense().double()
    degree = torch.cat([torch.bincount(ctx.user, minlength=USERS), torch.bincount(ctx.item, minlength=ITEMS)]) + 1
    assert torch.allclose(a.diagonal(), 1 / degree.double(), atol=1e-6)
    values = torch.linalg.eigvalsh(a)
    assert values.min() > -1 and values.max() <= 1 + 1e-6
    root = degree.double().sqrt()
    assert torch.allclose(a @ root, root, atol=1e-5)


def test_fact_5_many_steps_end_at_the_closed_form() -> None:
    ctx, alpha, beta = context(), 0.3, 0.6
    assembly = made(MGDN, ctx, alpha=alpha, beta=beta, layers=60)
    limit = alpha * torch.linalg.inv(torch.eye(N) - beta * adjacency(ctx, True)) @ start(assembly)
    assert torch.allclose(nodes(assembly), limit / (alpha / (1 - beta)), atol=1e-6)


def test_fact_6_one_negative_is_bpr_and_equal_scores_cost_the_logarithm_of_all() -> None:
    rng = torch.Generator().manual_seed(0)
    pos, neg, weight = torch.randn(9, generator=rng), torch.randn(9, 4, generator=rng), torch.rand(9, generator=rng)
    assert torch.allclose(losses.info_bpr(pos, neg[:, :1], weight), losses.bpr(pos, neg[:, 0], weight))
    assert losses.info_bpr(torch.ones(9), torch.ones(9, 4)).item() == pytest.approx(math.log(5))
    logits = torch.cat([pos.unsqueeze(1), neg], 1)
    rows = F.cross_entropy(logits, torch.zeros(9, dtype=torch.int64), reduction="none")
    assert torch.allclose(losses.info_bpr(pos, neg), rows.mean())
    assert torch.allclose(losses.info_bpr(pos, neg, weight), (rows * weight).mean())


@pytest.mark.parametrize("negatives", [1, 4, 300])
def test_the_loss_is_that_of_the_equations(negatives: int) -> None:
    """Departures 1 and 2: negatives after a row's own are those of the batch's first rows; sums are divided by the rows."""
    ctx = context(weights=True)
    assembly = made(MGDN, ctx, negatives=negatives, reg=0.3, **STILL)
    z = nodes(assembly)
    for rows in (batch(ctx), dataclasses.replace(batch(ctx), weight=None)):
        expected = []
        for b, (u, i) in enumerate(zip(rows.user.tolist(), rows.pos.tolist(), strict=True)):
            others = [int(rows.neg[b, 0]), *rows.neg[: negatives - 1, 0].tolist()]
            scores = torch.stack([z[u] @ z[USERS + j] for j in [i, *others]])
            weight = 1.0 if rows.weight is None else float(rows.weight[b])
            expected.append(-weight * scores.log_softmax(0)[0])
        terms = assembly.loss(rows)
        assert torch.allclose(terms["rank"].double(), torch.stack(expected).mean(), atol=1e-6)
        assert torch.allclose(terms["reg"].double(), 0.3 * z.square().sum() / (2 * len(rows.user)), atol=1e-6)


def test_one_negative_is_the_ranking_loss_of_all_models() -> None:
    ctx = context(weights=True)
    assembly, rows = made(MGDN, ctx, negatives=1, **STILL), batch(ctx)
    assert torch.allclose(assembly.loss(rows)["rank"], losses.ranking(assembly.represent(), rows, 0, "l2_sq")["rank"])


@pytest.mark.parametrize("where", ["drop_start", "drop_edges", "drop_end"])
def test_what_is_left_out_is_so_in_training_alone_and_the_mean_of_draws_is_the_whole(where: str) -> None:
    ctx = context()
    some = made(MGDN, ctx, layers=1, **(STILL | {where: 0.4}))
    whole = made(MGDN, ctx, layers=1, **STILL)
    assert same(tables(some.represent()), tables(whole.represent()))
    torch.manual_seed(0)
    drawn = torch.stack([some.model({}).views["nodes"] for _ in range(800)]).detach()
    assert not torch.equal(drawn[0], drawn[1])
    error = drawn.std(0) / math.sqrt(len(drawn))
    assert ((drawn.mean(0) - nodes(whole)).abs() < 5 * error + 1e-6).all()


def test_the_same_noise_gives_the_same_loss_and_other_noise_another() -> None:
    ctx = context()
    assembly, rows = made(MGDN, ctx), batch(ctx)
    first, again, other = (loss(assembly, rows, noise)["rank"].item() for noise in (1, 1, 2))
    assert first == again != other


def test_embeddings_start_with_rows_of_length_about_one() -> None:
    model = made(MGDN, context(), dim=4096).model
    assert {name for name, _ in model.named_parameters()} == {"user", "item"}
    assert torch.allclose(start(made(MGDN, context(), dim=4096)).norm(dim=1), torch.ones(N).double(), atol=0.1)
