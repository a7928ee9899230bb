"""The encoders that have a name, and how a name, a folder or a hub name becomes an encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prismrec.encode.base import Encoder, Kind
from prismrec.errors import PrismError, nearest


@dataclass(frozen=True)
class Settings:
    """Where and how a model runs: ``device`` (auto, cpu, cuda …), ``precision`` (auto, float32, bfloat16, float16)."""

    device: str = "auto"
    precision: str = "auto"


PLAIN = Settings()
Make = Callable[[Settings], Encoder]


@dataclass(frozen=True)
class KnownEncoder:
    """An encoder with a name: what it reads, its width, what it needs, in words."""

    name: str
    kinds: tuple[Kind, ...]
    width: int
    about: str
    source: str = ""


ENCODERS: tuple[KnownEncoder, ...] = (
    KnownEncoder("handcrafted", ("image",), 2124, "colour histograms and HOG, reduced to 128 by PCA; needs no weights"),
)

DEFAULT: Mapping[Kind, str] = {"image": "handcrafted"}


def load(name: str, kind: Kind, settings: Settings = PLAIN) -> Encoder:
    """The encoder of this name for this kind of content; see ``ENCODERS``. Raises ``PrismError``."""
    from prismrec.encode.handcrafted import Handcrafted

    if name == "handcrafted" and kind == "image":
        return Handcrafted()
    raise PrismError(f"There is no encoder {name!r} of {kind}. {nearest(name, [e.name for e in ENCODERS])}")
