"""What features go through before models see them: standardise, PCA, whiten, unit length; fitted once, kept, and used again.

A chain is written as steps in their order, ``standardise,pca:128,unit``:

| step | of a row x |
|---|---|
| ``standardise`` | (x − mean) / standard deviation, column by column; a column that never changes becomes 0 |
| ``pca:K`` | (x − mean) V, V the K directions of most variance; ``pca:0.95`` takes as many as hold that share of it |
| ``whiten``, ``whiten:K`` | the same, each direction divided by its standard deviation |
| ``unit`` | x / ‖x‖ |

Fitted parameters are plain arrays named ``<position>.<step>.<what>``, so that a chain can be read back from them alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prismrec.encode.scratch import table
from prismrec.errors import PrismError, nearest

Parameters = Mapping[str, np.ndarray]
_BLOCK = 8192
_FLAT = 1e-6
"""Directions with less than this share of the largest standard deviation hold rounding errors: they are left out."""


@dataclass(frozen=True)
class Step:
    """One step of a chain. ``size``: how many directions are kept (an integer > 1), or which share of the variance."""

    name: str
    size: float | None = None

    def __str__(self) -> str:
        return self.name if self.size is None else f"{self.name}:{self.size:g}"


def parse(text: str) -> tuple[Step, ...]:
    """``standardise,pca:128`` → its steps; ``none`` and the empty text → none. Raises ``PrismError``."""
    if text.strip() in ("", "none"):
        return ()
    return tuple(_step(part.strip()) for part in text.split(","))


def _step(text: str) -> Step:
    name, colon, number = text.partition(":")
    if name not in _FIT:
        raise PrismError(f"There is no transform {name!r}. {nearest(name, _FIT)}")
    if not colon:
        if name == "pca":
            raise PrismError(
                "pca needs to know how much to keep, such as pca:128, or pca:0.95 for 95 % of the variance."
            )
        return Step(name)
    try:
        size = float(number)
    except ValueError:
        size = 0.0
    if name not in ("pca", "whiten") or not (0 < size < 1 or (size >= 1 and size == int(size))):
        raise PrismError(
            f"The transform {text!r} is not understood; expected standardise, unit, pca:K or whiten:K with a whole number K of "
            "directions or a share of the variance between 0 and 1."
        )
    return Step(name, size)


def fit(values: np.ndarray, rows: np.ndarray, steps: Sequence[Step]) -> dict[str, np.ndarray]:
    """The parameters of a chain, from the ``rows`` (positions) of ``values`` (n, d), read in blocks.

    A chain asks for at least two rows. PCA keeps fewer directions than asked for where the rows have no more.
    """
    found: dict[str, np.ndarray] = {}
    if steps and len(rows) < 2:
        raise PrismError(
            f"The transform {','.join(map(str, steps))} is fitted to {len(rows)} items, which have no spread; give at least "
            "two items with this modality, or --transform none."
        )
    for position, step in enumerate(steps):
        before = dict(found)

        def block(at: np.ndarray, before: Parameters = before) -> np.ndarray:
            return apply(np.asarray(values[at]), before).astype(np.float64)

        for name, array in _FIT[step.name](block, rows, step.size).items():
            found[f"{position}.{step.name}.{name}"] = array
    return found


def apply(values: np.ndarray, parameters: Parameters) -> np.ndarray:
    """A fitted chain on (n, d) → (n, k) float32. Raises ``PrismError`` for another width than it was fitted to."""
    out = np.asarray(values, dtype=np.float32)
    for position, name in _steps(parameters):
        part = {key.split(".")[2]: array for key, array in parameters.items() if key.startswith(f"{position}.")}
        if name == "unit":
            out = out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
            continue
        if out.shape[1] != len(part["mean"]):
            raise PrismError(
                f"The step {name} of the transform was fitted to {len(part['mean'])} numbers a row, but these have "
                f"{out.shape[1]}; use the encoder that it was fitted with."
            )
        out = out - part["mean"]
        out = out @ part["matrix"] if "matrix" in part else out * part["scale"]
    return np.ascontiguousarray(out, dtype=np.float32)


def transformed(values: np.ndarray, parameters: Parameters, dtype: str = "float32") -> np.ndarray:
    """``apply`` in blocks, as ``dtype``. Raises ``PrismError`` where float16 cannot hold a number."""
    width = apply(np.asarray(values[:1]), parameters).shape[1]
    out = table(len(values), width, dtype)
    limit = float(np.finfo(out.dtype).max)
    for start in range(0, len(values), _BLOCK):
        block = apply(np.asarray(values[start : start + _BLOCK]), parameters)
        if (largest := float(np.abs(block).max(initial=0))) > limit:
            raise PrismError(
                f"A feature of {largest:g} does not fit into {dtype}, which ends at {limit:g}; add standardise or unit to "
                "the transform, or keep float32."
            )
        out[start : start + _BLOCK] = block
    return out


def written(parameters: Parameters) -> str:
    """The chain in words: ``standardise,pca:128``."""
    sizes = {key.split(".")[0]: a.shape[1] for key, a in parameters.items() if key.endswith(".matrix")}
    return ",".join(f"{name}:{sizes[str(at)]}" if str(at) in sizes else name for at, name in _steps(parameters))


def _steps(parameters: Parameters) -> list[tuple[int, str]]:
    return sorted({(int(key.split(".")[0]), key.split(".")[1]) for key in parameters})


Block = Callable[[np.ndarray], np.ndarray]


def _moments(block: Block, rows: np.ndarray, *, full: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,), and covariance (d, d) or variances (d,), in double precision, in two passes of blocks."""
    parts = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
    mean = np.asarray(sum(block(part).sum(axis=0) for part in parts) / len(rows))
    second: np.ndarray | None = None
    for part in parts:
        centred = block(part) - mean
        more = centred.T @ centred if full else (centred**2).sum(axis=0)
        second = more if second is None else second + more
    assert second is not None
    return mean, second / len(rows)


def _directions(block: Block, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (d,), variances (k,) falling, and their directions (d, k), in double precision."""
    width = block(rows[:1]).shape[1]
    if len(rows) >= width:
        mean, covariance = _moments(block, rows, full=True)
        variance, directions = np.linalg.eigh(covariance)
        return mean, variance[::-1].clip(0), directions[:, ::-1]
    # fewer rows than columns: the same from the inner products of rows, which are fewer
    centred = block(rows)
    mean = centred.mean(axis=0)
    centred = centred - mean
    variance, weights = np.linalg.eigh(centred @ centred.T / len(rows))
    variance, weights = variance[::-1].clip(0), weights[:, ::-1]
    directions = centred.T @ weights
    return mean, variance, directions / np.maximum(np.linalg.norm(directions, axis=0), 1e-300)


def _fit_standardise(block: Block, rows: np.ndarray, size: float | None) -> dict[str, np.ndarray]:
    mean, variance = _moments(block, rows, full=False)
    spread = np.sqrt(variance)
    moves = spread > _FLAT * max(spread.max(initial=0), np.abs(mean).max(initial=0), 1e-12)
    scale = np.divide(1, spread, out=np.zeros_like(spread), where=moves)
    return {"mean": mean.astype(np.float32), "scale": scale.astype(np.float32)}


def _fit_pca(block: Block, rows: np.ndarray, size: float | None, *, whiten: bool = False) -> dict[str, np.ndarray]:
    mean, variance, directions = _directions(block, rows)
    real = int((np.sqrt(variance) > _FLAT * np.sqrt(variance[0])).sum()) if variance[0] > 0 else 0
    if not real:
        raise PrismError("All items have the same features, so no direction has any variance; use --transform none.")
    if size is None:
        keep = real
    elif size < 1:
        share = np.cumsum(variance) / variance.sum()
        keep = min(real, int(np.searchsorted(share, size - 1e-12)) + 1)
    else:
        keep = min(real, int(size))
    matrix = directions[:, :keep]
    # either sign is an eigenvector: the largest entry is positive, so that every machine writes the same
    matrix = matrix * np.sign(matrix[np.abs(matrix).argmax(axis=0), np.arange(keep)])
    if whiten:
        matrix = matrix / np.sqrt(variance[:keep])
    return {
        "mean": mean.astype(np.float32),
        "matrix": np.ascontiguousarray(matrix, dtype=np.float32),
        "variance": variance[:keep].astype(np.float32),
        "share": np.array([variance[:keep].sum() / variance.sum()], dtype=np.float32),
    }


def _fit_whiten(block: Block, rows: np.ndarray, size: float | None) -> dict[str, np.ndarray]:
    return _fit_pca(block, rows, size, whiten=True)


def _fit_unit(block: Block, rows: np.ndarray, size: float | None) -> dict[str, np.ndarray]:
    return {"length": np.ones(1, dtype=np.float32)}


_FIT: Mapping[str, Callable[[Block, np.ndarray, float | None], dict[str, np.ndarray]]] = {
    "standardise": _fit_standardise,
    "pca": _fit_pca,
    "whiten": _fit_whiten,
    "unit": _fit_unit,
}
