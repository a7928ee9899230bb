"""On a GPU all is as on the CPU, and no step makes the host wait. Where there is none, a pretended device stands in."""

from __future__ import annotations

import dataclasses
import typing
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import simulated
import torch
from test_contract import TRAINED, Pair, label
from tiny import context, made, tables, total, train
from torch import Tensor
from torch.nn import functional as F

from prismrec import Recommender, experiment, graphs
from prismrec.assembly import Assembly
from prismrec.checkpoint import Progress
from prismrec.config import RunConfig
from prismrec.data.synthetic import draw
from prismrec.errors import PrismError
from prismrec.experiment import Result, configure
from prismrec.models import MODELS, Context, Model
from prismrec.plugins import PLUGINS, Plugin
from prismrec.sampling import Sampler, generator
from prismrec.types import Batch, ItemIds, Sizes, distinct

HOSTS = {plugin: next(model for model, chain in TRAINED if chain == (plugin,)) for plugin in PLUGINS}
PAIRS = [
    p if not p[1] or (len(p[1]) == 1 and HOSTS[p[1][0]] is p[0]) else pytest.param(p, marks=pytest.mark.slow)
    for p in TRAINED
]
PLACES = ["pretended", pytest.param("cuda", marks=pytest.mark.cuda)]
HERE = torch.device("cpu")
There = Callable[[], AbstractContextManager[torch.device]]


@pytest.fixture(params=PLACES)
def there(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> There:
    """A device that is not the CPU. Noise is drawn in one way, so that on the pretended device it is that of the CPU."""
    monkeypatch.setattr(graphs, "dropout", F.dropout)
    monkeypatch.setattr(graphs.diffusion, "dropout", F.dropout)
    if request.param == "pretended":
        return simulated.device
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return lambda: nullcontext(torch.device("cuda"))


def on(device: torch.device, ctx: Context) -> Context:
    raw = {
        m: dataclasses.replace(raw, values=raw.values.to(device), present=raw.present.to(device))
        for m, raw in ctx.raw.items()
    }
    return dataclasses.replace(ctx, user=ctx.user.to(device), item=ctx.item.to(device), raw=raw)


@contextmanager
def listened(device: torch.device, first: bool) -> Iterator[Counter[str]]:
    """What makes the host wait meanwhile; on a real device it is an error, but in the ``first`` step of an epoch."""
    try:
        if torch.cuda.is_available() and device.type == "cuda" and not first:
            torch.cuda.set_sync_debug_mode("error")
        with simulated.watched() as found:
            yield found
    finally:
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("default")


def few_steps(
    pair: Pair, device: torch.device, model: dict[str, Any] | None = None, plugin: dict[str, Any] | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[Counter[str]]]:
    """Two epochs → what came of it, the last loss terms, and what the steps waited for, but the first of each epoch."""
    ctx = on(device, context())
    assembly = made(pair[0], ctx, [(kind, kind.Config(**(plugin or {}))) for kind in pair[1]], **(model or {}))
    rows = (ctx.user, ctx.item, ctx.weight, ctx.n_users, ctx.n_items)
    sampler = Sampler(*rows, batch_size=40, n_neg=assembly.n_neg, n_fresh=assembly.n_fresh)
    optimizer = torch.optim.SGD(assembly.parameters(), lr=0.01)
    waits = []
    for epoch in range(2):
        torch.manual_seed(epoch)
        assembly.start_epoch(epoch, generator(3, epoch, device=device))
        for step, batch in enumerate(sampler.epoch(epoch)):
            with listened(device, first=step == 0) as found:
                optimizer.zero_grad()
                terms = assembly.loss(batch)
                total(terms).backward()
                optimizer.step()
            waits += [found] if step else []
    return tables(assembly.represent()), {name: term.detach() for name, term in terms.items()}, waits


@pytest.mark.parametrize("pair", PAIRS, ids=label)
def test_training_stays_on_the_device_and_no_step_waits_for_it(pair: Pair, there: There) -> None:
    with there() as device:
        reps, terms, waits = few_steps(pair, device)
    assert all(value.device.type == "cuda" for value in (*reps.values(), *terms.values()))
    assert len(waits) >= 2 and not any(waits), waits
    if isinstance(reps["user"], simulated.Far):  # the same draws, whatever draws: the same numbers
        as_here, terms_here, _ = few_steps(pair, HERE)
        assert all(close(reps[name], value) for name, value in as_here.items())
        assert all(close(terms[name], value) for name, value in terms_here.items())


def close(there: Tensor, here: Tensor) -> bool:
    return torch.allclose(simulated.near(there), here, rtol=1e-3, atol=1e-4)


def choices(kind: type[Model] | type[Plugin]) -> Iterator[dict[str, Any]]:
    """Each setting that is one of a few, at each value but its default."""
    for name, field in kind.Config.model_fields.items():
        kinds = [field.annotation, *typing.get_args(field.annotation)]
        values = [v for k in kinds if typing.get_origin(k) is typing.Literal for v in typing.get_args(k)]
        if field.annotation is bool:
            values = [False, True]
        yield from ({name: value} for value in values if value != field.default)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "chosen"),
    [(kind, chosen) for kind in (*dict.fromkeys(p[0] for p in TRAINED), *PLUGINS) for chosen in choices(kind)],
    ids=lambda of: of.name if isinstance(of, type) else ",".join(f"{key}={value}" for key, value in of.items()),
)
def test_every_choice_of_a_setting_stays_there_too(
    kind: type[Model] | type[Plugin], chosen: dict[str, Any], there: There
) -> None:
    try:
        with there() as device:
            if issubclass(kind, Model):
                _, _, waits = few_steps((kind, ()), device, model=chosen)
            else:
                _, _, waits = few_steps((HOSTS[kind], (kind,)), device, plugin=chosen)
    except PrismError as refusal:
        pytest.skip(str(refusal))
    assert not any(waits), waits


@pytest.mark.parametrize("pair", PAIRS, ids=label)
def test_what_was_trained_here_says_the_same_there(pair: Pair, there: There) -> None:
    here = train(made(pair[0], context(missing=True), pair[1]), context(missing=True))
    with there() as device:
        assembly = made(pair[0], on(device, context(missing=True)), pair[1], seed=9)
        assembly.load_state_dict(here.state_dict())
        found = {name: value.cpu() for name, value in tables(assembly.represent()).items()}
    assert all(torch.allclose(found[name], value, atol=1e-4) for name, value in tables(here.represent()).items())


# ---------------------------------------------------------------------------------------------------- from end to end


CATALOGUE = draw(n_users=60, n_items=40, interactions=10.0, seed=3).dataset
FEW = ("bpr", "freedom", "itemknn")


def settings(name: str, device: str, **more: Any) -> RunConfig:
    # SGD: the sign of a rounding error is no step
    train = {"epochs": 3, "batch_size": 256, "optimizer": "sgd", "lr": 0.1, "checkpoint_seconds": 0.0, **more}
    values = {f"train.{key}": value for key, value in train.items()}
    cfg, _ = configure(CATALOGUE, name, settings=values, device=device, threads=1)
    return cfg


def scores(result: Result) -> Tensor:
    return torch.as_tensor(result.index.scores(list(result.index.users)[:3], list(result.index.items)[:5]))


@pytest.mark.parametrize(
    "name", [m.name if m.name in FEW else pytest.param(m.name, marks=pytest.mark.slow) for m in MODELS]
)
def test_a_run_there_is_stopped_resumed_and_evaluated_as_one_here(name: str, there: There, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    class Once:
        def step(self, epoch: int, done: int, of: int) -> None:
            if epoch == 2 and not (tmp_path / "stopped").exists():
                (tmp_path / "stopped").touch()
                raise Stop

        def epoch(self, record: dict[str, Any], progress: Progress) -> None:
            pass

    folder = tmp_path / "run"
    with there():
        try:
            result = experiment.run(settings(name, "cuda"), CATALOGUE, folder, Once())
        except Stop:
            result = experiment.run(settings(name, "cuda"), CATALOGUE, folder)
    assert result.summary["peak_memory_mb"] > 0
    if there is simulated.device:
        here = experiment.run(settings(name, "cpu"), CATALOGUE)
        assert result.valid == pytest.approx(here.valid, abs=0.02) and result.test == pytest.approx(here.test, abs=0.02)
    lists = Recommender.load(folder).recommend(CATALOGUE.users.external[:2].to_list(), 5)
    assert len(lists) == 10


# ---------------------------------------------------------------------------------------------------- sizes known ahead


@pytest.mark.parametrize("n_neg", [0, 1, 3])
def test_a_batch_there_knows_how_many_distinct_ones_it_holds(n_neg: int, there: There) -> None:
    with there() as device:
        ctx = on(device, context())
        for batch in Sampler(ctx.user, ctx.item, None, ctx.n_users, ctx.n_items, batch_size=13, n_neg=n_neg).epoch(0):
            here = dataclasses.replace(batch.to(HERE), sizes=None)
            items = tuple(len({*here.pos.tolist(), *here.neg[:, :k].flatten().tolist()}) for k in range(n_neg + 1))
            assert batch.sizes == Sizes(len(set(here.user.tolist())), items)
            for few in range(n_neg + 1):
                known, asked = batch.negatives(few), here.negatives(few)
                for what in ("users_once", "positives_once", "items_once"):
                    assert torch.equal(getattr(known, what).cpu(), getattr(asked, what))
                some, other = (ItemIds.of(b.items, ctx.n_items, b.n_items) for b in (known, asked))
                assert torch.equal(some.ids.cpu(), other.ids) and torch.equal(some.position.cpu(), other.position)


def test_without_sizes_and_with_picks_the_batch_counts_for_itself() -> None:
    ids = torch.tensor([5, 3, 5, 0])
    assert distinct(ids).tolist() == distinct(ids, 3).tolist() == [0, 3, 5]
    assert ItemIds.of(ids, 6).ids.tolist() == ItemIds.of(ids, 6, 3).ids.tolist() == [0, 3, 5]
    batch = Batch(ids, ids, ids.unsqueeze(1), picks={"x": ids.unsqueeze(1) + 1}, sizes=Sizes(3, (3, 3)))
    assert batch.n_items is None and dataclasses.replace(batch, picks={}).n_items == 3


# ------------------------------------------------------------------------------------------- the pretended device itself


def test_the_pretended_device_refuses_what_a_device_refuses() -> None:
    with simulated.device() as device:
        x, here = torch.ones(3, device=device), torch.ones(3)
        assert x.is_cuda and (x + 1).is_cuda and x.new_zeros(2).is_cuda and torch.arange(3, device=x.device).is_cuda
        assert float((x * torch.tensor(2.0)).sum()) == 6.0  # a lone number may come from the host
        for wrong in (lambda: x + here, lambda: torch.cat([x, here]), lambda: here[x.long() - 1], x.numpy):
            with pytest.raises((RuntimeError, TypeError)):
                wrong()
        x.requires_grad_()
        (x * 2).sum().backward()
        assert x.grad is not None and x.grad.is_cuda and torch.equal(x.grad.cpu(), here * 2)


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("_local_scalar_dense", lambda x: float(x.sum())),
        ("_local_scalar_dense", lambda x: bool(x.any())),
        ("tolist", lambda x: x.tolist()),
        ("nonzero", lambda x: x.nonzero()),
        ("_unique2", lambda x: x.unique()),
        ("index", lambda x: x[x > 0]),
        ("index_put_", lambda x: x.index_put_((x > 0,), torch.ones(2, device=x.device))),
        ("repeat_interleave", lambda x: x.repeat_interleave(x.long())),
        ("bincount", lambda x: x.long().bincount()),
        ("to the host", lambda x: x.cpu()),
        ("to the device", lambda x: torch.tensor([1, 2], device=x.device)),
        ("to the device", lambda x: torch.ones(2).to(x.device)),
    ],
)
def test_the_pretended_device_tells_what_makes_the_host_wait(name: str, ask: Any) -> None:
    with simulated.device() as device:
        x = torch.tensor([0.0, 1.0, 2.0], device=device)
        with simulated.watched() as found:
            x.mul_(1).add_(0).clamp(min=0)[x.long()].masked_fill(x > 0, 1.0).repeat_interleave(2, output_size=6)
            x[x > 5] = 0.0
        assert not found
        with simulated.watched() as found:
            ask(x)
        assert found[name]


def test_a_model_that_waits_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Assembly.loss

    def waiting(assembly: Assembly, batch: Batch) -> Any:
        terms = kept(assembly, batch)
        return terms if float(terms["rank"].detach()) < 1e9 else {}

    monkeypatch.setattr(Assembly, "loss", waiting)
    with simulated.device() as device:
        assert all(step["_local_scalar_dense"] == 1 for step in few_steps(TRAINED[0], device)[2])
