"""Search spaces: what a setting may be set to. Records alone; whoever searches decides how they are searched.

A space stands beside the settings that it speaks of: ``Model.spaces`` and ``Plugin.spaces`` hold them by name, ``default``
around the defaults and ``paper`` as the grid behind the method's published figures, where one is stated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from prismrec.errors import PrismError

TRAIN = "train."
"""A key that begins so is a setting of training; all others are settings of the space's owner."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; ``log``: even in their logarithm; ``whole``: integers alone."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise PrismError(f"A range from {self.low} to {self.high} is empty; expected low < high.")
        if self.log and self.low <= 0:
            raise PrismError(f"A range from {self.low} cannot be logarithmic; expected low > 0, or leave log out.")
        if self.whole and not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise PrismError(f"A range of whole numbers from {self.low} to {self.high}; expected whole ends.")

    def values(self) -> tuple[Any, ...] | None:
        """All its values; None where they cannot be counted."""
        return tuple(range(int(self.low), int(self.high) + 1)) if self.whole else None

    def ends(self) -> tuple[Any, ...]:
        """The smallest and the largest value."""
        return (int(self.low), int(self.high)) if self.whole else (float(self.low), float(self.high))

    def __contains__(self, value: object) -> bool:
        """Whether a setting lies in it."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """One of ``values``: numbers, words, true, false or null, in the order in which a table shows them."""

    options: tuple[str | int | float | bool | None, ...]

    def __post_init__(self) -> None:
        if not self.options:
            raise PrismError("A choice of nothing; expected at least one value.")
        if len({(type(value), value) for value in self.options}) < len(self.options):
            raise PrismError(f"A choice names a value twice: {', '.join(map(str, self.options))}.")

    def values(self) -> tuple[Any, ...]:
        """All its values."""
        return self.options

    def ends(self) -> tuple[Any, ...]:
        """The first and the last value."""
        return (self.options[0], self.options[-1])

    def __contains__(self, value: object) -> bool:
        """Whether a setting is one of them."""
        return any(type(value) is type(option) and value == option for option in self.options)


Dimension = Range | Choice
Space = Mapping[str, Dimension]
"""Setting → what it may be; keys as under the owner's section ("reg"), or of training ("train.lr")."""


def named(**spaces: Space) -> Mapping[str, Space]:
    """The spaces of a model or plug-in, by name."""
    return MappingProxyType(spaces)


def word(value: Any) -> str:
    """A setting in a few characters."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return "none" if value is None else str(value).lower()


def short_path(key: str) -> str:
    """A setting path without what can be guessed: ``reg``, ``clear.rank``, ``train.lr``."""
    return key.removeprefix("model.")


def span(dimension: Dimension) -> str:
    """A dimension in words: ``1 to 4``, ``1e-05 to 0.1, log``, ``0.8, 0.9``."""
    if isinstance(dimension, Choice):
        return ", ".join(word(value) for value in dimension.options)
    low, high = dimension.ends()
    return f"{word(low)} to {word(high)}{', log' if dimension.log else ''}"


def points(space: Space) -> int | None:
    """How many combinations a space holds; None where a dimension cannot be counted. Of an empty space: 1."""
    counts = [dimension.values() for dimension in space.values()]
    return None if None in counts else math.prod(len(values or ()) for values in counts)


def point(space: Space, index: int) -> dict[str, Any]:
    """Combination ``index`` of all that a countable space holds, the last setting changing first."""
    found = {}
    for key, dimension in reversed(list(space.items())):
        values = dimension.values()
        if values is None:
            raise PrismError(f"{key} has no values to count.")
        index, place = divmod(index, len(values))
        found[key] = values[place]
    return dict(reversed(found.items()))


def at(space: Space, owner: str) -> Iterator[tuple[str, Dimension]]:
    """The dimensions of a space under full setting paths: ``reg`` of ``model`` is ``model.reg``; ``train.lr`` stays."""
    for key, dimension in space.items():
        yield (key if key.startswith(TRAIN) else f"{owner}.{key}"), dimension
