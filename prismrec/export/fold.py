"""The vector of somebody of whom only some items are known, fitted to frozen item vectors: ``prismrec.sides`` in NumPy."""

from __future__ import annotations

import numpy as np

from prismrec.export.tables import Dense

NOTHING = 1.0
"""Weight of all items together that nothing in particular is known of."""
PENALTY = 100.0
"""Weight of the vector's length, in units of the mean square of an item's numbers."""


def gram(items: Dense) -> np.ndarray:
    """YᵀY (d, d) in double precision of items Y (I, d)."""
    total: np.ndarray = np.zeros((items.width, items.width))
    for start in range(0, len(items), 1 << 14):
        block = items.rows(start, min(start + (1 << 14), len(items))).astype(np.float64)
        total = total + block.T @ block
    return total


def folded(items: Dense, taken: np.ndarray, products: np.ndarray) -> np.ndarray:
    """(1, d) float32 of whoever took the items ``taken`` (n,), all different; ``products`` is ``gram(items)``.

    u = argmin Σ_{i taken} (1 − ⟨u, y_i⟩)² + (a / I) Σ_i ⟨u, y_i⟩² + b s ‖u‖²

    with s the mean of ‖y‖² / d, a and b ``NOTHING`` and ``PENALTY``: a ridge regression, solved in closed form. (The fit of a
    user in Hu, Koren & Volinsky, ICDM 2008, doi 10.1109/ICDM.2008.22.)
    """
    y = items.take(taken).astype(np.float64)
    n, d = len(items), items.width
    size = np.trace(products) / (n * d)
    left = y.T @ y + products * (NOTHING / n) + np.eye(d) * max(PENALTY * size, 1e-12)
    return np.linalg.solve(left, y.sum(0)).astype(np.float32)[None]
