from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import DIM, ITEMS, USERS, WIDTHS, batch, context, loss, made, total
from torch import Tensor
from torch.nn import functional as F

from prismrec.assembly import Assembly
from prismrec.models import BM3, Context


def equations(assembly: Assembly, ctx: Context) -> dict[str, Tensor]:
    """h of users and items, and x of each modality, in double precision and on a dense graph."""
    model = assembly.model
    a = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.float64)
    a[ctx.user, USERS + ctx.item] = 1
    a += a.T.clone()
    root = a.sum(1).clamp(min=1).rsqrt()
    a = root[:, None] * a * root
    e = torch.cat([model.user, model.item]).detach().double()
    h = sum(torch.linalg.matrix_power(a, n) for n in range(model.cfg.layers + 1)) @ e / (model.cfg.layers + 1)
    found = {"user": h[:USERS], "item": h[USERS:] + e[USERS:]}
    for m, phi in model.phi.items():
        raw = ctx.raw[m].values if phi.table is None else phi.table.detach()
        found[m] = raw.double() @ phi.net.weight.detach().double().T + phi.net.bias.detach().double()
    return found


def predicted(assembly: Assembly, x: Tensor) -> Tensor:
    p = assembly.model.predict
    return x @ p.weight.detach().double().T + p.bias.detach().double()


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize(
    "settings", [{}, {"layers": 2, "modal": 0.7}, {"reg": 3.0, "reg_kind": "l2_sq"}, {"train_features": True}]
)
def test_representations_and_loss_are_those_of_the_equations(modalities: int, settings: dict[str, Any]) -> None:
    ctx = context(modalities)
    assembly = made(BM3, ctx, dropout=0.0, **settings)
    cfg, rows, reps = assembly.model.cfg, batch(ctx), assembly.represent()
    found = equations(assembly, ctx)
    assert torch.allclose(reps.user.double(), predicted(assembly, found["user"]), atol=1e-6)
    assert torch.allclose(reps.item.values.double(), predicted(assembly, found["item"]), atol=1e-6)
    for m in ctx.raw:
        assert reps.modal[m][0] is reps.user
        assert torch.allclose(reps.modal[m][1].values.double(), predicted(assembly, found[m]), atol=1e-6)

    def apart(query: str, key: str) -> Tensor:
        ids = {"user": rows.user}
        online = predicted(assembly, found[query])[ids.get(query, rows.pos)]
        return 1 - F.cosine_similarity(online, found[key][ids.get(key, rows.pos)]).mean()

    expected = {"rank": apart("user", "item") + apart("item", "user")}
    expected |= {f"bm3.{m}": cfg.modal * (apart(m, "item") + apart(m, m)) for m in ctx.raw}
    sizes = [found["user"].norm(), found["item"].norm()]
    expected["reg"] = cfg.reg * sum(s**2 / 2 if cfg.reg_kind == "l2_sq" else s for s in sizes) / ITEMS
    terms = assembly.loss(rows)
    assert terms.keys() == expected.keys()
    assert all(torch.allclose(terms[name].double(), expected[name], atol=1e-6) for name in terms)


def test_fact_1_without_weights_the_two_terms_of_the_ranking_are_left() -> None:
    ctx = context()
    terms = made(BM3, ctx, modal=0.0, reg=0.0).loss(batch(ctx))
    assert set(terms) == {"rank"} and 0 <= terms["rank"] <= 4


def test_fact_2_targets_take_no_gradient() -> None:
    ctx = context()
    assembly = made(BM3, ctx)
    h = torch.randn(5, DIM, requires_grad=True)
    assert not assembly.model.target(h).requires_grad
    with torch.no_grad():  # a prediction that is constant: all that is left are targets
        assembly.model.predict.weight.zero_()
        assembly.model.predict.bias.fill_(1)
    total({name: term for name, term in loss(assembly, batch(ctx)).items() if name != "reg"}).backward()
    others = [p for name, p in assembly.named_parameters() if "predict" not in name]
    assert len(others) == 6 and not any(p.grad.any() for p in others)


def test_fact_3_an_item_that_nobody_took_is_one_and_a_half_times_its_embedding() -> None:
    assembly = made(BM3, context(), layers=1)
    item = assembly.represent().views["item"]
    assert torch.allclose(item[-2:], 1.5 * assembly.model.item[-2:]) and not torch.allclose(
        item, 1.5 * assembly.model.item
    )


def test_fact_4_without_a_bias_of_the_predictor_the_size_of_users_is_seen_by_the_penalty_alone() -> None:
    ctx = context()
    assembly, rows = made(BM3, ctx, layers=0), batch(ctx)
    with torch.no_grad():
        assembly.model.predict.bias.zero_()
        before = loss(assembly, rows)
        assembly.model.user *= 3
        after = loss(assembly, rows)
        assembly.model.item.zero_()
        alone = loss(assembly, rows)["reg"]
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before if name != "reg")
    assert torch.allclose(after["reg"] - before["reg"], alone * 2 / 3, atol=1e-6)


def test_fact_5_both_sides_of_a_score_are_predicted_and_nothing_is_dropped() -> None:
    ctx = context()
    assembly = made(BM3, ctx)
    reps, p = assembly.represent(), assembly.model.predict
    user, item = torch.arange(USERS), torch.arange(USERS)
    with torch.no_grad():
        expected = (p(reps.views["user"]) * p(reps.views["item"])[:USERS]).sum(1)
    assert torch.allclose(reps.score(user, item), expected, atol=1e-6)


@pytest.mark.parametrize("train_features", [False, True])
def test_fact_6_parameters_are_as_many_as_published(train_features: bool) -> None:
    """On Baby 33,570,688 with the feature tables, 1,986,688 without."""

    def count(users: int, items: int, widths: tuple[int, ...], dim: int) -> int:
        tables = items * sum(widths) if train_features else 0
        return tables + (users + items) * dim + sum(w * dim + dim for w in widths) + dim * dim + dim

    assert count(19_445, 7_050, (4096, 384), 64) == (33_570_688 if train_features else 1_986_688)
    assembly = made(BM3, context(), train_features=train_features)
    widths = (WIDTHS["image"], WIDTHS["text"])
    assert sum(p.numel() for p in assembly.parameters()) == count(USERS, ITEMS, widths, DIM)


def test_targets_lose_the_share_of_their_entries_that_is_asked_for_afresh_at_every_step() -> None:
    model = made(BM3, context(), dropout=0.3).model
    x = torch.ones(200, DIM)
    torch.manual_seed(0)
    first, second = model.target(x), model.target(x)
    assert (first == 0).float().mean().item() == pytest.approx(0.3, abs=0.05) and not torch.equal(first, second)
    assert torch.equal(made(BM3, context(), dropout=0.0).model.target(x), x)


def test_negatives_are_not_looked_at() -> None:
    ctx = context()
    gradients = []
    for seed in (0, 1):
        assembly, rows = made(BM3, ctx), batch(ctx)
        rows.neg.copy_(rows.neg.roll(seed, 0))
        terms = loss(assembly, rows)
        total(terms).backward()
        gradients.append((*terms.values(), *(p.grad for p in assembly.parameters())))
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*gradients, strict=True))
