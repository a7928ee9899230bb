"""Items that lack a modality: what stands in for them, by the mean or learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from program import dataset
from tiny import batch, context, loss, made, tables, total, train, with_raw
from torch import Tensor, nn

import prismrec
from prismrec.cold import Trained
from prismrec.models import MODELS, Context, Model
from prismrec.models.floors import Floor
from prismrec.nn import Projector, Raw
from prismrec.runs import restore
from prismrec.sampling import generator

MULTIMODAL = [model for model in MODELS if model.needs and not issubclass(model, Floor)]

UNREAD = {"lattice", "micro"}
"""Models that read projected features for nothing but neighbours, of which such an item has none."""


def learning(ctx: Context) -> Context:
    return with_raw(ctx, {m: replace(raw, learned=True) for m, raw in ctx.raw.items()})


def stand_ins(module: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in module.named_parameters() if name.endswith("stand_in")}


@pytest.mark.parametrize("model", MULTIMODAL, ids=lambda model: model.name)
def test_a_learnt_stand_in_starts_at_the_mean_and_moves(model: type[Model]) -> None:
    mean, learnt = context(missing=True), learning(context(missing=True))
    first, second = made(model, mean), made(model, learnt)
    before, after = (tables(assembly.represent()) for assembly in (first, second))
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in before)
    assert stand_ins(second) and not stand_ins(first)
    second.start_epoch(0, generator(1))
    total(loss(second, batch(learnt, second.n_neg, size=64))).backward()
    for name, value in stand_ins(second).items():
        assert value.grad is not None and value.grad.isfinite().all()
        assert value.grad.any() != (model.name in UNREAD), name


def test_a_step_is_that_of_plain_autograd() -> None:
    values = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    present = torch.tensor([True, False, True, True, False, True])
    raw = Raw(values, present, learned=True)
    phi = Projector(raw, nn.Linear(4, 3))
    assert isinstance(phi.net, nn.Linear)
    whole = phi(raw, None)
    whole.square().sum().backward()
    row = phi.stand_in.detach().clone().requires_grad_()
    expected = phi.net(torch.where(present[:, None], values, row))
    assert torch.allclose(whole, expected)
    (slope,) = torch.autograd.grad(expected.square().sum(), row)
    assert phi.stand_in.grad is not None and torch.allclose(phi.stand_in.grad, slope, atol=1e-6)


def test_where_nothing_is_missing_there_is_nothing_to_learn() -> None:
    (vbpr,) = (model for model in MODELS if model.name == "vbpr")
    assert not stand_ins(made(vbpr, learning(context())))
    assert not stand_ins(made(vbpr, learning(context(missing=True)), train_features=True))


def test_new_items_that_lack_a_modality_have_the_learnt_row() -> None:
    (vbpr,) = (model for model in MODELS if model.name == "vbpr")
    ctx = learning(context(missing=True))
    trained = Trained(train(made(vbpr, ctx), ctx).eval(), ctx)
    none = torch.tensor([False])
    more = {"image": Raw(torch.zeros(1, 9), none), "text": Raw(torch.ones(1, 7), ~none)}
    reps = trained.assembly.represent()
    assert torch.allclose(
        trained.sides(more)["image"][0], reps.modal["image"][1].values[3], atol=1e-6
    )  # item 3 lacks it


def test_it_is_a_setting_of_a_run_and_comes_back_with_it(tmp_path: Path) -> None:
    data = dataset(missing=0.3)
    settings = {"train.epochs": 2, "model.dim": 8, "run.threads": 1, "run.missing": "learned"}
    made = prismrec.Recommender("vbpr", settings=settings).fit(data, out=tmp_path / "run")
    assert stand_ins(restore(tmp_path / "run", data))
    mean = prismrec.Recommender("vbpr", settings={**settings, "run.missing": "mean"}).fit(data)
    assert not torch.equal(made.index.sides["image"][1], mean.index.sides["image"][1])
