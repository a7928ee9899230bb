"""PrismRec: multimodal recommendation, from a data set to honest rankings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from prismrec.recommender import Recommender as Recommender

__version__ = "0.1.0"
__all__ = ["Recommender", "__version__", "load", "read"]


def load(run: str | Path) -> Recommender:
    """A finished run folder as a Recommender."""
    from prismrec.recommender import Recommender

    return Recommender.load(run)


def __getattr__(name: str) -> Any:  # late, so that `prismrec --help` does not wait for torch
    if name == "Recommender":
        from prismrec.recommender import Recommender

        return Recommender
    if name == "read":
        from prismrec.data.sources import read

        return read
    raise AttributeError(f"module 'prismrec' has no attribute {name!r}")
