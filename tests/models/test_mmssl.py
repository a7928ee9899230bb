from __future__ import annotations

import pytest
import torch
from tiny import DIM, ITEMS, USERS, WIDTHS, batch, context, loss, made, same, tables, train
from torch import Tensor
from torch.nn import functional as F

from prismrec.errors import PrismError
from prismrec.models import MMSSL, Context
from prismrec.models.mmssl import Critic, Heads, gradient_penalty, relation
from prismrec.sampling import generator


def taken(ctx: Context) -> Tensor:
    r = torch.zeros(USERS, ITEMS, dtype=torch.float64)
    r[ctx.user, ctx.item] = 1
    return r


def root(r: Tensor) -> Tensor:
    """Rows over the root of their sums."""
    return r * r.sum(1, keepdim=True).clamp(min=1).rsqrt()


def lists(model: MMSSL, m: str) -> Tensor:
    """A modality's lists as a matrix (U, I) of ones."""
    best = model.best.get_buffer(m)
    out = torch.zeros(USERS, ITEMS + 1, dtype=torch.float64)
    out[torch.arange(USERS).unsqueeze(1), best] = 1  # -1 is the last column
    return out[:, :ITEMS]


def attended(model: MMSSL, views: list[Tensor]) -> Tensor:
    """The mean over views of their attention to each other, node by node and head by head, by the equations."""
    w = {name: value.double() for name, value in model.attention.named_parameters()}
    heads, z = model.cfg.heads, torch.stack(views, dim=1)  # (n, M, d)
    if len(views) == 1:
        return torch.cat([z[:, 0]] * heads, dim=1) @ w["join"]
    size = DIM // heads
    out = []
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        q, k = (z @ w["query"])[..., part], (z @ w["key"])[..., part]
        out.append((q @ k.transpose(1, 2) / size**0.5).softmax(2) @ z)
    return (torch.cat(out, dim=2) @ w["join"]).mean(1)


def equations(model: MMSSL, ctx: Context) -> dict[str, Tensor]:
    cfg, r = model.cfg, taken(ctx)
    b, b_item = root(r), root(r.T)
    e_user, e_item = model.user.double(), model.item.double()
    x_user, x_item, z_user, z_item = {}, {}, {}, {}
    for m, rows in model.project(ctx.raw, None).items():
        x_user[m] = b @ rows.values.double()
        x_item[m] = b_item @ x_user[m]
        z_user[m], z_item[m] = root(lists(model, m)) @ e_item, root(lists(model, m).T) @ e_user
    users = [e_user + cfg.ids * F.normalize(attended(model, list(z_user.values())))]
    items = [e_item + cfg.ids * F.normalize(attended(model, list(z_item.values())))]
    for layer in range(cfg.layers):
        u = b @ items[-1]
        users.append(u.softmax(1) if layer == cfg.layers - 1 else u)
        i = b_item @ users[-1]
        items.append(i.softmax(1) if layer == cfg.layers - 1 else i)
    user, item = sum(users) / len(users), sum(items) / len(items)
    out = {"user.ids": user, "item.ids": item} | {f"user.{m}": z for m, z in z_user.items()}
    out |= {f"{m}.user": x for m, x in x_user.items()} | {f"{m}.item": x for m, x in x_item.items()}
    out["user"] = user + cfg.features * sum(F.normalize(x) for x in x_user.values())
    out["item"] = item + cfg.features * sum(F.normalize(x) for x in x_item.values())
    return out


def started(ctx: Context, **settings: object) -> tuple:
    """A model one step into its first epoch, without noise."""
    assembly = made(MMSSL, ctx, **{"drop": 0.0, **settings})
    assembly.start_epoch(0, generator(0))
    assembly.loss(batch(ctx))
    return assembly, assembly.model


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_representations_are_those_of_the_equations_on_dense_matrices(modalities: int, layers: int) -> None:
    ctx = context(modalities)
    assembly, model = started(ctx, layers=layers, neighbours=3, heads=2)
    reps = tables(assembly.represent())
    with torch.no_grad():
        expected = equations(model, ctx)
    assert reps.keys() == expected.keys()
    assert all(torch.allclose(reps[name].double(), value, atol=1e-5) for name, value in expected.items())


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_the_loss_is_that_of_the_equations(modalities: int) -> None:
    ctx = context(modalities)
    assembly, model = started(ctx, reg=0.1, feature_reg=0.2, contrast=0.3, adversary=0.0)
    rows = batch(ctx)
    with torch.no_grad():
        terms, x = assembly.loss(rows), equations(model, ctx)
    u, p, n = x["user"][rows.user], x["item"][rows.pos], x["item"][rows.neg[:, 0]]
    assert torch.allclose(terms["rank"].double(), F.softplus((u * (n - p)).sum(1)).mean(), atol=1e-5)
    size = u.square().sum() + p.square().sum() + n.square().sum()
    assert torch.allclose(terms["reg"].double(), 0.1 * size / 32, atol=1e-5)
    names = list(ctx.raw)
    size = sum(x[f"{m}.{side}"].square().sum() for m in names for side in ("user", "item"))
    assert torch.allclose(terms["mmssl.features"].double(), 0.2 * size / (2 * ITEMS), atol=1e-5)
    ids, apart = torch.unique(rows.user), 0.0
    for m in names:
        z, final = x[f"user.{m}"][ids], x["user"][ids]
        with_own, with_final = (
            torch.exp(F.cosine_similarity(z[:, None], other[None], dim=2) / 0.5) for other in (z, final)
        )
        share = with_final.diag() / (with_own.sum(1) - with_own.diag() + with_final.sum(1))
        apart = apart - share.log().mean()
    assert torch.allclose(terms["mmssl.contrast"].double(), 0.3 * apart, atol=1e-5)
    assert set(terms) == {"rank", "reg", "mmssl.features", "mmssl.contrast"}


def test_fact_2_idle_attention_is_the_mean_times_the_sum_of_the_blocks() -> None:
    views = [torch.randn(5, 8) for _ in range(3)]
    idle = Heads(8, 4, 3, idle=True)
    assert torch.allclose(idle(views), sum(views) / 3 @ sum(idle.join.chunk(4)), atol=1e-5)
    assert [name for name, _ in idle.named_parameters()] == ["join"]


def test_weights_of_a_head_add_up_to_one() -> None:
    heads = Heads(8, 4, 3, idle=False)
    weights = heads.weights([torch.randn(5, 8) for _ in range(3)])
    assert len(weights) == 4
    assert all(torch.allclose(sum(head), torch.ones(5, 1)) and len(head) == 3 for head in weights)


def test_fact_3_the_last_layer_has_rows_of_sum_one() -> None:
    user, item = torch.randn(USERS, DIM), torch.randn(ITEMS, DIM)
    one = made(MMSSL, context(), layers=1).model._propagate(user, item)
    for mean, start in zip(one, (user, item), strict=True):
        assert torch.allclose((2 * mean - start).sum(1), torch.ones(len(start)), atol=1e-5)


@pytest.mark.parametrize("modalities", [1, 2])
def test_fact_4_with_empty_graphs_ids_start_as_they_are_and_the_contrast_teaches_nothing(modalities: int) -> None:
    ctx = context(modalities)
    assembly, model = started(ctx, faithful=True, ids=5.0)
    assert all(not lists(model, m).any() for m in ctx.raw)
    plain, _ = started(ctx, faithful=True, ids=0.0)
    assert same(tables(assembly.represent()), tables(plain.represent()))
    terms = loss(assembly, batch(ctx))
    for grad in torch.autograd.grad(terms["mmssl.contrast"], [model.user, model.item], allow_unused=True):
        assert grad is None or not grad.any()


def test_fact_5_scores_are_unit_rows_that_are_zero_at_what_was_taken() -> None:
    ctx = context()
    model = made(MMSSL, ctx).model
    user, item = torch.tensor([3, 0, 10]), torch.randperm(ITEMS)[:9]
    mask = model._taken(user, item)
    assert torch.equal(mask, taken(ctx)[user][:, item] > 0)
    rows = relation(torch.randn(3, DIM), torch.randn(9, DIM), mask)
    assert torch.allclose(rows.norm(dim=1), torch.ones(3)) and not rows[mask].any()
    real = model._behaviour(rows, mask)
    assert torch.allclose(real.norm(dim=1), torch.ones(3))


def test_behaviour_is_what_was_taken_where_final_scores_have_no_weight() -> None:
    ctx = context()
    model = made(MMSSL, ctx, behaviour=0.0).model
    mask = taken(ctx)[:5] > 0
    real = model._behaviour(torch.randn(5, ITEMS), mask)
    assert torch.allclose(real, F.normalize(mask.float()), atol=0.05)


def test_fact_6_a_linear_critic_of_unit_weight_pays_no_penalty() -> None:
    weight = F.normalize(torch.randn(6), dim=0)
    real, fake = torch.randn(5, 6), torch.randn(5, 6)
    assert gradient_penalty(lambda x: x @ weight, real, fake).item() == pytest.approx(0, abs=1e-10)
    assert gradient_penalty(lambda x: 3 * x @ weight, real, fake).item() == pytest.approx(4, abs=1e-4)


def test_departure_1_lists_are_the_best_unseen_items_by_each_modality_made_once_an_epoch() -> None:
    ctx = context()
    assembly, model = started(ctx, neighbours=4)
    with torch.no_grad():
        x = equations(model, ctx)
    for m in ctx.raw:
        scores = (x[f"{m}.user"] @ x[f"{m}.item"].T).masked_fill(taken(ctx) > 0, -1)
        for u in range(USERS):
            expected = [i for i in scores[u].topk(4).indices.tolist() if scores[u, i] > 0]
            assert sorted(i for i in model.best.get_buffer(m)[u].tolist() if i >= 0) == sorted(expected)
    before = {m: model.best.get_buffer(m).clone() for m in ctx.raw}
    train(assembly, ctx, epochs=1, steps=2)  # starts an epoch: new lists at its first step, and none afterwards
    with torch.no_grad():
        for phi in model.phi.values():
            phi.net.weight.normal_()
    old = {m: model.best.get_buffer(m).clone() for m in ctx.raw}
    assembly.loss(batch(ctx))
    assert all(torch.equal(model.best.get_buffer(m), ids) for m, ids in old.items())
    assembly.start_epoch(1, generator(0))
    assembly.represent()
    assert all(torch.equal(model.best.get_buffer(m), ids) for m, ids in old.items())
    assembly.loss(batch(ctx))
    assert not all(torch.equal(model.best.get_buffer(m), ids) for m, ids in old.items())
    assert before.keys() == old.keys()


def test_departures_3_and_5_the_critic_and_the_features_pull_its_verdict_apart() -> None:
    ctx = context()
    assembly, model = started(ctx, adversary=0.5, penalty=0.0)
    features = [phi.net.weight for phi in model.phi.values()]
    terms = loss(assembly, batch(ctx))
    assert not terms["mmssl.adversary"].requires_grad
    pulls = torch.autograd.grad(terms["mmssl.critic"], [model.critic.first, *features])
    with torch.no_grad():
        for p, g in zip([model.critic.first, *features], pulls, strict=True):
            assert g.any()
            if p is not model.critic.first:
                p -= 0.01 * g
    # after a step of the features alone the critic takes them for behaviour a little more
    assert loss(assembly, batch(ctx))["mmssl.adversary"] < terms["mmssl.adversary"]


def test_only_so_many_users_and_items_of_a_step_are_read() -> None:
    ctx = context()
    assembly, model = started(ctx, users=3, items=5)
    seen: list[tuple[int, ...]] = []
    model.critic.register_forward_hook(lambda module, given, out: seen.append((*given[0].shape, len(given[1]))))
    loss(assembly, batch(ctx))
    assert seen == [(6, 5, 5)] * 3  # features, behaviour, between: two modalities of three users on five items


def test_the_published_critic_ends_in_a_hundredfold_sigmoid() -> None:
    critic = Critic(ITEMS, 8, faithful=True)
    out = critic(torch.randn(6, 5), torch.arange(5))
    assert out.min() >= 0 and out.max() <= 100
    assert critic(torch.randn(1, 5), torch.arange(5)).isfinite().all()


def test_faithful_trains_and_its_adversary_can_be_left_out() -> None:
    ctx = context()
    reps = train(made(MMSSL, ctx, faithful=True), ctx).represent()
    assert all(value.isfinite().all() for value in tables(reps).values())
    assembly = made(MMSSL, ctx, adversary=0.0, contrast=0.0, feature_reg=0.0, reg=0.0)
    assert set(assembly.loss(batch(ctx))) == {"rank"} and assembly.model.critic is None


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(PrismError, match="heads is 3"):
        made(MMSSL, context(), heads=3)


def test_parameters_are_as_many_as_the_equations_say() -> None:
    assembly = made(MMSSL, context(), hidden=6)
    projections = sum(WIDTHS[m] * DIM + DIM for m in ("image", "text"))
    critic = ITEMS * 6 + 6 + 6 * 3 + 3 + 3
    expected = (USERS + ITEMS) * DIM + projections + 6 * DIM * DIM + critic
    assert sum(p.numel() for p in assembly.parameters()) == expected
