from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from program import dataset
from tiny import DIM, ITEMS, batch, batches, context, loss, made, same, tables, total, train
from torch import Tensor, nn

from prismrec import Recommender
from prismrec.assembly import Assembly
from prismrec.errors import PrismError
from prismrec.losses import kl_normal, mine, ranking_by_side
from prismrec.models import BPR, FREEDOM, MODELS, VBPR, Context, LightGCN, Model
from prismrec.plugins.base import Offer
from prismrec.plugins.mrdib import Critic, MRdIB, _Code, _noise, information
from prismrec.sampling import generator
from prismrec.types import Batch, Feats, ItemIds, Reps, Rows, Terms

OFF = {"compress": 0.0, "redundant": 0.0, "unique": 0.0}
on_vbpr_and_freedom = pytest.mark.parametrize("model", [VBPR, FREEDOM], ids=lambda model: model.name)


class Whole(VBPR):
    """A model that wants the features of all items in every step."""

    name = "whole"
    whole_table = True


def hosts() -> list[type[Model]]:
    found: list[type[Model]] = []
    for model in MODELS:
        try:
            made(model, context(), [MRdIB])
        except PrismError:
            continue
        found.append(model)
    return found


def with_mrdib(model: type[Model], ctx: Context, **settings: Any) -> Assembly:
    return made(model, ctx, [(MRdIB, MRdIB.Config(**settings))])


def plugin_of(assembly: Assembly) -> MRdIB:
    plugin = assembly.chain[0]
    assert isinstance(plugin, MRdIB)
    return plugin


def started(assembly: Assembly, epoch: int = 0) -> Assembly:
    assembly.start_epoch(epoch, generator(1))
    return assembly


def moved(assembly: Assembly) -> Assembly:
    """Parameters away from their start, so that nothing is 0 or the identity by chance."""
    with torch.no_grad():
        for parameter in plugin_of(assembly).parameters():
            parameter.add_(
                0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    return assembly


def only(**settings: float) -> dict[str, float]:
    return {**OFF, **settings}


def alone(settings: dict[str, Any], x: dict[str, Tensor]) -> tuple[MRdIB, Feats, Batch]:
    """The plug-in without a model, on given features of n items, and the batch that holds all of them."""
    n = len(next(iter(x.values())))
    there = torch.ones(n, dtype=torch.bool)
    widths = {m: values.shape[1] for m, values in x.items()}
    plugin = MRdIB(MRdIB.Config(**settings))
    plugin.setup(Offer("none", 1, n, widths, dict.fromkeys(x, there), {}, (2, 2)))
    items = torch.arange(n)
    return plugin, {m: Rows(values) for m, values in x.items()}, Batch(torch.zeros_like(items), items, items[:, None])


def correlated(n: int, d: int, rho: float, seed: int = 0) -> dict[str, Tensor]:
    """Standard normal codes whose columns are correlated one by one: I = −½ d log(1 − ρ²)."""
    a, e = torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed))
    return {"image": a, "text": rho * a + math.sqrt(1 - rho**2) * e}


# ----------------------------------------------------------------------------------------------- facts of the card


@pytest.mark.parametrize("model", hosts(), ids=lambda model: model.name)
@pytest.mark.parametrize("missing", [False, True])
def test_at_the_start_scores_are_those_of_the_model_alone(model: type[Model], missing: bool) -> None:
    ctx = context(missing=missing)
    plain, plugged = tables(made(model, ctx).represent()), tables(with_mrdib(model, ctx).represent())
    assert plain.keys() == plugged.keys()
    assert all(torch.allclose(plugged[name], value, atol=1e-6) for name, value in plain.items())


@on_vbpr_and_freedom
def test_with_all_weights_0_it_is_the_identity_without_heads_or_random_numbers(model: type[Model]) -> None:
    ctx = context()
    plain, off = train(made(model, ctx), ctx, epochs=3), train(with_mrdib(model, ctx, **OFF), ctx, epochs=3)
    assert same(tables(plain.represent()), tables(off.represent()))
    assert off.plugins.state_dict() == {} and off.report() == {}
    assert with_mrdib(LightGCN, ctx, **OFF).plugins.state_dict() == {}  # nor is there anything to refuse


@pytest.mark.parametrize("model", [VBPR, FREEDOM, Whole], ids=lambda model: model.name)
@pytest.mark.parametrize("missing", [False, True])
def test_compression_is_the_mean_divergence_of_the_batchs_present_items(model: type[Model], missing: bool) -> None:
    ctx = context(missing=missing)
    assembly = moved(started(with_mrdib(model, ctx, **only(compress=0.5))))
    rows = batch(ctx, size=5)
    terms = loss(assembly, rows)
    feats = assembly.model.project(ctx.raw, None)
    for m, head in plugin_of(assembly).heads.items():
        ids = ItemIds.of(rows.items, ITEMS).ids
        ids = ids[ctx.raw[m].present[ids]]
        assert 0 < len(ids) < ITEMS
        mean, log_var = head(feats[m].values[ids]).chunk(2, dim=1)
        assert torch.allclose(terms[f"mrdib.kl.{m}"], 0.5 * kl_normal(mean, log_var).mean(), rtol=1e-5)


def test_the_divergence_is_zero_only_where_the_codes_are_standard_normal() -> None:
    plugin, feats, rows = alone(only(compress=1.0), correlated(6, 3, 0.5))
    for head in plugin.heads.values():
        nn.init.zeros_(head.get_parameter("weight"))
        nn.init.zeros_(head.get_parameter("bias"))
    assert all(term.item() == 0 for term in plugin.encode(feats, rows)[1].values())
    with torch.no_grad():
        plugin.heads["image"].get_parameter("bias")[4] = 0.1  # log σ² of one column
    cost = plugin.encode(feats, rows)[1]
    assert cost["mrdib.kl.image"] > 0 and cost["mrdib.kl.text"] == 0


def trained_bound(codes: dict[str, Tensor], steps: int = 400, seed: int = 0) -> float:
    """What a fresh critic finds in frozen codes: trained on the first half of the items, asked on the second."""
    torch.manual_seed(seed)
    (a, b), half = codes.values(), len(codes["image"]) // 2
    critic = Critic(a.shape[1], b.shape[1], width=32)
    optimizer = torch.optim.Adam(critic.parameters(), lr=5e-3)
    for _ in range(steps):
        at = torch.randperm(half)[:512]
        optimizer.zero_grad()
        (-mine(*critic(a[at], b[at]))).backward()
        optimizer.step()
    with torch.no_grad():
        shuffled = half + torch.randperm(len(a) - half)
        return float(mine(*critic(a[shuffled], b[shuffled])))


@pytest.mark.parametrize("rho", [0.0, 0.7, 0.9])
def test_a_trained_critic_approaches_the_information_of_correlated_gaussians_from_below(rho: float) -> None:
    d = 2
    truth = -d * math.log(1 - rho**2) / 2
    found = trained_bound(correlated(16_000, d, rho), steps=600)
    assert 0.8 * truth - 0.02 < found < truth + 0.04


def test_adversarial_training_of_the_codes_lowers_what_a_fresh_critic_finds() -> None:
    torch.manual_seed(0)
    plugin, feats, rows = alone(only(redundant=1.0), correlated(4000, 3, 0.9))
    plugin.critics["image-text"] = Critic(3, 3, width=32)  # of narrow codes, too, an able one
    optimizer = torch.optim.Adam(plugin.parameters(), lr=5e-3)

    def codes() -> dict[str, Tensor]:
        with torch.no_grad():
            return {m: rows.values.detach() for m, rows in plugin.encode(feats, rows)[0].items()}

    before = trained_bound(codes())
    for _ in range(400):
        optimizer.zero_grad()
        total(
            plugin.loss({}, Reps(torch.zeros(1, 2), Rows(torch.zeros(1, 2))), plugin.encode(feats, rows)[0], rows)
        ).backward()
        optimizer.step()
    after = codes()
    assert before > 1.5 and trained_bound(after) < 0.5 * before
    assert all(values.var(0).mean() > 0.01 for values in after.values())


@on_vbpr_and_freedom
def test_scores_outside_training_are_deterministic_and_have_the_shapes_of_the_model_alone(model: type[Model]) -> None:
    ctx = context(missing=True)
    plain, plugged = train(made(model, ctx), ctx), train(with_mrdib(model, ctx), ctx)
    first, second = tables(plugged.represent()), tables(plugged.represent())
    assert same(first, second)
    assert {k: v.shape for k, v in first.items()} == {k: v.shape for k, v in tables(plain.represent()).items()}
    feats = plugged.model.project(ctx.raw, None)
    codes, cost = plugin_of(plugged).encode(feats, None)
    assert cost == {}
    for m, head in plugin_of(plugged).heads.items():
        assert torch.allclose(codes[m].values, head(feats[m].values)[:, :DIM], atol=1e-6)


def test_nothing_of_it_is_left_in_an_index() -> None:
    data = dataset()
    settings = {"model.dim": 4, "train.epochs": 2, "run.threads": 1}
    plain, plugged = (Recommender("vbpr", p, settings=settings).fit(data).index for p in ([], ["mrdib"]))
    assert plain.sides.keys() == plugged.sides.keys()
    for name, pair in plain.sides.items():
        assert [side.shape for side in pair] == [side.shape for side in plugged.sides[name]]
        assert [side.dtype for side in pair] == [side.dtype for side in plugged.sides[name]]
    assert plugged.recommend(data.users.external[:2], k=3).height == 6


# ------------------------------------------------------------------------------------------------------- the codes


def test_codes_are_noisy_while_training_around_the_mean_with_the_deviation() -> None:
    plugin, feats, rows = alone(only(compress=1.0), correlated(40, 3, 0.5))
    for head in plugin.heads.values():
        nn.init.normal_(head.get_parameter("weight"), std=0.5, generator=torch.Generator().manual_seed(1))
        nn.init.normal_(head.get_parameter("bias"), std=0.5, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(0)
    drawn = [plugin.encode(feats, rows)[0] for _ in range(1000)]
    noise = {}
    for m, head in plugin.heads.items():
        mean, log_var = (part.detach() for part in head(feats[m].values).chunk(2, dim=1))
        z = torch.stack([codes[m].values.detach() for codes in drawn])
        noise[m] = (z - mean) / (log_var / 2).exp()
        assert torch.allclose(noise[m].mean(0), torch.zeros_like(mean), atol=0.15)
        assert torch.allclose(noise[m].var(0), torch.ones_like(mean), atol=0.25)
        assert noise[m].pow(4).mean().item() == pytest.approx(3, abs=0.1)  # as a normal's
        first, second, third, fourth = noise[m].split(10, dim=1)  # each row drawn serves four items
        assert torch.allclose(second, first.roll(1, 2), atol=1e-4)
        assert torch.allclose(torch.cat([third, fourth], 1), -torch.cat([first, second], 1), atol=1e-4)
    together = torch.cat([noise[m][:, :10].flatten(1) for m in noise], dim=1)
    assert torch.allclose(torch.corrcoef(together.T), torch.eye(60), atol=0.18)


@pytest.mark.parametrize("n", [1, 4, 5])
@pytest.mark.parametrize("weighed", [True, False])
def test_the_gradients_by_hand_are_those_of_the_formulas(n: int, weighed: bool) -> None:
    rng = torch.Generator().manual_seed(n)
    x, weight, bias, up = (
        torch.randn(*shape, generator=rng, dtype=torch.float64) for shape in ((n, 3), (6, 3), (6,), (n, 3))
    )
    counts = torch.rand(n, generator=rng, dtype=torch.float64) if weighed else None
    inputs = [t.requires_grad_() for t in (x, weight, bias)]

    def by_hand() -> tuple[Tensor, Tensor]:
        torch.manual_seed(3)
        out: tuple[Tensor, Tensor] = _Code.apply(x, weight, bias, counts)  # type: ignore[no-untyped-call]
        return out

    def plain() -> tuple[Tensor, Tensor]:
        torch.manual_seed(3)
        mean, log_var = nn.functional.linear(x, weight, bias).chunk(2, dim=1)
        noise = _noise(x)
        cost = torch.zeros(()) if counts is None else (counts * kl_normal(mean, log_var)).sum()
        return mean + (log_var / 2).exp() * noise, cost

    results = []
    for values, cost in (by_hand(), plain()):
        whole = (values * up).sum() + (0.7 * cost if weighed else 0)
        results.append([values, cost, *torch.autograd.grad(whole, inputs)])
    assert all(torch.allclose(a, b.to(a.dtype)) for a, b in zip(*results, strict=True))


# -------------------------------------------------------------------------------------------------- the redundancy


def test_the_critic_climbs_and_the_codes_descend_in_one_backward_pass() -> None:
    x = {m: values.requires_grad_() for m, values in correlated(30, 3, 0.9).items()}
    plugin, feats, rows = alone(only(redundant=0.3), x)
    torch.manual_seed(1)
    terms = plugin.loss({}, Reps(torch.zeros(1, 2), Rows(torch.zeros(1, 2))), feats, rows)
    torch.manual_seed(1)
    at = torch.randperm(30)
    bound = mine(*plugin.critics["image-text"](x["image"][at], x["text"][at]))
    assert set(terms) == {"mrdib.mi.image-text", "mrdib.image-text.critic"}
    assert terms["mrdib.mi.image-text"].item() == pytest.approx(0.3 * bound.item(), rel=1e-5)
    assert terms["mrdib.image-text.critic"].item() == pytest.approx(-bound.item(), rel=1e-5)
    critic = list(plugin.critics.parameters())
    found = torch.autograd.grad(total(terms), [*x.values(), *critic])
    expected = torch.autograd.grad(bound, [*x.values(), *critic])
    for k, (mine_, plain) in enumerate(zip(found, expected, strict=True)):
        assert torch.allclose(mine_, plain * (0.3 if k < 2 else -1.0), atol=1e-7)


def test_the_literal_reading_lowers_the_bound_with_both_and_stops_somewhere() -> None:
    torch.manual_seed(0)
    plugin, feats, rows = alone(only(redundant=0.5) | {"mine": "joint"}, correlated(64, 3, 0.9))
    reps = Reps(torch.zeros(1, 2), Rows(torch.zeros(1, 2)))
    optimizer = torch.optim.Adam(plugin.critics.parameters(), lr=0.1)
    for _ in range(200):
        terms = plugin.loss({}, reps, feats, rows)
        optimizer.zero_grad()
        total(terms).backward()
        optimizer.step()
    assert terms.keys() == {"mrdib.mi.image-text"}
    assert plugin.loss({}, reps, feats, rows)["mrdib.mi.image-text"].item() == pytest.approx(0.5 * -10)


def test_pairs_are_of_items_that_have_both_and_no_more_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context(missing=True)
    seen: list[Tensor] = []
    monkeypatch.setattr(Critic, "forward", lambda self, a, b: (seen.append(a), (a.sum(1), b.sum(1)))[1])
    rows = batch(ctx, size=40)
    there = ctx.raw["image"].present & ctx.raw["text"].present
    n = int(there[ItemIds.of(rows.items, ITEMS).ids].sum())
    for pairs, expected in ((1000, n), (4, 4)):
        assembly = started(with_mrdib(VBPR, ctx, redundant=0.1, pairs=pairs))
        loss(assembly, rows)
        assert len(seen.pop()) == expected < len(ItemIds.of(rows.items, ITEMS).ids)


def test_three_modalities_have_a_bound_for_each_pair_and_one_has_none() -> None:
    three = loss(started(with_mrdib(VBPR, context(3))), batch(context(3)))
    assert {name for name in three if ".mi." in name} == {
        f"mrdib.mi.{p}" for p in ("image-text", "image-audio", "text-audio")
    }
    one = loss(started(with_mrdib(VBPR, context(1))), batch(context(1)))
    assert set(one) == {"rank", "reg", "mrdib.kl.image", "mrdib.unique.image"}


# ------------------------------------------------------------------------------------------------ unimodal ranking


@on_vbpr_and_freedom
def test_unique_is_bpr_on_the_models_own_scores_of_each_modality(model: type[Model]) -> None:
    ctx = context(weights=True)
    assembly = started(with_mrdib(model, ctx, **only(unique=0.5)))
    rows = batch(ctx)
    reps: list[Reps] = []
    assembly.model.register_forward_hook(lambda module, given, out: reps.append(out))
    terms = loss(assembly, rows)
    expected = ranking_by_side(reps[0], rows, ["image", "text"])
    assert all(torch.equal(terms[f"mrdib.unique.{m}"], 0.5 * expected[m]) for m in ("image", "text"))
    assert not list(plugin_of(assembly).decoders.parameters())


@on_vbpr_and_freedom
def test_separate_decoders_meet_the_codes_with_the_users_final_vector(model: type[Model]) -> None:
    ctx = context()
    assembly = started(with_mrdib(model, ctx, **only(unique=0.5), decoder="separate", noise=-200.0))
    rows = batch(ctx)
    reps: list[Reps] = []
    assembly.model.register_forward_hook(lambda module, given, out: reps.append(out))
    terms = loss(assembly, rows)
    feats = assembly.model.project(ctx.raw, None)
    for m, decode in plugin_of(assembly).decoders.items():
        users = decode(reps[0].user[rows.user])
        pos, neg = feats[m].values[rows.pos], feats[m].values[rows.neg[:, 0]]
        expected = nn.functional.softplus((users * (neg - pos)).sum(1)).mean()
        assert torch.allclose(terms[f"mrdib.unique.{m}"], 0.5 * expected, atol=1e-6)
    assert set(plugin_of(assembly).decoders) == {"image", "text"}


def test_a_model_that_states_no_scores_of_a_modality_gets_decoders() -> None:
    class Mute(VBPR):
        name = "mute"

        def forward(self, feats: Feats) -> Reps:
            reps = super().forward(feats)
            return Reps(reps.user, reps.item)

    assembly = with_mrdib(Mute, context(), **only(unique=0.1))
    assert set(plugin_of(assembly).decoders) == {"image", "text"}
    assert {"mrdib.unique.image", "mrdib.unique.text"} <= set(loss(started(assembly), batch(context())))


def test_more_negatives_for_another_plugin_change_nothing_here() -> None:
    ctx = context()
    assembly = started(with_mrdib(VBPR, ctx, **only(unique=0.5)))
    reps = assembly.represent()
    feats: Feats = {m: rows for m, (_, rows) in reps.modal.items()}
    one, four = (plugin_of(assembly).loss({}, reps, feats, batch(ctx, n)) for n in (1, 4))
    assert same(one, four)


# ------------------------------------------------------------------------------------------------------- switches


@pytest.mark.parametrize(
    ("weights", "kinds", "parts"),
    [
        ({"compress": 0.0}, {"mi", "unique", "image-text"}, {"heads", "critics"}),
        ({"redundant": 0.0}, {"kl", "unique"}, {"heads"}),
        ({"unique": 0.0}, {"kl", "mi", "image-text"}, {"heads", "critics"}),
        ({"redundant": 0.0, "unique": 0.0}, {"kl"}, {"heads"}),
    ],
)
def test_a_weight_of_0_takes_away_its_term_and_its_parameters(
    weights: dict[str, float], kinds: set[str], parts: set[str]
) -> None:
    ctx = context()
    assembly = started(with_mrdib(FREEDOM, ctx, **weights))
    terms = loss(assembly, batch(ctx))
    assert {name.split(".")[1] for name in terms if name.startswith("mrdib.")} == kinds
    assert {name.split(".")[0] for name in plugin_of(assembly).state_dict()} == parts
    assert {"rank", "freedom.image", "freedom.text"} <= set(terms)  # the model keeps its own


def test_without_redundancy_the_only_random_numbers_are_the_noise() -> None:
    ctx = context()
    assembly, rows = started(with_mrdib(VBPR, ctx, redundant=0.0)), batch(ctx)
    torch.manual_seed(0)
    assembly.loss(rows)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    n = len(ItemIds.of(rows.items, ITEMS).ids)
    for _ in range(2):
        torch.randn((n + 3) // 4, DIM)
    assert torch.equal(after, torch.get_rng_state())


# ------------------------------------------------------------------------------------- weights that set themselves


def test_after_an_epoch_each_weight_moves_halfway_to_where_its_term_pulls_its_share() -> None:
    ctx = context()
    assembly = moved(started(with_mrdib(VBPR, ctx, balance="auto", share=0.2)))
    plugin, rows = plugin_of(assembly), batch(ctx)
    start = plugin.get_buffer("weights").clone()
    assert start.tolist() == pytest.approx([1e-3, 1e-2, 5e-3])
    loss(assembly, rows)
    assert torch.equal(plugin.get_buffer("weights"), start)  # nothing in the first epoch
    assembly.start_epoch(1, generator(1))
    terms = loss(assembly, rows)
    after = plugin.get_buffer("weights").clone()
    assert not torch.equal(after, start)
    heads = list(plugin.heads.parameters())

    def pull(of: Terms) -> float:
        grads = torch.autograd.grad(total(of), heads, retain_graph=True)
        return float(torch.cat([g.flatten() for g in grads]).norm())

    rest = {name: term for name, term in terms.items() if not name.startswith("mrdib.")}
    for i, kind in enumerate(("kl", "critic", "unique")):
        own = {name: term for name, term in terms.items() if kind in name.split(".")}
        wanted = 0.2 * pull(rest) / (pull(own) / float(after[i]))
        assert float(after[i]) == pytest.approx(math.sqrt(float(start[i]) * min(wanted, 1)), rel=1e-4)
    assert information({k: v.item() for k, v in terms.items()}, plugin.cfg, plugin.report())[
        "mi.image-text"
    ] == pytest.approx(-terms["mrdib.image-text.critic"].item())
    loss(assembly, rows)
    assert torch.equal(plugin.get_buffer("weights"), after)  # and no more in this one
    assert assembly.report() == {"plugins": {"mrdib": dict(zip(OFF, after.tolist(), strict=True))}}


def test_weights_that_set_themselves_settle_where_the_shares_are_met() -> None:
    ctx = context()
    assembly = with_mrdib(VBPR, ctx, balance="auto", share=0.01)
    for epoch in range(12):
        terms = loss(started(assembly, epoch), batch(ctx))
    heads = list(plugin_of(assembly).heads.parameters())

    def pull(of: Terms) -> float:
        return float(torch.cat([g.flatten() for g in torch.autograd.grad(total(of), heads, retain_graph=True)]).norm())

    rest = pull({name: term for name, term in terms.items() if not name.startswith("mrdib.")})
    assert pull({k: v for k, v in terms.items() if ".kl." in k}) == pytest.approx(0.01 * rest, rel=0.01)


def test_a_weight_of_0_stays_0_and_a_model_that_ignores_features_leaves_weights_alone() -> None:
    ctx = context()
    assembly = train(with_mrdib(VBPR, ctx, balance="auto", unique=0.0), ctx, epochs=4)
    assert float(plugin_of(assembly).get_buffer("weights")[2]) == 0
    idle = made(FREEDOM, ctx, [(MRdIB, MRdIB.Config(balance="auto"))], reg=0.0)
    train(idle, ctx, epochs=3)
    assert plugin_of(idle).get_buffer("weights").tolist() == pytest.approx([1e-3, 1e-2, 5e-3])


@pytest.mark.parametrize("model", [VBPR, FREEDOM, Whole], ids=lambda model: model.name)
def test_weights_that_set_themselves_go_on_from_a_saved_state_in_the_same_bits(model: type[Model]) -> None:
    ctx = context(missing=True)

    def epochs(assembly: Assembly, optimizer: torch.optim.Optimizer, these: range) -> None:
        source = batches(ctx, seed=these.start)
        for epoch in these:
            assembly.start_epoch(epoch, generator(epoch))
            for step in range(2):
                optimizer.zero_grad()
                total(loss(assembly, next(source), 10 * epoch + step)).backward()
                optimizer.step()

    first = with_mrdib(model, ctx, balance="auto")
    adam = torch.optim.Adam(first.parameters(), lr=0.05)
    epochs(first, adam, range(3))
    second = with_mrdib(model, ctx, balance="auto")
    second.load_state_dict(first.state_dict())
    again = torch.optim.Adam(second.parameters(), lr=0.05)
    again.load_state_dict(deepcopy(adam.state_dict()))
    for assembly, optimizer in ((first, adam), (second, again)):
        epochs(assembly, optimizer, range(3, 6))
    assert same(first.state_dict(), second.state_dict())
    assert all(0 < w <= 1 for w in plugin_of(first).report().values())


# ----------------------------------------------------------------------------------------- the log, and refusals


def test_information_in_nats_is_read_from_weighted_terms() -> None:
    cfg = MRdIB.Config(compress=0.5, redundant=0.25)
    terms = {
        "rank": 1.0,
        "mrdib.kl.image": 3.0,
        "mrdib.mi.image-text": 0.5,
        "mrdib.image-text.critic": -2.0,
        "mrdib.unique.image": 1.0,
    }
    assert information(terms, cfg) == {"kl.image": 6.0, "mi.image-text": 2.0}
    assert information(terms, cfg, {"compress": 0.1, "redundant": 1.0}) == {"kl.image": 30.0, "mi.image-text": 0.5}
    assert information({"rank": 1.0}, cfg) == {}
    assert information(terms, MRdIB.Config(compress=0.0)) == {"mi.image-text": 50.0}


@pytest.mark.parametrize("model", [BPR, LightGCN], ids=lambda model: model.name)
def test_a_model_without_modalities_is_refused(model: type[Model]) -> None:
    with pytest.raises(
        PrismError, match=f"mrdib needs at least one projected modality; {model.name} projects none here"
    ):
        made(model, context(), [MRdIB])


@pytest.mark.parametrize(
    "bad", [{"compress": -1.0}, {"redundant": -1.0}, {"unique": -0.1}, {"pairs": 1}, {"mine": "some"}, {"share": 0.0}]
)
def test_settings_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        MRdIB.Config(**bad)
