from __future__ import annotations

import pytest

from prismrec import recipes
from prismrec.config import resolve
from prismrec.data.synthetic import draw
from prismrec.errors import PrismError
from prismrec.experiment import configure
from prismrec.models import MODELS
from prismrec.plugins import PLUGINS
from prismrec.recipes import RECIPES, Recipe, expand, label, recipe_named


@pytest.fixture
def prism(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    made = Recipe("prism", "vbpr", ("clear",))
    monkeypatch.setattr(recipes, "RECIPES", (made,))
    return made


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_recipes_are_made_of_what_exists(recipe: Recipe) -> None:
    assert recipe.model in {model.name for model in MODELS} and recipe.name not in {model.name for model in MODELS}
    assert recipe.plugins and set(recipe.plugins) <= {plugin.name for plugin in PLUGINS}
    cfg = resolve({"model": {"name": recipe.name}})
    assert cfg.label == recipe.name and cfg.model.name == recipe.model
    assert recipe.paper.title == cfg.model.paper.title


def test_a_recipe_is_its_backbone_with_its_plugins_first(prism: Recipe) -> None:
    tree = {"model": {"name": "prism", "dim": 8}, "plugins": {"clear": {"rank": 2}}, "run": {"seed": 1}}
    assert expand(tree) == {**tree, "model": {"name": "vbpr", "dim": 8}}
    assert expand({"model": {"name": "prism"}, "plugins": {"other": {"a": 1}}}) == {
        "model": {"name": "vbpr"},
        "plugins": {"clear": {}, "other": {"a": 1}},
    }
    assert list(expand({"model": {"name": "prism"}, "plugins": {"other": {}, "clear": {}}})["plugins"]) == [
        "clear",
        "other",
    ]
    assert expand({"model": {"name": "vbpr"}}) == {"model": {"name": "vbpr"}}
    assert expand({"train": {}}) == {"train": {}}


def test_a_run_of_a_recipe_goes_by_its_name(prism: Recipe) -> None:
    shop = draw(n_users=40, n_items=40, interactions=8, seed=1).dataset
    cfg, _ = configure(shop, "prism", settings={"clear.rank": 3, "model.dim": 8})
    assert (cfg.label, cfg.model.name, [p.name for p, _ in cfg.plugins]) == ("prism", "vbpr", ["clear"])
    assert cfg.plugins[0][1].model_dump()["rank"] == 3
    assert resolve(cfg.tree()) == cfg
    assert label("vbpr", []) == "vbpr" and label("vbpr", ["clear", "other"]) == "prism+other"
    assert label("freedom", ["clear"]) == "freedom+clear"
    assert label("vbpr", ["clear", "other"], " + ") == "prism + other"


def test_a_misspelt_recipe_is_refused_with_a_suggestion(prism: Recipe) -> None:
    assert recipe_named("prism") is prism and recipe_named("vbpr") is None
    with pytest.raises(PrismError, match="prism"):
        recipe_named("prsm")
