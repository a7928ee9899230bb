"""Variants of one arm: what an ablation leaves out, the points of a sweep."""

from __future__ import annotations

import pytest

from prismrec.config import RunConfig, resolve
from prismrec.errors import PrismError
from prismrec.models import MODELS
from prismrec.plugins import PLUGINS
from prismrec.studies.variants import FULL, ablations, axis, grid


def settings(model: str, *plugins: str) -> RunConfig:
    return resolve({"model": {"name": model}, "plugins": {name: {} for name in plugins}})


def test_one_component_is_left_out_at_a_time() -> None:
    cfg = settings("mgcn", "clear", "mrdib")
    found = ablations(cfg)
    assert list(found) == [
        FULL,
        "without clear",
        "without mrdib",
        "without contrast",
        "without mrdib compress",
        "without mrdib redundant",
        "without mrdib unique",
    ]
    assert found[FULL] == cfg
    assert [kind.name for kind, _ in found["without clear"].plugins] == ["mrdib"]
    assert found["without clear"].model_cfg == cfg.model_cfg
    assert found["without contrast"].model_cfg.model_dump()["contrast"] == 0
    changed = found["without mrdib unique"].tree()
    assert changed["plugins"]["mrdib"]["unique"] == 0
    changed["plugins"]["mrdib"]["unique"] = cfg.tree()["plugins"]["mrdib"]["unique"]
    assert changed == cfg.tree()  # nothing else


def test_a_part_that_is_off_is_no_component() -> None:
    cfg = resolve({"model": {"name": "mgcn", "contrast": 0.0}, "plugins": {"clear": {}}})
    assert list(ablations(cfg)) == [FULL, "without clear"]


def test_what_is_named_is_left_out_and_nothing_else() -> None:
    found = ablations(settings("vbpr", "clear"), ["clear.strength=0", "model.reg=0"])
    assert list(found) == [FULL, "without clear.strength=0", "without model.reg=0"]
    assert found["without model.reg=0"].model_cfg.model_dump()["reg"] == 0
    with pytest.raises(PrismError, match="changes nothing"):
        ablations(
            settings("vbpr"),
            ["model.reg=0.1", "model.reg=0.1", f"model.dim={settings('vbpr').model_cfg.model_dump()['dim']}"],
        )
    with pytest.raises(PrismError, match="no component that is known"):
        ablations(settings("bpr"))


@pytest.mark.parametrize("owner", [*MODELS, *PLUGINS], ids=lambda owner: owner.name)
def test_parts_are_settings_that_may_be_0(owner: type) -> None:
    for part in owner.parts:  # type: ignore[attr-defined]
        assert getattr(owner.Config(**{part: 0.0}), part) == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("clear.rank=1,2,4", [1, 2, 4]),
        ("model.kernel=heat,pagerank", ["heat", "pagerank"]),
        ("clear.strength=0.1:0.9:5", [0.1, 0.3, 0.5, 0.7, 0.9]),
        ("model.reg=1e-4:1:5:log", [1e-4, 1e-3, 1e-2, 0.1, 1.0]),
    ],
)
def test_an_axis_is_a_list_or_a_range(text: str, values: list[object]) -> None:
    path, found = axis(text)
    assert path == text.partition("=")[0] and found == values


@pytest.mark.parametrize(
    "text", ["clear.rank", "clear.rank=", "a=1:2", "a=1:x:3", "a=1:2:1", "a=0:1:3:log", "a=1,1", "a=1:2:3:lag"]
)
def test_what_is_no_axis_is_refused(text: str) -> None:
    with pytest.raises(PrismError, match="--over"):
        axis(text)


def test_a_grid_has_every_point_and_no_more_than_two_axes() -> None:
    cfg = settings("vbpr", "clear")
    found = grid(cfg, {"clear.rank": [1, 2], "model.reg": [0.1, 0.5]})
    assert list(found) == [
        "clear.rank=1,model.reg=0.1",
        "clear.rank=1,model.reg=0.5",
        "clear.rank=2,model.reg=0.1",
        "clear.rank=2,model.reg=0.5",
    ]
    last = found["clear.rank=2,model.reg=0.5"].tree()
    assert last["plugins"]["clear"]["rank"] == 2 and last["model"]["reg"] == 0.5
    with pytest.raises(PrismError, match="one axis or two; 3"):
        grid(cfg, {"clear.rank": [1], "model.reg": [0.1], "train.lr": [0.1]})
    with pytest.raises(PrismError, match="441 points"):
        grid(cfg, {"clear.rank": list(range(1, 22)), "model.dim": list(range(1, 22))})
    with pytest.raises(PrismError, match=r"clear\.strength is 2"):
        grid(cfg, {"clear.strength": [2]})
