"""Subjects of a diagnosis: planted catalogues with models on them that were never trained, so that what they do is known."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from prismrec.data.synthetic import Planted, draw
from prismrec.diagnostics.subject import Subject
from prismrec.experiment import assemble, configure
from prismrec.sampling import generator

PLAIN: Mapping[str, Any] = {"n_users": 60, "n_items": 400, "modalities": {"image": 24, "text": 20}, "interactions": 8.0}


def planted(**settings: Any) -> Planted:
    """A small catalogue; the same settings are drawn once."""
    chosen = {**PLAIN, **settings}
    chosen["modalities"] = tuple(chosen["modalities"].items())
    return _planted(**chosen)


@lru_cache(maxsize=32)
def _planted(modalities: tuple[tuple[str, int], ...], **settings: Any) -> Planted:
    return draw(modalities=dict(modalities), **settings)


def shared_of(data: Planted, modality: str) -> np.ndarray:
    """(r, size) directions in the raw features of a modality along which the redundant factors lie, by least squares."""
    values = data.dataset.modalities[modality]
    factors, x = data.item["redundant"][values.present], values.values[values.present].astype(np.float64)
    found: np.ndarray = np.linalg.lstsq(factors - factors.mean(0), x - x.mean(0), rcond=None)[0].T
    return found


def assembled(
    data: Planted, model: str = "vbpr", clear: Mapping[str, Any] | None = None, dim: int = 16, seed: int = 0
) -> Subject:
    """A model before its first step, CLEAR (if asked for) with the directions of its first epoch."""
    settings = {"model.dim": dim} | {f"clear.{name}": value for name, value in (clear or {}).items()}
    cfg, _ = configure(data.dataset, model, ["clear"] if clear else [], settings=settings, seed=seed)
    development = data.dataset.development()
    assembly, _ = assemble(cfg, development, torch.device("cpu"))
    assembly.start_epoch(0, generator(seed))
    return Subject.of_assembly(assembly, development, cfg.label, config=cfg)
