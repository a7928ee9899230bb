"""Variants of one arm: each with one component left out, or one for each point of a grid."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prismrec.config import RunConfig, override, parse_yaml, resolve, value_at
from prismrec.errors import PrismError
from prismrec.studies.search_space import FIXED, apply

FULL = "full"
_MOST = 400  # points of a grid


def ablations(cfg: RunConfig, off: Sequence[str] = ()) -> dict[str, RunConfig]:
    """``full``, and ``without X`` for each component X: a plug-in, a part of one or of the model that is at work, an ``off``.

    ``off``: texts such as "model.contrast=0", settings that leave something out; with one given, only these are.
    """
    found = {FULL: cfg}
    for text in off:
        if "=" not in text:
            raise PrismError(f"--off {text!r} is no assignment; expected section.key=value, such as model.contrast=0.")
        changed = resolve(override(cfg.tree(), [text]))
        if changed == cfg:
            raise PrismError(f"--off {text} changes nothing: it is so already.")
        found[f"without {text}"] = changed
    if off:
        return found
    for place, (plugin, _) in enumerate(cfg.plugins):
        rest = [(kind.name, part.model_dump()) for n, (kind, part) in enumerate(cfg.plugins) if n != place]
        found[f"without {plugin.name}"] = resolve({**cfg.tree(), "plugins": dict(rest)})
    owners = [("model", cfg.model.parts), *((plugin.name, plugin.parts) for plugin, _ in cfg.plugins)]
    for prefix, parts in owners:
        for part in parts:
            if value_at(cfg.tree(), f"{prefix}.{part}"):
                found[f"without {part}" if prefix == "model" else f"without {prefix} {part}"] = apply(
                    cfg, {f"{prefix}.{part}": 0.0}
                )
    if len(found) == 1:
        raise PrismError(
            f"{cfg.label} has no component that is known to be one. Name what to leave out, --off SECTION.KEY=VALUE, or add "
            "a --plugin."
        )
    return found


def axis(text: str) -> tuple[str, list[Any]]:
    """``clear.rank=1,2,4`` → its setting and values; ``clear.strength=0.1:0.9:5`` → five of even distance, ends included.

    ``model.reg=1e-4:1:5:log`` → five of even ratio. Errors: a sentence.
    """
    path, equals, values = text.partition("=")
    example = "expected a setting and its values, such as clear.rank=1,2,4 or clear.strength=0.1:0.9:5"
    if not equals or not values:
        raise PrismError(f"--over {text!r} is no axis; {example}.")
    if ":" not in values:
        found = [parse_yaml(value, f"--over {text}") for value in values.split(",")]
    else:
        try:
            low, high, count, *how = values.split(":")
            ends, steps = (float(low), float(high)), int(count)
        except ValueError:
            raise PrismError(f"--over {text!r} is no axis; {example}.") from None
        if steps < 2 or how not in ([], ["log"]) or (how and min(ends) <= 0):
            raise PrismError(
                f"--over {text!r}: LOW:HIGH:COUNT or LOW:HIGH:COUNT:log with COUNT ≥ 2 is expected; log needs ends > 0."
            )
        points = np.geomspace(*ends, steps) if how else np.linspace(*ends, steps)
        found = [float(f"{value:.6g}") for value in points]
    if len(set(map(str, found))) < len(found):
        raise PrismError(f"--over {text!r} names a value twice.")
    return path.strip(), found


def grid(cfg: RunConfig, axes: Mapping[str, Sequence[Any]]) -> dict[str, RunConfig]:
    """Name → settings of every point of one or two axes, the last one fastest."""
    if not 1 <= len(axes) <= 2:
        raise PrismError(f"A sweep has one axis or two; {len(axes)} are given with --over.")
    for path in axes:
        if path.startswith(FIXED):
            raise PrismError(
                f"--over {path} says how a run is judged or run, so that points would not compare; set it for all of them."
            )
    points = list(itertools.product(*axes.values()))
    if len(points) > _MOST:
        raise PrismError(
            f"The grid has {len(points):,} points; at most {_MOST} are taken. Leave out values, or search: prismrec tune"
        )
    return {
        ",".join(f"{path}={value}" for path, value in zip(axes, point, strict=True)): apply(
            cfg, dict(zip(axes, point, strict=True))
        )
        for point in points
    }
