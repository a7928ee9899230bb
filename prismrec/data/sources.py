"""``read``: one door for all layouts of data that PrismRec knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prismrec.data.dataset import Dataset
from prismrec.data.sources_mmrec import read_mmrec
from prismrec.errors import PrismError


def read(path: str | Path, **options: Any) -> Dataset:
    """The data at ``path``, whatever its layout."""
    path = Path(path)
    inter = sorted(path.glob("*.inter"))
    if not inter:
        raise PrismError(f"{path} holds no *.inter file.")
    return read_mmrec(inter[0], **options)
