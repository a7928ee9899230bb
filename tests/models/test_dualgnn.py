"""Fact 1, on the graph itself, is in tests/test_graphs_users.py."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny import ITEMS, USERS, adjacency, batch, context, friends, made, same, tables, total, train
from torch.nn import functional as F

from prismrec import graphs
from prismrec.models import Context, DualGNN
from prismrec.sampling import generator


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("settings", [{}, {"neighbours": 3}, {"layers": 3, "hidden": 5}, {"faithful": True}])
def test_representations_and_loss_are_those_of_the_equations(modalities: int, settings: dict[str, Any]) -> None:
    ctx = context(modalities)
    assembly = made(DualGNN, ctx, **settings)
    model, reps, rows = assembly.model, assembly.represent(), batch(ctx)
    a = adjacency(ctx)
    z, y = torch.zeros(USERS, 8, dtype=torch.float64), torch.zeros(ITEMS, 8, dtype=torch.float64)
    for j, (m, phi) in enumerate(model.phi.items()):
        f = phi.net.double()(ctx.raw[m].values.double())
        phi.net.float()
        x = F.normalize(torch.cat([model.taste[m].double(), f]), dim=1)
        power = sum(torch.linalg.matrix_power(a, n) for n in range(model.cfg.layers + 1)) @ x
        user, item = reps.sides(m)
        assert torch.allclose(torch.cat([user, item.values]).double(), power, atol=1e-5)
        z, y = z + model.weight[:, j, None].double() * power[:USERS], y + power[USERS:]
        if model.cfg.faithful and j > 0:  # the first modality's rows are those of the sum
            z = z + model.weight[:, 0, None].double() * power[:USERS]
    z = z + friends(ctx, model.cfg.neighbours) @ z
    assert torch.allclose(reps.user.double(), z, atol=1e-5) and torch.allclose(reps.item.values.double(), y, atol=1e-5)
    s = z @ y.T
    margin = s[rows.user, rows.pos] - s[rows.user, rows.neg[:, 0]]
    rank = -(margin.sigmoid().log2() if model.cfg.faithful else margin.sigmoid().log()).mean()
    sizes = [(p.double()[rows.user] ** 2).mean() for p in model.taste.values()] + [(model.weight.double() ** 2).mean()]
    if model.cfg.faithful:
        sizes.append((model.item_weight.double() ** 2).mean())
    assert torch.allclose(total(assembly.loss(rows)).double(), rank + 0.1 * sum(sizes), atol=1e-5)


def test_fact_2_a_users_neighbours_weigh_one_together_or_there_are_none() -> None:
    assembly = made(DualGNN, context(), pad="resample")
    assembly.start_epoch(0, generator(0))
    lonely = torch.arange(USERS) == USERS - 1  # took nothing
    for graph in (assembly.model.friends.whole, assembly.model.friends.drawn):
        assert torch.allclose(graph.matrix.dense().sum(1), (~lonely).float())


def test_fact_3_without_neighbours_users_stay_as_they_were() -> None:
    alone = made(DualGNN, context(), neighbours=0).represent()
    weights = made(DualGNN, context()).model.weight
    z = torch.stack([weights[:, j, None] * user for j, (user, _) in enumerate(alone.modal.values())]).sum(0)
    assert torch.allclose(alone.user, z, atol=1e-6)
    apart = Context(USERS, ITEMS, torch.arange(10), torch.arange(10), None, context().raw)  # nobody shares anything
    a, b = (made(DualGNN, apart, neighbours=k).represent() for k in (0, 5))
    assert same(tables(a), tables(b))


def test_fact_4_a_modalitys_rows_are_three_times_lightgcns_of_two_layers() -> None:
    ctx = context()
    model = made(DualGNN, ctx).model
    feats = model.project(ctx.raw, None)
    for m, (user, item) in model(feats).modal.items():
        start = F.normalize(model.taste[m], dim=1), F.normalize(feats[m].values, dim=1)
        mean = graphs.propagate_mean(model.graph, 2, *start)
        assert torch.allclose(user, 3 * mean[0], atol=1e-6) and torch.allclose(item.values, 3 * mean[1], atol=1e-6)


def test_fact_5_the_published_loss_is_in_bits_and_its_item_weights_feel_the_penalty_alone() -> None:
    ctx = context()
    plain, faithful = made(DualGNN, ctx), made(DualGNN, ctx, faithful=True)
    faithful.load_state_dict(plain.state_dict(), strict=False)
    rows = batch(ctx)
    terms = faithful.loss(rows)
    assert terms["reg"] > plain.loss(rows)["reg"]
    total(terms).backward()
    w = faithful.model.item_weight
    assert torch.allclose(w.grad, 2 * 0.1 * w / w.numel())
    assert "item_weight" not in dict(plain.model.named_parameters())
    with torch.no_grad():  # without a weight for the first modality both score alike
        plain.model.weight[:, 0], faithful.model.weight[:, 0] = 0, 0
    assert torch.isclose(faithful.loss(rows)["rank"], plain.loss(rows)["rank"] / math.log(2))


def test_the_weights_of_modalities_start_as_a_softmax_and_are_free_afterwards() -> None:
    ctx = context(3)
    assembly = made(DualGNN, ctx)
    w = assembly.model.weight
    assert w.shape == (USERS, 3) and torch.allclose(w.sum(1), torch.ones(USERS))
    train(assembly, ctx)
    assert not torch.allclose(w.sum(1), torch.ones(USERS))
    assert torch.allclose(made(DualGNN, context(1)).model.weight, torch.ones(USERS, 1))


def test_departures_1_and_2_short_lists_are_masked_or_filled_up_anew_every_epoch_in_training_alone() -> None:
    ctx = context()
    masked, filled = made(DualGNN, ctx), made(DualGNN, ctx, pad="resample")
    drawn = []
    for epoch in range(2):
        for assembly in (masked, filled):
            assembly.start_epoch(epoch, generator(0, epoch))
        drawn.append(filled.model.friends.drawn.matrix.dense())
        assert masked.model.friends.drawn is masked.model.friends.whole
        assert torch.equal(drawn[-1] > 0, masked.model.friends.whole.matrix.dense() > 0)  # nobody else comes in
    assert not torch.equal(*drawn)
    assert same(tables(masked.represent()), tables(filled.represent()))
    assert not torch.equal(masked.loss(batch(ctx))["rank"], filled.loss(batch(ctx))["rank"])


def test_lists_that_are_long_enough_are_never_filled_up() -> None:
    ctx = context()
    assembly = made(DualGNN, ctx, neighbours=1, pad="resample")
    assembly.start_epoch(0, generator(0))
    assert torch.equal(assembly.model.friends.drawn.matrix.dense(), assembly.model.friends.whole.matrix.dense())


@pytest.mark.parametrize("pad", ["mask", "resample"])
def test_the_same_seed_draws_the_same_lists(pad: str) -> None:
    ctx = context()
    first, second = (tables(train(made(DualGNN, ctx, pad=pad), ctx).represent()) for _ in range(2))
    assert same(first, second)


def test_parameters_are_as_many_as_the_equations_say() -> None:
    """On Baby 3,722,238, of which 14,100 (weights of items) are in the published code alone."""

    def count(users: int, items: int, widths: tuple[int, ...], hidden: int, d: int, faithful: bool) -> int:
        mlp = sum(r * hidden + hidden + hidden * d + d for r in widths)
        return users * d * len(widths) + mlp + len(widths) * (users + items * faithful)

    assert count(19_445, 7_050, (4096, 384), 256, 64, True) == 3_722_238
    for faithful in (False, True):
        assembly = made(DualGNN, context(), hidden=5, faithful=faithful)
        assert sum(p.numel() for p in assembly.parameters()) == count(USERS, ITEMS, (9, 7), 5, 8, faithful)
