"""Learned graphs themselves are in tests/test_graphs_learned.py, the contrast in blocks (fact 6) in tests/test_losses.py."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny import DIM, ITEMS, USERS, WIDTHS, batch, context, loss, made, same, tables, total, train
from torch import Tensor
from torch.nn import functional as F

from prismrec.assembly import Assembly
from prismrec.models import LATTICE, MICRO, Context
from prismrec.sampling import generator


def kept(x: Tensor, present: Tensor, k: int) -> Tensor:
    """The k largest cosines of a row, in double precision, its own among them; negative ones 0."""
    rows = F.normalize(x.double(), dim=1)
    cosine = rows @ rows.T
    out = torch.eye(len(x), dtype=torch.float64)
    for i in present.nonzero().squeeze(1).tolist():
        order = cosine[i].masked_fill(~present, -torch.inf)
        order[i] = 2
        best = order.topk(k).indices
        out[i, best] = cosine[i, best].clamp(min=0)
    return out


def item_graph(assembly: Assembly, ctx: Context, m: str) -> Tensor:
    """G_m, dense."""
    cfg, raw, phi = assembly.model.cfg, ctx.raw[m], assembly.model.phi[m]

    def scaled(s: Tensor) -> Tensor:
        total = s.sum(1)
        return s / (total[:, None] * total).sqrt() if cfg.scaling == "symmetric" else s / total[:, None]

    x = torch.where(raw.present[:, None], raw.values, phi.stand_in)
    learned, frozen = (scaled(kept(y, raw.present, cfg.neighbours)) for y in (phi.net(x).detach(), x))
    return (1 - cfg.blend) * learned + cfg.blend * frozen


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("settings", [{}, {"scaling": "rows", "blend": 0.3}, {"layers": 1, "item_layers": 2}])
def test_representations_and_loss_are_those_of_the_equations(modalities: int, settings: dict[str, Any]) -> None:
    ctx = context(modalities, missing=True)
    assembly = train(made(MICRO, ctx, reg=0.3, contrast=0.5, **settings), ctx)
    model, reps, rows = assembly.model, assembly.represent(), batch(ctx)
    a = torch.eye(USERS + ITEMS, dtype=torch.float64)
    a[ctx.user, USERS + ctx.item] = a[USERS + ctx.item, ctx.user] = 1
    b = a / a.sum(1, keepdim=True)
    e = torch.cat([model.user, model.item]).detach().double()
    x = sum(torch.linalg.matrix_power(b, n) for n in range(model.cfg.layers + 1)) @ e / (model.cfg.layers + 1)
    h = [torch.linalg.matrix_power(item_graph(assembly, ctx, m), model.cfg.item_layers) @ e[USERS:] for m in ctx.raw]
    fused = h[0]
    if modalities > 1:
        query = model.fuse.query.double()
        with torch.no_grad():
            weights = torch.cat([query(view) for view in h], 1).softmax(1)
        query.float()
        fused = sum(weights[:, j, None] * view for j, view in enumerate(h))
    item = x[USERS:] + F.normalize(fused, dim=1)
    assert torch.allclose(reps.user.double(), x[:USERS], atol=1e-6)
    assert torch.allclose(reps.item.values.double(), item, atol=1e-5)
    for m, view in zip(ctx.raw, h, strict=True):
        assert reps.modal[m][0] is reps.user
        assert torch.allclose(reps.modal[m][1].values.double(), F.normalize(view, dim=1), atol=1e-5)

    users, pos, neg = x[rows.user], item[rows.pos], item[rows.neg[:, 0]]
    expected = {"rank": F.softplus((users * neg).sum(1) - (users * pos).sum(1)).mean()}
    expected["reg"] = 0.3 * sum((part**2).sum() for part in (users, pos, neg)) / 2 / len(rows.user)
    if modalities > 1:
        expected["micro.contrast"] = 0.5 * sum(contrast(view, fused, 0.5) for view in h)
    assembly.start_epoch(1, generator(0))  # or neighbours would be those of the last epoch
    terms = loss(assembly, rows)
    assert terms.keys() == expected.keys()
    assert all(torch.allclose(terms[name].double(), expected[name], atol=1e-5) for name in terms)


def contrast(view: Tensor, fused: Tensor, temperature: float) -> Tensor:
    """The loss as the paper writes it."""
    between, within = (
        (F.cosine_similarity(view[:, None], other[None], dim=2) / temperature).exp() for other in (fused, view)
    )
    return -(between.diag() / (between.sum(1) + within.sum(1) - within.diag())).log().mean()


def test_fact_1_attention_between_equal_views_changes_nothing() -> None:
    ctx = context()
    ctx.raw["text"] = ctx.raw["image"]  # type: ignore[index]
    assembly = made(MICRO, ctx)
    with torch.no_grad():
        assembly.model.phi["text"].net.load_state_dict(assembly.model.phi["image"].net.state_dict())
    views = assembly.represent().views
    assert torch.equal(views["view.text"], views["view.image"])
    assert torch.allclose(views["fused"], views["view.text"], atol=1e-7)
    assert torch.allclose(assembly.model.fuse.weights([views["fused"]] * 2), torch.full((ITEMS, 2), 0.5))


@pytest.mark.parametrize("anchors", [0, 5])
def test_fact_2_the_contrast_of_items_that_are_all_alike(anchors: int) -> None:
    model = made(MICRO, context(), anchors=anchors).model
    x = torch.ones(ITEMS, DIM)
    value = model.contrast(x, x, model.anchors(x.device))
    assert value.item() == pytest.approx(math.log(2 * ITEMS - 1), abs=1e-6)


def test_fact_3_with_the_whole_weight_on_raw_features_the_projections_learn_nothing() -> None:
    ctx = context()
    assembly = made(MICRO, ctx, blend=1.0)
    total(assembly.loss(batch(ctx))).backward()
    assert not any(p.grad.any() for p in assembly.model.phi.parameters())
    views = assembly.represent().views
    for m in ctx.raw:
        frozen = assembly.model.similar.frozen[m](assembly.model.item)
        assert torch.allclose(views[f"view.{m}"], frozen, atol=1e-7)


@pytest.mark.parametrize("scaling", ["symmetric", "rows"])
def test_fact_4_rows_sum_to_one_or_the_spectral_radius_is_one(scaling: str) -> None:
    ctx = context(missing=True)
    assembly = made(MICRO, ctx, scaling=scaling)
    for m, graph in assembly.eval().model.similar(assembly.model.project(ctx.raw, None)).items():
        g = assembly.model.similar.spread({m: graph}, torch.eye(ITEMS)).detach()
        assert torch.allclose(g.double(), item_graph(assembly, ctx, m), atol=1e-6)
        if scaling == "rows":
            assert torch.allclose(g.sum(1), torch.ones(ITEMS), atol=1e-6)
        frozen = assembly.model.similar.frozen[m].matrix.dense()
        assert torch.linalg.eigvals(frozen).abs().max().item() == pytest.approx(1, abs=1e-5)


def test_fact_5_with_one_modality_it_is_lattice() -> None:
    ctx = context(1)
    ours, lattice = made(MICRO, ctx), made(LATTICE, ctx)
    assert ours.state_dict().keys() == lattice.state_dict().keys()
    ours.load_state_dict(lattice.state_dict())
    rows = batch(ctx)
    assert same(ours.loss(rows), lattice.loss(rows))
    reps = ours.represent()
    assert torch.equal(reps.user, lattice.represent().user)
    assert torch.equal(reps.item.values, lattice.represent().item.values)


def test_some_anchors_stand_for_all_and_every_item_is_their_negative() -> None:
    model = made(MICRO, context(), anchors=6).model
    view, fused = torch.randn(ITEMS, DIM), torch.randn(ITEMS, DIM)
    torch.manual_seed(0)
    drawn = [model.anchors(view.device) for _ in range(400)]
    assert all(len(a.unique()) == 6 for a in drawn) and len(torch.cat(drawn).unique()) == ITEMS
    mean = torch.stack([model.contrast(view, fused, a) for a in drawn]).mean()
    whole = contrast(view, fused, model.cfg.temperature)
    assert mean.item() == pytest.approx(whole.item(), abs=0.05)
    everybody = made(MICRO, context(), anchors=0).model
    assert torch.allclose(everybody.contrast(view, fused, everybody.anchors(view.device)), whole, atol=1e-6)
    assert torch.equal(made(MICRO, context(), anchors=99).model.anchors(view.device), torch.arange(ITEMS))


def test_the_contrast_reaches_ids_and_attention_in_every_batch() -> None:
    ctx = context()
    assembly = made(MICRO, ctx, learn="first", contrast=1.0)
    for step in range(2):
        assembly.zero_grad()
        loss(assembly, batch(ctx, seed=step))["micro.contrast"].backward()
        assert assembly.model.item.grad.any()
        assert all(p.grad.any() for p in assembly.model.fuse.parameters())
        learns = [p.grad is not None and bool(p.grad.any()) for p in assembly.model.phi.parameters()]
        assert learns == [step == 0] * 4


def test_without_a_weight_or_a_second_modality_there_is_no_contrast() -> None:
    for modalities, weight in ((2, 0.0), (1, 1.0)):
        ctx = context(modalities)
        assert set(made(MICRO, ctx, contrast=weight).loss(batch(ctx))) == {"rank", "reg"}


def test_the_same_seed_draws_the_same_anchors() -> None:
    ctx = context()
    first, second = (tables(train(made(MICRO, ctx, anchors=5, contrast=1.0), ctx).represent()) for _ in range(2))
    assert same(first, second)


def test_parameters_are_as_many_as_the_equations_say() -> None:
    ctx = context()
    expected = (USERS + ITEMS) * DIM + sum(WIDTHS[m] * 5 + 5 for m in ctx.raw) + DIM * DIM + 2 * DIM
    assert sum(p.numel() for p in made(MICRO, ctx, latent=5).parameters()) == expected
