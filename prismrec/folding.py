"""The vector of somebody of whom only some items are known, fitted to frozen item vectors: in NumPy, for all who need it."""

from __future__ import annotations

import numpy as np

NOTHING = 1.0
"""Weight of all items together that nothing in particular is known of."""
PENALTY = 100.0
"""Weight of the vector's length, in units of the mean square of an item's numbers.

Both were chosen on the validation part of ML-100k (docs/cold.md).
"""


def fitted(taken: np.ndarray, products: np.ndarray, n_items: int) -> np.ndarray:
    """(d,) float32 of whoever took the items of vectors ``taken`` (n, d), all different, of ``n_items`` I.

    He takes what he took, nothing in particular of the rest, and is no longer than need be,

    u = argmin Σ_{i taken} (1 − ⟨u, y_i⟩)² + (a / I) Σ_i ⟨u, y_i⟩² + b s ‖u‖²

    with s the mean of ‖y‖² / d: a ridge regression, solved in closed form; a, b are ``NOTHING`` and ``PENALTY``. (The fit of a
    user in Hu, Koren & Volinsky, ICDM 2008, doi 10.1109/ICDM.2008.22.) ``products`` is YᵀY (d, d) of all items' vectors Y in
    double precision.
    """
    y, width = taken.astype(np.float64), taken.shape[1]
    size = np.trace(products) / (n_items * width)
    left = y.T @ y + products * (NOTHING / n_items) + np.eye(width) * max(PENALTY * size, 1e-12)
    return np.linalg.solve(left, y.sum(0)).astype(np.float32)
