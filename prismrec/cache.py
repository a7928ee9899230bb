"""Neighbour lists remembered on disk by the content they were made from, never by a file name somebody chose."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from pathlib import Path

import torch
from torch import Tensor

from prismrec import graphs
from prismrec.errors import PrismError
from prismrec.io import load_tensors, save_tensors

_VERSION = "knn 2"  # of the algorithm: a change of its results changes every key
_WORTH = 1 << 30  # multiply-adds below which finding neighbours is as quick as remembering them


def folder() -> Path:
    """``$PRISMREC_CACHE``, else the user's cache folder of this platform."""
    if "PRISMREC_CACHE" in os.environ:
        return Path(os.environ["PRISMREC_CACHE"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "prismrec" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "prismrec"


def knn(values: Tensor, present: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``graphs.knn``, remembered: the same features, mask and k are never searched twice on a machine.

    A cache that cannot be read is made anew; one that cannot be written costs only the next run's time.
    """
    if values.shape[0] ** 2 * values.shape[1] < _WORTH:
        return graphs.knn(values, present, k)
    path = folder() / f"knn-{_key(values, present, k)}.safetensors"
    try:
        found = load_tensors(path)
        return found["ids"].to(values.device), found["cosine"].to(values.device)
    except PrismError:
        ids, cosine = graphs.knn(values, present, k)
    with contextlib.suppress(OSError):
        save_tensors(path, {"ids": ids, "cosine": cosine})
    return ids, cosine


def _key(values: Tensor, present: Tensor, k: int) -> str:
    sha = hashlib.sha256(f"{_VERSION} {k} {tuple(values.shape)} {values.dtype} {torch.__version__}".encode())
    sha.update(present.cpu().numpy().tobytes())
    for part in values.split(65536):
        sha.update(part.cpu().contiguous().numpy().data)
    return sha.hexdigest()[:32]
