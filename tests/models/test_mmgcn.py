"""Fact 2, on the graph itself, is in tests/test_graphs.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import DIM, ITEMS, USERS, WIDTHS, batch, context, made, same, tables, total, train, with_raw
from torch import Tensor, nn
from torch.nn import functional as F

from prismrec.errors import PrismError
from prismrec.models import MMGCN, Context
from prismrec.nn import Raw
from prismrec.sampling import generator

PROJECTED = {"latent": {"image": 5}}


def mean_matrix(ctx: Context) -> Tensor:
    """D⁻¹A (N, N) in double precision."""
    a = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.float64)
    a[ctx.user, USERS + ctx.item] = 1
    a += a.T.clone()
    return a / a.sum(1, keepdim=True).clamp(min=1)


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight.double(), None if layer.bias is None else layer.bias.double())


def expected(model: MMGCN, ctx: Context) -> dict[str, Tensor]:
    """The representations by the equations, all nodes at once on dense matrices: modality → (N, d), and None → Z."""
    m_, out = mean_matrix(ctx), {}
    ids = torch.cat([model.user, model.item]).double()
    for m, phi in model.phi.items():
        f = ctx.raw[m].values.double()
        f = linear(phi.net, f) if isinstance(phi.net, nn.Linear) else f
        x = F.normalize(torch.cat([model.taste[m].double(), f]), dim=1)
        for layer in model.convolutions[m]:
            h = F.leaky_relu(m_ @ linear(layer.message, x), 0.01)
            own = F.leaky_relu(linear(layer.own, x), 0.01) + ids
            concat = model.cfg.combine == "concat"
            x = F.leaky_relu(
                linear(layer.join, torch.cat([h, own], 1)) if concat else linear(layer.join, h) + own, 0.01
            )
        out[m] = x
    fused = torch.stack(list(out.values())).sum(0)
    return out | {"": fused / len(out) if model.cfg.fuse == "mean" else fused}


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize(
    "settings", [{}, PROJECTED, {"combine": "add"}, {"fuse": "mean"}, {"layers": 1}, {"layers": 4, "combine": "add"}]
)
def test_representations_and_loss_are_those_of_the_equations(modalities: int, settings: dict[str, Any]) -> None:
    ctx = context(modalities)
    assembly = made(MMGCN, ctx, reg=0.05, **settings)
    model, reps, rows = assembly.model, assembly.represent(), batch(ctx)
    wanted = expected(model, ctx)
    for m, z in wanted.items():
        user, item = reps.sides(m or None)
        assert torch.allclose(torch.cat([user, item.values]).double(), z, atol=1e-6)
    s = wanted[""][:USERS] @ wanted[""][USERS:].T
    rank = F.softplus(s[rows.user, rows.neg[:, 0]] - s[rows.user, rows.pos]).mean()
    e_u, e_i = model.user.double(), model.item.double()
    u, i = torch.cat([rows.user, rows.user]), torch.cat([rows.pos, rows.neg[:, 0]])
    sizes = (e_u[u] ** 2 + e_i[i] ** 2).mean() + sum((p.double() ** 2).mean() for p in model.taste.values())
    assert torch.allclose(total(assembly.loss(rows)).double(), rank + 0.05 * sizes, atol=1e-6)


def test_gradients_are_those_of_the_equations() -> None:
    ctx = context()
    assembly = made(MMGCN, ctx, reg=0.0, **PROJECTED)
    rows = batch(ctx)
    total(assembly.loss(rows)).backward()
    found = {name: p.grad for name, p in assembly.named_parameters()}
    assembly.zero_grad()
    z = expected(assembly.model, ctx)[""].float()
    s = z[:USERS] @ z[USERS:].T
    F.softplus(s[rows.user, rows.neg[:, 0]] - s[rows.user, rows.pos]).mean().backward()
    for name, parameter in assembly.named_parameters():
        assert torch.allclose(parameter.grad, found[name], atol=1e-6), name


def test_fact_1_frozen_embeddings_keep_their_bits_and_the_penalty_moves_nothing() -> None:
    ctx = context()
    assembly = made(MMGCN, ctx, train_embeddings=False)
    tables_of = {"user", "item", "taste.image", "taste.text"}
    before = {name: p.clone() for name, p in assembly.model.named_parameters()}
    train(assembly, ctx)
    moved = {name for name, p in assembly.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == before.keys() - tables_of
    light, heavy = (made(MMGCN, ctx, train_embeddings=False, reg=reg) for reg in (0.0, 0.5))
    losses = [total(assembly.loss(batch(ctx))) for assembly in (light, heavy)]
    assert losses[0] < losses[1]
    for loss in losses:
        loss.backward()
    assert all(
        (a.grad is None and b.grad is None) or torch.equal(a.grad, b.grad)
        for a, b in zip(light.parameters(), heavy.parameters(), strict=True)
    )


def test_embeddings_are_trained_unless_told_otherwise_and_frozen_ones_are_saved() -> None:
    ctx = context()
    assert all(p.requires_grad for p in made(MMGCN, ctx).parameters())
    frozen, fresh = (made(MMGCN, ctx, train_embeddings=False, seed=seed) for seed in (1, 2))
    fresh.load_state_dict(train(frozen, ctx).state_dict())
    assert same(tables(frozen.represent()), tables(fresh.represent()))


def test_fact_3_rows_that_enter_the_first_layer_have_length_one() -> None:
    ctx = context()
    assembly = made(MMGCN, ctx, **PROJECTED)
    seen: list[Tensor] = []
    for layers in assembly.model.convolutions.values():
        layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    assembly.represent()
    assert [tuple(x.shape) for x in seen] == [(USERS, 5), (ITEMS, 5), (USERS, 7), (ITEMS, 7)]
    assert all(torch.allclose(x.norm(dim=1), torch.ones(len(x))) for x in seen)


@pytest.mark.parametrize(("combine", "extra"), [("concat", DIM), ("add", 0)])
def test_fact_4_widths_of_the_last_product_of_each_layer(combine: str, extra: int) -> None:
    for m, layers in made(MMGCN, context(), combine=combine).model.convolutions.items():
        assert [layer.join.in_features for layer in layers] == [WIDTHS[m] + extra, DIM + extra, DIM + extra]
        assert all(layer.join.out_features == DIM for layer in layers)


def test_fact_5_the_mean_of_products_is_the_product_of_the_mean() -> None:
    model = made(MMGCN, context()).model
    x, c = torch.randn(ITEMS, 6), torch.randn(6, 6)
    assert torch.allclose(model.over_items(x @ c), model.over_items(x) @ c, atol=1e-5)


@pytest.mark.parametrize("fuse", ["sum", "mean"])
def test_fact_6_one_modality_alone_is_its_branch_and_several_are_their_mean_or_sum(fuse: str) -> None:
    one, three = (made(MMGCN, context(n), fuse=fuse).represent() for n in (1, 3))
    assert torch.equal(one.user, one.modal["image"][0])
    assert torch.equal(one.item.values, one.modal["image"][1].values)
    parts = torch.stack([user for user, _ in three.modal.values()])
    assert torch.allclose(three.user, parts.mean(0) if fuse == "mean" else parts.sum(0), atol=1e-6)


def test_a_user_and_an_item_without_interactions_hear_nobody_but_have_rows_of_their_own() -> None:
    reps = train(made(MMGCN, context()), context()).represent()
    assert reps.user[-1].any() and reps.item.values[-1].any()
    assert not torch.equal(reps.item.values[-1], reps.item.values[-2])


def test_the_embeddings_start_xavier_normal_over_all_nodes_and_the_rest_as_published() -> None:
    n_users, n_items = 3000, 2000
    user, item = torch.randint(n_users, (9000,)), torch.randint(n_items, (9000,))
    ctx = Context(n_users, n_items, user, item, None, {"text": Raw(torch.randn(n_items, 12), torch.ones(n_items) > 0)})
    model = made(MMGCN, ctx, dim=64).model
    for table in (model.user, model.item):
        assert table.std().item() == pytest.approx((2 / (5000 + 64)) ** 0.5, rel=0.02)
    assert model.taste["text"].std().item() == pytest.approx((2 / (3000 + 12)) ** 0.5, rel=0.02)
    first, second = model.convolutions["text"][0], model.convolutions["text"][1]
    for linear in (second.message, second.own):
        assert linear.weight.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert first.join.weight.std().item() == pytest.approx((2 / (12 + 64 + 64)) ** 0.5, rel=0.05)
    assert second.join.weight.abs().max() <= 128**-0.5 < first.join.weight.abs().max()  # PyTorch's uniform start
    assert first.message.bias is None and second.message.bias is None


@pytest.mark.parametrize(
    ("latent", "image", "text"),
    [({}, 256, 20), ({"text": 7}, 256, 7), ({"image": 0}, 600, 20), ({"image": 30}, 30, 20)],
)
def test_departure_3_wide_features_are_mapped_to_256_unless_told_otherwise(
    latent: dict[str, int], image: int, text: int
) -> None:
    raw = {
        "image": Raw(torch.randn(ITEMS, 600), torch.ones(ITEMS) > 0),
        "text": Raw(torch.randn(ITEMS, 20), torch.ones(ITEMS) > 0),
    }
    ctx = with_raw(context(), raw)
    assembly = made(MMGCN, ctx, latent=latent)
    assert {m: r.width for m, r in assembly.model.project(ctx.raw, None).items()} == {"image": image, "text": text}
    assembly.start_epoch(0, generator(0))
    total(assembly.loss(batch(ctx))).backward()
    assert all(p.grad is not None and p.grad.any() for p in assembly.parameters())


def test_a_width_for_a_modality_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        PrismError, match=r"model\.latent names the modality 'txt', which the data lacks\. Did you mean 'text'"
    ):
        made(MMGCN, context(), latent={"txt": 3})


def test_parameters_are_as_many_as_the_equations_say() -> None:
    """On Baby with d = 64: 15,558,720, of which 14,140,480 are embeddings that the published code does not train."""

    def count(users: int, items: int, raw: dict[str, int], latent: dict[str, int], d: int) -> tuple[int, int]:
        frozen, learnt = (users + items) * d, 0
        for m, r in raw.items():
            c = latent.get(m, r)
            frozen += users * c
            learnt += (r * c + c) * (m in latent)
            learnt += sum(w * w + (w * d + d) + ((w + d) * d + d) for w in (c, d, d))
        return frozen, learnt

    assert sum(count(19_445, 7_050, {"image": 4096, "text": 384}, {"image": 256}, 64)) == 15_558_720
    assembly = made(MMGCN, context(), **PROJECTED, train_embeddings=False)
    frozen, learnt = count(USERS, ITEMS, {m: WIDTHS[m] for m in ("image", "text")}, {"image": 5}, DIM)
    assert sum(p.numel() for p in assembly.parameters() if p.requires_grad) == learnt
    assert sum(p.numel() for p in assembly.parameters()) == frozen + learnt
