from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from tiny import DIM, ITEMS, USERS, WIDTHS, batch, context, loss, made, same, tables, total, train
from torch import Tensor
from torch.nn import functional as F

from prismrec import graphs
from prismrec.assembly import Assembly
from prismrec.models import Context, SLMRec
from prismrec.types import Batch


def linear(module: torch.nn.Module, x: Tensor) -> Tensor:
    out = x @ module.weight.detach().double().T
    return out if module.bias is None else out + module.bias.detach().double()


def views(assembly: Assembly, ctx: Context) -> dict[str, tuple[Tensor, Tensor]]:
    """[u_m ; y_m] of IDs and of each modality, from a dense graph, in double precision."""
    model = assembly.model
    a = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.float64)
    a[ctx.user, USERS + ctx.item] = 1
    a += a.T.clone()
    root = a.sum(1).clamp(min=1).rsqrt()
    a = root[:, None] * a * root
    layers = model.cfg.layers
    mean = sum(torch.linalg.matrix_power(a, n) for n in range(layers + 1)) / (layers + 1)
    start = {"id": model.item.detach().double()}
    for m, raw in ctx.raw.items():
        phi = model.phi[m]
        x = torch.where(raw.present[:, None], raw.values, phi.plain.stand_in).double()
        weight = phi.plain.net.weight.detach().double()
        start[m] = F.normalize(x, dim=1) @ weight.T + phi.bias.detach().double()
    found = {}
    for name, x in start.items():
        both = mean @ torch.cat([model.user.detach().double(), x])
        found[name] = both[:USERS], both[USERS:]
    return found


def told_apart(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    return F.cross_entropy(query @ key.T / temperature, torch.arange(len(query)))


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("settings", [{}, {"layers": 1, "score": "cosine", "weight": 0.7, "task_temperature": 0.5}])
def test_representations_and_loss_are_those_of_the_equations(modalities: int, settings: dict[str, Any]) -> None:
    ctx = context(modalities, missing=True)
    assembly = made(SLMRec, ctx, **settings)
    model, cfg, rows = assembly.model, assembly.model.cfg, batch(ctx)
    found, reps = views(assembly, ctx), assembly.represent()
    user = linear(model.join["user"], torch.cat([u for u, _ in found.values()], 1))
    item = linear(model.join["item"], torch.cat([y for _, y in found.values()], 1))
    unit_user, unit_item = F.normalize(user, dim=1), F.normalize(item, dim=1)
    served = (unit_user, unit_item) if cfg.score == "cosine" else (user, item)
    assert torch.allclose(reps.user.double(), served[0], atol=1e-5)
    assert torch.allclose(reps.item.values.double(), served[1], atol=1e-5)
    for m in ctx.raw:
        assert torch.allclose(reps.modal[m][0].double(), found[m][0], atol=1e-6)
        assert torch.allclose(reps.modal[m][1].values.double(), found[m][1], atol=1e-6)

    rank = told_apart(unit_user[rows.user], unit_item[rows.pos], 0.2)
    y = {name: side[1][rows.pos] for name, side in found.items()}
    chain, names = model.chain, list(ctx.raw)
    a = linear(chain.step[names[0]], y["id"])
    task = told_apart(a, linear(chain.partner[names[0]], y[names[0]]), cfg.task_temperature)
    if modalities == 2:
        a = linear(chain.step[names[1]][1], linear(chain.step[names[1]][0], a))
        task += told_apart(a, linear(chain.partner[names[1]], y[names[1]]), cfg.task_temperature)
    if modalities == 3:
        a = linear(chain.step[names[1]], a)
        task += told_apart(a, linear(chain.partner[names[1]], y[names[1]]), cfg.task_temperature)
        a = linear(chain.step[names[2]], a)
        task += told_apart(a, linear(chain.partner[names[2]], y[names[2]]), cfg.task_temperature)
    assert a.shape[1] == (DIM if modalities == 1 else DIM // 2)
    terms = assembly.loss(rows)
    assert set(terms) == {"rank", "slmrec.fac"}
    assert torch.allclose(terms["rank"].double(), rank, atol=1e-5)
    assert torch.allclose(terms["slmrec.fac"].double(), cfg.weight * task, atol=1e-5)


def test_fact_1_without_layers_views_are_projections_of_unit_rows_and_users_are_the_same_in_all() -> None:
    ctx = context()
    assembly = made(SLMRec, ctx, layers=0)
    reps = assembly.represent()
    for m, raw in ctx.raw.items():
        phi = assembly.model.phi[m]
        expected = F.linear(F.normalize(raw.values, dim=1), phi.plain.net.weight, phi.bias)
        assert torch.allclose(reps.modal[m][1].values, expected, atol=1e-6)
        assert torch.equal(reps.modal[m][0], assembly.model.user)


def test_fact_2_the_first_task_is_ln_of_the_batch_where_all_are_alike_and_never_above_ten_more() -> None:
    ctx = context()
    assembly, rows = made(SLMRec, ctx, task="none"), batch(ctx)
    assert 0 <= assembly.loss(rows)["rank"] <= math.log(len(rows.user)) + 2 / 0.2
    with torch.no_grad():
        for join in assembly.model.join.values():
            join.weight.zero_()
            join.bias.fill_(1)
    terms = assembly.loss(rows)
    assert set(terms) == {"rank"}
    assert terms["rank"].item() == pytest.approx(math.log(len(rows.user)), abs=1e-6)


@pytest.mark.parametrize("task", ["fac", "drop", "mask"])
def test_facts_3_and_6_neither_the_order_of_rows_nor_negatives_matter(task: str) -> None:
    ctx = context()
    assembly, rows = made(SLMRec, ctx, task=task), batch(ctx)
    order = torch.randperm(len(rows.user))
    turned = Batch(rows.user[order], rows.pos[order], rows.neg)
    gradients = []
    for some in (rows, turned):
        assembly.zero_grad()
        terms = loss(assembly, some)
        total(terms).backward()
        gradients.append((*terms.values(), *(p.grad.clone() for p in assembly.parameters())))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_fact_5_views_side_by_side_are_propagated_as_each_by_itself() -> None:
    ctx = context(3)
    model = made(SLMRec, ctx).model
    start = torch.randn(ITEMS, 4 * DIM)
    user, item = model.propagate(start)
    for view, u, y in zip(*(x.split(DIM, 1) for x in (start, user, item)), strict=True):
        alone = graphs.propagate_mean(model.graph, 3, model.user, view)
        assert torch.allclose(alone[0], u, atol=1e-6) and torch.allclose(alone[1], y, atol=1e-6)


def test_dropping_hardly_anything_changes_hardly_anything_and_half_of_it_much() -> None:
    model = made(SLMRec, context()).model
    start = torch.randn(ITEMS, 3 * DIM)
    whole, little, half = (model.propagate(start, drop)[1] for drop in (0.0, 1e-7, 0.5))
    assert torch.allclose(whole, little, atol=1e-5) and not torch.allclose(whole, half, atol=1e-2)
    torch.manual_seed(0)
    mean = torch.stack([model.propagate(start, 0.3)[1] for _ in range(2000)]).mean(0)
    assert torch.allclose(mean, whole, atol=0.05)


@pytest.mark.parametrize("task", ["drop", "mask"])
def test_the_other_tasks_compare_two_passes_of_the_batch(task: str) -> None:
    ctx = context()
    assembly, rows = made(SLMRec, ctx, task=task, weight=0.5, drop=0.0), batch(ctx)
    assert assembly.model.chain is None
    terms = loss(assembly, rows, noise=1)
    assert set(terms) == {"rank", f"slmrec.{task}"}
    reps = assembly.represent()
    passes = []
    for hidden in range(3) if task == "mask" else [None]:
        start = reps.views["start"].clone()
        if hidden is not None:
            start[:, hidden * DIM : (hidden + 1) * DIM] = 0
        user, item = assembly.model.propagate(start)
        join = assembly.model.join
        passes.append((join["user"](user[rows.user]), join["item"](item[rows.pos])))
    possible = [
        sum(told_apart(F.normalize(a, dim=1), F.normalize(b, dim=1), 0.2) for a, b in zip(one, other, strict=True)) / 2
        for i, one in enumerate(passes)
        for j, other in enumerate(passes)
        if task == "drop" or i != j  # never the same view twice
    ]
    assert any(torch.allclose(terms[f"slmrec.{task}"], value, atol=1e-5) for value in possible)


def test_either_score_is_trained_alike() -> None:
    ctx = context()
    trained = [train(made(SLMRec, ctx, score=score), ctx) for score in ("cosine", "dot")]
    assert same(*(dict(assembly.named_parameters()) for assembly in trained))
    cosine, dot = (assembly.represent() for assembly in trained)
    assert torch.allclose(cosine.user, F.normalize(dot.user, dim=1), atol=1e-6)
    assert torch.allclose(cosine.item.values, F.normalize(dot.item.values, dim=1), atol=1e-6)


def test_the_lengths_of_raw_rows_do_not_matter() -> None:
    ctx = context()
    longer = dataclasses.replace(
        ctx,
        raw={
            m: dataclasses.replace(raw, values=raw.values * (1 + torch.arange(ITEMS))[:, None])
            for m, raw in ctx.raw.items()
        },
    )
    first, second = (tables(made(SLMRec, some).represent()) for some in (ctx, longer))
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)


def test_parameters_are_as_many_as_the_equations_say() -> None:
    square, half = DIM * DIM, DIM * DIM // 2
    expected = (USERS + ITEMS) * DIM + sum((WIDTHS[m] + 1) * DIM for m in ("image", "text"))
    expected += 2 * (3 * DIM * DIM + DIM) + 3 * square + 2 * half + 2 * DIM + DIM // 2
    assert sum(p.numel() for p in made(SLMRec, context()).parameters()) == expected
