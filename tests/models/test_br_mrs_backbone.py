from __future__ import annotations

import pytest
import torch
from tiny import DIM, ITEMS, USERS, WIDTHS, batch, context, made, total, with_raw
from torch import Tensor
from torch.nn import functional as F

from prismrec.assembly import Assembly
from prismrec.models import BRMRSBackbone, Context, LightGCN
from prismrec.plugins import CHNS, Synergy


def normalised(ctx: Context) -> Tensor:
    """The user–item half of Â, dense, in double precision."""
    r = torch.zeros(USERS, ITEMS, dtype=torch.float64)
    r[ctx.user, ctx.item] = 1
    return r / (r.sum(1, keepdim=True).clamp(min=1) * r.sum(0).clamp(min=1)).sqrt()


def item_graph(ctx: Context, m: str, k: int) -> Tensor:
    x = F.normalize(ctx.raw[m].values.double(), dim=1)
    s = torch.zeros(ITEMS, ITEMS, dtype=torch.float64)
    s.scatter_(1, (x @ x.T).topk(k, dim=1).indices, 1 / k)
    return s


def user_graph(ctx: Context, k: int) -> Tensor:
    """Softmax of the k largest numbers of common items, one user after the other."""
    r = torch.zeros(USERS, ITEMS, dtype=torch.float64)
    r[ctx.user, ctx.item] = 1
    common = r @ r.T
    common.fill_diagonal_(0)
    s = torch.zeros(USERS, USERS, dtype=torch.float64)
    for u, counts in enumerate(common.tolist()):
        near = sorted((v for v in range(USERS) if counts[v] > 0), key=lambda v: (-counts[v], v))[:k]
        if near:
            s[u, near] = torch.tensor([counts[v] for v in near], dtype=torch.float64).softmax(0)
    return s


def projected(assembly: Assembly, ctx: Context, m: str) -> Tensor:
    """What enters the propagation: φ_m of the raw features, and the item's own embedding."""
    phi = assembly.model.phi[m]
    x = torch.where(ctx.raw[m].present[:, None], ctx.raw[m].values, phi.stand_in).double()
    return x @ phi.net.weight.double().T + phi.net.bias.double() + assembly.model.item.double()


def powers(a: Tensor, layers: int, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over layers of Â^l [user; item], layer by layer."""
    sums, (u, i) = [user, item], (user, item)
    for _ in range(layers):
        u, i = a @ i, a.T @ u
        sums = [sums[0] + u, sums[1] + i]
    return sums[0] / (layers + 1), sums[1] / (layers + 1)


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_representations_are_those_of_the_equations_on_dense_matrices(modalities: int, layers: int) -> None:
    ctx = context(modalities)
    assembly = made(BRMRSBackbone, ctx, layers=layers, neighbours=4, user_neighbours=3)
    a, users, fused = normalised(ctx), [], torch.zeros(ITEMS, DIM, dtype=torch.float64)
    own = {}
    for m in ctx.raw:
        user, item = powers(a, layers, assembly.model.user.double(), projected(assembly, ctx, m))
        users.append(user)
        own[m] = item + item_graph(ctx, m, 4) @ item
        fused = fused + own[m]
    mean = torch.stack(users).mean(0)
    expected = mean + user_graph(ctx, 3) @ mean
    reps = assembly.represent()
    assert torch.allclose(reps.user.double(), expected, atol=1e-5)
    assert torch.allclose(reps.item.values.double(), fused, atol=1e-5)
    for m, (user, rows) in reps.modal.items():
        assert user is reps.user  # eq. 2: one user vector meets them all
        assert torch.allclose(rows.values.double(), own[m], atol=1e-5)


def test_the_fused_score_of_a_sum_is_the_sum_of_the_modalities_scores() -> None:
    reps = made(BRMRSBackbone, context(3)).represent()
    user, item = torch.arange(USERS), torch.arange(USERS)
    parts = [reps.score(user, item, m) for m in reps.modal]
    assert torch.allclose(reps.score(user, item), torch.stack(parts).sum(0), atol=1e-5)


def test_attention_weighs_the_modalities_of_each_item_by_a_learned_query() -> None:
    ctx = context(3)
    assembly = made(BRMRSBackbone, ctx, fusion="attention")
    reps = assembly.represent()
    own = torch.stack([rows.values for _, rows in reps.modal.values()])
    weights = (own @ assembly.model.fusion.query[0]).softmax(0)
    assert torch.allclose(weights.sum(0), torch.ones(ITEMS))
    assert torch.allclose(reps.item.values, (weights.unsqueeze(2) * own).sum(0), atol=1e-6)
    assert not torch.allclose(weights, torch.full_like(weights, 1 / 3))


@pytest.mark.parametrize("plugins", [[], [CHNS, Synergy]], ids=["alone", "br-mrs"])
@pytest.mark.parametrize("fusion", ["sum", "attention", "mlp"])
@pytest.mark.parametrize("modalities", [2, 3])
def test_every_fusion_trains_every_parameter(modalities: int, fusion: str, plugins: list[type[CHNS]]) -> None:
    ctx = context(modalities, missing=True)
    assembly = made(BRMRSBackbone, ctx, plugins, fusion=fusion)
    total(assembly.loss(batch(ctx, assembly.n_neg))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in assembly.parameters())


def test_one_modality_needs_no_fusion() -> None:
    for fusion in ("sum", "attention", "mlp"):
        assembly = made(BRMRSBackbone, context(1), fusion=fusion)
        reps = assembly.represent()
        assert torch.equal(reps.item.values, reps.modal["image"][1].values)
        assert not list(assembly.model.fusion.parameters())


def test_without_its_frozen_graphs_and_with_ids_for_features_it_is_lightgcn() -> None:
    ctx = context(1)
    assembly = made(BRMRSBackbone, ctx, layers=2, item_layers=0, user_layers=0)
    lightgcn = made(LightGCN, ctx, layers=2)
    with torch.no_grad():
        assembly.model.phi["image"].net.weight.zero_()
        assembly.model.phi["image"].net.bias.zero_()
        lightgcn.model.user.copy_(assembly.model.user)
        lightgcn.model.item.copy_(assembly.model.item)
    a, b = assembly.represent(), lightgcn.represent()
    assert torch.allclose(a.user, b.user, atol=1e-6) and torch.allclose(a.item.values, b.item.values, atol=1e-6)
    assert not any("similar" in name or "alike" in name for name, _ in assembly.model.named_buffers())


@pytest.mark.parametrize("graph", ["item_layers", "user_layers"])
def test_a_graph_is_used_as_often_as_its_layers_say(graph: str) -> None:
    ctx = context()
    one, two, none = (made(BRMRSBackbone, ctx, **{graph: n}).represent() for n in (1, 2, 0))
    side = (lambda r: r.item.values) if graph == "item_layers" else (lambda r: r.user)
    assert not torch.allclose(side(one), side(two)) and not torch.allclose(side(one), side(none))


def test_the_ranking_term_and_the_penalty_are_those_of_the_equations() -> None:
    ctx = context()
    assembly = made(BRMRSBackbone, ctx, reg=0.5)
    rows, reps = batch(ctx), assembly.represent()
    terms = assembly.loss(rows)
    margin = reps.score(rows.user, rows.pos) - reps.score(rows.user, rows.neg[:, 0])
    assert torch.allclose(terms["rank"], -F.logsigmoid(margin).mean(), atol=1e-6)
    starts = torch.cat([projected(assembly, ctx, m) for m in ctx.raw], dim=1)
    size = assembly.model.user[rows.user].square().sum() + sum(
        starts[i].square().sum() for i in (rows.pos, rows.neg[:, 0])
    )
    assert torch.allclose(terms["reg"].double(), 0.5 * size.double() / (2 * len(rows.user)), atol=1e-6)
    assert set(made(BRMRSBackbone, ctx, reg=0.0).loss(rows)) == {"rank"}


def test_a_missing_modality_leaves_an_item_its_stand_in_and_no_neighbours() -> None:
    ctx = context(missing=True)
    assembly = made(BRMRSBackbone, ctx, neighbours=4)
    s = assembly.model.similar["image"].matrix.dense()
    lacking = ~ctx.raw["image"].present
    assert not s[lacking].any() and not s[:, lacking].any()
    full = assembly.model.similar["text"].matrix.dense()
    assert full[ctx.raw["text"].present].sum(1).allclose(torch.ones(int(ctx.raw["text"].present.sum())))


def test_parameters_are_users_and_projections_and_what_was_asked_for() -> None:
    ctx = context()
    phi = sum(WIDTHS[m] * DIM + DIM for m in ctx.raw)

    def count(**settings: object) -> int:
        return sum(p.numel() for p in made(BRMRSBackbone, ctx, **settings).parameters())

    assert count() == (USERS + ITEMS) * DIM + phi
    assert count(ids=False) == USERS * DIM + phi
    assert count(fusion="attention") == count() + DIM
    assert count(fusion="mlp") == count() + (2 * DIM + 1) * DIM + (DIM + 1) * DIM


def test_the_item_graph_of_a_modality_is_made_of_its_features_alone() -> None:
    ctx = context()
    changed = with_raw(ctx, {**ctx.raw, "text": ctx.raw["image"]})
    a, b = (made(BRMRSBackbone, c, neighbours=4).model.similar for c in (ctx, changed))
    assert torch.equal(a["image"].matrix.dense(), b["image"].matrix.dense())
    assert not torch.equal(a["text"].matrix.dense(), b["text"].matrix.dense())
    assert torch.allclose(a["text"].matrix.dense().double(), item_graph(ctx, "text", 4), atol=1e-6)
