"""The data card: what was encoded, what was not and why, and whether the features say anything, as a record and a picture.

Two figures tell sense from nonsense. **Neighbours** of a few items, beside each other on a sheet: a person sees at once
whether they look or read alike, and whether pictures belong to their items. **Shared words**: how often an item and its
nearest neighbour have a category in common, beside two items drawn at random.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from prismrec.data.dataset import PARTS, Dataset
from prismrec.encode import transform
from prismrec.encode.features import Made
from prismrec.encode.pipeline import Content

FOLDER = "cards"
CATEGORY = ("category", "categories", "genres", "genre", "brand")
_QUERIES, _NEAREST, _SAMPLE, _PAIRED, _EXAMPLES = 8, 6, 400, 200, 5


@dataclass(frozen=True)
class Shown:
    """An item on the sheet: its position, its id, what it is called, its cosine with the item that it is near to."""

    item: int
    id: str
    title: str
    cosine: float = 1.0


@dataclass(frozen=True)
class Card:
    """What a card holds. ``reasons`` and ``notes``: in words → how many items, with a few of their ids."""

    data: str
    modality: str
    kind: str
    encoder: str
    key: str
    columns: tuple[str, ...]
    transform: str
    fitted_to: int
    variance_kept: float | None
    width: int
    dtype: str
    items: int
    present: int
    interactions_covered: float | None
    reasons: Mapping[str, tuple[int, list[str]]]
    notes: Mapping[str, tuple[int, list[str]]]
    doubles: int
    repeated: Sequence[tuple[int, list[str]]]
    neighbours: Sequence[tuple[Shown, list[Shown]]]
    shared: tuple[str, float, float] | None
    alike: float
    seconds: float
    encoded: int
    known: int
    contents: Sequence[Content]

    def sentences(self) -> list[str]:
        """The card in a few sentences, as the command prints them."""
        covered = self.interactions_covered
        out = [
            f"{self.present:,} of {self.items:,} items have {self.modality} features ({self.present / max(self.items, 1):.1%})"
            + ("." if covered is None else f"; {covered:.1%} of interactions are with them.")
        ]
        for what, found in ((f"Without {self.kind}", self.reasons), ("Handled", self.notes)):
            if found:
                out.append(f"{what}: " + ", ".join(f"{name} ({count:,})" for name, (count, _) in found.items()) + ".")
        if self.repeated:
            count, ids = self.repeated[0]
            repeat = "items repeat" if self.doubles > 1 else "item repeats"
            of = f"the most frequent stands for {count:,} ({', '.join(ids)})"
            out.append(f"{self.doubles:,} {repeat} the {self.kind} of another; {of}.")
        if self.shared:
            column, near, chance = self.shared
            out.append(
                f"Nearest neighbours share a word of {column} in {near:.0%} of cases; items at random in {chance:.0%}."
            )
        if self.alike > 0.95:
            out.append(f"Items are all alike: the mean cosine of two is {self.alike:.2f}. Add standardise or whiten to the "
                       "transform, or look whether the encoder is the right one.")  # fmt: skip
        return out

    def record(self) -> dict[str, Any]:
        """For ``card.json``."""
        found = asdict(replace(self, contents=()))  # which may be millions, and are no news
        del found["contents"]
        return found


def card_of(dataset: Dataset, made: Made) -> Card:
    """The card of features that were just made: ``dataset`` is what ``add_features`` gave."""
    modality = dataset.modalities[made.modality]
    values, present = modality.values, modality.present
    encoded = made.encoded
    title = _titles(dataset)
    share = [a for name, a in made.parameters.items() if name.endswith(".share")]
    unit = _Unit(values, present)
    groups = Counter(encoded.same.values())
    ids = dataset.items.external
    return Card(
        data=dataset.name,
        modality=made.modality,
        kind=made.encoder.kind,
        encoder=made.encoder.name,
        key=made.encoder.key,
        columns=made.gathered.columns,
        transform=transform.written(made.parameters) or "none",
        fitted_to=made.fitted_to,
        variance_kept=float(np.prod([float(a[0]) for a in share])) if share else None,
        width=modality.width,
        dtype=values.dtype.name,
        items=dataset.n_items,
        present=int(present.sum()),
        interactions_covered=_covered(dataset, present),
        reasons=_examples({i: (why,) for i, why in encoded.reasons.items()}, ids),
        notes=_examples(encoded.notes, ids),
        doubles=len(encoded.same),
        repeated=[
            (count + 1, [str(ids[first]), *(str(ids[i]) for i, of in encoded.same.items() if of == first)][:_EXAMPLES])
            for first, count in groups.most_common(_EXAMPLES)
        ],
        neighbours=[
            (Shown(q, str(ids[q]), title[q]), [Shown(i, str(ids[i]), title[i], c) for i, c in near])
            for q, near in _near(unit, _queries(dataset, present), encoded.same, _NEAREST)
        ],
        shared=_shared(dataset, unit, encoded.same),
        alike=unit.alike(),
        seconds=encoded.progress.seconds,
        encoded=encoded.progress.encoded,
        known=encoded.progress.known,
        contents=made.gathered.contents,
    )


@contextmanager
def carried(source: Path, output: Path) -> Iterator[None]:
    """The cards in the folder ``source`` are in ``output`` afterwards too, even where that replaces it meanwhile."""
    if not (source / FOLDER).is_dir():
        yield
        return
    with tempfile.TemporaryDirectory() as kept:
        shutil.copytree(source / FOLDER, Path(kept) / FOLDER)
        yield
        shutil.copytree(Path(kept) / FOLDER, output / FOLDER, dirs_exist_ok=True)


class _Unit:
    """Rows of length 1, made when asked for: a table that is memory-mapped never stands in memory whole."""

    def __init__(self, values: np.ndarray, present: np.ndarray) -> None:
        self.values, self.rows = values, np.flatnonzero(present)

    def at(self, rows: np.ndarray) -> np.ndarray:
        """(n, d) float32."""
        found = np.asarray(self.values[rows], dtype=np.float32)
        return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12))

    def nearest(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Items and cosines (q, k) by falling cosine, the query itself among them."""
        ids = np.empty((len(queries), 0), dtype=np.int64)
        cosines = np.empty((len(queries), 0), dtype=np.float32)
        wanted = self.at(queries)
        for start in range(0, len(self.rows), 8192):
            rows = self.rows[start : start + 8192]
            found = wanted @ self.at(rows).T
            cosines = np.concatenate([cosines, found], axis=1)
            ids = np.concatenate([ids, np.broadcast_to(rows, found.shape)], axis=1)
            best = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
            cosines, ids = np.take_along_axis(cosines, best, axis=1), np.take_along_axis(ids, best, axis=1)
        return ids, cosines

    def sample(self, size: int) -> np.ndarray:
        """Items with features, drawn without looking."""
        return np.random.default_rng(0).choice(self.rows, min(size, len(self.rows)), replace=False)

    def alike(self) -> float:
        """The mean cosine of two different items."""
        some = self.at(self.sample(_SAMPLE)).astype(np.float64)
        n = len(some)
        return float((np.square(some.sum(axis=0)).sum() - n) / max(n * (n - 1), 1))


def _near(
    unit: _Unit, queries: np.ndarray, same: Mapping[int, int], k: int
) -> list[tuple[int, list[tuple[int, float]]]]:
    """Each query with the ``k`` nearest items, of each content one, of its own none."""
    ids, cosines = unit.nearest(queries, 2 * k + 4)
    out = []
    for query, row, by in zip(queries.tolist(), ids.tolist(), cosines.tolist(), strict=True):
        seen, others = {same.get(query, query)}, []
        for item, cosine in zip(row, by, strict=True):
            if (content := same.get(item, item)) not in seen:
                seen.add(content)
                others.append((item, cosine))
        out.append((query, others[:k]))
    return out


def _queries(dataset: Dataset, present: np.ndarray) -> np.ndarray:
    """Half of them the items with most training rows, which a person knows; half drawn without looking."""
    rows = dataset.interactions
    train = rows.item if rows.split is None else rows.item[rows.split == PARTS["train"]]
    degree = np.where(present, np.bincount(train, minlength=dataset.n_items), -1)
    known = np.argsort(-degree, kind="stable")[: min(_QUERIES // 2, int(present.sum()))]
    rest = np.setdiff1d(np.flatnonzero(present), known)
    drawn = np.random.default_rng(0).choice(rest, min(_QUERIES - len(known), len(rest)), replace=False)
    return np.concatenate([known, drawn]).astype(np.int64)


def _shared(dataset: Dataset, unit: _Unit, same: Mapping[int, int]) -> tuple[str, float, float] | None:
    """The first known column of categories: how often neighbours, and how often any two, have a word of it in common."""
    column = next((name for name in CATEGORY if name in dataset.item_table.columns), None)
    if column is None or len(unit.rows) < 3:
        return None
    words = [set(_split(value)) for value in dataset.item_table[column].to_list()]
    queries = unit.sample(_SAMPLE)
    nearest = [(q, near[0][0]) for q, near in _near(unit, queries, same, 1) if near]
    near, chance = (_sharing(words, pairs) for pairs in (nearest, combinations(queries[:_PAIRED].tolist(), 2)))
    if near is None or chance is None:
        return None
    return column, near, chance


def _sharing(words: Sequence[set[str]], pairs: Iterable[tuple[int, int]]) -> float | None:
    """In which share of the pairs that have words at all both have one in common."""
    found = [bool(words[a] & words[b]) for a, b in pairs if words[a] and words[b]]
    return sum(found) / len(found) if found else None


def _split(value: Any) -> list[str]:
    if value is None:
        return []
    parts = value if isinstance(value, list) else str(value).replace("|", ",").split(",")
    return [part.strip() for part in map(str, parts) if part.strip()]


def _covered(dataset: Dataset, present: np.ndarray) -> float | None:
    rows = dataset.interactions
    train = rows.item if rows.split is None else rows.item[rows.split == PARTS["train"]]
    return float(present[train].mean()) if len(train) else None


def _examples(said: Mapping[int, tuple[str, ...]], ids: pl.Series) -> dict[str, tuple[int, list[str]]]:
    found: dict[str, list[int]] = {}
    for item, notes in sorted(said.items()):
        for note in notes:
            found.setdefault(note, []).append(item)
    ordered = sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    return {note: (len(items), [str(ids[i]) for i in items[:_EXAMPLES]]) for note, items in ordered}


def _titles(dataset: Dataset) -> list[str]:
    table = dataset.item_table
    column = next((name for name in ("title", "name") if name in table.columns), "")
    ids = [str(item) for item in dataset.items.external.to_list()]
    if not column:
        return ids
    return [title or item for title, item in zip(table[column].cast(pl.String).to_list(), ids, strict=True)]
