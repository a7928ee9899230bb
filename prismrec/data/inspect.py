"""What a data set holds and what is odd about it, as one record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prismrec.data.dataset import PARTS, Dataset, Interactions

QUANTILES: Mapping[str, float] = {
    "min": 0.0, "10%": 0.1, "25%": 0.25, "50%": 0.5, "75%": 0.75, "90%": 0.9, "99%": 0.99, "max": 1.0
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A part of a split. ``cold_rows``: rows on items that training never shows; ``users_without``: users with no row."""

    rows: int
    users: int
    items: int
    users_without: int
    cold_rows: int


@dataclass(frozen=True)
class Coverage:
    """A modality: ``width`` and ``type`` of its features, how many items have it, and the share of items that do."""

    width: int
    type: str
    present: int
    missing: int
    share: float


@dataclass(frozen=True)
class Inspection:
    """All that ``inspect`` finds. Degrees are rows per user or item over those that have any.

    ``density`` = distinct pairs / (users × items), ``sparsity`` = 1 − density. ``duplicates``: rows beyond the first of a
    pair. ``leakage``: pairs of user and item that stand in both parts. ``earlier_test_rows``: test rows whose user trains
    on a later row (None without times). ``ranges``: least, mean and largest weight, rating and timestamp.
    """

    name: str
    fingerprint: str
    users: int
    items: int
    interactions: int
    density: float
    sparsity: float
    users_without_rows: int
    items_without_rows: int
    user_degree: Mapping[str, float]
    item_degree: Mapping[str, float]
    duplicates: int
    parts: Mapping[str, Part]
    leakage: Mapping[str, int]
    earlier_test_rows: int | None
    modalities: Mapping[str, Coverage]
    items_without_modality: int
    ranges: Mapping[str, tuple[float, float, float]]
    item_columns: tuple[str, ...]
    provenance: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers: ready for JSON."""
        return asdict(self)

    def remarks(self) -> list[str]:
        """Sentences on what deserves a look; none if all is in order."""
        found = []
        if self.duplicates:
            found.append(
                f"{self.duplicates:,} rows repeat a pair of user and item: `prismrec data prepare` drops them."
            )
        found += [f"{n:,} pairs stand in both {parts}: leakage." for parts, n in self.leakage.items() if n]
        if not self.parts:
            found.append("There is no split yet: `prismrec data split` makes one.")
        for name, part in self.parts.items():
            if not part.rows:
                found.append(f"The {name} part is empty.")
            elif part.users_without and name == "train":
                found.append(f"{part.users_without:,} users have no training row: models can only guess for them.")
            if part.cold_rows:
                share = part.cold_rows / part.rows
                found.append(f"{part.cold_rows:,} {name} rows ({share:.1%}) are on items never seen in training.")
        for name, coverage in self.modalities.items():
            if coverage.missing:
                found.append(
                    f"{coverage.missing:,} items ({1 - coverage.share:.1%}) lack {name} features (all-zero rows)."
                )
        return found


def inspect(dataset: Dataset) -> Inspection:
    """Count everything. Reads features only for the fingerprint."""
    rows = dataset.interactions
    user_rows = np.bincount(rows.user, minlength=dataset.n_users)
    item_rows = np.bincount(rows.item, minlength=dataset.n_items)
    pairs = _pairs(rows)
    distinct = len(np.unique(pairs))
    density = distinct / max(dataset.n_users * dataset.n_items, 1)
    none_present = np.ones(dataset.n_items, bool)
    for modality in dataset.modalities.values():
        none_present &= ~modality.present
    return Inspection(
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        users=dataset.n_users,
        items=dataset.n_items,
        interactions=len(rows),
        density=density,
        sparsity=1 - density,
        users_without_rows=int((user_rows == 0).sum()),
        items_without_rows=int((item_rows == 0).sum()),
        user_degree=_quantiles(user_rows[user_rows > 0]),
        item_degree=_quantiles(item_rows[item_rows > 0]),
        duplicates=len(rows) - distinct,
        parts={} if rows.split is None else {name: _part(dataset, name) for name in PARTS},
        leakage={} if rows.split is None else _leakage(pairs, rows.split),
        earlier_test_rows=_earlier(dataset),
        modalities={
            name: Coverage(
                m.width, m.values.dtype.name, n := int(m.present.sum()), len(m.present) - n, float(m.present.mean())
            )
            for name, m in dataset.modalities.items()
        },
        items_without_modality=int(none_present.sum()) if dataset.modalities else 0,
        ranges={
            name: (float(column.min()), float(column.mean(dtype=np.float64)), float(column.max()))
            for name in ("weight", "rating", "timestamp")
            if (column := getattr(rows, name)) is not None and len(rows)
        },
        item_columns=tuple(dataset.item_table.columns),
        provenance=dict(dataset.provenance),
    )


def _pairs(rows: Interactions) -> np.ndarray:
    pairs: np.ndarray = (rows.user.astype(np.int64) << 32) | rows.item
    return pairs


def _quantiles(degree: np.ndarray) -> dict[str, float]:
    if not len(degree):
        return {}
    values = np.quantile(degree, list(QUANTILES.values()))
    return {"mean": float(degree.mean()), **{name: float(v) for name, v in zip(QUANTILES, values, strict=True)}}


def _part(dataset: Dataset, name: str) -> Part:
    rows = dataset.interactions.part(name)
    trained = np.zeros(dataset.n_items, bool)
    trained[dataset.interactions.part("train").item] = True
    users = len(np.unique(rows.user))
    return Part(len(rows), users, len(np.unique(rows.item)), dataset.n_users - users, int((~trained[rows.item]).sum()))


def _leakage(pairs: np.ndarray, split: np.ndarray) -> dict[str, int]:
    parts = {name: np.unique(pairs[split == code]) for name, code in PARTS.items()}
    couples = [("train", "valid"), ("train", "test"), ("valid", "test")]
    return {f"{a} and {b}": len(np.intersect1d(parts[a], parts[b], assume_unique=True)) for a, b in couples}


def _earlier(dataset: Dataset) -> int | None:
    """Test rows whose user has a later training row."""
    rows = dataset.interactions
    if rows.split is None or rows.timestamp is None:
        return None
    train, test = rows.part("train"), rows.part("test")
    assert train.timestamp is not None and test.timestamp is not None
    newest = np.full(dataset.n_users, np.iinfo(np.int64).min)
    np.maximum.at(newest, train.user, train.timestamp)
    return int((test.timestamp < newest[test.user]).sum())
