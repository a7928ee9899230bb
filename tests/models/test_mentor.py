from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny import DIM, ITEMS, USERS, adjacency, batch, context, loss, made, same, tables, total, train
from torch import Tensor
from torch.nn import functional as F

from prismrec import graphs, losses
from prismrec.assembly import Assembly
from prismrec.models import MENTOR, Context
from prismrec.models.mentor import gaps, moments, perturbed

QUIET: dict[str, Any] = {"mask": 0.0, "perturb": 0.0}
"""Without the two terms that draw."""


def doubled(net: torch.nn.Module, x: Tensor) -> Tensor:
    out = net.double()(x.double())
    net.float()
    return out


def branch(assembly: Assembly, ctx: Context, preference: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """H of users, and of items with what the item graph adds, in double precision."""
    model = assembly.model
    s = torch.linalg.matrix_power(model.similar.matrix.dense().double(), max(model.cfg.item_layers, 1))
    x = F.normalize(torch.cat([preference.double(), features]), dim=1)
    h = sum(torch.linalg.matrix_power(adjacency(ctx), n) for n in range(model.cfg.layers + 1)) @ x
    user, item = h[:USERS], h[USERS:]
    return user, item + s @ item if model.cfg.item_layers else item


def spread(a: Tensor, b: Tensor) -> Tensor:
    return (a.var() - b.var()).abs() + (a.mean() - b.mean()).abs()


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("settings", [{}, {"item_layers": 2, "layers": 1}, {"item_layers": 0}, {"faithful": True}])
def test_representations_and_loss_are_those_of_the_equations(modalities: int, settings: dict[str, Any]) -> None:
    ctx = context(modalities)
    assembly = made(MENTOR, ctx, **QUIET, **settings)
    model, reps, rows = assembly.model, assembly.represent(), batch(ctx)
    sides = {}
    for m, phi in model.phi.items():
        sides[m] = branch(assembly, ctx, model.taste[m], doubled(phi.net, ctx.raw[m].values))
        assert torch.allclose(reps.modal[m][0].double(), sides[m][0], atol=1e-5)
        assert torch.allclose(reps.modal[m][1].values.double(), sides[m][1], atol=1e-5)
    weight = model.weight.double()
    user = torch.cat([weight[:, j, None] * u for j, (u, _) in enumerate(sides.values())], 1)
    item = torch.cat([i for _, i in sides.values()], 1)
    assert torch.allclose(reps.user.double(), user, atol=1e-5)
    assert torch.allclose(reps.item.values.double(), item, atol=1e-5)
    scores = user @ item.T
    margin = scores[rows.user, rows.pos] - scores[rows.user, rows.neg[:, 0]]
    rank = -(margin.sigmoid().log2() if model.cfg.faithful else margin.sigmoid().log()).mean()
    sizes = [(p.double()[rows.user] ** 2).mean() for p in model.taste.values()] + [(weight**2).mean()]
    guide = branch(assembly, ctx, model.user, doubled(model.guide, model.item))
    levels = [torch.cat([torch.cat(side)] * modalities, 1) for side in (guide, *sides.values())]
    levels.insert(0, torch.cat([user, item]))
    align = sum(spread(a, b) for j, a in enumerate(levels) for b in levels[:j])
    terms = assembly.loss(rows)
    assert torch.allclose(terms["mentor.align"].double(), 0.1 * align, atol=1e-5)
    assert torch.allclose(total(terms).double(), rank + 1e-3 * sum(sizes) + 0.1 * align, atol=1e-5)


def test_fact_1_a_score_is_the_weighed_sum_of_those_of_the_modalities() -> None:
    ctx = context(3)
    assembly = made(MENTOR, ctx)
    reps = assembly.represent()
    modal = [user @ rows.values.T for user, rows in reps.modal.values()]
    weighed = sum(assembly.model.weight[:, j, None] * s for j, s in enumerate(modal))
    assert torch.allclose(reps.user @ reps.item.values.T, weighed, atol=1e-5)


def test_fact_2_the_published_term_that_leaves_entries_out_trains_nothing_and_ours_what_ranks() -> None:
    ctx = context()
    published, ours = made(MENTOR, ctx, faithful=True), made(MENTOR, ctx)
    assert "mentor.mask" not in published.loss(batch(ctx)) and published.model.predict is None
    ours.loss(batch(ctx))["mentor.mask"].backward()
    for parameter in (*ours.model.taste.parameters(), *ours.model.phi.parameters(), *ours.model.predict.parameters()):
        assert parameter.grad is not None and parameter.grad.any()


def test_fact_3_the_published_contrast_reaches_the_weights_of_modalities_alone_and_ours_the_encoder() -> None:
    ctx = context()
    for faithful in (True, False):
        model = (assembly := made(MENTOR, ctx, faithful=faithful)).model
        assembly.loss(batch(ctx))["mentor.perturb"].backward()
        assert model.weight.grad is not None and model.weight.grad.any()
        for parameter in (*model.taste.parameters(), *model.phi.parameters()):
            assert (parameter.grad is None) if faithful else parameter.grad.any()


def test_fact_4_alignment_has_twelve_terms_that_are_nothing_where_all_are_equal() -> None:
    one, other = (moments(torch.randn(4, 3), torch.randn(5, 3)) for _ in range(2))
    equal = gaps([one] * 4)
    assert len(equal) == 12 and not torch.stack(equal).any()
    some = gaps([one, other, one, one])
    assert len(some) == 12 and int((torch.stack(some) > 0).sum()) == 6


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_moments_are_those_of_all_entries(copies: int) -> None:
    user, item = torch.randn(40, 5) + 1, torch.randn(30, 5) * 2
    whole = torch.cat([torch.cat([user, item])] * copies, dim=1)
    mean, variance = moments(user, item, copies)
    assert torch.isclose(mean, whole.mean(), atol=1e-6) and torch.isclose(variance, whole.var())


@pytest.mark.parametrize(("faithful", "expected"), [(True, 1.0), (False, math.log(2))])
def test_fact_5_at_a_margin_of_zero_the_published_loss_is_one_bit(faithful: bool, expected: float) -> None:
    ctx = context()
    assembly = made(MENTOR, ctx, faithful=faithful)
    with torch.no_grad():
        assembly.model.weight.zero_()
    assert math.isclose(assembly.loss(batch(ctx))["rank"].item(), expected, abs_tol=1e-6)


def test_fact_6_noise_moves_each_row_by_its_length_and_changes_no_sign() -> None:
    h = torch.randn(50, 8)
    moved = perturbed(h, 0.1)
    assert torch.allclose((moved - h).norm(dim=1), torch.full((50,), 0.1), atol=1e-6)
    assert torch.equal(moved.sign(), h.sign())
    assert torch.equal(perturbed(torch.zeros(2, 3), 0.1), torch.zeros(2, 3))


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_noisy_views_are_those_of_steps_with_noise_and_learn_as_those_without(noise: float) -> None:
    ctx = context()
    assembly = made(MENTOR, ctx, noise=noise)
    model = assembly.model
    feats = model.project(ctx.raw, None)
    torch.manual_seed(5)
    views = model(feats).views
    torch.manual_seed(5)
    drawn: dict[str, list[list[Tensor]]] = {}
    for m, (p, f) in model.taste.start(feats).items():
        drawn[m] = []
        for _ in range(2):
            user, item = p, f
            total_u, total_i = p, f
            for _ in range(2):
                user, item = model.graph.to_user.times(item), model.graph.to_item.times(user)
                user, item = perturbed(user, noise), perturbed(item, noise)
                total_u, total_i = total_u + user, total_i + item
            drawn[m].append([total_u, total_i + model.similar(total_i)])
    for k in range(2):
        user = torch.cat([model.weight[:, j, None] * sides[k][0] for j, sides in enumerate(drawn.values())], 1)
        item = torch.cat([sides[k][1] for sides in drawn.values()], 1)
        assert torch.allclose(views[f"user.{k}"], user, atol=1e-6)
        assert torch.allclose(views[f"item.{k}"], item, atol=1e-6)
    assert torch.equal(views["user.0"], views["user.1"]) == (noise == 0)
    reps = model(feats)
    target, other = torch.randn(USERS, 2 * DIM), torch.randn(ITEMS, 2 * DIM)
    plain = torch.autograd.grad(
        (reps.user * target).sum() + (reps.item.values * other).sum(), list(model.taste.parameters()), retain_graph=True
    )
    noisy = torch.autograd.grad(
        (reps.views["user.0"] * target).sum() + (reps.views["item.0"] * other).sum(), list(model.taste.parameters())
    )
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(plain, noisy, strict=True))


def test_the_contrast_and_the_masked_term_are_those_of_the_equations() -> None:
    ctx = context()
    assembly = made(MENTOR, ctx, mask=1.5, mask_rate=0.0, temperature=0.3)
    model, rows = assembly.model, batch(ctx)
    terms, reps = loss(assembly, rows), assembly.represent()
    cosines = [F.cosine_similarity(model.predict(x), x) for x in (reps.user[rows.user], reps.item.at(rows.pos))]
    assert torch.isclose(terms["mentor.mask"], 1.5 * sum(1 - c.mean() for c in cosines), atol=1e-5)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        views = model(model.project(ctx.raw, None)).views
    users, items = rows.user.unique(), rows.pos.unique()
    assert len(users) < len(rows.user)
    expected = losses.info_nce(views["user.0"][users], views["user.1"][users], 0.3)
    expected = expected + losses.info_nce(views["item.0"][items], views["item.1"][items], 0.3)
    assert torch.isclose(terms["mentor.perturb"], 1e-3 * expected)


def test_ranking_knows_neither_noise_nor_ids() -> None:
    ctx = context()
    assembly = train(made(MENTOR, ctx), ctx)
    before = tables(assembly.represent())
    with torch.no_grad():
        assembly.model.item.mul_(-1)
    assert same(before, tables(assembly.represent()))
    assert set(assembly.represent().views) == set()


def test_without_its_terms_nothing_of_theirs_is_there() -> None:
    ctx = context()
    bare = made(MENTOR, ctx, align=0.0, **QUIET)
    assert bare.loss(batch(ctx)).keys() == {"rank", "reg"}
    assert {name.split(".")[0] for name, _ in bare.model.named_parameters()} == {"phi", "taste", "weight"}
    assert isinstance(bare.model.similar, graphs.ItemGraph)


def test_parameters_are_as_many_as_the_card_counts_on_baby() -> None:
    """That of the published code's main path; its prediction, never trained there, comes on top."""

    def count(users: int, items: int, widths: tuple[int, ...], hidden: int, d: int, faithful: bool) -> int:
        mlps = sum(r * hidden + hidden + hidden * d + d for r in (*widths, d))
        predict = 0 if faithful else (len(widths) * d) ** 2 + len(widths) * d
        return users * d * (len(widths) + 1) + items * d + users * len(widths) + mlps + predict

    assert count(19_445, 7_050, (4096, 384), 256, 64, True) == 5_436_906
    for faithful in (False, True):
        assembly = made(MENTOR, context(), hidden=5, faithful=faithful)
        assert sum(p.numel() for p in assembly.parameters()) == count(USERS, ITEMS, (9, 7), 5, 8, faithful)
