from __future__ import annotations

import math

import pytest
import torch
from tiny import DIM, ITEMS, USERS, batch, context, made, total, train

from prismrec.models import BPR, LightGCN
from prismrec.ranking import top_k
from prismrec.types import Batch


def test_the_tables_are_users_and_items_by_width_with_no_bias() -> None:
    assembly = made(BPR, context())
    assert {name: tuple(p.shape) for name, p in assembly.named_parameters()} == {
        "model.user": (USERS, DIM),
        "model.item": (ITEMS, DIM),
    }


@pytest.mark.parametrize(("init", "std"), [("xavier_normal", math.sqrt(2 / (USERS + 4096))), ("normal", 1.0)])
def test_the_start_is_normal_with_the_spread_that_is_stated(init: str, std: float) -> None:
    user = made(BPR, context(), dim=4096, init=init).model.user.detach()
    assert float(user.std()) == pytest.approx(std, rel=0.02) and abs(float(user.mean())) < 0.02 * std


def test_fact_1_a_small_step_on_one_triple_moves_the_user_along_the_difference_and_widens_the_margin() -> None:
    assembly = made(BPR, context(), reg=0.0)
    model, rows = assembly.model, Batch(torch.tensor([3]), torch.tensor([5]), torch.tensor([[9]]))
    p, q = model.user.detach().clone(), model.item.detach().clone()

    def margin() -> float:
        return (model.user[3] @ (model.item[5] - model.item[9])).item()

    before = margin()
    total(assembly.loss(rows)).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    expected = 0.1 * (q[5] - q[9]) * torch.sigmoid(torch.tensor(-before))
    assert torch.allclose(model.user[3] - p[3], expected, atol=1e-7)
    assert margin() > before
    untouched = torch.ones(USERS, dtype=torch.bool)
    untouched[3] = False
    assert torch.equal(model.user[untouched], p[untouched])


def test_fact_2_scaling_one_side_up_and_the_other_down_leaves_all_scores() -> None:
    reps = made(BPR, context()).represent()
    scores = reps.user @ reps.item.values.T
    assert torch.allclose((4 * reps.user) @ (reps.item.values / 4).T, scores, atol=1e-7)


@pytest.mark.parametrize("side", ["user", "item"])
def test_fact_3_the_loss_is_ln_2_where_a_side_is_zero(side: str) -> None:
    ctx = context()
    assembly = made(BPR, ctx, reg=0.0)
    torch.nn.init.zeros_(getattr(assembly.model, side))
    assert total(assembly.loss(batch(ctx))).item() == pytest.approx(math.log(2), abs=1e-6)


def test_fact_4_the_penalty_is_the_unsquared_norm_of_the_batch_rows() -> None:
    ctx = context()
    assembly, rows = made(BPR, ctx, reg=0.5), batch(ctx)
    user, item = assembly.model.user, assembly.model.item
    size = user[rows.user].norm() + item[rows.pos].norm() + item[rows.neg].norm()
    assert torch.allclose(assembly.loss(rows)["reg"], 0.5 * size / len(rows.user))
    squared = made(BPR, ctx, reg=0.5, reg_kind="l2_sq")
    parts = (user[rows.user], item[rows.pos], item[rows.neg])
    expected = 0.5 * sum(x.square().sum() for x in parts) / (2 * len(rows.user))
    assert torch.allclose(squared.loss(rows)["reg"], expected)


def test_fact_5_it_is_lightgcn_without_layers() -> None:
    ctx = context()
    bpr, lightgcn = made(BPR, ctx, reg=0.1), made(LightGCN, ctx, layers=0, reg=0.1)
    lightgcn.load_state_dict(bpr.state_dict())
    rows = batch(ctx)
    assert torch.equal(total(bpr.loss(rows)), total(lightgcn.loss(rows)))
    train(bpr, ctx)
    train(lightgcn, ctx)
    for name in ("user", "item"):  # gradients are summed in another order
        assert torch.allclose(getattr(bpr.model, name), getattr(lightgcn.model, name), atol=1e-5)


def test_fact_6_scores_are_the_product_of_the_tables_and_lists_those_of_a_full_sort() -> None:
    assembly = made(BPR, context())
    reps = assembly.represent()
    scores = assembly.model.user @ assembly.model.item.T
    everybody = torch.cartesian_prod(torch.arange(USERS), torch.arange(ITEMS)).T
    assert torch.allclose(reps.score(*everybody).view(USERS, ITEMS), scores, atol=1e-6)
    assert torch.equal(top_k(reps.user, reps.item.values, 5).items, scores.topk(5).indices)
