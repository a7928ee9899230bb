from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import DIM, ITEMS, USERS, adjacency, batch, context, loss, made, same, tables, total, train
from torch import Tensor
from torch.nn import functional as F

from prismrec.assembly import Assembly
from prismrec.models import SSR, Context
from prismrec.models.ssr import Operator, filters, kept

NODES = USERS + ITEMS


def chebyshev(x: Tensor, k: int) -> Tensor:
    """T_k of a matrix by its recursion."""
    one, now = torch.eye(len(x), dtype=x.dtype), x
    for _ in range(k - 1):
        one, now = now, 2 * x @ now - one
    return now


def split(a: Tensor, x: Tensor) -> list[Tensor]:
    """Three bands of a signal on the graph of adjacency ``a``, as the card has them."""
    laplacian = -a
    low = x - 0.5 * laplacian @ x
    middle = 0.8 * chebyshev(laplacian, 2) @ x + 0.3 * chebyshev(laplacian, 3) @ x
    return [low, middle, x - low - middle]


def signals(assembly: Assembly, ctx: Context) -> tuple[Tensor, Tensor]:
    """q and y of all nodes, users first, in double precision."""
    model, a = assembly.model, adjacency(ctx)
    feats = model.project(ctx.raw, None)
    pairs = [(model.user, model.item), *((model.taste[m], rows.values) for m, rows in feats.items())]
    hops = sum(torch.linalg.matrix_power(a, n) for n in range(model.cfg.layers + 1))
    h = [hops @ F.normalize(torch.cat([p, f]).double(), dim=1) for p, f in pairs]
    weight = model.weight.double()
    q_u = torch.cat([weight[:, j, None] * x[:USERS] for j, x in enumerate(h)], 1)
    q_i = torch.cat([x[USERS:] for x in h], 1)
    s = torch.linalg.matrix_power(model.similar.matrix.dense().double(), model.cfg.item_layers)
    y_u = torch.cat([p for p, _ in pairs], 1).double()
    return torch.cat([q_u, q_i]).detach(), torch.cat([y_u, s @ q_i]).detach()


def slowly(operator: Operator, context: Tensor, bands: list[Tensor], keep: Tensor | None = None) -> Tensor:
    """What an operator gives, band by band."""
    operator = operator.double()
    kernel = (operator.query @ operator.key.T / operator.key.shape[1] ** 0.5).softmax(0)
    columns = (operator.shares.softmax(0)[:, None] * (0.1 * operator.factors.tanh()).exp()).sum(0)
    scale = operator.scale(context) * columns
    if keep is not None:
        bands = [keep[:, [b]] * z for b, z in enumerate(bands)]
    f = [scale * sum(k * z for k, z in zip(row, bands, strict=True)) for row in kernel]
    mean = sum(f) / len(f)
    hidden = operator.gate_in(torch.cat([context, mean], 1)).relu()
    gates = 1 + operator.strength * operator.gate_out(hidden).tanh()
    out = sum(gates[:, [b]] * x for b, x in enumerate(f))
    out = out * (sum(f).norm(dim=1, keepdim=True) + 1e-6) / (out.norm(dim=1, keepdim=True) + 1e-6)
    operator.float()
    return out.detach()


def awake(assembly: Assembly) -> Assembly:
    """Gates that tell bands apart, which they hardly do at the start."""
    with torch.no_grad():
        for operator in (assembly.model.of_users, assembly.model.of_items):
            torch.nn.init.normal_(operator.gate_out.weight, generator=torch.Generator().manual_seed(1))
            operator.strength.fill_(0.7)
    return assembly


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("settings", [{}, {"layers": 1, "item_layers": 2, "rank": 3}])
def test_representations_and_loss_are_those_of_the_equations(modalities: int, settings: dict[str, Any]) -> None:
    ctx = context(modalities)
    assembly = awake(made(SSR, ctx, mask=0.0, contrast=0.0, **settings))
    model, reps, rows = assembly.model, assembly.represent(), batch(ctx)
    q, y = signals(assembly, ctx)
    bands = [z + w for z, w in zip(split(adjacency(ctx), q), split(adjacency(ctx), y), strict=True)]
    user = slowly(model.of_users, q[:USERS], [z[:USERS] for z in bands])
    item = slowly(model.of_items, q[USERS:], [z[USERS:] for z in bands])
    assert torch.allclose(reps.user.double(), user, atol=1e-5)
    assert torch.allclose(reps.item.values.double(), item, atol=1e-5)
    scores = user @ item.T
    logits = torch.cat([scores[rows.user, rows.pos], scores[rows.user, rows.neg[:, 0]]])
    rank = F.binary_cross_entropy_with_logits(
        logits, torch.tensor([1.0, 0.0]).repeat_interleave(len(rows.user)).double()
    )
    rho = 0.0
    for operator in (model.of_users, model.of_items):
        raw = operator.query @ operator.key.T / operator.key.shape[1] ** 0.5
        rho = rho + (raw**2).mean() + (operator.factors**2).mean()
    assert torch.allclose(total(assembly.loss(rows)), (rank + 2 * 0.1 * rho).float(), atol=1e-5)


def test_the_terms_of_training_are_those_of_the_equations() -> None:
    ctx = context()
    for faithful in (False, True):
        assembly = awake(made(SSR, ctx, mask=2.0, mask_rate=0.4, contrast=3.0, contrast_rows=5, faithful=faithful))
        model, rows = assembly.model, batch(ctx)
        terms, reps = loss(assembly, rows, noise=4), assembly.represent()
        q, y = signals(assembly, ctx)
        bands = [z + w for z, w in zip(split(adjacency(ctx), q), split(adjacency(ctx), y), strict=True)]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(4)
            keep_u, keep_i = (kept(n * len(rows.user), 3, 0.4, rows.user.device).double() for n in (1, 2))
        at = rows.user
        left = slowly(model.of_users, q[at], [z[at] for z in bands], keep_u)
        errors = [(left - reps.user[rows.user]).square().mean()]
        for k, ids in enumerate((rows.pos, rows.neg[:, 0])):
            at, some = USERS + ids, slice(k * len(ids), (k + 1) * len(ids))
            left = slowly(model.of_items, q[at], [z[at] for z in bands], keep_i[some])
            errors.append((left - reps.item.at(ids)).square().mean())
        assert torch.allclose(terms["ssr.mask"].double(), 2 * sum(errors) / 3, atol=1e-5)
        apart = 0.0
        for at in (rows.user[:5], USERS + rows.pos[:5]):
            a, b = (F.normalize(torch.cat([z[at, w : w + DIM] for z in bands])) for w in (DIM, 2 * DIM))
            for anchor, target in ((a, b), (b, a)):
                logits = anchor @ torch.cat([target, anchor]).T / 0.2
                if not faithful:
                    logits[:, len(a) :].fill_diagonal_(-torch.inf)
                apart = apart + F.cross_entropy(logits, torch.arange(len(a))) / 2
        assert torch.allclose(terms["ssr.contrast"].double(), 3 * apart, atol=1e-4)


@pytest.mark.parametrize("bands", [2, 3, 4, 5, 6])
def test_fact_1_bands_add_up_to_what_they_were_made_of(bands: int) -> None:
    table = filters(bands)
    assert len(table) == bands and torch.allclose(table.sum(0), torch.eye(table.shape[1])[0], atol=1e-6)
    assert (table.abs().sum(1) > 0).all()


def test_three_bands_are_those_of_the_published_filters() -> None:
    a, x = adjacency(context()), torch.randn(NODES, 4, dtype=torch.float64)
    powers = torch.stack([torch.linalg.matrix_power(a, n) @ x for n in range(4)])
    assert filters(3).shape == (3, 4)  # three hops suffice
    made_of = torch.tensordot(filters(3).double(), powers, dims=1)
    assert all(torch.allclose(band, of, atol=1e-6) for band, of in zip(made_of, split(a, x), strict=True))
    response = (
        filters(3) @ torch.tensor([[1.0, 1, 1, 1], [1, 0, 0, 0], [1, -1, 1, -1]]).T
    )  # at eigenvalues 1, 0 and -1 of Â
    assert torch.allclose(response.T[0], torch.tensor([1.5, 0.5, -1.0]))
    assert torch.allclose(response.T[1], torch.tensor([1.0, -0.8, 0.8]))
    assert torch.allclose(response.T[2], torch.tensor([0.5, 1.1, -0.6]))


def test_fact_2_what_a_node_without_edges_says_is_low_and_otherwise_cancels() -> None:
    ctx = context()
    lonely = torch.arange(USERS) == USERS - 1
    views = made(SSR, ctx).model(made(SSR, ctx).model.project(ctx.raw, None)).views
    powers = torch.stack([views[f"user.{k}"] for k in range(1, 5)])[:, lonely]
    low, middle, high = torch.tensordot(filters(3), powers, dims=1)
    x = powers[0]
    assert torch.allclose(low, x) and torch.allclose(middle, -0.8 * x) and torch.allclose(high, 0.8 * x)


def test_fact_3_mixed_bands_add_up_to_what_the_bands_do() -> None:
    operator = Operator(12, 3, 4)
    assert torch.allclose(operator.kernel().sum(0), torch.ones(3))
    z = torch.randn(3, 7, 12)
    mixed = torch.tensordot(operator.kernel(), z, dims=1)
    assert torch.allclose(mixed.sum(0), z.sum(0), atol=1e-5)


def test_facts_4_and_7_gates_change_no_length_and_without_them_bands_do_not_matter() -> None:
    ctx = context()
    assembly = awake(made(SSR, ctx))
    q, y = signals(assembly, ctx)
    gated = assembly.represent()
    with torch.no_grad():
        for operator in (assembly.model.of_users, assembly.model.of_items):
            operator.strength.zero_()
    plain = assembly.represent()
    for part, operator, one, other in (
        (slice(0, USERS), assembly.model.of_users, gated.user, plain.user),
        (slice(USERS, NODES), assembly.model.of_items, gated.item.values, plain.item.values),
    ):
        assert torch.allclose(one.norm(dim=1), other.norm(dim=1), rtol=1e-5) and not torch.allclose(
            one, other, atol=1e-3
        )
        with torch.no_grad():
            scale = operator.scale(q[part].float()) * operator.columns()
        assert torch.allclose(other, scale * (q + y)[part].float(), atol=1e-5)


def test_fact_5_column_scales_stay_near_one() -> None:
    operator = Operator(12, 3, 4)
    with torch.no_grad():
        operator.factors.mul_(100)
        operator.shares.normal_()
    columns = operator.columns()
    assert columns.min() >= 0.9048 and columns.max() <= 1.1052 and columns.std() > 0.01


def test_fact_6_where_no_band_is_left_out_that_term_is_nothing() -> None:
    ctx = context()
    assert "ssr.mask" not in made(SSR, ctx, mask_rate=0.0).loss(batch(ctx))
    assembly = awake(made(SSR, ctx))
    model, q = assembly.model, made(SSR, ctx).model.project(ctx.raw, None)
    views = model(q).views
    rows = [views[f"user.{k}"] for k in range(5)]
    whole = model.of_users(rows[0], rows[1:], model.filters)
    kept_all = model.of_users(rows[0], rows[1:], model.filters, torch.ones(USERS, 3))
    assert torch.allclose(whole, kept_all, atol=1e-5)


def test_at_least_one_band_of_a_node_stays() -> None:
    torch.manual_seed(0)
    keep = kept(4000, 3, 0.6, torch.device("cpu"))
    assert (keep > 0).any(1).all() and set(keep.unique().tolist()) == {0.0, 2.5}
    assert torch.isclose((keep[:, 1] > 0).float().mean(), torch.tensor(0.4), atol=0.03)


def test_a_score_is_the_sum_of_those_of_the_ids_and_of_the_modalities() -> None:
    assembly = awake(made(SSR, context(3)))
    reps = assembly.represent()
    ids = reps.user[:, :DIM] @ reps.item.values[:, :DIM].T
    modal = sum(user @ rows.values.T for user, rows in reps.modal.values())
    assert torch.allclose(reps.user @ reps.item.values.T, ids + modal, atol=1e-5)


def test_ranking_draws_nothing() -> None:
    ctx = context()
    assembly = train(made(SSR, ctx, mask_rate=0.5), ctx)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert same(tables(assembly.represent()), tables(assembly.represent()))
    assert torch.equal(before, torch.get_rng_state()) and not assembly.represent().views


def test_parameters_are_as_many_as_the_card_counts_on_baby() -> None:
    def count(users: int, items: int, widths: tuple[int, ...], hidden: int, d: int, tables: bool) -> int:
        views, bands, rank = 1 + len(widths), 3, 4
        width = views * d
        inner = width // 4
        operator = 2 * bands * rank + rank * width + rank + 1
        operator += 2 * width * inner + inner + width  # scale
        operator += 2 * width * inner + inner + inner * bands + bands  # gate
        mlps = sum(r * hidden + hidden + hidden * d + d for r in widths)
        return users * (d + 1) * views + items * (d + sum(widths) * tables) + mlps + 2 * operator

    assert count(19_445, 7_050, (4096, 384), 256, 64, True) == 37_083_455
    for trained in (False, True):
        assembly = made(SSR, context(), hidden=5, train_features=trained)
        assert sum(p.numel() for p in assembly.parameters()) == count(USERS, ITEMS, (9, 7), 5, 8, trained)
