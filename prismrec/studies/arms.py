"""Arms of a comparison: models, alone and with plug-ins, each with the space that its search goes through.

All start from their classes' defaults: settings that were once searched on this very data would be a head start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prismrec.config import RunConfig, override, read_yaml, resolve, value_at
from prismrec.errors import PrismError, nearest
from prismrec.models import MODELS, model_named
from prismrec.pairing import plugins_on
from prismrec.plugins import PLUGINS, plugin_named
from prismrec.recipes import backbone, label, recipe_named
from prismrec.space import Space
from prismrec.studies.question import ArmOf
from prismrec.studies.search_space import arm_space, parse_space, without, written

FLOORS = tuple(model.name for model in MODELS if not model.random and not model.needs)
"""What every table shows, whatever the data holds: no model is worth its cost that does not beat them."""

Chain = tuple[str, ...]


def chains(models: Sequence[str], plugins: Sequence[str]) -> tuple[list[tuple[str, Chain]], list[str]]:
    """Every model, alone and with each chain of ``plugins`` (such as "chns+synergy") that it qualifies for; the floors first.

    A model may carry plug-ins of its own, as in "freedom+clear". Also returns a sentence for each pair that is left out.
    """
    offered = [tuple(chain.split("+")) for chain in plugins]
    for name in {name for chain in offered for name in chain}:
        plugin_named(name)
    found: dict[tuple[str, Chain], None] = {(floor, ()): None for floor in FLOORS}
    notes = []
    for text in models:
        name, *own = text.split("+")
        recipe_named(name)
        fit = set(plugins_on(model_named(backbone(name)))) if offered else set()
        found[name, tuple(own)] = None
        for chain in offered:
            unfit = [plugin for plugin in chain if plugin not in fit]
            if unfit:
                notes.append(f"{name} is not compared with {'+'.join(chain)}: {', '.join(unfit)} does not act on it.")
            else:
                found[name, (*own, *(plugin for plugin in chain if plugin not in own))] = None
    return list(found), notes


def arms(
    wanted: Sequence[tuple[str, Chain]],
    assignments: Sequence[str],
    run: Mapping[str, Any],
    space: str,
    seeds: int,
) -> dict[str, ArmOf]:
    """Name → arm, for models with their chains of plug-ins.

    ``assignments`` ("section.key=value") count for the arms that have such a setting, and fix it; one that no arm has is
    refused. ``run``: settings of all runs. ``space``: "default", "paper" (the default one where a paper states none), or a
    YAML file, of which each arm takes the settings that it has. ``seeds``: how many, from the run's own on; one where a seed
    changes nothing.
    """
    taken: set[str] = set()
    refused: dict[str, PrismError] = {}
    found = {}
    for name, plugins in wanted:
        tree: dict[str, Any] = {"model": {"name": name}, "plugins": {p: {} for p in plugins}, "run": dict(run)}
        for assignment in assignments:
            try:
                changed = override(resolve(tree).tree(), [assignment])
                resolve(changed)
            except PrismError as error:
                refused[assignment] = error
                continue
            tree = changed
            taken.add(assignment)
        cfg = resolve(tree)
        first = cfg.run.seed
        found[label(cfg.model.name, [plugin.name for plugin, _ in cfg.plugins])] = ArmOf(
            config=cfg.tree(),
            space=written(without(space_of(cfg, space), assignments)),
            seeds=tuple(range(first, first + (seeds if cfg.model.random else 1))),
        )
    for assignment in assignments:
        if assignment not in taken:
            raise refused[assignment]
    return found


def space_of(cfg: RunConfig, name: str) -> Space:
    """The space of an arm: "default", "paper" (the default one where a paper states none), or that of a YAML file."""
    if Path(name).suffix in (".yaml", ".yml"):
        tree = {key: entry for key, entry in read_yaml(Path(name)).items() if value_at(cfg.tree(), key) is not None}
        return parse_space(tree, cfg, name)
    known = {space for model in MODELS for space in model.spaces} | {s for plugin in PLUGINS for s in plugin.spaces}
    if name not in known:
        raise PrismError(
            f"There is no space {name!r}. {nearest(name, known)} A YAML file of your own can be named instead."
        )
    stated = name in cfg.model.spaces or any(name in plugin.spaces for plugin, _ in cfg.plugins)
    return arm_space(cfg, name if stated else "default")
