"""Fact 2 is also tested on the graph itself, in tests/test_graphs_users.py."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny import ITEMS, USERS, adjacency, batch, context, friends, made, same, tables, total, train
from torch import Tensor
from torch.nn import functional as F

from prismrec.assembly import Assembly
from prismrec.models import DRAGON, Context
from prismrec.sampling import generator


def sides(assembly: Assembly, ctx: Context) -> tuple[Tensor, Tensor]:
    """q of users and items before the graphs of one kind of node."""
    model, reps = assembly.model, assembly.represent()
    users = [model.weight[:, j, None] * user for j, (user, _) in enumerate(reps.modal.values())]
    return torch.cat(users, 1).detach(), torch.cat([rows.values for _, rows in reps.modal.values()], 1)


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize(
    "settings", [{}, {"user_neighbours": 3, "item_layers": 2}, {"layers": 3, "item_layers": 0}, {"faithful": True}]
)
def test_representations_and_loss_are_those_of_the_equations(modalities: int, settings: dict[str, Any]) -> None:
    ctx = context(modalities)
    assembly = made(DRAGON, ctx, **settings)
    model, reps, rows = assembly.model, assembly.represent(), batch(ctx)
    a, s = adjacency(ctx), model.similar.matrix.dense().double()
    users, items = [], []
    for j, (m, phi) in enumerate(model.phi.items()):
        f = phi.net.double()(ctx.raw[m].values.double())
        phi.net.float()
        x = F.normalize(torch.cat([model.taste[m].double(), f]), dim=1)
        h = sum(torch.linalg.matrix_power(a, n) for n in range(model.cfg.layers + 1)) @ x
        user, item = reps.sides(m)
        assert torch.allclose(torch.cat([user, item.values]).double(), h, atol=1e-5)
        users.append(model.weight[:, j, None].double() * h[:USERS])
        items.append(h[USERS:])
    q_u, q_i = torch.cat(users, 1), torch.cat(items, 1)
    z_u = q_u + friends(ctx, model.cfg.user_neighbours) @ q_u
    n = model.cfg.item_layers
    z_i = q_i + torch.linalg.matrix_power(s, n) @ q_i if n else q_i
    assert torch.allclose(reps.user.double(), z_u, atol=1e-5)
    assert torch.allclose(reps.item.values.double(), z_i, atol=1e-5)
    scores = z_u @ z_i.T
    margin = scores[rows.user, rows.pos] - scores[rows.user, rows.neg[:, 0]]
    rank = -(margin.sigmoid().log2() if model.cfg.faithful else margin.sigmoid().log()).mean()
    sizes = [(p.double()[rows.user] ** 2).mean() for p in model.taste.values()] + [(model.weight.double() ** 2).mean()]
    assert torch.allclose(total(assembly.loss(rows)).double(), rank + 1e-3 * sum(sizes), atol=1e-5)


def test_fact_1_rows_start_at_unit_length_and_hops_add_no_more_than_themselves() -> None:
    ctx = context()
    a, zero, reps = adjacency(ctx), made(DRAGON, ctx, layers=0).represent(), made(DRAGON, ctx).represent()
    for m in ctx.raw:
        x = torch.cat([zero.modal[m][0], zero.modal[m][1].values]).double()
        assert torch.allclose(x.norm(dim=1), torch.ones(USERS + ITEMS, dtype=torch.float64))
        bound = 1 + (a @ x).norm(dim=1) + (a @ a @ x).norm(dim=1)
        assert (reps.modal[m][0].norm(dim=1) <= bound[:USERS] + 1e-5).all()


@pytest.mark.parametrize("pad", ["mask", "resample"])
def test_fact_2_neighbours_weigh_one_together_or_there_are_none_and_a_single_one_weighs_one(pad: str) -> None:
    ctx = Context(4, 3, torch.tensor([0, 1, 2]), torch.tensor([0, 0, 2]), None, {m: r for m, r in _cut().items()})
    assembly = made(DRAGON, ctx, pad=pad)
    assembly.start_epoch(0, generator(0))
    expected = torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    for graph in (assembly.model.friends.whole, assembly.model.friends.drawn):
        assert torch.allclose(graph.matrix.dense(), expected)


def _cut() -> dict[str, Any]:
    return {m: type(raw)(raw.values[:3], raw.present[:3]) for m, raw in context().raw.items()}


def test_fact_3_before_the_graphs_of_one_kind_scores_are_sums_of_weighed_scores_of_modalities() -> None:
    ctx = context(3)
    assembly = made(DRAGON, ctx)
    q_u, q_i = sides(assembly, ctx)
    modal = [user @ rows.values.T for user, rows in assembly.represent().modal.values()]
    weighed = sum(assembly.model.weight[:, j, None] * s for j, s in enumerate(modal))
    assert torch.allclose(q_u @ q_i.T, weighed, atol=1e-5)
    bare = made(DRAGON, ctx, user_neighbours=0, item_layers=0).represent()
    assert torch.allclose(bare.user, q_u) and torch.allclose(bare.item.values, q_i)


def test_fact_4_at_a_margin_of_zero_the_published_loss_is_one_bit() -> None:
    ctx = context()
    for faithful, expected in ((True, 1.0), (False, math.log(2))):
        assembly = made(DRAGON, ctx, reg=0.0, faithful=faithful)
        with torch.no_grad():
            assembly.model.weight.zero_()  # all scores are 0
        terms = assembly.loss(batch(ctx))
        assert terms.keys() == {"rank"} and math.isclose(terms["rank"].item(), expected, abs_tol=1e-6)


def test_fact_5_rows_of_the_item_graph_sum_to_one() -> None:
    for missing in (False, True):
        matrix = made(DRAGON, context(missing=missing)).model.similar.matrix.dense()
        known = torch.ones(ITEMS)
        known[4] = 0 if missing else 1  # lacks all modalities
        assert torch.allclose(matrix.sum(1), known)


def test_fact_6_a_users_weights_start_with_a_sum_of_one_and_are_free_afterwards() -> None:
    ctx = context()
    assembly = made(DRAGON, ctx)
    assert torch.allclose(assembly.model.weight.sum(1), torch.ones(USERS))
    train(assembly, ctx)
    assert not torch.allclose(assembly.model.weight.sum(1), torch.ones(USERS))


def test_departures_1_and_2_short_lists_are_masked_or_filled_up_in_training_alone() -> None:
    ctx = context()
    masked, filled = made(DRAGON, ctx), made(DRAGON, ctx, pad="resample")
    for assembly in (masked, filled):
        assembly.start_epoch(0, generator(0))
    assert same(tables(masked.represent()), tables(filled.represent()))
    assert not torch.equal(masked.loss(batch(ctx))["rank"], filled.loss(batch(ctx))["rank"])


def test_departure_4_ranking_follows_every_step() -> None:
    ctx = context()
    assembly = train(made(DRAGON, ctx), ctx, epochs=1, steps=1)
    before = tables(assembly.represent())
    with torch.no_grad():
        assembly.model.weight.mul_(2)
    assert torch.allclose(assembly.represent().user, 2 * before["user"], atol=1e-6)


def test_parameters_are_as_many_as_the_card_counts_on_baby() -> None:
    def count(users: int, widths: tuple[int, ...], hidden: int, d: int) -> int:
        return users * (d + 1) * len(widths) + sum(r * hidden + hidden + hidden * d + d for r in widths)

    assert count(19_445, (4096, 384), 256, 64) == 3_708_138
    assembly = made(DRAGON, context(), hidden=5)
    assert sum(p.numel() for p in assembly.parameters()) == count(USERS, (9, 7), 5, 8)
