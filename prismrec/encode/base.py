"""What an encoder is: pictures or texts in, one vector each out, and a key that stands for all that decides the vectors."""

from __future__ import annotations

import hashlib
import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from prismrec.errors import PrismError

Kind = Literal["image", "text"]
"""What an encoder reads: the bytes of a picture, or a text as UTF-8."""


class Unreadable(Exception):
    """A picture or text that gives no vector; ``str()`` of it is the reason under which the data card counts it."""


@dataclass(frozen=True)
class Ready:
    """A picture or text as the model takes it. ``notes``: what had to be done to it, as the data card counts it."""

    value: Any
    notes: tuple[str, ...] = ()


class Encoder(ABC):
    """Pictures or texts → vectors, in two steps, so that the first can run beside the second.

    ``prepare`` takes one content and is called by several threads at once; ``encode`` takes what ``prepare`` gave, a batch
    at a time. ``key``: 32 hexadecimal digits; two encoders of one key give the same vectors. ``transform``: what the vectors
    should go through where nothing else is asked for (see ``transform.parse``); empty for nothing.
    """

    kind: ClassVar[Kind]
    transform: ClassVar[str] = ""
    batch: ClassVar[int] = 64

    name: str
    key: str
    width: int

    @abstractmethod
    def prepare(self, content: bytes) -> Ready:
        """One content as the model takes it; raises ``Unreadable``."""

    @abstractmethod
    def encode(self, batch: Sequence[Any]) -> np.ndarray:
        """``value``\\ s that ``prepare`` gave → (n, ``width``) float32."""


def key_of(*parts: str) -> str:
    """32 hexadecimal digits that stand for all of ``parts``."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def versions(*packages: str) -> str:
    """The installed versions of packages whose arithmetic decides the vectors; a package that is absent is a PrismError."""
    try:
        return " ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    except importlib.metadata.PackageNotFoundError as error:
        raise lacking(str(error.name)) from None


def lacking(package: str) -> PrismError:
    """What to say where a package of the extra is not installed."""
    return PrismError(
        f'This encoder needs the package {package}, which is not installed; run: pip install "prismrec[encode]".'
    )
