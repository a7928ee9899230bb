from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import ITEMS, USERS, batch, context, loss, made
from torch import Tensor
from torch.nn import functional as F

from prismrec.errors import PrismError
from prismrec.models import BPR, FREEDOM, VBPR, BRMRSBackbone, Model
from prismrec.plugins import CHNS, Synergy
from prismrec.sampling import generator
from prismrec.types import Batch, Reps, Rows

on_hosts = pytest.mark.parametrize("model", [VBPR, FREEDOM, BRMRSBackbone], ids=lambda model: model.name)


def plugin(**settings: Any) -> Synergy:
    return Synergy(Synergy.Config(**{"weight": 1.0, "margin": 0.2, **settings}))


def free(scale: float = 1.0, modalities: int = 2) -> tuple[Reps, list[Tensor]]:
    """Representations that are tables of their own; ``scale`` 0 makes all scores of modalities zero."""
    rng = torch.Generator().manual_seed(0)
    user = torch.randn(USERS, 4, generator=rng, requires_grad=True)
    fused = torch.randn(ITEMS, 4, generator=rng, requires_grad=True)
    parts = [(scale * torch.randn(ITEMS, 4, generator=rng)).requires_grad_() for _ in range(modalities)]
    return Reps(user, Rows(fused), {f"m{i}": (user, Rows(x)) for i, x in enumerate(parts)}), [user, fused, *parts]


def margin(reps: Reps, rows: Batch, m: str | None) -> Tensor:
    """Δ of the paper, from the dense score matrix."""
    users, items = reps.sides(m)
    s = users @ items.values.T
    return s[rows.user, rows.pos] - s[rows.user, rows.neg[:, 0]]


def test_fact_3_without_a_margin_and_with_silent_modalities_it_is_plain_bpr() -> None:
    rows = batch(context())
    reps, parameters = free(scale=0.0)
    term = plugin(margin=0.0).loss({"rank": torch.zeros(())}, reps, {}, rows)["rank"]
    plain = -F.logsigmoid(margin(reps, rows, None)).mean()
    assert torch.allclose(term, plain, atol=1e-6)
    mine, theirs = (torch.autograd.grad(x, parameters[:2]) for x in (term, plain))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("theta", [0.0, 0.5])
def test_the_term_is_that_of_the_equation(theta: float, modalities: int) -> None:
    rows = batch(context())
    reps, parameters = free(modalities=modalities)
    term = plugin(margin=theta, weight=0.5).loss({"rank": torch.ones(()), "reg": torch.ones(())}, reps, {}, rows)
    best = torch.stack([margin(reps, rows, m) for m in reps.modal]).amax(0)
    expected = -0.5 * F.logsigmoid(margin(reps, rows, None) - best - theta).mean()
    assert set(term) == {"rank", "reg"} and torch.allclose(term["rank"], expected, atol=1e-6)
    mine, theirs = (torch.autograd.grad(x, parameters) for x in (term["rank"], expected))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(mine, theirs, strict=True))


@on_hosts
def test_in_a_step_it_takes_the_place_of_the_models_ranking_term_and_leaves_the_rest(model: type[Model]) -> None:
    ctx = context()
    rows = batch(ctx, 3)
    plain, with_it = made(model, ctx), made(model, ctx, [(Synergy, Synergy.Config(margin=0.3))])
    for assembly in (plain, with_it):
        assembly.start_epoch(0, generator(0))
    before, after = loss(plain, rows), loss(with_it, rows)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before if name != "rank")
    reps = with_it.model(with_it.model.project(ctx.raw, None))
    best = torch.maximum(margin(reps, rows, "image"), margin(reps, rows, "text"))
    expected = -F.logsigmoid(margin(reps, rows, None) - best - 0.3).mean()
    assert torch.allclose(after["rank"], expected, atol=1e-6)
    parameters = list(with_it.parameters())
    mine, theirs = (torch.autograd.grad(x, parameters, materialize_grads=True) for x in (after["rank"], expected))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(mine, theirs, strict=True))


def test_where_the_fused_score_is_the_sum_of_two_it_is_bpr_of_the_weaker() -> None:
    ctx = context()
    assembly = made(BRMRSBackbone, ctx, [(Synergy, Synergy.Config(margin=0.0))])
    rows = batch(ctx)
    reps = assembly.model(assembly.model.project(ctx.raw, None))
    weaker = torch.minimum(margin(reps, rows, "image"), margin(reps, rows, "text"))
    assert torch.allclose(assembly.loss(rows)["rank"], -F.logsigmoid(weaker).mean(), atol=1e-6)


def test_detached_the_modalities_get_no_gradient_and_the_value_is_the_same() -> None:
    rows = batch(context())
    reps, (user, fused, *parts) = free()
    literal, detached = (plugin(detach_unimodal=yes).loss({}, reps, {}, rows)["rank"] for yes in (False, True))
    assert torch.equal(literal, detached)
    gradients = torch.autograd.grad(detached, [user, fused, *parts], allow_unused=True)
    assert gradients[0] is not None and gradients[1] is not None and gradients[2:] == (None, None)


def test_the_literal_loss_also_falls_by_worse_modalities() -> None:
    rows = batch(context())
    reps, (*_, first, second) = free()
    literal = plugin().loss({}, reps, {}, rows)["rank"]
    before = torch.maximum(margin(reps, rows, "m0"), margin(reps, rows, "m1")).mean()
    moves = torch.autograd.grad(literal, [first, second])
    user, fused = reps.user.detach(), reps.item.values.detach()
    parts = [part.detach() - 0.1 * move for part, move in zip((first, second), moves, strict=True)]
    moved = Reps(user, Rows(fused), {f"m{i}": (user, Rows(part)) for i, part in enumerate(parts)})
    assert plugin().loss({}, moved, {}, rows)["rank"] < literal
    assert torch.maximum(margin(moved, rows, "m0"), margin(moved, rows, "m1")).mean() < before


def test_rows_count_by_their_weights() -> None:
    rows = batch(context(weights=True))
    reps, _ = free()
    assert rows.weight is not None
    best = torch.maximum(margin(reps, rows, "m0"), margin(reps, rows, "m1"))
    each = -F.logsigmoid(margin(reps, rows, None) - best - 0.2)
    term = plugin().loss({}, reps, {}, rows)["rank"]
    assert torch.allclose(term, (each * rows.weight).mean(), atol=1e-6)


@pytest.mark.parametrize("chain", [[CHNS, Synergy], [Synergy, CHNS]], ids=["chns first", "synergy first"])
def test_with_hard_negatives_it_is_the_objective_of_the_paper(chain: list[Any]) -> None:
    ctx = context()
    rows = batch(ctx, 16)
    both = loss(made(BRMRSBackbone, ctx, chain), rows)
    assert set(both) == {"rank", "reg", "chns.image", "chns.text"}
    one, other = loss(made(BRMRSBackbone, ctx, [CHNS]), rows), loss(made(BRMRSBackbone, ctx, [Synergy]), rows)
    assert torch.equal(both["rank"], other["rank"]) and torch.equal(both["chns.text"], one["chns.text"])


@pytest.mark.parametrize(("model", "modalities", "found"), [(BPR, 2, "none"), (VBPR, 1, "image")])
def test_fewer_than_two_modalities_with_scores_are_refused(model: type[Model], modalities: int, found: str) -> None:
    with pytest.raises(PrismError, match=rf"synergy needs two or more .*{model.name} states {found} here"):
        made(model, context(modalities), [Synergy])


@pytest.mark.parametrize("bad", [{"weight": -1.0}, {"margin": -0.1}, {"detach_unimodal": 1}])
def test_settings_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Synergy.Config(**bad)
