from __future__ import annotations

import math

import pytest
import torch
from tiny import DIM, ITEMS, USERS, WIDTHS, batch, context, made, total
from torch import Tensor, nn
from torch.nn import functional as F

from prismrec.losses import info_nce
from prismrec.models import MGCN, Context
from prismrec.nn import Attention
from prismrec.train import TrainConfig, learning_rate
from prismrec.types import Reps


def set_to(linear: nn.Module, weight: float, bias: float) -> None:
    """A linear layer whose every output is ``bias``, whatever comes in, for a weight of 0."""
    for name, parameter in linear.named_parameters():
        nn.init.constant_(parameter, weight if name == "weight" else bias)


def item_graph(ctx: Context, m: str, k: int) -> Tensor:
    """K_m by its definition, in double precision; rows with negative cosines among the k best are cut short."""
    x = F.normalize(ctx.raw[m].values.double(), dim=1)
    cosine = x @ x.T
    kept = torch.zeros(ITEMS, ITEMS, dtype=torch.float64)
    for i, row in enumerate(cosine):
        best = row.topk(k).indices
        kept[i, best] = row[best].clamp(min=0)
    root = kept.sum(1).rsqrt()
    return root[:, None] * kept * root


def parts(reps: Reps, side: str) -> tuple[list[Tensor], Tensor, Tensor]:
    """Modality views M_m, behaviour C and side Z of users or items."""
    views = [user if side == "user" else rows.values for user, rows in reps.modal.values()]
    return views, reps.views[f"{side}.behaviour"], reps.views[f"{side}.side"]


@pytest.mark.parametrize("side", ["user", "item"])
def test_fact_1_the_side_is_the_mean_of_common_and_specific_parts(side: str) -> None:
    ctx = context()
    assembly = made(MGCN, ctx)
    model = assembly.model
    reps = assembly.represent()
    views, behaviour, z = parts(reps, side)
    with torch.no_grad():
        s = model.common(views)
        x = [torch.sigmoid(gate(behaviour)) * (m - s) for gate, m in zip(model.prefer.values(), views, strict=True)]
        assert torch.allclose(z, (x[0] + x[1] + s) / 3, atol=1e-7)
        for gate in model.prefer.values():
            set_to(gate, 0.0, 50.0)  # the sigmoid is 1 everywhere
        views, _, z = parts(assembly.represent(), side)
        assert torch.allclose(z, (views[0] + views[1] - model.common(views)) / 3, atol=1e-7)
    assert torch.allclose(reps.sides()[0], reps.views["user.behaviour"] + reps.views["user.side"])
    assert torch.allclose(reps.item.values, reps.views["item.behaviour"] + reps.views["item.side"])


def test_fact_2_attention_sums_to_one_and_of_equal_views_only_the_common_part_is_left() -> None:
    ctx = context()
    assembly = made(MGCN, ctx)
    views, behaviour, _ = parts(assembly.represent(), "item")
    weights = assembly.model.common.weights(views)
    assert weights.shape == (ITEMS, 2) and torch.allclose(weights.sum(1), torch.ones(ITEMS))
    with torch.no_grad():
        z = assembly.model.fuse({"image": views[0], "text": views[0]}, behaviour)
    assert torch.allclose(z, views[0] / 3, atol=1e-7)


def test_fact_3_the_item_graph_has_k_neighbours_a_row_weighted_by_cosine_and_the_item_itself() -> None:
    ctx = context()
    similar = made(MGCN, ctx, neighbours=4).model.similar
    assert list(similar) == ["image", "text"]
    for m, graph in similar.items():
        matrix, expected = graph.matrix.dense(), item_graph(ctx, m, 4)
        assert torch.allclose(matrix.double(), expected, atol=1e-6)
        kept = (expected > 0).sum(1)
        assert torch.equal(torch.diff(graph.matrix.indptr).long(), kept) and kept.max() == 4
        x = F.normalize(ctx.raw[m].values, dim=1)
        r = torch.stack([row.topk(4).values.clamp(min=0).sum() for row in x @ x.T])
        assert torch.allclose(matrix.diagonal(), 1 / r, atol=1e-6)
    assert not torch.allclose(matrix, matrix.T)  # not symmetrised


def test_fact_4_what_users_gather_flows_over_the_user_half_of_the_normalised_graph() -> None:
    ctx = context()
    assembly = made(MGCN, ctx)
    r = torch.zeros(USERS, ITEMS)
    r[ctx.user, ctx.item] = 1
    block = r.sum(1, keepdim=True).clamp(min=1).rsqrt() * r * r.sum(0).clamp(min=1).rsqrt()
    for user, rows in assembly.represent().modal.values():
        assert torch.allclose(user, block @ rows.values, atol=1e-6)


def test_fact_5_the_contrast_of_equal_orthonormal_views() -> None:
    eye = torch.eye(7)
    assert info_nce(eye, eye, 0.2).item() == pytest.approx(math.log(1 + 6 * math.exp(-5)), abs=1e-6)


def test_fact_6_the_published_schedule_is_a_setting_of_training() -> None:
    cfg = TrainConfig(schedule="exponential", decay=0.96, decay_epochs=50)
    assert learning_rate(cfg, 50) == pytest.approx(0.96e-3)


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_the_loss_is_that_of_the_equations_on_dense_matrices(modalities: int) -> None:
    ctx = context(modalities)
    assembly = made(MGCN, ctx, neighbours=4, contrast=0.3, reg=0.1, item_layers=2)
    rows, model = batch(ctx), assembly.model
    weights = {name: value.double() for name, value in model.named_parameters()}

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", torch.zeros((), dtype=torch.float64))

    a = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.float64)
    a[ctx.user, USERS + ctx.item] = a[USERS + ctx.item, ctx.user] = 1
    root = a.sum(1).clamp(min=1).rsqrt()
    a = root[:, None] * a * root
    e = torch.cat([weights["user"], weights["item"]])
    c = (e + a @ e + a @ (a @ e)) / 3
    views = []
    for m, raw in ctx.raw.items():
        gate = torch.sigmoid(linear(f"purify.{m}", linear(f"phi.{m}.net", raw.values.double())))
        item = torch.linalg.matrix_power(item_graph(ctx, m, 4), 2) @ (weights["item"] * gate)
        views.append(torch.cat([a[:USERS, USERS:] @ item, item]))
    if modalities == 1:
        z = views[0] / 2
    else:
        logit = [linear("common.query.2", torch.tanh(linear("common.query.0", v))) for v in views]
        s = sum(x * v for x, v in zip(torch.cat(logit, 1).softmax(1).split(1, 1), views, strict=True))
        x = [torch.sigmoid(linear(f"prefer.{m}", c)) * (v - s) for m, v in zip(ctx.raw, views, strict=True)]
        z = (s + sum(x)) / (modalities + 1)
    f = c + z
    u, p, n = f[rows.user], f[USERS + rows.pos], f[USERS + rows.neg[:, 0]]
    rank = F.softplus((u * n).sum(1) - (u * p).sum(1)).mean()
    reg = 0.1 * (u.square().sum() + p.square().sum() + n.square().sum()) / (2 * len(rows.user))

    def nce(ids: Tensor) -> Tensor:
        alike = F.cosine_similarity(z[ids][:, None], c[ids][None], dim=2) / 0.2
        return F.cross_entropy(alike, torch.arange(len(ids)))

    expected = rank + reg + 0.3 * (nce(USERS + rows.pos) + nce(rows.user))
    terms = assembly.loss(rows)
    assert set(terms) == {"rank", "reg", "mgcn.contrast"}
    assert torch.allclose(total(terms).double(), expected, atol=1e-6)


def test_an_item_without_a_modality_keeps_its_gated_id_there() -> None:
    ctx = context(missing=True)
    assembly = made(MGCN, ctx)
    model, feats = assembly.model, assembly.model.project(ctx.raw, None)
    with torch.no_grad():
        pure = model.item * torch.sigmoid(model.purify["image"](feats["image"].values))
        view = model(feats).modal["image"][1].values
    gone = ~ctx.raw["image"].present
    assert torch.allclose(view[gone], pure[gone]) and not torch.allclose(view[~gone], pure[~gone])


def test_the_weighted_sum_of_one_view_is_that_view() -> None:
    one = Attention(DIM, 1)
    x = torch.randn(5, DIM)
    assert not list(one.parameters()) and torch.equal(one([x]), x)


def test_parameters_are_as_many_as_published() -> None:
    """2,003,392 on Baby without the feature tables; 33,587,392 with them."""

    def count(users: int, items: int, widths: tuple[int, ...], dim: int, tables: bool) -> int:
        square = dim * dim + dim
        modality = sum(w * dim + dim + 2 * square + tables * items * w for w in widths)
        return (users + items) * dim + modality + square + dim

    assert count(19_445, 7_050, (4096, 384), 64, False) == 2_003_392
    assert count(19_445, 7_050, (4096, 384), 64, True) == 33_587_392
    widths = (WIDTHS["image"], WIDTHS["text"])
    for trained in (False, True):
        assembly = made(MGCN, context(), train_features=trained)
        assert sum(p.numel() for p in assembly.parameters()) == count(USERS, ITEMS, widths, DIM, trained)
