"""What holds of every model, alone and with every plug-in. A new one is found by itself."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny import ITEMS, WIDTHS, batch, config, context, loss, made, same, tables, total, train, with_raw
from torch import Tensor, nn

from prismrec import graphs
from prismrec.assembly import Assembly
from prismrec.data.synthetic import draw
from prismrec.errors import PrismError
from prismrec.evaluate import Evaluator
from prismrec.experiment import context as context_of
from prismrec.models import MODELS, Context, Model
from prismrec.models.floors import Floor, MostPop
from prismrec.nn import Raw
from prismrec.plugins import PLUGINS, Plugin
from prismrec.sampling import Sampler, generator
from prismrec.train import TrainConfig, fit
from prismrec.types import Batch, Terms

Pair = tuple[type[Model], tuple[type[Plugin], ...]]

NEUTRAL: dict[str, dict[str, Any]] = {
    "clear": {"strength": 0.0},
    "mrdib": {"compress": 0.0, "redundant": 0.0, "unique": 0.0},
    "chns": {"weight": 0.0},
    "synergy": {"weight": 0.0},
    "infonce": {"weight": 0.0},
    "orthogonal": {"weight": 0.0},
}
"""Plug-in → the settings with which it is the identity."""

CHAINS = dict.fromkeys([(), *((plugin,) for plugin in PLUGINS), PLUGINS])  # none, each by itself, all together
PAIRS: list[Pair] = [(model, chain) for model in MODELS for chain in CHAINS]


def label(pair: Pair) -> str:
    return "+".join([pair[0].name, *(plugin.name for plugin in pair[1])])


def runs(pair: Pair, modalities: int = 2) -> bool:
    """Whether this pair takes data with so many modalities; any fault but a refusal is for the tests to meet."""
    try:
        made(pair[0], context(modalities), pair[1])
    except PrismError:
        return False
    except Exception:
        return True
    return True


FIT = [pair for pair in PAIRS if runs(pair)]
TRAINED = [pair for pair in FIT if not issubclass(pair[0], Floor)]


def thinned(pairs: list[Pair]) -> list[Any]:
    """All pairs, but a plug-in by itself on no more than the first two hosts that take it; the others with the slow tests."""
    hosts = {plugin: [p[0] for p in FIT if p[1] == (plugin,)][:2] for plugin in PLUGINS}
    few = [p for p in pairs if len(p[1]) != 1 or p[0] in hosts[p[1][0]]]
    return [p if p in few else pytest.param(p, marks=pytest.mark.slow) for p in pairs]


every_pair = pytest.mark.parametrize("pair", thinned(FIT), ids=label)
every_trained_pair = pytest.mark.parametrize("pair", thinned(TRAINED), ids=label)
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
every_method = pytest.mark.parametrize("kind", [*MODELS, *PLUGINS], ids=lambda kind: kind.name)


def test_no_pair_is_lost() -> None:
    assert {label(pair) for pair in FIT} >= {model.name for model in MODELS}
    assert {label(pair) for pair in TRAINED} >= {"vbpr+clear", "freedom+clear"}


# ------------------------------------------------------------------------------------------------ a step of training


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize("modalities", [0, 1, 2, 3])
@pytest.mark.parametrize("pair", thinned(PAIRS), ids=label)
def test_a_step_has_finite_terms_and_moves_every_parameter(pair: Pair, modalities: int, missing: bool) -> None:
    ctx = context(modalities, missing=missing)
    if not runs(pair, modalities):
        with pytest.raises(PrismError) as refusal:
            made(pair[0], ctx, pair[1])
        is_a_sentence(str(refusal.value))
        return
    assembly = made(pair[0], ctx, pair[1])
    assembly.start_epoch(0, generator(1))
    terms = assembly.loss(batch(ctx, assembly.n_neg))
    assert all(term.shape == () and term.isfinite() for term in terms.values())
    owners = {"rank", "reg", pair[0].name, *(plugin.name for plugin in pair[1])}
    assert {name.split(".")[0] for name in terms} <= owners
    if issubclass(pair[0], Floor):
        assert terms == {} and not assembly.trainable
        return
    assert "rank" in terms
    total(terms).backward()
    for name, parameter in assembly.named_parameters():
        assert parameter.grad is not None, f"{name} gets no gradient"
        assert parameter.grad.isfinite().all() and parameter.grad.any(), f"{name} gets no gradient that moves it"


@every_trained_pair
def test_a_step_lowers_the_loss_of_its_own_batch(pair: Pair) -> None:
    ctx = context()
    assembly = made(pair[0], ctx, pair[1])
    assembly.start_epoch(0, generator(1))
    rows = batch(ctx, assembly.n_neg)
    rows = dataclasses.replace(rows, neg=rows.neg[:, :1].expand_as(rows.neg))  # another choice is another objective
    before = loss(assembly, rows)
    total(before).backward()
    torch.optim.SGD(assembly.parameters(), lr=1e-3).step()
    assert minimised(loss(assembly, rows)) < minimised(before)


def minimised(terms: Terms) -> Tensor:
    """The objective without what a critic maximises against it (``NAME.critic``): of a game, nobody's step lowers the sum."""
    return total({name: term for name, term in terms.items() if not name.endswith(".critic")})


@every_trained_pair
def test_one_row_is_a_batch(pair: Pair) -> None:
    ctx = context()
    assembly = made(pair[0], ctx, pair[1])
    assembly.start_epoch(0, generator(1))
    terms = assembly.loss(batch(ctx, assembly.n_neg, size=1))
    total(terms).backward()
    assert total(terms).isfinite()


@every_trained_pair
def test_gradients_of_two_batches_add_up(pair: Pair) -> None:
    ctx = context(missing=True)
    assembly = made(pair[0], ctx, pair[1])
    assembly.start_epoch(0, generator(1))
    rows = [batch(ctx, assembly.n_neg, seed=seed) for seed in (0, 1)]

    def gradients(*batches: Batch) -> list[Tensor]:
        whole = torch.stack([total(loss(assembly, b)) for b in batches]).sum()
        return list(torch.autograd.grad(whole, list(assembly.parameters())))

    one, other, both = gradients(rows[0]), gradients(rows[1]), gradients(*rows)
    assert all(torch.allclose(c, a + b, atol=1e-5) for a, b, c in zip(one, other, both, strict=True))


@every_trained_pair
def test_half_precision_on_the_way_gives_nearly_the_same_loss(pair: Pair) -> None:
    ctx = context()
    assembly = made(pair[0], ctx, pair[1])
    assembly.start_epoch(0, generator(1))
    rows = batch(ctx, assembly.n_neg)
    exact = total(loss(assembly, rows))
    with torch.autocast("cpu", torch.bfloat16):
        rough = total(loss(assembly, rows))
    rough.backward()
    assert torch.isclose(rough.float(), exact, rtol=0.02)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in assembly.parameters())


@every_trained_pair
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(pair: Pair) -> None:
    ctx = context()
    first, second, other = (
        tables(train(made(pair[0], ctx, pair[1], seed=seed), ctx, seed=seed).represent()) for seed in (3, 3, 4)
    )
    assert same(first, second)
    assert not torch.equal(first["user"], other["user"])


@every_pair
def test_building_leaves_the_random_state_of_its_caller_alone(pair: Pair) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    made(pair[0], context(), pair[1])
    assert torch.equal(torch.get_rng_state(), before)


@every_pair
def test_no_trainable_tensor_is_unregistered(pair: Pair) -> None:
    ctx = context()
    assembly = train(made(pair[0], ctx, pair[1]), ctx)
    known = {id(p) for p in assembly.parameters()}
    for place, tensor in tensors_of(assembly):
        assert id(tensor) in known or not tensor.requires_grad, f"{place} is trained but nobody's parameter"


def tensors_of(thing: Any, place: str = "assembly", seen: set[int] | None = None) -> Iterator[tuple[str, Tensor]]:
    """Every tensor that can be reached through attributes and containers."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return
    seen.add(id(thing))
    parts: list[tuple[str, Any]] = []
    if isinstance(thing, Tensor):
        yield place, thing
    elif isinstance(thing, dict):
        parts = [(f"{place}[{key!r}]", value) for key, value in thing.items()]
    elif isinstance(thing, list | tuple):
        parts = [(f"{place}[{i}]", value) for i, value in enumerate(thing)]
    elif isinstance(thing, nn.Module) or dataclasses.is_dataclass(thing):
        parts = [(f"{place}.{name}", value) for name, value in vars(thing).items()]
    for name, value in parts:
        yield from tensors_of(value, name, seen)


def test_the_search_for_unregistered_tensors_finds_one() -> None:
    module = nn.Linear(2, 2)
    module.hidden = {"of": [torch.zeros(2, requires_grad=True)]}  # type: ignore[assignment]
    assert any("hidden['of'][0]" in place and t.requires_grad for place, t in tensors_of(module))


# --------------------------------------------------------------------------------------------------- representations


@every_pair
def test_two_evaluations_are_bit_equal_and_leave_training_on(pair: Pair) -> None:
    ctx = context(missing=True)
    assembly = train(made(pair[0], ctx, pair[1]), ctx)
    first, second = assembly.represent(), assembly.represent()
    assert same(tables(first), tables(second))
    assert assembly.training == made(pair[0], ctx, pair[1]).training
    assert all(not value.requires_grad for value in tables(first).values())


@every_pair
def test_representations_have_a_row_for_everybody(pair: Pair) -> None:
    ctx = context(missing=True)
    reps = train(made(pair[0], ctx, pair[1]), ctx).represent()
    for user, item in [reps.sides(), *(reps.sides(m) for m in reps.modal)]:
        assert item.index is None
        assert user.shape == (ctx.n_users, item.values.shape[1]) and len(item.values) == ctx.n_items
    assert all(value.isfinite().all() for value in tables(reps).values())


@every_trained_pair
def test_an_evaluation_between_steps_changes_nothing(pair: Pair) -> None:
    ctx = context()
    quiet, watched = (made(pair[0], ctx, pair[1]) for _ in range(2))
    for assembly in (quiet, watched):
        optimizer = torch.optim.Adam(assembly.parameters(), lr=0.05)
        for epoch in range(3):
            assembly.start_epoch(epoch, generator(epoch))
            optimizer.zero_grad()
            total(loss(assembly, batch(ctx, assembly.n_neg, seed=epoch), epoch)).backward()
            optimizer.step()
            if assembly is watched:
                assembly.represent()
    assert same(tables(quiet.represent()), tables(watched.represent()))


@every_pair
def test_a_saved_state_gives_bit_equal_representations_in_a_fresh_assembly(pair: Pair) -> None:
    ctx = context(missing=True)
    trained = train(made(pair[0], ctx, pair[1]), ctx)
    state = {name: value.clone() for name, value in trained.state_dict().items()}
    fresh = made(pair[0], ctx, pair[1], seed=99)
    before = tables(fresh.represent())  # what it knew before must not linger
    fresh.load_state_dict(state)
    assert same(tables(fresh.represent()), tables(trained.represent()))
    assert issubclass(pair[0], Floor) or not same(before, tables(fresh.represent()))


@every_trained_pair
def test_training_goes_on_from_a_saved_state_in_the_same_bits(pair: Pair) -> None:
    ctx = context()
    whole, first = (train(made(pair[0], ctx, pair[1]), ctx) for _ in range(2))
    whole.represent()
    resumed = made(pair[0], ctx, pair[1], seed=99)
    resumed.represent()
    resumed.load_state_dict(first.state_dict())
    for assembly in (whole, resumed):
        assembly.zero_grad()
        assembly.start_epoch(1, generator(8))
        total(loss(assembly, batch(ctx, assembly.n_neg))).backward()
    gradients = [{name: p.grad for name, p in assembly.named_parameters()} for assembly in (whole, resumed)]
    assert same(*gradients)
    assert same(dict(whole.named_buffers()), dict(resumed.named_buffers()))


# ------------------------------------------------------------------------------------------ nothing given is changed


@every_pair
def test_batch_features_and_training_rows_stay_as_they_were(pair: Pair) -> None:
    ctx = context(3, missing=True, weights=True)
    if not runs(pair, 3):
        pytest.skip("refused, as another test checks")
    given = [ctx.user, ctx.item, ctx.weight, *(t for raw in ctx.raw.values() for t in (raw.values, raw.present))]
    copies = [t.clone() for t in given]
    assembly = train(made(pair[0], ctx, pair[1]), ctx)
    rows = batch(ctx, assembly.n_neg)
    as_they_were = copy(rows)
    feats = assembly.model.project(ctx.raw, None)
    projected = {m: r.values.detach().clone() for m, r in feats.items()}
    assembly.loss(rows)
    terms = assembly.model.loss(assembly.model(feats), feats, rows.negatives(assembly.model.n_neg))
    assert isinstance(terms, dict)
    assembly.represent()
    assert all(torch.equal(t, copy) for t, copy in zip(given, copies, strict=True))
    assert same(copy(rows), as_they_were)
    assert same({m: r.values.detach() for m, r in feats.items()}, projected)


def copy(rows: Batch) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in vars(rows).items() if isinstance(value, Tensor)}


@every_pair
def test_what_stands_in_rows_of_missing_items_is_never_read(pair: Pair) -> None:
    clean = context(missing=True)
    dirty = with_raw(
        clean, {m: Raw(torch.where(r.present[:, None], r.values, 77.0), r.present) for m, r in clean.raw.items()}
    )
    results = [tables(train(made(pair[0], ctx, pair[1]), ctx).represent()) for ctx in (clean, dirty)]
    assert same(*results)


@every_pair
def test_half_precision_features_give_the_bits_of_the_same_numbers_in_single(pair: Pair) -> None:
    single = context(missing=True)  # its numbers are exact in half precision
    half = with_raw(single, {m: Raw(r.values.half(), r.present) for m, r in single.raw.items()})
    results = [tables(train(made(pair[0], ctx, pair[1]), ctx).represent()) for ctx in (single, half)]
    assert same(*results)


@every_pair
def test_weights_of_interactions_change_the_models_that_say_so(pair: Pair) -> None:
    weighted = context(weights=True)
    plain = dataclasses.replace(weighted, weight=None)
    results = [tables(train(made(pair[0], ctx, pair[1]), ctx).represent()) for ctx in (weighted, plain)]
    assert same(*results) != pair[0].uses_weights
    assert all(value.isfinite().all() for value in results[0].values())


@pytest.mark.parametrize("subset", [s for n in range(4) for s in itertools.combinations(WIDTHS, n)], ids="+".join)
@pytest.mark.parametrize("pair", thinned(PAIRS), ids=label)
def test_any_subset_of_modalities_runs_or_is_refused_in_a_sentence(pair: Pair, subset: tuple[str, ...]) -> None:
    ctx = context(subset)
    try:
        assembly = train(made(pair[0], ctx, pair[1]), ctx, epochs=1, steps=1)
    except PrismError as refusal:
        is_a_sentence(str(refusal))
        assert any(kind.name in str(refusal) for kind in (pair[0], *pair[1]))
        return
    assert len(subset) >= pair[0].needs
    assert all(value.isfinite().all() for value in tables(assembly.represent()).values())


def is_a_sentence(text: str) -> None:
    assert text.endswith(".") and "\n" not in text and len(text.split()) > 6


@every_model
def test_changed_features_change_the_item_graph(model: type[Model]) -> None:
    ctx = context()
    changed = with_raw(ctx, {m: Raw(raw.values.flip(0), raw.present) for m, raw in ctx.raw.items()})
    pairs = zip(item_graphs(made(model, ctx)), item_graphs(made(model, changed)), strict=True)
    assert not any(torch.equal(a.matrix.dense(), b.matrix.dense()) for a, b in pairs)


def item_graphs(assembly: Assembly) -> list[graphs.ItemGraph]:
    return [module for module in assembly.modules() if isinstance(module, graphs.ItemGraph)]


@every_trained_pair
def test_nothing_as_large_as_users_or_items_squared_is_dense(pair: Pair) -> None:
    ctx = context()
    for place, tensor in tensors_of(train(made(pair[0], ctx, pair[1]), ctx)):
        assert tensor.dim() < 2 or not set(tensor.shape) <= {ctx.n_users, ctx.n_items}, place


# -------------------------------------------------------------------------------------------------- neutral plug-ins


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
@pytest.mark.parametrize("model", [pair[0] for pair in TRAINED if not pair[1]], ids=lambda model: model.name)
def test_a_neutral_plugin_leaves_training_bit_identical(model: type[Model], plugin: type[Plugin]) -> None:
    ctx = context()
    off = (plugin, config(plugin, **NEUTRAL[plugin.name]))
    plain, neutral = made(model, ctx), made(model, ctx, [off])
    assert neutral.n_neg == plain.n_neg
    assert not list(neutral.plugins.parameters()) and not list(neutral.plugins.buffers())
    assert not any(p.needs_features(epoch) for p in neutral.chain for epoch in range(3))
    results = []
    for assembly in (plain, neutral):
        rng = generator(2)
        torch.manual_seed(6)
        optimizer = torch.optim.Adam(assembly.parameters(), lr=0.05)
        losses = []
        for epoch in range(4):
            assembly.start_epoch(epoch, rng)
            terms = assembly.loss(batch(ctx, seed=epoch))
            optimizer.zero_grad()
            total(terms).backward()
            optimizer.step()
            losses.append({name: term.detach() for name, term in terms.items()})
        results.append((losses, tables(assembly.represent()), rng.get_state(), torch.get_rng_state()))
    (terms_a, reps_a, drawn_a, noise_a), (terms_b, reps_b, drawn_b, noise_b) = results
    assert all(same(a, b) for a, b in zip(terms_a, terms_b, strict=True))
    assert same(reps_a, reps_b)
    assert torch.equal(drawn_a, drawn_b) and torch.equal(noise_a, noise_b)


# ------------------------------------------------------------------------------------------------------ as documented


@every_method
def test_it_says_what_it_is(kind: type[Model] | type[Plugin]) -> None:
    assert kind.name == kind.name.lower() and [k.name for k in (*MODELS, *PLUGINS)].count(kind.name) == 1
    assert kind.paper.title and kind.paper.authors and kind.paper.year > 1900
    kind.Config()  # every setting has a default
    page = inspect.getdoc(inspect.getmodule(kind)) or ""
    if not issubclass(kind, MostPop):
        assert " ".join(kind.paper.title.lower().split()) in " ".join(page.lower().split())
        assert str(kind.paper.year) in page
    described = (kind.Config.__doc__ or "") + " ".join(f.description or "" for f in kind.Config.model_fields.values())
    for name, field in kind.Config.model_fields.items():
        assert field.description or f"``{name}``" in described, name


@every_method
def test_an_unknown_setting_is_refused(kind: type[Model] | type[Plugin]) -> None:
    with pytest.raises(ValueError, match="no_such_setting"):
        kind.Config(no_such_setting=1)


# -------------------------------------------------------------------------------------------------------- planted data


@pytest.fixture(scope="module")
def planted() -> tuple[Context, Evaluator, float]:
    """A catalogue whose truth features and behaviour show, the evaluator of its validation part, and popularity's score."""
    data = draw(n_users=600, n_items=200, interactions=25.0, seed=3).dataset.development()
    ctx = context_of(data, torch.device("cpu"))
    evaluator = Evaluator.of(data, "valid", metrics=["recall@20", "ndcg@20"])
    return ctx, evaluator, evaluator(made(MostPop, ctx).represent())["ndcg@20"]


@pytest.mark.slow
@pytest.mark.parametrize("pair", [p for p in FIT if p[0] is not MostPop], ids=label)
def test_it_beats_popularity_on_planted_data(pair: Pair, planted: tuple[Context, Evaluator, float]) -> None:
    ctx, evaluator, popularity = planted
    assembly = made(pair[0], ctx, pair[1], **({"dim": 32} if "dim" in pair[0].Config.model_fields else {}))
    sampler = Sampler(ctx.user, ctx.item, ctx.weight, ctx.n_users, ctx.n_items, batch_size=512, n_neg=assembly.n_neg)
    fit(assembly, sampler, evaluator, TrainConfig(lr=5e-3, epochs=80, patience=10, metric="ndcg@20"))
    assert evaluator(assembly.represent())["ndcg@20"] > 1.5 * popularity


def test_the_tiny_catalogue_has_the_edges_that_tests_rely_on() -> None:
    ctx = context(missing=True)
    assert int(ctx.user.max()) == ctx.n_users - 2 and int(ctx.item.max()) == ITEMS - 3
    assert not ctx.raw["image"].present[15] and not ctx.raw["text"].present[4]
