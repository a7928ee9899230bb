"""Neighbour lists remembered on disk by the content they were made from, never by a file name somebody chose."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prismrec import graphs
from prismrec.errors import PrismError
from prismrec.io import load_tensors, save_tensors

_EXACT, _NEAR = "knn 2", "near 1"  # versions of the algorithms: a change of results changes every key
_WORTH = 1 << 30  # multiply-adds below which finding neighbours is as quick as remembering them


def folder() -> Path:
    """``$PRISMREC_CACHE``, else the user's cache folder of this platform."""
    if "PRISMREC_CACHE" in os.environ:
        return Path(os.environ["PRISMREC_CACHE"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "prismrec" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "prismrec"


def knn(
    values: Tensor,
    present: Tensor,
    k: int,
    recall: float = 1.0,
    told: Callable[[dict[str, Any]], None] = lambda found: None,
) -> tuple[Tensor, Tensor]:
    """``graphs.knn``, remembered: the same features, mask and k are never searched twice on a machine.

    ``recall`` below 1: ``graphs.Near`` in its place, and ``told`` is given what it says of itself. Where comparing all with all
    is quick, that is done. A cache that cannot be read is made anew; one that cannot be written costs only the next run's time.
    """
    if values.shape[0] ** 2 * values.shape[1] < _WORTH:
        return graphs.knn(values, present, k)
    near = None if recall >= 1 else graphs.Near(recall)
    version = _EXACT if near is None else f"{_NEAR} {recall}"
    path = folder() / f"knn-{_key(values, present, k, version)}.safetensors"
    try:
        made = load_tensors(path)
    except PrismError:
        ids, cosine = (near or graphs.knn)(values, present, k)
        made = {"ids": ids, "cosine": cosine}
        if near is not None:
            made |= {f"found.{name}": torch.tensor(number) for name, number in near.told()[-1].items()}
        with contextlib.suppress(OSError):
            save_tensors(path, made)
    if near is not None:
        told({name.removeprefix("found."): n.item() for name, n in made.items() if name.startswith("found.")})
    return made["ids"].to(values.device), made["cosine"].to(values.device)


def _key(values: Tensor, present: Tensor, k: int, version: str = _EXACT) -> str:
    sha = hashlib.sha256(f"{version} {k} {tuple(values.shape)} {values.dtype} {torch.__version__}".encode())
    sha.update(present.cpu().numpy().tobytes())
    for part in values.split(65536):
        sha.update(part.cpu().contiguous().numpy().data)
    return sha.hexdigest()[:32]
