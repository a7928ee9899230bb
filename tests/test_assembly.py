from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import DIM, batch, config, context, made, same, tables, total, train
from torch import Tensor, nn

from prismrec.assembly import Assembly, build
from prismrec.errors import PrismError
from prismrec.models import FREEDOM, MODELS, VBPR, Context, LightGCN, MostPop, Paper, Strict
from prismrec.models.base import Model
from prismrec.plugins import CLEAR, Offer, Plugin
from prismrec.sampling import Sampler, generator
from prismrec.train import TrainConfig, fit
from prismrec.types import Batch, Feats, Reps, Rows, Terms

PAPER = Paper("-", "-", "-", 2000)


class Probe(Plugin):
    """Scales features by ``factor``, wants ``negatives``, writes down what it is shown."""

    name = "probe"
    paper = PAPER

    class Config(Strict):
        factor: float = 1.0
        negatives: int = 1
        wants: bool = False

    cfg: Config

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        self.shown: list[dict[str, Any]] = []

    @property
    def n_neg(self) -> int:
        return self.cfg.negatives

    def setup(self, offer: Offer) -> None:
        self.offer = offer
        self.weight = nn.Parameter(torch.rand(2))

    def needs_features(self, epoch: int) -> bool:
        return self.cfg.wants

    def start_epoch(self, epoch: int, feats: Feats, rng: torch.Generator) -> None:
        self.shown.append({m: rows.values.clone() for m, rows in feats.items()})

    def encode(self, feats: Feats, batch: Batch | None) -> tuple[Feats, Terms]:
        self.negatives = None if batch is None else batch.neg.shape[1]
        cost = {} if batch is None else {"probe.cost": self.weight.sum() * 0}
        return {m: rows.with_values(rows.values * self.cfg.factor) for m, rows in feats.items()}, cost

    def loss(self, terms: Terms, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        return terms | {"probe.size": next(iter(feats.values())).values.abs().sum() * self.cfg.factor}


def probe(**settings: Any) -> tuple[type[Plugin], Strict]:
    return Probe, Probe.Config(**settings)


def shown(assembly: Assembly, plugin: int) -> list[dict[str, Tensor]]:
    found = assembly.chain[plugin]
    assert isinstance(found, Probe)
    return found.shown


def test_plugins_act_in_their_order_on_what_the_earlier_ones_made() -> None:
    ctx = context()
    assembly = made(VBPR, ctx, [probe(factor=2.0, wants=True), probe(factor=3.0, wants=True)])
    assembly.start_epoch(0, generator(0))
    plain = assembly.model.project(ctx.raw, None)
    for m, rows in plain.items():
        assert torch.equal(shown(assembly, 0)[0][m], rows.values)
        assert torch.equal(shown(assembly, 1)[0][m], rows.values * 2)
        assert torch.equal(assembly.represent().modal[m][1].values, rows.values * 2 * 3)


def test_costs_and_terms_of_all_are_kept_and_the_last_has_the_last_word() -> None:
    ctx = context()
    terms = made(VBPR, ctx, [probe(factor=2.0), probe(factor=3.0)]).loss(batch(ctx))
    assert set(terms) == {"rank", "reg", "probe.cost", "probe.size"}


def test_features_are_made_for_those_plugins_only_that_want_them() -> None:
    ctx = context()
    quiet, curious = probe(), probe(wants=True)
    assembly = made(VBPR, ctx, [quiet, curious, quiet])
    assembly.start_epoch(0, generator(0))
    assert shown(assembly, 1)[0].keys() == {"image", "text"}
    nobody = made(VBPR, ctx, [quiet])
    nobody.start_epoch(0, generator(0))
    assert shown(nobody, 0) == [{}]


def test_the_sampler_is_asked_for_the_most_and_the_model_sees_its_own() -> None:
    ctx = context()
    assembly = made(VBPR, ctx, [probe(negatives=4)])
    assert assembly.n_neg == 4 and assembly.n_fresh == 4
    rows = batch(ctx, 4)
    terms = assembly.loss(rows)
    plugin = assembly.chain[0]
    assert isinstance(plugin, Probe) and plugin.negatives == 4
    alone = made(VBPR, ctx).loss(batch(ctx, 1))
    assert torch.allclose(terms["rank"], alone["rank"], atol=1e-6)


def test_what_plugins_report_stands_in_the_log_under_their_names() -> None:
    class Teller(Probe):
        name = "teller"

        def report(self) -> dict[str, float]:
            return {"weight": 0.5}

    assert made(VBPR, context(), [probe()]).report() == {}
    assert made(VBPR, context(), [probe(), (Teller, Probe.Config())]).report() == {
        "plugins": {"teller": {"weight": 0.5}}
    }


def test_an_offer_says_what_the_model_has() -> None:
    ctx = context(missing=True)
    for model, user_width, fused in ((VBPR, DIM, 2 * DIM), (FREEDOM, DIM, DIM)):
        plugin = made(model, ctx, [probe()]).chain[0]
        assert isinstance(plugin, Probe)
        offer = plugin.offer
        assert offer.model == model.name and (offer.n_users, offer.n_items) == (ctx.n_users, ctx.n_items)
        assert offer.widths == {"image": DIM, "text": DIM}
        assert offer.sides == {m: (user_width, DIM) for m in offer.widths}
        assert offer.fused == (fused, fused)
        assert torch.equal(offer.present["image"], ctx.raw["image"].present)
    lightgcn = made(LightGCN, ctx, [(CLEAR, CLEAR.Config(strength=0.0)), probe()]).chain[1]
    assert isinstance(lightgcn, Probe) and lightgcn.offer.widths == {} == lightgcn.offer.sides


def test_a_plugin_draws_its_parameters_after_the_model_so_that_the_model_starts_the_same() -> None:
    ctx = context()
    plain, extended = made(VBPR, ctx), made(VBPR, ctx, [probe()])
    state = extended.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())
    assert not torch.equal(
        state["plugins.0.weight"], made(VBPR, ctx, [probe()], seed=1).state_dict()["plugins.0.weight"]
    )


def test_noise_is_off_for_features_and_representations_and_on_in_training() -> None:
    ctx = context()
    assembly = made(Noisy, ctx, [probe(wants=True)])
    assembly.start_epoch(0, generator(0))
    assert assembly.training and assembly.model.training
    assert torch.equal(shown(assembly, 0)[0]["image"], assembly.model.project(ctx.raw, None)["image"].values * 0)
    assert assembly.loss(batch(ctx))["rank"] == 1 and assembly.represent().user.sum() == 0
    assembly.eval()
    assembly.represent()
    assert not assembly.training


class Noisy(Model):
    """States whether it is training."""

    name = "noisy"
    paper = PAPER

    class Config(Strict):
        """Nothing."""

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.weight = nn.Parameter(torch.ones(1))

    def project(self, raw: Any, index: Any) -> Feats:
        values = torch.full((self.n_items, 2), float(self.training)) * self.weight
        return {"image": Rows(values)}

    def forward(self, feats: Feats) -> Reps:
        user = torch.full((self.n_users, 2), float(self.training)) * self.weight
        return Reps(user, Rows(torch.zeros(self.n_items, 2)), {"image": (user, feats["image"])})

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        return {"rank": reps.user.mean()}


@pytest.mark.parametrize("plugins", [[], [CLEAR]], ids=["alone", "clear"])
def test_representations_are_made_from_the_weights_of_the_moment(plugins: list[type[Plugin]]) -> None:
    """Not from a projection remembered from an earlier evaluation: best weights are loaded after the last one."""
    ctx = context()
    assembly = train(made(VBPR, ctx, plugins), ctx, epochs=1)
    best = {name: value.clone() for name, value in assembly.state_dict().items()}
    at_best = tables(assembly.represent())
    train(assembly, ctx, epochs=2)
    assembly.represent()
    assembly.load_state_dict(best)
    assert same(tables(assembly.represent()), at_best)
    with torch.no_grad():
        for parameter in assembly.parameters():
            parameter.zero_()
    assert not assembly.represent().item.values.any()


@pytest.mark.parametrize("plugins", [[], [CLEAR]], ids=["alone", "clear"])
def test_training_returns_what_the_best_epoch_was_validated_on(plugins: list[type[Plugin]]) -> None:
    ctx = context()
    assembly = made(VBPR, ctx, plugins)
    seen: list[dict[str, Tensor]] = []
    values = [0.3, 0.5, 0.4, 0.2]

    def validate(reps: Reps) -> dict[str, float]:
        seen.append(tables(reps))
        return {"recall@20": values[len(seen) - 1]}

    sampler = Sampler(ctx.user, ctx.item, None, ctx.n_users, ctx.n_items, batch_size=16)
    progress = fit(assembly, sampler, validate, TrainConfig(epochs=4, lr=0.05))
    assert progress.best_epoch == 2
    assert same(tables(assembly.represent()), seen[1])


def test_a_projection_made_for_evaluation_serves_the_next_epoch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context()
    assembly = made(VBPR, ctx, [CLEAR])
    calls = 0
    project = VBPR.project

    def counted(self: VBPR, raw: Any, index: Any) -> Feats:
        nonlocal calls
        calls += index is None
        return project(self, raw, index)

    monkeypatch.setattr(VBPR, "project", counted)
    assembly.start_epoch(0, generator(0))
    assert calls == 1
    assembly.loss(batch(ctx))
    assembly.represent()
    assert calls == 2
    assembly.start_epoch(1, generator(1))
    assert calls == 2  # nothing has changed since the evaluation
    assembly.start_epoch(2, generator(2))
    assert calls == 3


def test_features_are_neither_parameters_nor_saved() -> None:
    ctx = context()
    assembly = made(FREEDOM, ctx)
    shapes = {tuple(value.shape) for value in assembly.state_dict().values()}
    assert all(tuple(raw.values.shape) not in shapes for raw in ctx.raw.values())


def test_a_model_that_needs_a_modality_refuses_data_without_one() -> None:
    with pytest.raises(PrismError, match="vbpr needs at least 1 modality; the data offers none"):
        made(VBPR, context(0))


def test_there_is_nothing_to_train_in_a_floor() -> None:
    floor, model = made(MostPop, context()), made(LightGCN, context())
    assert not floor.trainable and model.trainable
    assert floor.loss(batch(context())) == {}


def test_it_is_built_in_training_mode_from_its_seed_alone() -> None:
    ctx = context()
    torch.manual_seed(1)
    first = build(VBPR, config(VBPR), [], ctx, 5)
    torch.manual_seed(2)
    second = build(VBPR, config(VBPR), [], ctx, 5)
    assert same(first.state_dict(), second.state_dict()) and first.training and first.model.training
    total(first.loss(batch(ctx))).backward()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_catalogue_without_training_rows_can_be_built_so_that_the_sampler_can_say_so(model: type[Model]) -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    ctx = replace(context(), user=nothing, item=nothing)
    assert all(value.isfinite().all() for value in tables(made(model, ctx).represent()).values())


# ------------------------------------------------------------------------------------------------------ picked negatives


class Picky(Plugin):
    """Picks the candidate of highest id and keeps what it is shown."""

    name, paper, Config = "picky", PAPER, Strict
    n_candidates = 5

    def setup(self, offer: Offer) -> None:
        self.shown: list[Batch] = []
        self.read: list[Batch] = []

    def pick(self, batch: Batch, frozen: Callable[[], Reps]) -> Tensor:
        self.shown.append(batch)
        reps = frozen()
        assert reps.item.index is None and not reps.item.values.requires_grad
        return batch.neg.max(dim=1, keepdim=True).values

    def loss(self, terms: Terms, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        self.read.append(batch)
        return {**terms, "picky.rank": reps.score(batch.user, batch.picks["picky"], "image").mean()}


def test_a_plugin_picks_among_candidates_before_features_are_projected() -> None:
    ctx = context()
    assembly = made(VBPR, ctx, [(Picky, Strict())])
    rows = batch(ctx, assembly.n_neg)
    assert rows.neg.shape[1] == 5
    assembly.loss(rows)
    picky = assembly.chain[0]
    assert isinstance(picky, Picky) and picky.shown[0] is rows
    (read,) = picky.read
    assert torch.equal(read.neg, rows.neg[:, :1])
    assert torch.equal(read.picks["picky"], rows.neg.max(dim=1, keepdim=True).values)
    assert assembly.training
