from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tiny import DIM, ITEMS, USERS, WIDTHS, batch, context, made, total, train, with_raw
from torch import Tensor

from prismrec.assembly import Assembly
from prismrec.models import BPR, VBPR, Context
from prismrec.nn import Raw
from prismrec.types import ItemIds


def weights(assembly: Assembly) -> dict[str, Tensor]:
    return {m: phi.net.weight for m, phi in assembly.model.phi.items()}


def scores(assembly: Assembly) -> Tensor:
    reps = assembly.represent()
    return reps.user @ reps.item.values.T


def test_shapes_and_start_are_those_of_one_projection_of_all_features_side_by_side() -> None:
    assembly = made(VBPR, context(), dim=512)
    shapes = {name: tuple(p.shape) for name, p in assembly.named_parameters()}
    assert shapes == {
        "model.user": (USERS, 1024),
        "model.item": (ITEMS, 512),
        "model.bias": (512,),
        "model.phi.image.net.weight": (512, WIDTHS["image"]),
        "model.phi.text.net.weight": (512, WIDTHS["text"]),
    }
    std = math.sqrt(2 / (512 + WIDTHS["image"] + WIDTHS["text"]))
    assert all(w.std().item() == pytest.approx(std, rel=0.06) for w in weights(assembly).values())
    assert not assembly.model.bias.any()


def test_fact_1_with_a_projection_of_zero_it_is_bpr_on_the_first_coordinates() -> None:
    ctx = context()
    vbpr, bpr = made(VBPR, ctx, reg=0.0), made(BPR, ctx, reg=0.0)
    with torch.no_grad():
        for w in weights(vbpr).values():
            w.zero_()
        bpr.model.user.copy_(vbpr.model.user[:, :DIM])
        bpr.model.item.copy_(vbpr.model.item)
    assert torch.allclose(scores(vbpr), scores(bpr), atol=1e-6)
    rows = batch(ctx)
    assert torch.allclose(vbpr.loss(rows)["rank"], bpr.loss(rows)["rank"], atol=1e-6)


def test_fact_2_without_item_ids_equal_features_get_equal_scores() -> None:
    ctx = context()
    raw = {m: Raw(r.values.index_copy(0, torch.tensor([3]), r.values[[8]]), r.present) for m, r in ctx.raw.items()}
    assembly = made(VBPR, with_raw(ctx, raw))
    torch.nn.init.zeros_(assembly.model.item)
    assert torch.allclose(scores(assembly)[:, 3], scores(assembly)[:, 8], atol=1e-6)
    assert not torch.allclose(scores(assembly)[:, 3], scores(assembly)[:, 4], atol=1e-2)


def test_fact_3_the_bias_cancels_in_the_ranking_and_moves_through_the_penalty_alone() -> None:
    ctx = context()
    assembly, rows = made(VBPR, ctx, reg=0.1).double(), batch(ctx)
    torch.nn.init.normal_(assembly.model.bias)
    terms = assembly.loss(rows)
    (ranking,) = torch.autograd.grad(terms["rank"], assembly.model.bias, retain_graph=True)
    (penalty,) = torch.autograd.grad(terms["reg"], assembly.model.bias)
    assert ranking.abs().max() < 1e-12 and penalty.abs().min() > 1e-6
    without = made(VBPR, ctx, reg=0.0).double()
    total(without.loss(rows)).backward()
    assert without.model.bias.grad is not None and without.model.bias.grad.abs().max() < 1e-12
    others = {name: p.grad for name, p in without.named_parameters() if name != "model.bias"}
    assert all(grad is not None and grad.any() for grad in others.values())


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_fact_4_the_score_is_id_part_plus_projection_of_the_concatenated_features(modalities: int) -> None:
    ctx = context(modalities)
    assembly = made(VBPR, ctx)
    torch.nn.init.normal_(assembly.model.bias)
    w = torch.cat(list(weights(assembly).values()), dim=1)
    f = torch.cat([raw.values for raw in ctx.raw.values()], dim=1)
    p, q = assembly.model.user, assembly.model.item
    expected = p[:, :DIM] @ q.T + p[:, DIM:] @ (f @ w.T + assembly.model.bias).T
    assert torch.allclose(scores(assembly), expected, atol=1e-5)


@pytest.mark.parametrize("missing", [False, True])
def test_fact_5_projecting_the_items_of_a_batch_equals_rows_of_the_full_projection(missing: bool) -> None:
    ctx = context(missing=missing)
    assembly = train(made(VBPR, ctx), ctx)
    index = ItemIds.of(torch.tensor([0, 16, 4, 4]), ITEMS)
    part, whole = assembly.model.project(ctx.raw, index), assembly.model.project(ctx.raw, None)
    for m, rows in part.items():
        assert torch.allclose(rows.values, whole[m].values[index.ids], atol=1e-6)
    a, b = assembly.model(part), assembly.model(whole)
    items = torch.tensor([[4, 0], [16, 4]])
    assert torch.allclose(a.item.at(items), b.item.at(items), atol=1e-6)


def test_modalities_share_the_users_content_side_and_have_their_own_items() -> None:
    assembly = made(VBPR, context())
    reps = assembly.represent()
    assert all(torch.equal(user, assembly.model.user[:, DIM:]) for user, _ in reps.modal.values())
    parts = sum(rows.values for _, rows in reps.modal.values())
    assert torch.allclose(parts, reps.item.values[:, DIM:], atol=1e-6)


def test_departure_2_the_composed_item_rows_are_penalised_not_the_projection() -> None:
    ctx = context()
    assembly, rows = made(VBPR, ctx, reg=0.7, reg_kind="l2_sq"), batch(ctx)
    reps = assembly.represent()
    parts = (reps.user[rows.user], reps.item.values[rows.pos], reps.item.values[rows.neg])
    expected = 0.7 * sum(x.square().sum() for x in parts) / (2 * len(rows.user))
    assert torch.allclose(assembly.loss(rows)["reg"], expected, atol=1e-6)


def test_trained_features_are_tables_that_move_and_the_raw_ones_stay() -> None:
    ctx = context(missing=True)
    copy = {m: raw.values.clone() for m, raw in ctx.raw.items()}
    assembly = train(made(VBPR, ctx, train_features=True), ctx)
    for m, phi in assembly.model.phi.items():
        assert phi.table is not None and phi.table.grad is not None and phi.table.grad.any()
        assert not torch.allclose(phi.table, copy[m]) and torch.equal(ctx.raw[m].values, copy[m])


def test_frozen_and_trained_features_start_alike() -> None:
    ctx = context(missing=True)
    frozen, trained = (made(VBPR, ctx, train_features=yes) for yes in (False, True))
    assert torch.allclose(scores(frozen), scores(trained), atol=1e-6)


def test_normalised_rows_make_the_length_of_features_irrelevant() -> None:
    ctx = context()
    longer = with_raw(ctx, {m: replace(raw, values=raw.values * 8) for m, raw in ctx.raw.items()})
    a, b = (scores(made(VBPR, c, normalize=True)) for c in (ctx, longer))
    assert torch.allclose(a, b, atol=1e-6)
    assert not torch.allclose(scores(made(VBPR, ctx)), scores(made(VBPR, longer)))


def test_a_new_item_is_represented_by_its_features_without_retraining() -> None:
    ctx: Context = context()
    assembly = train(made(VBPR, ctx), ctx)
    new = {m: Raw(raw.values[[5]], raw.present[[5]]) for m, raw in ctx.raw.items()}
    feats = assembly.model.project(new, None)
    content = sum(rows.values for rows in feats.values())
    assert torch.allclose(content, assembly.represent().item.values[[5], DIM:], atol=1e-6)
