from __future__ import annotations

import itertools

import pytest
import torch
from tiny import DIM, ITEMS, USERS, WIDTHS, batch, context, made, same, tables, total, train
from torch import Tensor
from torch.nn import functional as F

from prismrec import graphs
from prismrec.assembly import Assembly
from prismrec.models import REARM, Context
from prismrec.models.rearm import ScalarAttention, Shared, overlap


def taken(ctx: Context) -> Tensor:
    r = torch.zeros(USERS, ITEMS, dtype=torch.float64)
    r[ctx.user, ctx.item] = 1
    return r


def nearest(x: Tensor, k: int) -> Tensor:
    """Cosines over k at the k nearest rows, the own one included; rows of zeros are alone."""
    unit = F.normalize(x)
    cosine = unit @ unit.T
    cosine[:, x.norm(dim=1) == 0] = -torch.inf
    out = torch.zeros(len(x), len(x), dtype=torch.float64)
    for i in range(len(x)):
        if x[i].any():
            best = cosine[i].topk(k).indices
            out[i, best] = cosine[i, best] / k
    return out


def common(r: Tensor, k: int) -> Tensor:
    """Softmax of the numbers of common neighbours, over the k largest; rows without any stay empty."""
    count = r @ r.T
    count.fill_diagonal_(0)
    out = torch.zeros_like(count)
    for i in range(len(r)):
        best = sorted(range(len(r)), key=lambda j: (-float(count[i, j]), j))[:k]
        best = [j for j in best if count[i, j] > 0]
        if best:
            out[i, best] = count[i, best].softmax(0)
    return out


def mixed(first: Tensor, second: Tensor, share: float) -> Tensor:
    """share · first + (1 − share) · second, row by row; one that is empty leaves its share to the other."""
    held = share * (first != 0).any(1, keepdim=True) + (1 - share) * (second != 0).any(1, keepdim=True)
    return (share * first + (1 - share) * second) / torch.where(held > 0, held, 1.0)


def test_fact_1_both_graphs_are_those_of_their_definitions() -> None:
    ctx = context()
    weights = {"image": 0.3, "text": 0.7}
    settings = {"user_neighbours": 4, "item_neighbours": 5, "user_common": 0.4, "item_common": 0.2}
    model = made(REARM, ctx, user_weights=weights, item_weights=weights, **settings).model
    r = taken(ctx)
    interest = {m: r @ raw.values.double() / r.sum(1, keepdim=True).clamp(min=1) for m, raw in ctx.raw.items()}
    alike = sum(weights[m] * nearest(raw.values.double(), 5) for m, raw in ctx.raw.items())
    assert torch.allclose(alike.diagonal(), torch.full((ITEMS,), 0.2, dtype=torch.float64))
    expected = mixed(common(r.T, 5), alike, 0.2)
    assert torch.allclose(model.items.matrix.dense().double(), expected, atol=1e-5)
    alike = sum(weights[m] * nearest(x, 4) for m, x in interest.items())
    expected = mixed(common(r, 4), alike, 0.4)
    assert torch.allclose(model.users.matrix.dense().double(), expected, atol=1e-5)
    whole = made(REARM, ctx, item_common=1.0).model.items.matrix.dense().sum(1)
    assert torch.allclose(whole[:-2], torch.ones(ITEMS - 2)) and not whole[-2:].any()  # two that nobody took


def test_published_lists_are_filled_up_and_nobody_is_without() -> None:
    ctx = context()
    model = made(REARM, ctx, faithful=True, item_common=1.0, user_common=1.0, item_neighbours=16).model
    r = taken(ctx)
    for graph, rows in ((model.users, r), (model.items, r.T)):
        dense = graph.matrix.dense()
        assert torch.allclose(dense.sum(1), torch.ones(len(dense)))
        lonely = rows.sum(1) == 0
        assert torch.equal((dense > 0)[~lonely], ((rows @ rows.T).fill_diagonal_(0) > 0)[~lonely])
        most = rows.sum(1).max()
        assert lonely.any() and (rows.sum(1)[dense[lonely].argmax(1)] == most).all()


def attention(module: ScalarAttention, query: Tensor, x: Tensor) -> Tensor:
    """By the definition, number by number."""
    w, k, v = module.into.flatten().tolist()
    out = torch.zeros_like(query)
    for row in range(len(query)):
        for p in range(query.shape[1]):
            a = ((w * query[row, p] + module.shift.item()) * k * x[row]).softmax(0)
            out[row, p] = module.out.item() * (a * v * x[row]).sum()
    return out


def test_attention_is_that_of_its_definition_in_blocks_with_its_gradient() -> None:
    module = ScalarAttention(0.0)
    module.shift.data.fill_(0.3)
    query, x = torch.randn(300, 5, requires_grad=True), torch.randn(300, 5, requires_grad=True)
    out = module(query, x)
    assert torch.allclose(out[254:258], attention(module, query[254:258].detach(), x[254:258].detach()), atol=1e-5)
    with torch.no_grad():
        assert torch.equal(module(query, x), out)
    module, query, x = module.double(), query[:70].double(), x[:70].double()
    query, x = query.detach().requires_grad_(), x.detach().requires_grad_()
    assert torch.autograd.gradcheck(module, (query, x), fast_mode=True)
    weight = torch.randn(70, 5, dtype=torch.float64)
    inputs = (query, x, *module.parameters())
    blocks = torch.autograd.grad((module(query, x) * weight).sum(), inputs)
    a, b, v = module.into
    slopes = ((query * a + module.shift) * b).unsqueeze(2) * x.unsqueeze(1)
    plain = (slopes.softmax(2) * x.unsqueeze(1)).sum(2) * v * module.out
    expected = torch.autograd.grad((plain * weight).sum(), inputs)
    assert all(torch.allclose(p, q) for p, q in zip(blocks, expected, strict=True))


def test_dropout_of_the_attention_is_the_same_when_a_block_is_made_again() -> None:
    module = ScalarAttention(0.5).double().train()
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)

    def once(x: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return module(x, x)

    assert torch.autograd.gradcheck(once, (x,))
    assert not torch.equal(once(x), module.eval()(x, x))


@pytest.mark.parametrize("drop", [0.1, 0.4, 0.6])
def test_dropout_of_the_attention_keeps_the_mean_and_is_as_strong_as_it_says(drop: float) -> None:
    module = ScalarAttention(drop).train()
    with torch.no_grad():
        module.into[:] = torch.tensor([[0.0], [0.0], [1.0]])  # all weights alike
        module.out.fill_(1.0)
        heard = module(torch.ones(4000, 8), torch.ones(4000, 8))  # eight weights of 1/8, each there or not
    assert heard.mean().item() == pytest.approx(1, abs=0.01)
    assert heard.var().item() == pytest.approx(drop / (1 - drop) / 8, rel=0.06)


def equations(assembly: Assembly, ctx: Context) -> dict[str, Tensor]:
    model, cfg = assembly.model, assembly.model.cfg
    r, names = taken(ctx), list(ctx.raw)
    degree = [r.sum(n, keepdim=True).clamp(min=1) for n in (0, 1)]
    a = torch.zeros(USERS + ITEMS, USERS + ITEMS)
    a[:USERS, USERS:] = r / (degree[0] * degree[1]).sqrt()
    a += a.T.clone()
    w = dict(model.named_parameters())
    tastes = []
    for m, raw in ctx.raw.items():
        interest = (r @ raw.values.double() / degree[1]).float()
        tastes.append(interest @ w[f"taste.{m}.net.weight"].T + w[f"bias.{m}"])
    feats = [rows.values for rows in model.project(ctx.raw, None).values()]
    user = F.normalize(model.users.matrix.dense() @ torch.cat([model.user, *tastes], dim=1))
    power = torch.linalg.matrix_power(model.items.matrix.dense(), cfg.item_layers)
    item = F.normalize(power @ torch.cat([model.item, *feats], dim=1))
    (user_id, *of_user), (item_id, *of_item) = user.split(DIM, 1), item.split(DIM, 1)
    first = [model.act(model.norm(x + attention(model.alone[m], x, x))) for m, x in zip(names, of_item, strict=True)]
    second = first
    if len(names) > 1:
        second = []
        for i, x in enumerate(first):
            heard = [
                attention(model.across[f"{names[i]}-{names[j]}"], first[j], x) for j in range(len(names)) if j != i
            ]
            second.append(model.act(model.norm(x + sum(heard) / len(heard))))
    out = {}
    start = torch.cat([torch.cat([*map(model.act, of_user), user_id], 1), torch.cat([*second, item_id], 1)])
    p = sum(torch.linalg.matrix_power(a, n) for n in range(cfg.layers + 1)) @ start / (cfg.layers + 1)
    for side, rows, shared in (("user", p[:USERS], model.of_users), ("item", p[USERS:], model.of_items)):
        *parts, ids = rows.split(DIM, 1)
        one, two = shared.maps(rows[:, :-DIM])
        knowledge = torch.stack([ids[n] @ one[n] @ two[n] for n in range(len(rows))])
        out[side] = torch.cat([model.act(x) + ids for x in (*parts, knowledge)], dim=1)
        out |= {f"{side}.{m}": x for m, x in zip(names, parts, strict=True)}
        out |= {f"{m}.{side}": model.act(x) + ids for m, x in zip(names, parts, strict=True)}
    return out


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("settings", [{}, {"train_features": True, "item_layers": 2, "layers": 2}])
def test_representations_are_those_of_the_equations_on_dense_matrices(
    modalities: int, settings: dict[str, int]
) -> None:
    ctx = context(modalities)
    assembly = made(REARM, ctx, **settings)
    reps = tables(assembly.represent())
    with torch.no_grad():
        expected = equations(assembly.eval(), ctx)
    assert reps.keys() == expected.keys()
    assert all(torch.allclose(reps[name], value, atol=1e-4) for name, value in expected.items())


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_the_loss_is_that_of_the_equations(modalities: int) -> None:
    ctx = context(modalities)
    assembly = made(REARM, ctx, contrast=0.5, apart=0.3).eval()
    rows = batch(ctx)
    with torch.no_grad():
        terms, x = assembly.loss(rows), equations(assembly, ctx)
    u, p, n = x["user"][rows.user], x["item"][rows.pos], x["item"][rows.neg[:, 0]]
    assert torch.allclose(terms["rank"], F.softplus((u * (n - p)).sum(1)).mean(), atol=1e-4)
    if modalities == 1:
        assert set(terms) == {"rank"}
        return
    near, apart = 0.0, 0.0
    items = torch.unique(torch.cat([rows.pos, rows.neg[:, 0]]))
    for a, b in itertools.combinations(ctx.raw, 2):
        for side, ids, all_ids in (("user", torch.unique(rows.user), rows.user), ("item", items, rows.pos)):
            left, right = x[f"{side}.{a}"], x[f"{side}.{b}"]
            cosine = F.cosine_similarity(left[ids][:, None], right[ids][None], dim=2)
            near = near + F.cross_entropy(cosine / 0.6, torch.arange(len(ids)))
            left, right = (F.normalize(y[all_ids] - y[all_ids].mean(0)) for y in (left, right))
            apart = apart + (left.T @ right).square().mean()
    assert torch.allclose(terms["rearm.contrast"], 0.5 * near, atol=1e-4)
    assert torch.allclose(terms["rearm.apart"], 0.3 * apart, rtol=1e-2)
    assert set(made(REARM, ctx, contrast=0.0, apart=0.0).loss(rows)) == {"rank"}


def test_fact_2_what_leaves_the_graphs_of_ones_own_kind_has_length_one() -> None:
    ctx = context()
    model = made(REARM, ctx).eval().model
    seen = []
    model.attend = lambda of_item: seen.append(of_item) or list(of_item.values())
    model(model.project(ctx.raw, None))
    (of_item,) = seen
    feats = torch.cat([rows.values for rows in model.project(ctx.raw, None).values()], dim=1)
    whole = model.items(torch.cat([model.item, feats], dim=1))
    assert torch.allclose(torch.cat(list(of_item.values()), dim=1), F.normalize(whole)[:, DIM:], atol=1e-6)


def test_fact_3_scores_are_the_sum_of_those_of_the_blocks() -> None:
    ctx = context(3)
    reps = train(made(REARM, ctx), ctx).represent()
    user, item = torch.arange(USERS), torch.arange(USERS)
    shared = (reps.user[:, -DIM:] * reps.item.values[:USERS, -DIM:]).sum(1)
    blocks = sum(reps.score(user, item, m) for m in ctx.raw)
    assert torch.allclose(reps.score(user, item), blocks + shared, atol=1e-4)


@pytest.mark.parametrize("faithful", [False, True])
def test_fact_4_the_reading_layer_is_trained_but_in_the_published_code(faithful: bool) -> None:
    ctx = context()
    assembly = made(REARM, ctx, faithful=faithful)
    total(assembly.loss(batch(ctx))).backward()
    for shared in (assembly.model.of_users, assembly.model.of_items):
        grad = shared.read.weight.grad
        assert grad is None if faithful else grad.any()
        assert all(p.grad.any() for net in (shared.first, shared.second) for p in net.parameters())


def test_fact_5_columns_that_are_orthogonal_overlap_in_nothing_and_others_within_bounds() -> None:
    a = torch.tensor([[1.0, 0], [-1, 0], [1, 0], [-1, 0]])
    b = torch.tensor([[0, 1.0], [0, 1], [0, -1], [0, -1]])
    assert overlap(a, b).item() == pytest.approx(0, abs=1e-12)
    x, y = torch.randn(40, DIM), torch.randn(40, DIM)
    assert 0 < overlap(x, y) <= overlap(x, x) <= (40 / DIM) ** 2


def test_fact_6_columns_of_both_maps_add_up_to_one() -> None:
    first, second = Shared(DIM, 2, 3, False).maps(torch.randn(7, 2 * DIM))
    assert first.shape == (7, DIM, 3) and torch.allclose(first.sum(1), torch.ones(7, 3))
    assert second.shape == (7, 3, DIM) and torch.allclose(second.sum(1), torch.ones(7, DIM))


def test_departure_5_dropout_of_all_is_no_self_attention() -> None:
    ctx = context()
    assembly = made(REARM, ctx, self_drop=1.0)
    assert not assembly.model.alone
    quiet = made(REARM, ctx)
    quiet.load_state_dict(assembly.state_dict(), strict=False)
    with torch.no_grad():
        for module in quiet.model.alone.values():
            module.out.zero_()
    assert same(tables(assembly.represent()), tables(quiet.represent()))


def test_an_item_without_a_modality_says_nothing_of_its_takers_interests() -> None:
    ctx = context(missing=True)
    model = made(REARM, ctx, user_common=0.0, user_weights={"image": 1.0}, user_neighbours=3).model
    r = taken(ctx)
    there = ctx.raw["image"].present.double()
    interest = (r * there) @ ctx.raw["image"].values.double() / (r @ there).clamp(min=1)[:, None]
    assert torch.allclose(model.users.matrix.dense().double(), nearest(interest, 3), atol=1e-5)


def test_parameters_are_as_many_as_published_but_for_the_frozen_and_the_idle() -> None:
    def count(users: int, items: int, widths: tuple[int, ...], d: int, k: int, tables: bool) -> int:
        linear = 2 * sum(r * d + d for r in widths)
        attention = 5 * len(widths) ** 2  # of 8 scalars each, 3 cancel
        maps = 2 * 2 * (d * d * k + d * k + (d * k) ** 2 + d * k + 1)
        read = 2 * (len(widths) * d * d + d)
        raw = (users + items) * sum(widths) if tables else 0
        return (users + items) * d + linear + attention + 2 * d + 1 + maps + read + raw

    idle = 4 * 3
    trained = count(19_445, 7_050, (4096, 384), 64, 3, True) - 2 * (2 * 64 * 64 + 64)
    assert trained + idle == 121_165_285
    for train_features in (False, True):
        assembly = made(REARM, context(), train_features=train_features)
        expected = count(USERS, ITEMS, (WIDTHS["image"], WIDTHS["text"]), DIM, 3, train_features)
        assert sum(p.numel() for p in assembly.parameters()) == expected
    assert isinstance(made(REARM, context()).model.users, graphs.ItemGraph)
