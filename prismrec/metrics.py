"""Ranking metrics: pure functions of one record of hits, a float64 value per user.

Notation: K places are looked at; ``n`` is the number of a user's relevant items (≥ 1); ``hit_r`` is 1 where the
item at rank r = 1 … K is relevant. Relevance is binary. Precision divides by K even where a list is shorter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from prismrec.errors import PrismError, nearest
from prismrec.ranking import distinct

Values = NDArray[np.float64]
"""One number per user (n,)."""


@dataclass(frozen=True)
class Popularity:
    """Training popularity: ``counts`` (I,) distinct users of each item, ``n_users`` with any training item."""

    counts: NDArray[np.int64]
    n_users: int

    @staticmethod
    def of(user: np.ndarray, item: np.ndarray, n_items: int) -> Popularity:
        """From training pairs of internal ids; a pair given twice counts once."""
        pairs = distinct(user.astype(np.int64) * n_items + item)
        if len(pairs) < len(user):
            user, item = pairs // n_items, pairs % n_items
        del pairs
        return Popularity(np.bincount(item, minlength=n_items), int(np.count_nonzero(np.bincount(user))))


@dataclass(frozen=True)
class Hits:
    """Lists of n users, best item first, and which places hold a relevant item.

    ``hit`` (n, k) bool; ``n_relevant`` (n,) ≥ 1; ``lists`` (n, k) item ids, −1 where a list ended early; ``n_items``
    is the size of the catalogue; ``popularity`` is needed by novelty and popularity alone.
    """

    hit: NDArray[np.bool_]
    n_relevant: NDArray[np.int64]
    lists: NDArray[np.int64]
    n_items: int
    popularity: Popularity | None = None

    @cached_property
    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Of each hit, by row, then rank: its row, its rank from 1, and the number of hits up to it in its list."""
        row, place = np.nonzero(self.hit)
        first = np.searchsorted(row, row)
        return row, place + 1, np.arange(len(row)) - first + 1

    def total(self, k: int, value: Values) -> Values:
        """Sum per user (n,) of a ``value`` of each hit, over hits in the first ``k`` places."""
        row, rank, _ = self.places
        inside = rank <= k
        return np.bincount(row[inside], weights=value[inside], minlength=len(self.hit)).astype(np.float64)

    def counts(self, k: int) -> Values:
        """Hits in the first ``k`` places (n,) float64."""
        return self.total(k, np.ones(len(self.places[0])))

    @property
    def taken(self) -> Popularity:
        """``popularity``, or a sentence that it is missing."""
        if self.popularity is None:
            raise PrismError("novelty and popularity need the training counts: pass popularity=Popularity.of(…).")
        return self.popularity


def recall(hits: Hits, k: int) -> Values:
    """Recall@K = Σ_r hit_r / n."""
    return hits.counts(k) / hits.n_relevant


def precision(hits: Hits, k: int) -> Values:
    """Precision@K = Σ_r hit_r / K."""
    return hits.counts(k) / float(k)


def hitrate(hits: Hits, k: int) -> Values:
    """HitRate@K = 1 if any hit_r, else 0."""
    return (hits.counts(k) > 0).astype(np.float64)


def mrr(hits: Hits, k: int) -> Values:
    """MRR@K = 1 / rank of the first hit, 0 without one."""
    _, rank, nth = hits.places
    return hits.total(k, (nth == 1) / rank)


def average_precision(hits: Hits, k: int) -> Values:
    """MAP@K (its value for one user) = Σ_r hit_r · Precision@r / min(n, K)."""
    _, rank, nth = hits.places
    return hits.total(k, nth / rank) / np.minimum(hits.n_relevant.astype(np.float64), float(k))


def ndcg(hits: Hits, k: int) -> Values:
    """NDCG@K = Σ_r hit_r / log2(r + 1)  ÷  Σ_{r ≤ min(n, K)} 1 / log2(r + 1)."""
    _, rank, _ = hits.places
    ideal: Values = np.cumsum(1 / np.log2(np.arange(2.0, k + 2.0)))
    best: Values = ideal[np.minimum(hits.n_relevant, k) - 1]
    return hits.total(k, 1 / np.log2(rank + 1)) / best


def novelty(hits: Hits, k: int) -> Values:
    """Novelty@K = mean over the list of −log2(users who took the item in training / users in training).

    An item that nobody took counts as taken by one. An empty list has 0.
    """
    share = np.maximum(hits.taken.counts, 1) / max(hits.taken.n_users, 1)
    return _mean_over_list(hits, k, -np.log2(share))


def popularity(hits: Hits, k: int) -> Values:
    """Popularity@K = mean over the list of how many users took the item in training. An empty list has 0."""
    return _mean_over_list(hits, k, hits.taken.counts.astype(np.float64))


def popularity_ratio(hits: Hits, k: int) -> Values:
    """Popularity@K over Σ_i c_i² / Σ_i c_i, the mean popularity of what users took in training.

    c_i is the number of training users of item i. 1: lists are as popular as what users chose themselves; above 1 the
    model favours popular items.
    """
    counts = hits.taken.counts.astype(np.float64)
    return popularity(hits, k) * float(counts.sum() / max((counts**2).sum(), 1.0))


def coverage(hits: Hits, k: int) -> float:
    """Coverage@K = share of the catalogue that stands in at least one list."""
    return float((_listed(hits, k) > 0).mean())


def gini(hits: Hits, k: int) -> float:
    """Gini@K of how often each item is listed: Σ_j (2j − I − 1) x_j / (I Σ x), x ascending, j from 1.

    0: all items equally often; towards 1: few items take all places.
    """
    x = np.sort(_listed(hits, k)).astype(np.float64)
    j = np.arange(1, len(x) + 1)
    return float(((2 * j - len(x) - 1) * x).sum() / (len(x) * max(x.sum(), 1.0)))


def _listed(hits: Hits, k: int) -> NDArray[np.int64]:
    """How many lists hold each item (I,)."""
    top = hits.lists[:, :k]
    return np.bincount(top[top >= 0], minlength=hits.n_items)


def _mean_over_list(hits: Hits, k: int, value: Values) -> Values:
    """Mean of a ``value`` (I,) of items over the filled places."""
    top = hits.lists[:, :k]
    total = np.append(value, 0.0)[top].sum(1)  # −1 reads the zero at the end
    return np.asarray(total / np.maximum((top >= 0).sum(1), 1))


PER_USER: Mapping[str, Callable[[Hits, int], Values]] = {
    "recall": recall,
    "ndcg": ndcg,
    "precision": precision,
    "map": average_precision,
    "mrr": mrr,
    "hitrate": hitrate,
    "novelty": novelty,
    "popularity": popularity,
    "popularity_ratio": popularity_ratio,
}
"""Metrics with a value per user (n,)."""

OF_HITS = ("recall", "ndcg", "precision", "map", "mrr", "hitrate")
"""Metrics of which more is better. The others say what lists are like."""

OVER_LISTS: Mapping[str, Callable[[Hits, int], float]] = {"coverage": coverage, "gini": gini}
"""Metrics of all lists together."""


@dataclass(frozen=True)
class Metric:
    """A metric at a cut-off, written ``name@K``."""

    name: str
    k: int

    def __str__(self) -> str:
        return f"{self.name}@{self.k}"

    @property
    def per_user(self) -> bool:
        """Whether each user has a value."""
        return self.name in PER_USER

    @staticmethod
    def parse(text: str) -> Metric:
        """``"recall@20"`` → Metric("recall", 20). Raises ``PrismError`` with the nearest name on a typo."""
        match = re.fullmatch(r"([a-z_]+)@(\d+)", text.strip().lower())
        if match is None or int(match[2]) < 1:
            raise PrismError(f"Metric {text!r} is not of the form name@K with K ≥ 1, such as 'recall@20'.")
        if match[1] not in PER_USER and match[1] not in OVER_LISTS:
            raise PrismError(f"Metric {text!r} is unknown. {nearest(match[1], [*PER_USER, *OVER_LISTS])}")
        return Metric(match[1], int(match[2]))


def parse(metrics: Sequence[str]) -> tuple[Metric, ...]:
    """Metrics of these names, in that order, each once."""
    if not metrics:
        raise PrismError("No metric was asked for; name at least one, such as 'recall@20'.")
    return tuple(dict.fromkeys(Metric.parse(text) for text in metrics))
