from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from prismrec.losses import (
    bpr,
    info_nce,
    info_nce_among,
    info_nce_both,
    kl_normal,
    margins,
    margins_of,
    mine,
    penalty,
    pointwise,
    ranking,
    reverse,
    squares,
    unit,
)
from prismrec.types import Batch, ItemIds, Reps, Rows

QUICK = settings(max_examples=15)


def test_bpr_fact_3_the_loss_is_ln_2_where_all_scores_are_equal() -> None:
    assert bpr(torch.zeros(5), torch.zeros(5)).item() == pytest.approx(math.log(2), abs=1e-7)


@QUICK
@given(st.integers(0, 2**31))
def test_bpr_is_the_mean_negative_log_probability_of_the_right_order(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    pos, neg = torch.randn(6, generator=rng), torch.randn(6, 3, generator=rng)
    weight = torch.rand(6, generator=rng)
    rows = torch.tensor(
        [[-math.log(1 / (1 + math.exp(n - p))) for n in ns] for p, ns in zip(pos.tolist(), neg.tolist(), strict=True)]
    )
    assert torch.allclose(bpr(pos, neg[:, 0]), rows[:, 0].mean(), atol=1e-6)
    assert torch.allclose(bpr(pos, neg), rows.mean(), atol=1e-6)
    assert torch.allclose(bpr(pos, neg, weight), (rows.mean(1) * weight).mean(), atol=1e-6)


def test_a_badly_ranked_pair_keeps_its_gradient() -> None:
    """The published code's log(1e-10 + σ) is flat there: a pair that is far off is never mended."""
    pos = torch.zeros(1, requires_grad=True)
    bpr(pos, torch.tensor([80.0])).backward()
    assert pos.grad is not None and pos.grad.item() == pytest.approx(-1)


def test_bpr_fact_4_the_unsquared_penalty_of_three_equal_blocks_and_its_scaling() -> None:
    x = torch.randn(7, 4)
    assert torch.allclose(penalty("fro_norm", x, x, x), 3 * x.norm() / 7)
    assert torch.allclose(penalty("fro_norm", 2 * x), 2 * penalty("fro_norm", x))
    assert torch.allclose(penalty("l2_sq", 2 * x), 4 * penalty("l2_sq", x))
    assert torch.allclose(penalty("l2_sq", x, x), x.square().sum() / 7)


def test_the_unsquared_penalty_has_a_gradient_of_constant_length_and_none_at_zero() -> None:
    for scale in (0.1, 10.0):
        x = (scale * torch.randn(5, 3)).requires_grad_()
        penalty("fro_norm", x).backward()
        assert x.grad is not None and x.grad.norm().item() == pytest.approx(1 / 5, rel=1e-5)
    zero = torch.zeros(5, 3, requires_grad=True)
    (100 * penalty("fro_norm", zero)).backward()
    assert zero.grad is not None and not zero.grad.any()


@pytest.mark.parametrize("negatives", [1, 4])
@pytest.mark.parametrize("partial", [False, True])
def test_the_ranking_terms_of_a_batch(negatives: int, partial: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    user, item = torch.randn(5, 3, generator=rng), torch.randn(9, 3, generator=rng)
    rows = Batch(
        torch.tensor([0, 4, 2, 0]), torch.tensor([1, 8, 1, 3]), torch.randint(9, (4, negatives), generator=rng)
    )
    index = ItemIds.of(torch.cat([rows.pos, rows.neg.reshape(-1)]), 9) if partial else None
    reps = Reps(user, Rows(item if index is None else item[index.ids], index))
    terms = ranking(reps, rows, 0.5, "l2_sq")
    scores = user @ item.T
    margin = scores[rows.user[:, None], rows.neg] - scores[rows.user, rows.pos][:, None]
    assert torch.allclose(terms["rank"], F.softplus(margin).mean(), atol=1e-6)
    size = sum(x.square().sum() for x in (user[rows.user], item[rows.pos], item[rows.neg])) / (2 * 4)
    assert torch.allclose(terms["reg"], 0.5 * size, atol=1e-6)
    assert torch.allclose(reps.score(rows.user, rows.neg), scores[rows.user[:, None], rows.neg], atol=1e-6)


def test_without_a_weight_there_is_no_penalty_and_with_another_table_that_one_is_penalised() -> None:
    rows = Batch(torch.tensor([0]), torch.tensor([0]), torch.tensor([[1]]))
    reps, start = (Reps(torch.full((1, 2), x), Rows(torch.full((2, 2), x))) for x in (3.0, 1.0))
    assert set(ranking(reps, rows, 0.0, "fro_norm")) == {"rank"}
    assert ranking(reps, rows, 1.0, "fro_norm", on=start)["reg"].item() == pytest.approx(3 * math.sqrt(2))
    assert ranking(reps, rows, 1.0, "fro_norm")["reg"].item() == pytest.approx(9 * math.sqrt(2))


@QUICK
@given(st.integers(0, 2**31))
def test_info_nce_is_the_loss_of_its_definition(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    query, key = (torch.randn(5, 4, generator=rng, dtype=torch.float64) for _ in range(2))
    rows = []
    for k in range(5):
        alike = [math.exp(float(F.cosine_similarity(query[k], key[j], dim=0)) / 0.2) for j in range(5)]
        rows.append(-math.log(alike[k] / sum(alike)))
    assert info_nce(query, key, 0.2).item() == pytest.approx(sum(rows) / 5, abs=1e-9)
    weight = torch.rand(5, generator=rng, dtype=torch.float64)
    weighed = sum(w * row for w, row in zip(weight.tolist(), rows, strict=True)) / 5
    assert info_nce(query, key, 0.2, weight).item() == pytest.approx(weighed, abs=1e-9)
    assert info_nce(3 * query, key / 7, 0.2).item() == pytest.approx(sum(rows) / 5, abs=1e-9)
    assert torch.autograd.gradcheck(lambda q, k: info_nce(q, k, 0.5), (query.requires_grad_(), key.requires_grad_()))


@QUICK
@given(st.integers(0, 2**31), st.sampled_from([1, 100, 1 << 20]))
def test_info_nce_among_all_rows_is_the_loss_of_its_definition_in_blocks_of_any_size(seed: int, memory: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    query = torch.randn(5, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    key = torch.randn(7, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    at = torch.randint(7, (5,), generator=rng)
    expected = F.cross_entropy(F.cosine_similarity(query[:, None], key[None], dim=2) / 0.2, at)
    assert info_nce_among(query, key, at, 0.2, memory).item() == pytest.approx(expected.item(), abs=1e-9)
    assert torch.autograd.gradcheck(lambda q, k: info_nce_among(q, k, at, 0.5, memory), (query, key))
    sharp = info_nce_among(query.float(), -key.float(), at, 1e-4)
    assert sharp.isfinite()


@QUICK
@given(st.integers(0, 2**31))
def test_info_nce_with_negatives_of_both_kinds_is_the_loss_of_its_definition(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    query, key = (torch.randn(5, 3, generator=rng, dtype=torch.float64, requires_grad=True) for _ in range(2))
    with torch.no_grad():
        between, within = (torch.exp(F.cosine_similarity(query[:, None], x[None], dim=2) / 0.2) for x in (key, query))
        rows = -torch.log(between.diag() / (between.sum(1) + within.sum(1) - within.diag()))
    assert info_nce_both(query, key, 0.2).item() == pytest.approx(rows.mean().item(), abs=1e-9)
    assert torch.autograd.gradcheck(lambda q, k: info_nce_both(q, k, 0.5), (query, key))
    assert info_nce_both(query[:1], key[:1], 0.5).item() == pytest.approx(0, abs=1e-12)
    for memory in (1, 100):  # blocks of one query, and of one or two
        assert info_nce_both(query, key, 0.2, memory=memory).item() == pytest.approx(rows.mean().item(), abs=1e-9)
        assert torch.autograd.gradcheck(lambda q, k, m=memory: info_nce_both(q, k, 0.5, memory=m), (query, key))


def test_info_nce_of_one_row_is_nothing_and_sharp_temperatures_do_not_overflow() -> None:
    x = torch.randn(6, 3)
    assert info_nce(x[:1], -x[:1], 0.2) == 0
    assert info_nce(x, -x, 1e-4).isfinite()
    assert info_nce(torch.ones(8, 3), torch.ones(8, 3), 0.2).item() == pytest.approx(math.log(8), abs=1e-6)


def test_a_row_of_zeros_has_no_direction_and_a_gradient_of_ordinary_size() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    assert torch.allclose(unit(x), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    unit(x)[:, 0].sum().backward()
    assert x.grad is not None and x.grad[1].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3)])
def test_the_gradient_of_unit_rows_is_that_of_the_quotient(shape: tuple[int, ...]) -> None:
    x = torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(unit, [x])
    upstream = torch.randn(*shape, dtype=torch.float64)
    plain = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    found, expected = (torch.autograd.grad((out * upstream).sum(), x)[0] for out in (unit(x), plain))
    assert torch.allclose(found, expected, atol=1e-12)


@QUICK
@given(st.integers(0, 2**31))
def test_the_divergence_from_a_standard_normal_is_that_of_torch(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    mean, log_var = (torch.randn(5, 3, generator=rng, dtype=torch.float64) for _ in range(2))
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = torch.distributions.kl_divergence(torch.distributions.Normal(mean, (log_var / 2).exp()), standard)
    assert torch.allclose(kl_normal(mean, log_var), expected.sum(1))
    assert (kl_normal(mean, log_var) > 0).all()


def test_the_divergence_is_zero_only_at_the_standard_normal() -> None:
    zero = torch.zeros(1, 3)
    assert kl_normal(zero, zero).item() == 0
    bump = torch.tensor([[0.0, 1e-2, 0.0]])
    assert kl_normal(bump, zero) > 0 and kl_normal(zero, bump) > 0 and kl_normal(zero, -bump) > 0


@QUICK
@given(st.integers(0, 2**31), st.floats(-50, 50))
def test_a_constant_added_to_the_critic_leaves_the_bound(seed: int, constant: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    joint, product = (torch.randn(n, generator=rng, dtype=torch.float64) for n in (7, 9))
    expected = joint.mean() - product.exp().mean().log()
    assert mine(joint, product).item() == pytest.approx(float(expected), abs=1e-12)
    assert mine(joint + constant, product + constant).item() == pytest.approx(float(expected), abs=1e-9)


def test_the_bound_survives_large_values_and_is_nothing_without_pairs() -> None:
    assert mine(torch.full((3,), 2000.0), torch.full((4,), 1000.0)).item() == 1000
    x = torch.zeros(0, requires_grad=True)
    mine(x, x).backward()
    assert mine(x, x).item() == 0 and x.grad is not None


def test_the_best_critic_of_correlated_gaussians_gives_their_mutual_information() -> None:
    """The log density ratio: f = log p(a, b) − log p(a) p(b), for which the bound is tight."""
    rng, rho = torch.Generator().manual_seed(0), 0.8
    a, e, other = torch.randn(3, 400_000, generator=rng, dtype=torch.float64)
    b = rho * a + math.sqrt(1 - rho**2) * e

    def ratio(x: Tensor, y: Tensor) -> Tensor:
        return (rho * x * y - rho**2 * (x.square() + y.square()) / 2) / (1 - rho**2) - math.log(1 - rho**2) / 2

    assert mine(ratio(a, b), ratio(a, other)).item() == pytest.approx(-math.log(1 - rho**2) / 2, abs=0.02)


def test_a_reversed_gradient_comes_back_turned_round_and_weighed() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    assert torch.equal(reverse(x, 0.5), x)
    (gradient,) = torch.autograd.grad(reverse(x, torch.tensor(0.5)).square().sum(), x)
    assert gradient.tolist() == [-1.0, -2.0]


@pytest.mark.parametrize("negatives", [1, 3])
def test_margins_and_their_gradients_are_those_of_the_formula(negatives: int) -> None:
    rng = torch.Generator().manual_seed(negatives)
    user = torch.randn(5, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    items = torch.randn(1 + negatives, 5, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    scores = (items * user).sum(-1)
    assert torch.allclose(margins_of(user, items), scores[1:] - scores[0])
    assert torch.autograd.gradcheck(margins_of, (user, items))


def test_the_margins_of_a_batch_are_made_once() -> None:
    reps = Reps(torch.randn(3, 2, requires_grad=True), Rows(torch.randn(4, 2)))
    rows = Batch(torch.tensor([0, 2]), torch.tensor([1, 3]), torch.tensor([[0, 2], [2, 1]]))
    first = margins(reps, rows.negatives(1))
    assert first is margins(reps, rows.negatives(1)) and margins(reps, rows).shape == (2, 2)
    assert torch.equal(margins(reps, rows)[0], first[0])


@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_of_a_positive_and_its_negatives(weighted: bool) -> None:
    reps = Reps(torch.randn(4, 3), Rows(torch.randn(5, 3)))
    weight = torch.tensor([1.0, 2.0]) if weighted else None
    batch = Batch(torch.tensor([0, 3]), torch.tensor([1, 4]), torch.tensor([[0, 2], [3, 3]]), weight)
    pos, neg = (reps.score(batch.user, ids).sigmoid() for ids in (batch.pos, batch.neg))
    rows = -(pos.log() + (1 - neg).log().mean(1)) / 2
    assert torch.isclose(pointwise(reps, batch), (rows * weight if weighted else rows).mean())


def test_a_query_may_be_its_own_negative() -> None:
    query, key = torch.randn(4, 3), torch.randn(4, 3)
    bank = F.normalize(torch.cat([key, query]))
    logits = F.normalize(query) @ bank.T / 0.3
    assert torch.isclose(info_nce_both(query, key, 0.3, own=True), F.cross_entropy(logits, torch.arange(4)))


def test_squares_of_a_table_are_added_up_with_their_gradient() -> None:
    x = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.isclose(squares(x), x.square().sum())
    assert torch.autograd.gradcheck(squares, (x,))
    assert torch.autograd.gradcheck(squares, (torch.zeros_like(x, requires_grad=True),))
