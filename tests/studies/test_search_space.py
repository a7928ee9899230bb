"""The space of an arm: from its owners or a file, checked against the settings that it speaks of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from prismrec.config import RunConfig, resolve, value_at
from prismrec.errors import PrismError
from prismrec.space import Choice, Range
from prismrec.studies.search_space import (
    apply,
    arm_space,
    check_space,
    parse_space,
    read_space,
    standing,
    without,
    written,
)


def arm(model: str = "freedom", *plugins: str, **settings: Any) -> RunConfig:
    return resolve({"model": {"name": model, **settings}, "plugins": {plugin: {} for plugin in plugins}})


def test_an_arm_s_space_is_that_of_its_model_and_plugins() -> None:
    space = arm_space(arm("freedom", "clear", "mrdib"), "default")
    assert {"model.reg", "model.prune", "train.lr", "clear.rank", "mrdib.unique"} <= space.keys()
    assert not any(key.startswith("plugins.") for key in space)
    assert arm_space(arm("freedom"), "paper").keys() == {"model.prune", "model.reg"}


def test_an_owner_without_such_a_space_adds_nothing_but_one_must_have_it() -> None:
    assert arm_space(arm("micro", "clear"), "paper").keys() == {"clear.strength", "clear.rank"}
    with pytest.raises(PrismError, match=r"micro\+chns has no space 'paper'.*It has: default\..*YAML file"):
        arm_space(arm("micro", "chns"), "paper")
    assert arm_space(arm("mostpop"), "default") == {}


def test_a_recipe_s_space_is_that_of_its_backbone_and_plugins() -> None:
    space = arm_space(resolve({"model": {"name": "br-mrs"}}), "default")
    assert {"model.fusion", "chns.candidates", "synergy.margin"} <= space.keys()


def test_a_file_says_values_or_ranges(tmp_path: Path) -> None:
    text = """
    model.reg: {low: 1e-5, high: 1e-1, log: true}
    model.layers: {low: 1, high: 4}
    model.prune: {low: 0, high: 1}
    clear.rank: [2, 4, spectrum]
    """
    (tmp_path / "space.yaml").write_text(text)
    cfg = arm("freedom", "clear")
    space = read_space(tmp_path / "space.yaml", cfg)
    assert space["model.reg"] == Range(1e-5, 1e-1, log=True)
    assert space["model.layers"] == Range(1, 4, whole=True)  # the setting is a whole number now
    assert space["model.prune"] == Range(0, 1)  # and this one is not
    assert space["clear.rank"] == Choice((2, 4, "spectrum"))
    assert parse_space(yaml.safe_load(yaml.safe_dump(written(space))), cfg, "again") == space


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{low: 1}", "expected a list of values, or low and high"),
        ("{low: 1, high: 2, step: 1}", "expected a list of values"),
        ("{low: a, high: 2}", "expected a list of values"),
        ("3", "model.layers is 3; expected a list"),
        ("[[1], [2]]", "expected a list of values"),
        ("[]", "choice of nothing"),
        ("{low: 3, high: 1}", "a.yaml: model.layers: A range from 3 to 1 is empty"),
    ],
)
def test_what_a_file_cannot_say(tmp_path: Path, entry: str, words: str) -> None:
    (tmp_path / "a.yaml").write_text(f"model.layers: {entry}\n")
    with pytest.raises(PrismError, match=words):
        read_space(tmp_path / "a.yaml", arm())


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"model.layer": [1]}, "the file: Unknown setting model.layer.*layers"),
        ({"model.layers": [1, -2]}, "the file: model.layers is -2"),
        ({"model.prune": {"low": 0.0, "high": 1.0}}, "model.prune is 1.0"),
        ({"clear.rank": [1]}, "plug-in 'clear', which this run does not use"),
        ({"run.seed": [1, 2]}, "run.seed says how a trial is judged"),
        ({"train.metric": ["recall@10"]}, "train.metric says how a trial is judged"),
    ],
)
def test_a_space_is_checked_before_anything_is_trained(space: dict[str, Any], words: str) -> None:
    cfg = arm()
    with pytest.raises(PrismError, match=words):
        check_space(parse_space(space, cfg, "the file"), cfg, "the file")


@pytest.mark.parametrize("name", ["default", "paper"])
def test_the_spaces_at_hand_pass_the_check(name: str) -> None:
    cfg = arm("freedom", "clear", "mrdib")
    check_space(arm_space(cfg, name), cfg, name)


def test_what_is_set_is_not_searched() -> None:
    space = arm_space(arm("freedom", "clear"), "default")
    left = without(space, ["model.reg=0.1", "plugins.clear.rank=4", "train.lr = 1e-3", "train.epochs=3"])
    assert space.keys() - left.keys() == {"model.reg", "clear.rank", "train.lr"}


def test_settings_are_laid_over_the_configuration_and_read_back() -> None:
    cfg = arm("freedom", "clear")
    found = apply(cfg, {"model.reg": 0.5, "clear.rank": 3, "train.lr": 0.01})
    assert [value_at(found.tree(), path) for path in ("model.reg", "clear.rank", "train.lr")] == [0.5, 3, 0.01]
    assert value_at(cfg.tree(), "model.reg") != 0.5 and value_at(cfg.tree(), "model.nothing") is None
    assert apply(found, {}) == found


def test_where_a_configuration_stands_in_a_space() -> None:
    space = {"model.layers": Range(1, 3, whole=True), "model.prune": Choice((0.8, 0.9))}
    assert standing(space, arm()) == {"model.layers": 2, "model.prune": 0.8}
    assert standing(space, arm(prune=0.5)) is None
    assert standing({}, arm()) == {}
