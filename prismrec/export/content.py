"""What items look like and say, as a few numbers each: features brought to unit length, on their main axes."""

from __future__ import annotations

import numpy as np

from prismrec.data.dataset import Modality
from prismrec.export.tables import Dense

WIDTH = 128
"""Most axes that are kept."""
_BLOCK = 1 << 13


def content_of(modality: Modality, width: int = WIDTH, seed: int = 0) -> tuple[Dense, np.ndarray, float]:
    """Vectors (I, c) float16 whose inner products are nearly the cosines of the features; axes (r, c); the share kept.

    The axes are the first right singular vectors of the features, each item at unit length (a randomised search for them, N.
    Halko et al., SIAM Review 2011, doi 10.1137/090771806). The share is that of the squared length that the axes hold. Items
    without the modality are zero.
    """
    r = modality.width
    axes = np.eye(r, dtype=np.float32) if r <= width else _axes(modality, width, seed)
    values = np.zeros((len(modality.values), axes.shape[1]), np.float32)
    whole = 0.0
    for start in range(0, len(values), _BLOCK):
        rows = _unit(modality, start)
        whole += float((rows**2).sum(dtype=np.float64))
        values[start : start + _BLOCK] = rows @ axes
    kept = float((values**2).sum(dtype=np.float64)) / whole if whole else 1.0
    return Dense(values).as_type("float16"), axes, min(kept, 1.0)


def _unit(modality: Modality, start: int) -> np.ndarray:
    """A block of features (n, r) float32, each at unit length, zero where the modality is absent."""
    rows: np.ndarray = modality.values[start : start + _BLOCK].astype(np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(length > 0, length, 1)
    rows[~modality.present[start : start + _BLOCK]] = 0
    return rows


def _axes(modality: Modality, width: int, seed: int) -> np.ndarray:
    """The first ``width`` right singular vectors (r, width): two power iterations from a random start."""
    rng = np.random.default_rng(seed)
    axes = rng.standard_normal((modality.width, min(modality.width, width + 16))).astype(np.float32)
    for _ in range(3):
        product = np.zeros(axes.shape)
        for start in range(0, len(modality.values), _BLOCK):
            rows = _unit(modality, start)
            product += rows.T @ (rows @ axes)
        axes = np.linalg.qr(product)[0].astype(np.float32)
    small = np.zeros((axes.shape[1], axes.shape[1]))
    for start in range(0, len(modality.values), _BLOCK):
        part = _unit(modality, start) @ axes
        small += part.T @ part
    vectors = np.linalg.eigh(small)[1][:, ::-1][:, :width]
    return np.ascontiguousarray(axes @ vectors.astype(np.float32))
