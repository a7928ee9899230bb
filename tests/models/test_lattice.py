"""Facts 1, 2 and 3, on the graphs themselves, and the gradients of fact 6 are in tests/test_graphs_learned.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import DIM, ITEMS, USERS, WIDTHS, batch, context, loss, made, same, tables, total, train
from torch import Tensor
from torch.nn import functional as F

from prismrec.assembly import Assembly
from prismrec.models import LATTICE, Context
from prismrec.sampling import generator


def kept(x: Tensor, present: Tensor, k: int) -> Tensor:
    """K(cos) in double precision."""
    rows = F.normalize(x.double(), dim=1)
    cosine = rows @ rows.T
    out = torch.eye(len(x), dtype=torch.float64)
    for i in present.nonzero().squeeze(1).tolist():
        order = cosine[i].masked_fill(~present, -torch.inf)
        order[i] = 2
        best = order.topk(k).indices
        out[i, best] = cosine[i, best].clamp(min=0)
    return out


def scaled(s: Tensor) -> Tensor:
    root = s.sum(1).rsqrt()
    return root[:, None] * s * root


def item_graph(assembly: Assembly, ctx: Context, only: str | None = None) -> Tensor:
    """G, dense; or what it is if a single modality makes it."""
    model, cfg = assembly.model, assembly.model.cfg
    names = list(ctx.raw)
    weights = torch.ones(1) if model.similar.weight is None else model.similar.weight.detach().softmax(0)
    share = dict(zip(names, weights.double(), strict=True)) if only is None else {only: 1.0}
    learned, frozen = torch.zeros(2, ITEMS, ITEMS, dtype=torch.float64)
    for m, w in share.items():
        raw, phi = ctx.raw[m], model.phi[m]
        x = torch.where(raw.present[:, None], raw.values, phi.stand_in)
        learned += w * kept(phi.net(x).detach(), raw.present, cfg.neighbours)
        frozen += w * scaled(kept(x, raw.present, cfg.neighbours))
    return (1 - cfg.blend) * scaled(learned) + cfg.blend * frozen


def backbone(assembly: Assembly, ctx: Context) -> Tensor:
    a = torch.eye(USERS + ITEMS, dtype=torch.float64)
    a[ctx.user, USERS + ctx.item] = a[USERS + ctx.item, ctx.user] = 1
    b = a / a.sum(1, keepdim=True)
    layers = assembly.model.cfg.layers
    x = torch.cat([assembly.model.user, assembly.model.item]).detach().double()
    return sum(torch.linalg.matrix_power(b, n) for n in range(layers + 1)) @ x / (layers + 1)


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize(
    "settings", [{}, {"blend": 0.2, "item_layers": 2}, {"layers": 0, "neighbours": 4, "latent": 3}]
)
def test_representations_and_loss_are_those_of_the_equations(modalities: int, settings: dict[str, Any]) -> None:
    ctx = context(modalities, missing=True)
    assembly = train(made(LATTICE, ctx, reg=0.3, **settings), ctx)  # so that the weights of modalities differ
    reps, rows = assembly.represent(), batch(ctx)
    x = backbone(assembly, ctx)
    e = assembly.model.item.detach().double()
    steps = assembly.model.cfg.item_layers

    def near(only: str | None = None) -> Tensor:
        return F.normalize(torch.linalg.matrix_power(item_graph(assembly, ctx, only), steps) @ e, dim=1)

    item = x[USERS:] + near()
    assert torch.allclose(reps.user.double(), x[:USERS], atol=1e-6)
    assert torch.allclose(reps.item.values.double(), item, atol=1e-5)
    for m in ctx.raw:
        assert reps.modal[m][0] is reps.user
        assert torch.allclose(reps.modal[m][1].values.double(), near(m), atol=1e-5)
    assembly.start_epoch(1, generator(0))  # or neighbours would be those of the last epoch
    users, pos, neg = x[rows.user], item[rows.pos], item[rows.neg[:, 0]]
    terms = loss(assembly, rows)
    rank = F.softplus((users * neg).sum(1) - (users * pos).sum(1)).mean()
    assert torch.allclose(terms["rank"].double(), rank, atol=1e-6)
    size = 0.3 * sum((part**2).sum() for part in (users, pos, neg)) / 2 / len(rows.user)
    assert torch.allclose(terms["reg"].double(), size, atol=1e-5)


def test_fact_4_with_the_whole_weight_on_raw_features_the_projections_learn_nothing() -> None:
    ctx = context()
    assembly = made(LATTICE, ctx, blend=1.0)
    total(assembly.loss(batch(ctx))).backward()
    assert not any(p.grad.any() for name, p in assembly.named_parameters() if "phi" in name)
    assert assembly.model.similar.weight.grad.any()
    before = tables(assembly.represent())
    with torch.no_grad():
        for p in assembly.model.phi.parameters():
            p.mul_(-0.5)
    assert same(before, tables(assembly.represent()))


@pytest.mark.parametrize("learn", ["every", "first"])
def test_fact_5_the_published_graph_learns_in_the_first_batch_of_an_epoch_and_stays(learn: str) -> None:
    ctx = context()
    assembly = made(LATTICE, ctx, learn=learn)
    graph = {name for name, _ in assembly.named_parameters() if "phi" in name or "similar" in name}
    optimizer = torch.optim.Adam(assembly.parameters(), lr=0.05)
    for epoch in range(2):
        assembly.start_epoch(epoch, generator(0))
        seen = []
        for step in range(3):
            optimizer.zero_grad()
            total(loss(assembly, batch(ctx, seed=step))).backward()
            seen.append(
                {name for name, p in assembly.named_parameters() if p.grad is not None and p.grad.any()} & graph
            )
            optimizer.step()
        assert seen == [graph] * 3 if learn == "every" else [graph, set(), set()]
        held = assembly.model.similar.held
        assert (held is None) == (learn == "every")
        assert held is None or not any(g.weights.requires_grad for g in held.values())


def test_fact_6_what_is_added_to_the_backbone_has_length_one() -> None:
    ctx = context()
    assembly = made(LATTICE, ctx)
    added = assembly.represent().item.values.double() - backbone(assembly, ctx)[USERS:]
    assert torch.allclose(added.norm(dim=1), torch.ones(ITEMS, dtype=torch.float64), atol=1e-6)


def test_a_plug_in_that_reads_no_sides_of_modalities_costs_nothing_and_one_that_does_gets_gradients() -> None:
    ctx = context()
    assembly = made(LATTICE, ctx)
    feats = assembly.model.project(ctx.raw, None)
    reps = assembly.model(feats)
    assert all(callable(rows.source) and "values" not in vars(rows) for _, rows in reps.modal.values())
    reps.score(torch.tensor([0]), torch.tensor([1]), "text").sum().backward()
    assert assembly.model.phi["text"].net.weight.grad.any() and assembly.model.phi["image"].net.weight.grad is None
    turned = reps.modal["text"][1].times(torch.eye(DIM)[:, :2])
    assert torch.allclose(turned.values, reps.modal["text"][1].values[:, :2])


def test_evaluation_follows_the_features_as_they_are_now() -> None:
    ctx = context()
    assembly = train(made(LATTICE, ctx, learn="first", blend=0.0), ctx)
    before = tables(assembly.represent())
    with torch.no_grad():
        assembly.model.phi["text"].net.weight.normal_()
    assert not torch.allclose(before["item"], tables(assembly.represent())["item"], atol=1e-3)


def test_parameters_are_as_many_as_the_equations_say() -> None:
    ctx = context()
    assembly = made(LATTICE, ctx, latent=5)
    expected = (USERS + ITEMS) * DIM + sum(WIDTHS[m] * 5 + 5 for m in ctx.raw) + 2
    assert sum(p.numel() for p in assembly.parameters()) == expected
    assert assembly.model.similar.weight.tolist() == [0.5, 0.5]
