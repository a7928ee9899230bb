from __future__ import annotations

import itertools

import pytest
import torch
from tiny import DIM, ITEMS, USERS, WIDTHS, batch, context, loss, made, same, tables, train
from torch import Tensor
from torch.nn import functional as F

from prismrec.assembly import Assembly
from prismrec.models import Context, LGMRec
from prismrec.models.lgmrec import _inverse_lengths


def adjacency(ctx: Context) -> tuple[Tensor, Tensor]:
    """R (U, I) and Â (U+I, U+I), in double precision."""
    r = torch.zeros(USERS, ITEMS, dtype=torch.float64)
    r[ctx.user, ctx.item] = 1
    a = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.float64)
    a[:USERS, USERS:], a[USERS:, :USERS] = r, r.T
    root = a.sum(1).clamp(min=1).rsqrt()
    return r, root[:, None] * a * root


def parts(assembly: Assembly, ctx: Context) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """By the equations on dense matrices, without noise: C, X_m and G_m of all nodes."""
    model, cfg = assembly.model, assembly.model.cfg
    r, a = adjacency(ctx)
    w = {name: value.double() for name, value in model.named_parameters()}
    e = torch.cat([w["user"], w["item"]])
    c = sum(torch.linalg.matrix_power(a, n) for n in range(cfg.layers + 1)) @ e / (cfg.layers + 1)
    local, whole = {}, {}
    for m, raw in ctx.raw.items():
        x = raw.values.double() @ w[f"phi.{m}.net.weight"].T
        mean = r @ x / (r.sum(1, keepdim=True) + 1e-7)
        local[m] = torch.linalg.matrix_power(a, cfg.modal_layers) @ torch.cat([mean, x])
        b = raw.values.double() @ w[f"edge.{m}.net.weight"].T
        h, h_user = (b / cfg.temperature).softmax(1), (r @ b / cfg.temperature).softmax(1)
        g = c[USERS:]
        for _ in range(cfg.hyper_layers):
            y = h.T @ g
            g = h @ y
        whole[m] = torch.cat([h_user @ y, g])
    return c, local, whole


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("settings", [{}, {"layers": 3, "modal_layers": 1, "hyper_layers": 3, "hyperedges": 6}])
def test_representations_are_those_of_the_equations_on_dense_matrices(
    modalities: int, settings: dict[str, int]
) -> None:
    ctx = context(modalities)
    assembly = made(LGMRec, ctx, **settings)
    reps = assembly.represent()
    c, local, whole = parts(assembly, ctx)
    f = c + sum(F.normalize(x) for x in local.values()) + assembly.model.cfg.alpha * F.normalize(sum(whole.values()))
    assert torch.allclose(torch.cat([reps.user, reps.item.values]).double(), f, atol=1e-5)
    for m, (user, rows) in reps.modal.items():
        assert torch.allclose(torch.cat([user, rows.values]).double(), local[m], atol=1e-5)


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_the_loss_is_that_of_the_equations_with_a_contrast_against_everybody(modalities: int) -> None:
    ctx = context(modalities)
    assembly = made(LGMRec, ctx, contrast=0.05, reg=0.1, keep=1.0, alpha=0.7)
    assembly.eval()  # no noise
    rows = batch(ctx)
    with torch.no_grad():
        terms = assembly.loss(rows)
    c, local, whole = parts(assembly, ctx)
    f = c + sum(F.normalize(x) for x in local.values()) + 0.7 * F.normalize(sum(whole.values()))
    u, p, n = f[rows.user], f[USERS + rows.pos], f[USERS + rows.neg[:, 0]]
    assert torch.allclose(terms["rank"].double(), F.softplus((u * (n - p)).sum(1)).mean(), atol=1e-5)
    assert torch.allclose(terms["reg"].double(), 0.1 * (u.norm() + p.norm() + n.norm()) / 16, atol=1e-5)
    apart = torch.zeros((), dtype=torch.float64)
    for a, b in itertools.combinations(whole, 2):
        for nodes, ids in ((slice(None, USERS), rows.user), (slice(USERS, None), rows.pos)):
            key = whole[b][nodes]
            cosine = F.cosine_similarity(whole[a][nodes][ids][:, None], key[None], dim=2)
            apart = apart + F.cross_entropy(cosine / 0.2, ids, reduction="sum")
    if modalities == 1:
        assert "lgmrec.contrast" not in terms
    else:
        assert torch.allclose(terms["lgmrec.contrast"].double(), 0.05 * apart, rtol=1e-5)


def test_fact_1_one_step_goes_from_items_to_hyperedges_and_back() -> None:
    ctx = context()
    assembly = made(LGMRec, ctx)
    reps = assembly.represent()
    model, (r, _) = assembly.model, adjacency(ctx)
    for m, raw in ctx.raw.items():
        b = raw.values @ model.edge[m].net.weight.T
        h, h_user = (b / 0.2).softmax(1), (r.float() @ b / 0.2).softmax(1)
        back = h.T @ reps.views["item.ids"]
        assert torch.allclose(reps.views[f"item.global.{m}"], h @ back, atol=1e-5)
        assert torch.allclose(reps.views[f"user.global.{m}"], h_user @ back, atol=1e-5)


@pytest.mark.parametrize("faithful", [False, True])
def test_fact_2_memberships_add_up_to_one_and_noise_at_inference_is_always_the_same(faithful: bool) -> None:
    ctx = context()
    assembly = made(LGMRec, ctx, faithful=faithful)
    logits = torch.randn(USERS, 8), torch.randn(ITEMS, 8)
    for training in (False, True):
        for user, item in assembly.train(training).model._memberships(*logits):
            assert torch.allclose(user.sum(1), torch.ones(USERS)) and torch.allclose(item.sum(1), torch.ones(ITEMS))
    assembly.eval()
    first, second = (assembly.model._memberships(*logits) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first[0] + first[1], second[0] + second[1], strict=True))
    assert torch.equal(first[0][0], (logits[0][:, :4] / 0.2).softmax(1)) != faithful
    assert not same(tables(made(LGMRec, ctx).represent()), tables(made(LGMRec, ctx, faithful=True).represent()))
    rows = batch(ctx)
    assert not torch.equal(loss(assembly.train(), rows, 0)["rank"], loss(assembly, rows, 1)["rank"])


def test_noise_is_gumbels_and_dropout_keeps_the_expected_sum() -> None:
    model = made(LGMRec, context(1), keep=0.25, hyperedges=2, temperature=1.0).model.train()
    torch.manual_seed(0)
    ((user, _),) = model._memberships(torch.tensor([1.0, 0.0]).expand(20_000, 2), torch.zeros(1, 2))
    # the larger share is the first one's with probability e / (e + 1)
    assert (user[:, 0] > 0.5).float().mean().item() == pytest.approx(0.731, abs=0.01)
    ones, x = torch.ones(20_000, 1), torch.ones(1, DIM)
    back = model._hyper(ones, torch.ones(1, 1), x).user
    assert set(back.unique().tolist()) <= {0.0, 16.0}  # an item's membership and a user's, each dropped or times 4


def test_fact_3_what_is_added_to_the_ids_has_length_of_at_most_one_a_modality_and_alpha() -> None:
    for modalities, alpha in ((1, 0.3), (2, 0.3), (3, 2.0)):
        reps = train(made(LGMRec, context(modalities), alpha=alpha), context(modalities)).represent()
        for whole, ids in ((reps.user, reps.views["user.ids"]), (reps.item.values, reps.views["item.ids"])):
            assert (whole - ids).norm(dim=1).max() <= modalities + alpha + 1e-5


def test_fact_4_users_start_as_the_mean_of_their_items() -> None:
    ctx = context()
    assembly = made(LGMRec, ctx, modal_layers=0)
    feats = assembly.model.project(ctx.raw, None)
    for m, (user, rows) in assembly.represent().modal.items():
        assert torch.equal(rows.values, feats[m].values)
        for u in range(USERS):
            items = torch.unique(ctx.item[ctx.user == u])
            mean = feats[m].values[items].mean(0) if len(items) else torch.zeros(DIM)
            assert torch.allclose(user[u], mean, atol=1e-6)


def test_fact_5_features_are_frozen_and_parameters_are_as_many_as_published() -> None:
    def count(users: int, items: int, widths: tuple[int, ...], dim: int, edges: int) -> int:
        return (users + items) * dim + sum(widths) * (dim + edges)

    assert count(19_445, 7_050, (4096, 384), 64, 4) == 2_000_320
    assembly = made(LGMRec, context())
    expected = count(USERS, ITEMS, (WIDTHS["image"], WIDTHS["text"]), DIM, 4)
    assert sum(p.numel() for p in assembly.parameters()) == expected


def test_fact_6_without_the_global_part_hyperedges_do_not_change_scores() -> None:
    ctx = context()
    assembly = made(LGMRec, ctx, alpha=0.0)
    before = assembly.represent()
    with torch.no_grad():
        for phi in assembly.model.edge.values():
            phi.net.weight.normal_()
    after = assembly.represent()
    assert torch.equal(before.user, after.user) and torch.equal(before.item.values, after.item.values)
    terms = assembly.loss(batch(ctx))
    weights = [phi.net.weight for phi in assembly.model.edge.values()]
    assert not any(g.any() for g in torch.autograd.grad(terms["rank"], weights, retain_graph=True))
    assert all(g.any() for g in torch.autograd.grad(terms["lgmrec.contrast"], weights))


def test_a_row_of_next_to_nothing_leaves_gradients_finite() -> None:
    # a membership of 2e-12 in a hyperedge that nearly nobody is in, and one that dropout emptied
    x = torch.tensor([[1.4e-21, 0.0], [0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    inverse = _inverse_lengths(x)
    (x * inverse).sum().backward()
    assert torch.allclose(inverse[2], torch.tensor([0.2])) and (x * inverse)[1].eq(0).all()
    assert x.grad is not None and x.grad.isfinite().all()
