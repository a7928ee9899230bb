"""Recipes: papers whose model is a backbone with plug-ins. Each is written once, here, as configuration.

``--model clear`` is the model ``clear-backbone`` with the plug-in ``clear``; the backbone alone is trained by plain BPR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prismrec.errors import PrismError, nearest
from prismrec.models import MODELS
from prismrec.models.base import Paper
from prismrec.plugins import plugin_named

Tree = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """``name`` on the command line stands for ``model`` with ``plugins``, in this order; ``needs``: modalities, at least."""

    name: str
    model: str
    plugins: tuple[str, ...]
    needs: int = 2

    @property
    def paper(self) -> Paper:
        """The paper of its first plug-in."""
        return plugin_named(self.plugins[0]).paper


RECIPES: tuple[Recipe, ...] = (
    Recipe("clear", "clear-backbone", ("clear",)),
    Recipe("br-mrs", "br-mrs-backbone", ("chns", "synergy")),
)


def recipe_named(name: str) -> Recipe | None:
    """The recipe of a name; None if the name is that of a model; an error with a suggestion if it is neither."""
    known = {recipe.name: recipe for recipe in RECIPES}
    names = [*(model.name for model in MODELS), *known]
    if name not in names:
        raise PrismError(f"There is no model {name!r}. {nearest(name, names)}")
    return known.get(name)


def expand(tree: Mapping[str, Any]) -> Tree:
    """Settings whose model may be a recipe → settings of its backbone, with its plug-ins before all others."""
    given = tree.get("model") or {}
    recipe = recipe_named(str(given["name"])) if "name" in given else None
    if recipe is None:
        return dict(tree)
    plugins = tree.get("plugins") or {}
    first = {name: plugins.get(name) or {} for name in recipe.plugins}
    return {**tree, "model": {**given, "name": recipe.model}, "plugins": {**first, **plugins, **first}}


def label(model: str, plugins: Sequence[str], between: str = "+") -> str:
    """``freedom``, ``freedom+clear``; a recipe goes by its own name: ``clear``, ``clear+mrdib``."""
    for recipe in RECIPES:
        if recipe.model == model and set(recipe.plugins) <= set(plugins):
            return between.join([recipe.name, *(name for name in plugins if name not in recipe.plugins)])
    return between.join([model, *plugins])


def backbone(name: str) -> str:
    """The name of the model class behind a name: its own, or that of a recipe's backbone."""
    recipe = recipe_named(name)
    return name if recipe is None else recipe.model
