"""What is taken for the held-out item: is it like it in one modality and unlike it in another?

After the first observation of BR-MRS (2026, under review): that a mis-ranked item is close to the right one in one modality
and can be told from it in the other. Measured here on the first false positive of each user, beside random items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from prismrec.compare import interval_by_user
from prismrec.diagnostics.finding import Finding
from prismrec.diagnostics.neighbours import cosines
from prismrec.diagnostics.subject import Subject
from prismrec.diagnostics.subsets import held_out
from prismrec.errors import PrismError
from prismrec.figures import densities, grouped
from prismrec.nn import Raw
from prismrec.ranking import Csr, top_k
from prismrec.sides import paired
from prismrec.types import Reps

CLOSE = 0.95
"""Close: more alike than this share of random pairs."""
_DRAWS = 8  # random items a pair, among which the threshold is found


@dataclass(frozen=True)
class Confusions:
    """Similarity of targets to what was ranked above them: ``confused`` (n, M), and to random items: ``random`` (n, s, M).

    Cosines, a column a modality; NaN where an item lacks it.
    """

    modalities: tuple[str, ...]
    confused: np.ndarray
    random: np.ndarray

    @property
    def thresholds(self) -> np.ndarray:
        """(M,) the similarity that a share ``CLOSE`` of random items stays below."""
        return np.asarray(np.nanquantile(self.drawn, CLOSE, axis=0))

    @property
    def drawn(self) -> np.ndarray:
        """(n·s, M) the similarities to random items."""
        return self.random.reshape(-1, len(self.modalities))


def false_positives(reps: Reps, pairs: tuple[Tensor, Tensor], known: Csr) -> tuple[Tensor, Tensor, Tensor]:
    """Of each pair of a user and a target, the best-ranked item that is neither known nor held out, if it outscores the target.

    ``known``: of each of the U users, the items that are no mistake. Returns user, target and mistake of the pairs that have
    one, (n,) each; a target that is ranked above every mistake has none.
    """
    users, targets = (ids.to(reps.user.device) for ids in pairs)
    who, row = torch.unique(users, return_inverse=True)
    first = top_k(reps.user, reps.item.values, 1, known, who)
    wrong, above = first.items[row, 0], first.scores[row, 0]
    mistaken = (wrong >= 0) & (above > paired(reps.user, reps.item.values, users, targets))
    return users[mistaken], targets[mistaken], wrong[mistaken]


def compare(raw: Mapping[str, Raw], target: Tensor, wrong: Tensor, seed: int = 0, draws: int = _DRAWS) -> Confusions:
    """Cosines of targets (n,) with what they were taken for (n,), and with ``draws`` random other items each."""
    n_items = len(next(iter(raw.values())).values)
    rng = torch.Generator().manual_seed(seed)
    away = torch.randint(1, n_items, (len(target), draws), generator=rng).to(target.device)
    other = (target[:, None] + away) % n_items

    def columns(a: Tensor, b: Tensor) -> np.ndarray:
        found = []
        for features in raw.values():
            known = (features.present[a] & features.present[b]).cpu()
            values = cosines(features.values, a, b).cpu()
            found.append(torch.where(known, values, torch.nan).numpy())
        return np.stack(found, axis=1).astype(np.float64)

    random = columns(target.repeat_interleave(draws), other.reshape(-1))
    return Confusions(tuple(raw), columns(target, wrong), random.reshape(len(target), draws, len(raw)))


def tell(space: str, found: Confusions, user: np.ndarray) -> pl.DataFrame:
    """Rows of one space: mean similarities, and the shares of pairs that are close in which modalities.

    Columns space, measure, mistake, low and high (95 %, users redrawn; ``user`` (n,) says whose each pair is),
    random, independent. Shares are over pairs of items that have every modality. ``random``: the same of random items.
    ``independent``: the share that would be if being close in one modality said nothing of the others, from how often
    mistakes are close in each.
    """
    m = len(found.modalities)
    counted = [_count(n, m) for n in range(m + 1)]
    names = [f"{what} in {name}" for what in ("cosine", "close") for name in found.modalities] + counted
    ours = _columns(found.confused, found.thresholds)
    means, random = (np.nanmean(values, axis=0) for values in (ours, _columns(found.drawn, found.thresholds)))
    low, high = interval_by_user(ours, user)
    expected = np.ones(1)  # of 0, 1, … close modalities
    for p in means[m : 2 * m]:
        expected = np.convolve(expected, [1 - p, p])
    columns = {"mistake": means, "low": low, "high": high, "random": random}
    independent = pl.Series([None] * 2 * m + expected.tolist(), dtype=pl.Float64)
    return pl.DataFrame({"space": [space] * len(names), "measure": names, **columns, "independent": independent})


def _columns(cosine: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Cosines (n, M) → these, whether close in each (M), whether close in 0, 1, … M of them; NaN where an item lacks any."""
    close = np.where(np.isnan(cosine).any(1, keepdims=True), np.nan, cosine > thresholds)
    many = close.sum(1, keepdims=True)
    counts = np.where(np.isnan(many), np.nan, many == np.arange(cosine.shape[1] + 1))
    return np.concatenate([cosine, close, counts], axis=1)


def confusions(subject: Subject) -> Finding:
    """Similarity of the first false positive to the target, by modality, in raw and in projected features."""
    modalities = subject.require_modalities()
    pairs = held_out(subject)
    rows = subject.dataset.interactions  # without its test rows, unless they are what is viewed
    known = Csr.of(rows.user, rows.item, subject.dataset.n_users)
    user, target, wrong = false_positives(subject.require_reps(), pairs, known)
    tables, spaces = {}, {}
    for space, features in _spaces(subject, modalities).items():
        found = spaces[space] = compare(features, target, wrong, subject.view.seed)
        if any(np.isnan(values).any(1).all() for values in (found.confused, found.drawn)):
            raise PrismError(
                "No held-out item is outscored by a wrong item that has the same modalities; there is nothing to compare."
            )
        tables[space] = tell(space, found, user.cpu().numpy())
    said = {space: dict(zip(t["measure"], t["mistake"], strict=True)) for space, t in tables.items()}
    chance = dict(zip(tables["raw"]["measure"], tables["raw"]["random"], strict=True))
    one, none = _count(1, len(modalities)), _count(0, len(modalities))
    every = _count(len(modalities), len(modalities))
    means = ", ".join(
        f"{m} {said['raw'][f'cosine in {m}']:.2f} (random items {chance[f'cosine in {m}']:.2f})" for m in modalities
    )
    says = (
        f"{len(target):,} of {len(pairs[0]):,} held-out items are outscored by a wrong item. Cosine to the first of these in "
        f"raw features: {means}. It is {one} for {said['raw'][one]:.1%} of them, {every} for {said['raw'][every]:.1%}, "
        f"{none} for {said['raw'][none]:.1%} (random items: {chance[one]:.1%}, {chance[every]:.1%}, {chance[none]:.1%}), where "
        f"close means closer than {CLOSE:.0%} of random items."
    )
    return Finding("confusions", "What is taken for the held-out item?", says, pl.concat(tables.values()),
                   tuple(_figures(spaces, tables)))  # fmt: skip


def _spaces(subject: Subject, modalities: tuple[str, ...]) -> dict[str, Mapping[str, Raw]]:
    """Raw features, and projected ones after the plug-ins where the model projects every modality."""
    spaces: dict[str, Mapping[str, Raw]] = {"raw": subject.raw}
    if all(m in subject.after for m in modalities):
        spaces["projected"] = {m: Raw(subject.after[m].values, subject.raw[m].present) for m in modalities}
    return spaces


def _figures(spaces: Mapping[str, Confusions], tables: Mapping[str, pl.DataFrame]) -> list[str]:
    figures = []
    for space, table in tables.items():
        counts = table.filter(pl.col("independent").is_not_null())[1:]  # most are close in none: no room for the others
        names = {"first mistake": "mistake", "if independent": "independent", "random item": "random"}
        series = {title: counts[column].to_list() for title, column in names.items()}
        figures.append(grouped(counts["measure"].to_list(), series, f"share of pairs, {space} features"))
    found = spaces["raw"]
    for column, m in enumerate(found.modalities):
        samples = {"first mistake": found.confused[:, column], "random item": found.drawn[:, column]}
        known = {name: values[~np.isnan(values)].tolist() for name, values in samples.items()}
        if all(known.values()):
            figures.append(densities(known, f"cosine with the target in {m}"))
    return figures


def _count(n: int, of: int) -> str:
    if n == 0:
        return "close in none"
    if n == of:
        return "close in both" if of == 2 else "close in all"
    return f"close in just {('one', 'two', 'three', 'four')[n - 1] if n < 5 else n}"
