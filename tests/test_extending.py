"""The examples of docs/extending.md are a model and a plug-in that work, not only code that runs."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prismrec.config import RunConfig, RunSettings
from prismrec.data.synthetic import draw
from prismrec.errors import PrismError
from prismrec.experiment import run
from prismrec.models import model_named
from prismrec.train import TrainConfig

PAGE = Path(__file__).resolve().parent.parent / "docs" / "extending.md"


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """The classes of the page: its model and its plug-in."""
    module: Any = types.ModuleType("extending")
    sys.modules["extending"] = module  # classes look up the names of their annotations there
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for code in blocks:
        if re.search(r"^class \w+\((?:Model|Plugin)\)", code, re.MULTILINE):
            exec(compile(code, "docs/extending.md", "exec"), module.__dict__)
    yield module
    del sys.modules["extending"]


def settings(model: Any, plugins: Any = (), epochs: int = 20) -> RunConfig:
    return RunConfig(
        model, model.Config(), plugins, TrainConfig(lr=0.01, epochs=epochs), RunSettings(threads=1, seed=1)
    )


def test_the_model_learns_more_than_what_is_popular(page: Any) -> None:
    shop = draw(200, 100, interactions=12, seed=1).dataset
    floor = run(settings(model_named("mostpop")), shop)
    ours = run(settings(page.CML), shop)
    assert ours.valid["recall@20"] > 1.1 * floor.valid["recall@20"]


def test_the_plugin_adds_its_term_and_is_nothing_at_weight_0(page: Any) -> None:
    shop = draw(60, 40, interactions=8, seed=1).dataset
    vbpr = model_named("vbpr")
    plain, off, on = (
        run(settings(vbpr, plugins, epochs=2), shop).progress.history[-1]
        for plugins in (
            (),
            ((page.Decorrelate, page.Decorrelate.Config(weight=0)),),
            ((page.Decorrelate, page.Decorrelate.Config(weight=0.5)),),
        )
    )
    assert (off["terms"], off["valid"]) == (plain["terms"], plain["valid"])
    assert on["terms"].keys() - plain["terms"].keys() == {"decorrelate"} and on["terms"]["decorrelate"] > 0


def test_the_plugin_refuses_what_it_cannot_act_on(page: Any) -> None:
    one = draw(60, 40, modalities={"image": 8}, interactions=8, seed=1).dataset
    with pytest.raises(PrismError, match="decorrelate needs two projected modalities; vbpr has 1 here"):
        run(settings(model_named("vbpr"), ((page.Decorrelate, page.Decorrelate.Config()),), epochs=1), one)
