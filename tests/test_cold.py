"""Items that were not there in training, and users of whom a few items are known."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import context, made, tables, train, with_raw
from torch import Tensor, nn

from prismrec.assembly import Assembly
from prismrec.cold import Trained, raw_features
from prismrec.errors import PrismError
from prismrec.graphs import grown, knn
from prismrec.models import MODELS, Context, Model
from prismrec.nn import Raw
from prismrec.plugins import PLUGINS
from prismrec.types import Reps

ACCEPTING = [model for model in MODELS if model.new_items]
REFUSING = [model for model in MODELS if not model.new_items]
accepting = pytest.mark.parametrize("model", ACCEPTING, ids=lambda model: model.name)
SMALL = {"neighbours": 4, "item_neighbours": 4, "drawn": 3, "extra": 1, "hidden": 8}


def small(model: type[Model]) -> dict[str, Any]:
    """Short neighbour lists, where the model has any."""
    return {name: value for name, value in SMALL.items() if name in model.Config.model_fields}


def split_off(ctx: Context, n: int) -> tuple[Context, dict[str, Raw]]:
    """The catalogue without its last ``n`` items, which nobody took, and the features of those."""
    known = ctx.n_items - n
    assert int(ctx.item.max()) < known
    raw = {m: Raw(r.values[:known], r.present[:known]) for m, r in ctx.raw.items()}
    more = {m: Raw(r.values[known:], r.present[known:]) for m, r in ctx.raw.items()}
    return dataclasses.replace(with_raw(ctx, raw), n_items=known), more


def aloof(ctx: Context, n: int = 1) -> Context:
    """Items that are all alike, but for the last ``n``, which are a little like all of them and among nobody's nearest."""
    rng = torch.Generator().manual_seed(3)
    raw = {}
    for m, r in ctx.raw.items():
        values = 0.4 * torch.randn(r.values.shape, generator=rng)
        values[:, 0] += 3.0
        values[-n:, 1:] = 3.0 * torch.randn(n, r.width - 1, generator=rng).sign()
        raw[m] = Raw(values, torch.ones_like(r.present))
    return with_raw(ctx, raw)


def trained(model: type[Model], ctx: Context, plugins: Any = (), **cfg: Any) -> Trained:
    return Trained(train(made(model, ctx, plugins, **{**small(model), **cfg}), ctx).eval(), ctx)


def item_sides(reps: Reps) -> dict[str, Tensor]:
    return {name: value for name, value in tables(reps).items() if name.endswith("item") or name == "item"}


def test_some_models_accept_new_items_and_some_do_not() -> None:
    assert {"freedom", "vbpr", "clear-backbone", "contentknn", "mgcn"} <= {model.name for model in ACCEPTING}
    assert {"bpr", "lightgcn", "ease", "bm3"} <= {model.name for model in REFUSING}


@accepting
def test_nothing_that_was_known_moves(model: type[Model]) -> None:
    ctx, more = split_off(context(missing=True), 2)
    before = trained(model, ctx)
    old, new = before.assembly.represent(), before.grown(more).represent()
    assert torch.allclose(_dense(new.user)[:, : _dense(old.user).shape[1]], _dense(old.user), atol=1e-6)
    for name, value in item_sides(old).items():
        wide = item_sides(new)[name]
        assert len(wide) == ctx.n_items + 2
        assert torch.allclose(wide[: ctx.n_items, : value.shape[1]], value, atol=1e-6), name


def _dense(side: Tensor) -> Tensor:
    return side.to_dense() if side.layout == torch.sparse_csr else side


@pytest.mark.parametrize("model", [m for m in ACCEPTING if m.by_features != "all"], ids=lambda model: model.name)
def test_a_new_item_is_what_forward_says_of_it_in_a_catalogue_that_has_it(model: type[Model]) -> None:
    """The model is made for all items at once, by the road that training takes; untrained ID rows are zero."""
    wide = aloof(context())
    ctx, more = split_off(wide, 1)
    before = trained(model, ctx)
    new = before.grown(more).represent()
    whole = _rebuilt(before, wide)
    for name, value in item_sides(whole.represent()).items():
        got = item_sides(new)[name]
        assert torch.allclose(got[-1], value[-1], rtol=1e-4, atol=1e-5), name


def _rebuilt(before: Trained, wide: Context) -> Assembly:
    model = before.assembly.model
    whole = made(type(model), wide, **model.cfg.model_dump())
    learnt = before.assembly.state_dict()
    for name, value in whole.state_dict().items():
        value.zero_()
        value[tuple(slice(n) for n in learnt[name].shape)] = learnt[name]
    for part in whole.modules():  # means and draws over what was known are not what this is about
        if hasattr(part, "known"):
            vars(part)["known"] = before.ctx.n_items
    return whole.eval()


@accepting
def test_what_is_added_beside_an_item_does_not_matter(model: type[Model]) -> None:
    ctx, more = split_off(context(missing=True), 2)
    before = trained(model, ctx)
    together = before.sides(more)
    for i in range(2):
        alone = before.sides({m: Raw(r.values[i : i + 1], r.present[i : i + 1]) for m, r in more.items()})
        for name, side in together.items():
            assert torch.allclose(_dense(alone[name])[0, :8], _dense(side)[i, :8], atol=1e-6), name


@accepting
def test_the_features_of_a_trained_item_give_its_side_where_features_are_all_that_counts(model: type[Model]) -> None:
    ctx, _ = split_off(context(), 2)
    before = trained(model, ctx)
    chosen = torch.tensor([2, 5])
    twins = before.sides({m: Raw(r.values[chosen], r.present[chosen]) for m, r in ctx.raw.items()})
    reps = before.assembly.represent()
    user = _dense(reps.user)
    fused = user @ _dense(twins["fused"])[:, : user.shape[1]].T
    assert torch.allclose(fused, user @ _dense(reps.item.values)[chosen].T, atol=1e-5) == (model.by_features == "all")
    for m, (_, rows) in reps.modal.items():
        assert torch.allclose(twins[m], rows.values[chosen], atol=1e-5) == (model.by_features in ("modal", "all"))


@accepting
def test_new_items_with_other_features_get_other_scores(model: type[Model]) -> None:
    ctx, more = split_off(context(), 2)
    side = _dense(trained(model, ctx).sides(more)["fused"])
    assert side.isfinite().all()
    assert torch.equal(side[0], side[1]) == (model.needs == 0)  # popularity knows nothing of either


@pytest.mark.parametrize("model", REFUSING, ids=lambda model: model.name)
def test_others_refuse_with_a_reason(model: type[Model]) -> None:
    ctx, more = split_off(context(), 2)
    with pytest.raises(PrismError, match=rf"{model.name} says nothing of an item that it was not trained on: .{{20}}"):
        Trained(made(model, ctx), ctx).sides(more)


@pytest.mark.parametrize(
    ("name", "cfg"),
    [("freedom", {"item_layers": 0}), ("mgcn", {"item_layers": 0}), ("soil", {"item_layers": 0}),
     ("lgmrec", {"alpha": 0.0}), ("lgmrec", {"faithful": True}), ("rearm", {"faithful": True})],
)  # fmt: skip
def test_settings_can_leave_nothing_to_say(name: str, cfg: dict[str, Any]) -> None:
    (model,) = (model for model in MODELS if model.name == name)
    ctx, more = split_off(context(), 2)
    with pytest.raises(PrismError, match="says nothing of an item that it was not trained on: with"):
        Trained(made(model, ctx, **cfg), ctx).sides(more)


def test_plugins_act_on_new_items_as_on_others() -> None:
    (vbpr,) = (model for model in MODELS if model.name == "vbpr")
    chosen = torch.tensor([2, 5])
    ctx, _ = split_off(context(), 2)
    for chain in ([plugin] for plugin in PLUGINS):
        before = trained(vbpr, ctx, chain)
        reps = before.assembly.represent()
        twins = before.sides({m: Raw(r.values[chosen], r.present[chosen]) for m, r in ctx.raw.items()})
        for m, (_, rows) in reps.modal.items():
            assert torch.allclose(twins[m], rows.values[chosen], atol=1e-5), chain


def test_trained_feature_tables_start_new_items_at_their_features() -> None:
    (freedom,) = (model for model in MODELS if model.name == "freedom")
    ctx, more = split_off(context(missing=True), 2)
    before = trained(freedom, ctx, train_features=True)
    side = before.sides(more)["text"]
    phi = before.assembly.model.phi["text"]
    assert isinstance(phi.net, nn.Module)
    assert torch.allclose(side, phi.net(more["text"].values), atol=1e-6)


def test_new_items_have_known_neighbours_and_are_nobody_elses() -> None:
    values = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    present = torch.ones(9, dtype=torch.bool)
    present[[1, 8]] = False
    ids, cosine = grown(knn, values, present, 3, 6)
    old, _ = knn(values[:6], present[:6], 3)
    assert torch.equal(ids[:6], old)
    unit = nn.functional.normalize(values)
    for i in (6, 7):
        near = (unit[i] @ unit[:6].T).masked_fill(~present[:6], -9).topk(2)
        assert ids[i].tolist() == [i, *near.indices.tolist()]
        assert torch.allclose(cosine[i, 1:], near.values, atol=1e-6)
    assert (ids[8] == -1).all() and (cosine[8] == 0).all()
    assert grown(knn, values, present, 1, 6)[0][6:, 0].tolist() == [6, 7, -1]


def test_features_are_checked_before_anything_else() -> None:
    widths = {"image": 3, "text": 2}
    rows = np.ones((2, 3), np.float32)
    ids = ["a", "b"]
    found = raw_features({"image": [[1, 2, 3], [np.nan] * 3], "text": np.ones((2, 2))}, ids, widths)
    assert found["image"].present.tolist() == [True, False] and found["image"].values[1].tolist() == [0, 0, 0]
    assert not raw_features({"image": rows}, ids, widths)["text"].present.any()
    faults: list[tuple[Any, str]] = [
        ({"imgae": rows}, "features for 'imgae', which this model was not trained with. Did you mean 'image'"),
        ({"image": rows[:, :2]}, r"shape \(2, 2\); expected \(2, 3\)"),
        ({"image": rows[:1]}, r"shape \(1, 3\); expected \(2, 3\)"),
        ({"image": [[1, np.nan, 3], [1, 2, 3]]}, "of item 'a' hold NaN or infinite numbers"),
        ({"image": [[1, 2, 3], [np.nan] * 3]}, r"Item 'b' has no features at all \(1 such\)"),
        ({}, r"Item 'a' has no features at all \(2 such\)"),
    ]
    for features, said in faults:
        with pytest.raises(PrismError, match=said):
            raw_features(features, ids, widths)
    with pytest.raises(PrismError, match="trained on data without features"):
        raw_features({}, ids, {})


def test_the_page_says_of_each_model_what_the_model_says() -> None:
    page = Path(__file__).parents[1] / "docs" / "cold.md"
    said = dict(re.findall(r"^\| `([\w-]+)` \| ([^|]+) \|$", page.read_text(encoding="utf-8"), re.M))
    assert said == {model.name: model.new_items for model in ACCEPTING}
    refused = [model.name for model in REFUSING]
    assert all(f"`{name}`" in page.read_text(encoding="utf-8") for name in refused)
