"""Search spaces: their records, and that every one of a model or plug-in speaks of settings that exist and are accepted."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from tiny import batch, context, loss, made, total

from prismrec.errors import PrismError
from prismrec.models import MODELS, Model
from prismrec.plugins import PLUGINS, Plugin
from prismrec.space import TRAIN, Choice, Dimension, Range, Space, at, named, point, points, span
from prismrec.train import TrainConfig

OWNERS: list[type[Model] | type[Plugin]] = [*MODELS, *PLUGINS]
SPACES = [(owner, name) for owner in OWNERS for name in owner.spaces]
IDS = [f"{owner.name}-{name}" for owner, name in SPACES]


def accept(owner: type[Model] | type[Plugin], settings: dict[str, Any]) -> None:
    """Make the records that hold these settings; one that they refuse raises."""
    owner.Config(**{key: value for key, value in settings.items() if not key.startswith(TRAIN)})
    TrainConfig(**{key.removeprefix(TRAIN): value for key, value in settings.items() if key.startswith(TRAIN)})


def standard(owner: type[Model] | type[Plugin], key: str) -> Any:
    """The default of a setting."""
    training = key.startswith(TRAIN)
    fields = TrainConfig.model_fields if training else owner.Config.model_fields
    return fields[key.removeprefix(TRAIN) if training else key].default


def test_everybody_has_a_default_space_and_no_other_names_are_used() -> None:
    for owner in OWNERS:
        assert "default" in owner.spaces and set(owner.spaces) <= {"default", "paper"}, owner.name
        if owner.Config.model_fields:
            assert 1 <= len(owner.spaces["default"]) <= 6, owner.name
    assert sum("paper" in owner.spaces for owner in OWNERS) > 12


@pytest.mark.parametrize(("owner", "name"), SPACES, ids=IDS)
def test_every_value_and_corner_is_accepted(owner: type[Model] | type[Plugin], name: str) -> None:
    space = owner.spaces[name]
    for key, dimension in space.items():
        for value in dimension.values() or dimension.ends():
            accept(owner, {key: value})
    corners = list(itertools.product(*(dimension.ends() for dimension in space.values())))
    assert len(corners) == 2 ** len(space)
    for corner in corners:
        accept(owner, dict(zip(space, corner, strict=True)))


@pytest.mark.parametrize("owner", OWNERS, ids=lambda owner: owner.name)
def test_defaults_lie_in_the_default_space(owner: type[Model] | type[Plugin]) -> None:
    """So that a search begins with them, and never ends below them on what it chooses by."""
    for key, dimension in owner.spaces["default"].items():
        assert standard(owner, key) in dimension, f"{owner.name}: {key} is {standard(owner, key)}"


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_plugins_leave_training_to_the_model(plugin: type[Plugin]) -> None:
    assert not any(key.startswith(TRAIN) for space in plugin.spaces.values() for key in space)


@pytest.mark.parametrize("end", [0, 1], ids=["low", "high"])
@pytest.mark.parametrize(("owner", "name"), SPACES, ids=IDS)
def test_both_ends_of_a_space_train(owner: type[Model] | type[Plugin], name: str, end: int) -> None:
    space = owner.spaces[name]
    settings = {key: d.ends()[end] for key, d in space.items() if not key.startswith(TRAIN)}
    ctx = context(2)
    if issubclass(owner, Plugin):
        settings |= {"rank": min(settings["rank"], 6)} if "rank" in settings else {}  # of 8 columns here
        host = next(model for model in MODELS if model.name == "freedom")
        assembly = made(host, ctx, [(owner, owner.Config(**settings))])
    else:
        assembly = made(owner, ctx, **settings)
    if assembly.trainable:
        assert total(loss(assembly, batch(ctx, assembly.n_neg))).isfinite()


def test_paper_grids_are_those_stated() -> None:
    """Sizes of the grids as their sources state them; a search over them tries each point once."""
    sizes = {owner.name: points(owner.spaces["paper"]) for owner in OWNERS if "paper" in owner.spaces}
    assert sizes["freedom"] == 8 and sizes["lightgcn"] == 20 and sizes["bm3"] == 8 and sizes["lattice"] == 16
    assert sizes["clear"] == 20 and sizes["mrdib"] == 125 and sizes["mmgcn"] == 30 and sizes["slmrec"] == 80
    assert all(sizes.values())


def test_a_range_and_what_lies_in_it() -> None:
    whole, log = Range(1, 4, whole=True), Range(1e-4, 1e-1, log=True)
    assert whole.values() == (1, 2, 3, 4) and whole.ends() == (1, 4)
    assert log.values() is None and log.ends() == (1e-4, 1e-1)
    assert 4 in whole and 5 not in whole and 2.0 not in whole and True not in whole
    assert 1e-4 in log and 0.1 in log and 0.2 not in log and "x" not in log


def test_a_choice_tells_types_apart() -> None:
    choice = Choice((False, 1, "heat", None))
    assert False in choice and 1 in choice and "heat" in choice and None in choice
    assert 0 not in choice and True not in choice and 1.0 not in choice
    assert choice.ends() == (False, None) and Choice((0, False)).values() == (0, False)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Range(2, 1), "from 2 to 1 is empty"),
        (lambda: Range(0, 1, log=True), "cannot be logarithmic"),
        (lambda: Range(0.5, 3, whole=True), "expected whole ends"),
        (lambda: Range(0, float("inf")), "is empty"),
        (lambda: Choice(()), "choice of nothing"),
        (lambda: Choice((1, 2, 1)), "names a value twice: 1, 2, 1"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, words: str) -> None:
    with pytest.raises(PrismError, match=words):
        make()


def test_points_are_counted_and_each_is_met_once() -> None:
    space: Space = {"a": Choice((1, 2)), "b": Range(5, 7, whole=True), "c": Choice(("x",))}
    assert points(space) == 6 and points({}) == 1 and points({**space, "d": Range(0, 1)}) is None
    met = [point(space, index) for index in range(6)]
    assert met[0] == {"a": 1, "b": 5, "c": "x"} and met[1] == {"a": 1, "b": 6, "c": "x"}
    assert {tuple(found.values()) for found in met} == set(itertools.product((1, 2), (5, 6, 7), ("x",)))
    with pytest.raises(PrismError, match="d has no values"):
        point({"d": Range(0, 1)}, 0)


def test_keys_become_full_paths() -> None:
    space: dict[str, Dimension] = {"reg": Choice((1,)), "train.lr": Choice((2,))}
    assert list(dict(at(space, "model"))) == ["model.reg", "train.lr"]
    assert list(dict(at({"rank": Choice((1,))}, "clear"))) == ["clear.rank"]


def test_spaces_cannot_be_changed() -> None:
    spaces: Any = named(default={})
    with pytest.raises(TypeError):
        spaces["more"] = {}


def test_the_page_lists_the_spaces_at_hand() -> None:
    def cell(space: Space) -> str:
        return "; ".join(f"`{key}` {span(dimension)}" for key, dimension in space.items()) or "-"

    page = (Path(__file__).resolve().parent.parent / "docs" / "tune.md").read_text(encoding="utf-8")
    table = page.split("| of | `default` | `paper` |\n|---|---|---|\n")[1].strip().splitlines()
    rows = [(owner.name, owner.spaces["default"], owner.spaces.get("paper", {})) for owner in OWNERS]
    assert table == [f"| `{name}` | {cell(default)} | {cell(paper)} |" for name, default, paper in rows]
