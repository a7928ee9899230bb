"""The space of an arm: what its model's and plug-ins' spaces say together, or a file says, under full setting paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prismrec.config import RunConfig, assign, read_yaml, resolve, value_at
from prismrec.errors import PrismError
from prismrec.models import Model
from prismrec.plugins import Plugin
from prismrec.space import Choice, Dimension, Range, Space, at

_RANGE = {"low", "high", "log", "whole"}
_SHAPE = "expected a list of values, or low and high (with log: true or whole: true), such as {low: 1e-5, high: 0.1, log: true}"
FIXED = ("run.", "train.metric")  # how a trial is judged or run: no matter of choice


def arm_space(cfg: RunConfig, name: str) -> Space:
    """The space called ``name`` of a model with its plug-ins: setting path → dimension.

    An owner without such a space adds nothing; an arm none of whose owners has it is refused.
    """
    owners: list[tuple[str, type[Model] | type[Plugin]]] = [("model", cfg.model)]
    owners += [(plugin.name, plugin) for plugin, _ in cfg.plugins]
    having = [(prefix, owner.spaces[name]) for prefix, owner in owners if name in owner.spaces]
    if not having:
        known = list(dict.fromkeys(known for _, owner in owners for known in owner.spaces))
        raise PrismError(
            f"{cfg.label} has no space {name!r}: no such grid is known of it. "
            f"{'It has: ' + ', '.join(known) + '.' if known else 'It has none.'} A YAML file of your own can be named instead."
        )
    return {path: dimension for prefix, space in having for path, dimension in at(space, prefix)}


def read_space(path: Path, cfg: RunConfig) -> Space:
    """A space as a file writes it: setting path → list of values, or ``low`` and ``high`` with ``log`` and ``whole``."""
    return parse_space(read_yaml(path), cfg, str(path))


def parse_space(tree: Mapping[str, Any], cfg: RunConfig, where: str) -> Space:
    """A space from plain values. A range is of whole numbers if it says so, or else if the setting is one now."""
    return {str(key): _dimension(str(key), entry, cfg, where) for key, entry in tree.items()}


def _dimension(key: str, entry: Any, cfg: RunConfig, where: str) -> Dimension:
    try:
        if isinstance(entry, list) and all(isinstance(value, str | int | float | bool | None) for value in entry):
            return Choice(tuple(entry))
        if isinstance(entry, Mapping) and {"low", "high"} <= entry.keys() <= _RANGE:
            low, high = entry["low"], entry["high"]
            flags = [entry.get("log", False), entry.get("whole", _is_whole(value_at(cfg.tree(), key)))]
            if all(type(end) in (int, float) for end in (low, high)) and all(isinstance(flag, bool) for flag in flags):
                return Range(low, high, *flags)
    except PrismError as error:
        raise PrismError(f"{where}: {key}: {error}") from None
    raise PrismError(f"{where}: {key} is {entry!r}; {_SHAPE}.")


def written(space: Space) -> dict[str, Any]:
    """A space as plain values, from which ``parse_space`` makes the same."""
    return {key: _entry(dimension) for key, dimension in space.items()}


def _entry(dimension: Dimension) -> Any:
    if isinstance(dimension, Choice):
        return list(dimension.options)
    low, high = dimension.ends()
    return {"low": low, "high": high, "log": dimension.log, "whole": dimension.whole}


def without(space: Space, assignments: Sequence[str]) -> Space:
    """A space less the settings that ``section.key=value`` texts fix."""
    fixed = {text.partition("=")[0].strip().removeprefix("plugins.") for text in assignments}
    return {key: dimension for key, dimension in space.items() if key.removeprefix("plugins.") not in fixed}


def check_space(space: Space, cfg: RunConfig, where: str) -> None:
    """Refuse a space with a setting that does not exist, is no matter of choice, or takes a value that is refused."""
    for key, dimension in space.items():
        if key.startswith(FIXED):
            raise PrismError(
                f"{where}: {key} says how a trial is judged or run, so that trials would not compare; leave it out of the "
                "space, and set it for all with --set."
            )
        for value in dimension.values() or dimension.ends():
            try:
                apply(cfg, {key: value})
            except PrismError as error:
                raise PrismError(f"{where}: {error}") from None


def apply(cfg: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """``cfg`` with the settings of a trial (path → value)."""
    tree = cfg.tree()
    for path, value in settings.items():
        tree = assign(tree, path, value)
    return resolve(tree)


def standing(space: Space, cfg: RunConfig) -> dict[str, Any] | None:
    """The point of the space at which ``cfg`` stands; None if it lies outside."""
    tree = cfg.tree()
    found = {key: value_at(tree, key) for key in space}
    inside = all(found[key] in dimension for key, dimension in space.items())
    return found if inside else None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
