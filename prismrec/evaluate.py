"""Representations and held-out interactions → a row per user. What is masked is stated by a protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from prismrec.data.dataset import PARTS, Dataset, Interactions
from prismrec.errors import PrismError, nearest
from prismrec.metrics import OF_HITS, OVER_LISTS, PER_USER, Hits, Metric, Popularity, parse
from prismrec.ranking import Csr, Ranked, rows_of, top_k
from prismrec.types import Reps

METRICS: tuple[str, ...] = tuple(f"{name}@{k}" for k in (5, 10, 20, 50) for name in OF_HITS)
"""What is computed where nothing else is asked for."""

LIST_METRICS: tuple[str, ...] = (
    "coverage@20",
    "novelty@20",
    "popularity@20",
    "popularity_ratio@20",
    "gini@20",
)
"""What lists are like, beside how well they hit."""


@dataclass(frozen=True)
class Protocol:
    """What is masked when a part is ranked, and when training stops. The split belongs to the data.

    ``masks``: part that is ranked → parts whose items are left out of the lists. Training stops after ``patience``
    epochs without a gain of ``metric`` on validation, compared in full precision, or after ``epochs``.
    """

    name: str
    masks: Mapping[str, tuple[str, ...]]
    metric: str = "recall@20"
    patience: int = 20
    epochs: int = 1000


PROTOCOLS: Mapping[str, Protocol] = {
    "default": Protocol("default", {"valid": ("train",), "test": ("train", "valid")}),
    "mmrec": Protocol("mmrec", {"valid": ("train",), "test": ("train",)}),
}
"""``default`` leaves out all that is known of a user; ``mmrec`` leaves validation items in at test, as published
tables do."""


def protocol(name: str) -> Protocol:
    """The protocol of this name."""
    if name not in PROTOCOLS:
        raise PrismError(f"Protocol {name!r} is unknown. {nearest(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def seen_for(dataset: Dataset, part: str, rules: Protocol) -> Csr:
    """The items of each user (U rows) that are masked when ``part`` ("valid" or "test") is ranked."""
    known = dataset.interactions.part(*rules.masks[part])
    return Csr.of(known.user, known.item, dataset.n_users)


def training_popularity(dataset: Dataset) -> Popularity:
    """Who took what in training."""
    train = dataset.interactions.part("train")
    return Popularity.of(train.user, train.item, dataset.n_items)


@dataclass(frozen=True)
class Evaluation:
    """What came of ranking for one part of the data.

    ``per_user``: a row per user with a held-out item: ``user`` (internal id), ``n_relevant``, a column per metric.
    ``mean``: metric → mean of that column, or the value of a metric of all lists together; full precision.
    ``lists``: the ranking behind it, in the order of ``per_user``.
    """

    per_user: pl.DataFrame
    mean: dict[str, float]
    lists: Ranked = field(repr=False)


class Evaluator:
    """Ranks all items for every user with a held-out item; targets and masks are prepared once, for many calls.

    ``target``: held-out interactions (a pair given twice counts once); ``seen``: masked items, a row per user. Users
    without a target are neither ranked nor counted. A target that is masked cannot be hit, yet counts as relevant.
    ``candidates`` (I,) bool: only these items are ranked, by default all; targets should be among them.
    """

    def __init__(
        self,
        target: Interactions,
        seen: Csr,
        n_items: int,
        metrics: Sequence[str] = METRICS,
        popularity: Popularity | None = None,
        device: torch.device | str = "cpu",
        candidates: np.ndarray | None = None,
    ) -> None:
        if not len(target):
            raise PrismError(
                "The part to evaluate has no interactions; give the data a split with held-out rows "
                "(`prismrec data split`)."
            )
        self.metrics: tuple[Metric, ...] = parse(metrics)
        self.k = max(metric.k for metric in self.metrics)
        self.n_items = n_items
        self.popularity = popularity
        wanted = Csr.of(target.user, target.item, len(seen))
        self.users: Tensor = wanted.counts.nonzero().squeeze(1)
        self._relevant = wanted.take(self.users)
        self._n_relevant = self._relevant.counts.numpy()
        self._target_row = self._relevant.row
        everyone = len(self.users) == len(seen)
        self._candidates = None if candidates is None else torch.from_numpy(np.flatnonzero(candidates))
        if candidates is not None:
            seen = _among(seen, candidates)
        self.seen = (seen if everyone else seen.take(self.users)).to(device)
        self._rows = None if everyone else self.users.to(device)

    @staticmethod
    def of(
        dataset: Dataset,
        part: str = "valid",
        rules: Protocol = PROTOCOLS["default"],
        metrics: Sequence[str] = METRICS,
        device: torch.device | str = "cpu",
        sample: int = 0,
        seed: int = 0,
    ) -> Evaluator:
        """An evaluator of ``part`` ("valid" or "test") of a split data set.

        ``sample``: of so many users, drawn by ``seed`` among those with a row in ``part``, each with all items ranked as ever;
        0: of all of them.
        """
        popularity = training_popularity(dataset)
        if sample:
            dataset = _only(dataset, drawn_users(dataset, part, sample, seed))
        target, seen = dataset.interactions.part(part), seen_for(dataset, part, rules)
        return Evaluator(target, seen, dataset.n_items, metrics, popularity, device)

    def __call__(self, reps: Reps) -> dict[str, float]:
        """Metric → mean over users with a target."""
        hits = self.hits(self.rank(reps).items)
        return {str(metric): _mean(metric, hits) for metric in self.metrics}

    @torch.no_grad()
    def rank(self, reps: Reps) -> Ranked:
        """The lists (n, k) of ``self.users``, on the CPU."""
        user = reps.user if self._rows is None else rows_of(reps.user, self._rows.to(reps.user.device))
        item = reps.item.values
        if self._candidates is None:
            ranked = top_k(user, item, self.k, self.seen)
            return Ranked(ranked.items.cpu(), ranked.scores.cpu())
        ranked = top_k(user, rows_of(item, self._candidates.to(item.device)), self.k, self.seen)
        items = ranked.items.cpu()
        return Ranked(torch.where(items < 0, -1, self._candidates[items]), ranked.scores.cpu())

    def hits(self, lists: Tensor) -> Hits:
        """Which places of the ``lists`` (n, ≥ K) of ``self.users`` hold a relevant item."""
        lists = lists[:, : self.k]
        hit = torch.zeros(lists.shape, dtype=torch.bool)
        for start in range(0, len(self._target_row), 1 << 18):
            cut = slice(start, start + (1 << 18))
            row = self._target_row[cut]
            nth, place = (lists[row] == self._relevant.indices[cut].unsqueeze(1)).nonzero(as_tuple=True)
            hit[row[nth], place] = True
        return Hits(hit.numpy(), self._n_relevant, lists.numpy(), self.n_items, self.popularity)

    def evaluate(self, reps: Reps) -> Evaluation:
        """All values per user."""
        return self.evaluate_lists(self.rank(reps))

    def evaluate_lists(self, ranked: Ranked) -> Evaluation:
        """The same for lists made elsewhere: a row for each of ``self.users``, without masked items."""
        hits = self.hits(ranked.items)
        columns = {"user": self.users.numpy(), "n_relevant": self._n_relevant}
        columns |= {str(m): PER_USER[m.name](hits, m.k) for m in self.metrics if m.per_user}
        mean = {str(metric): _mean(metric, hits) for metric in self.metrics}
        return Evaluation(pl.DataFrame(columns), mean, ranked)


def drawn_users(dataset: Dataset, part: str, sample: int, seed: int) -> np.ndarray:
    """``sample`` of the users with a row in ``part``, or all of them if they are fewer: ascending, the same for a seed."""
    split = dataset.interactions.split
    assert split is not None
    users = np.unique(dataset.interactions.user[split == PARTS[part]])
    chosen: np.ndarray = np.random.default_rng([seed, PARTS[part]]).choice(
        users, min(sample, len(users)), replace=False
    )
    return np.sort(chosen)


def _only(dataset: Dataset, users: np.ndarray) -> Dataset:
    """The rows of some users (n,); nobody's number changes."""
    mask = np.zeros(dataset.n_users, bool)
    mask[users] = True
    return replace(dataset, interactions=dataset.interactions.take(mask[dataset.interactions.user]))


def _among(rows: Csr, candidates: np.ndarray) -> Csr:
    """Only the entries that are ``candidates`` (I,) bool, counted among those."""
    chosen = torch.from_numpy(candidates)
    keep = chosen[rows.indices]
    counts = torch.zeros(len(rows), dtype=torch.int64).index_add_(0, rows.row[keep], keep[keep].long())
    place = chosen.cumsum(0) - 1
    return Csr(F.pad(counts.cumsum(0), (1, 0)), place[rows.indices[keep]])


def by_warmth(
    dataset: Dataset,
    part: str = "test",
    rules: Protocol = PROTOCOLS["default"],
    metrics: Sequence[str] = METRICS,
    device: torch.device | str = "cpu",
) -> dict[str, Evaluator]:
    """Evaluators of ``part`` apart for warm and cold items; an item is cold if it has no training row.

    ``all``: every target among all items. ``warm``: warm targets among warm items; ``cold``: cold ones among cold ones, as a
    page of novelties would show them; ``cold among all``: cold targets among all items. Kinds without a target are left out.
    Masks are those of ``rules``.
    """
    target, seen = dataset.interactions.part(part), seen_for(dataset, part, rules)
    popularity = training_popularity(dataset)
    warm = popularity.counts > 0
    kinds = {"all": (None, None), "warm": (warm, warm), "cold": (~warm, ~warm), "cold among all": (~warm, None)}
    found = {}
    for name, (wanted, candidates) in kinds.items():
        rows = target if wanted is None else target.take(wanted[target.item])
        if len(rows) and not (name != "all" and warm.all()):
            found[name] = Evaluator(rows, seen, dataset.n_items, metrics, popularity, device, candidates)
    return found


def _mean(metric: Metric, hits: Hits) -> float:
    if metric.per_user:
        return float(PER_USER[metric.name](hits, metric.k).mean())
    return OVER_LISTS[metric.name](hits, metric.k)


def evaluate(
    reps: Reps,
    target: Interactions,
    seen: Csr,
    metrics: Sequence[str] = METRICS,
    popularity: Popularity | None = None,
) -> Evaluation:
    """Values per user and their means, once. To evaluate repeatedly keep an ``Evaluator``."""
    device = reps.user.device
    return Evaluator(target, seen, reps.item.values.shape[0], metrics, popularity, device).evaluate(reps)


def by_group(per_user: pl.DataFrame, groups: pl.DataFrame) -> pl.DataFrame:
    """Means of the values per user by group: columns group, users, then each metric, in the order of ``groups``.

    ``groups``: columns ``user`` (internal id) and ``group`` (a label); users without a label are left out.
    """
    metrics = pl.all().exclude("user", "n_relevant", "group")
    joined = groups.join(per_user, on="user", how="inner", maintain_order="left")
    return joined.group_by("group", maintain_order=True).agg(pl.len().cast(pl.Int64).alias("users"), metrics.mean())


def user_activity(dataset: Dataset, n_groups: int = 4) -> pl.DataFrame:
    """Users by their number of distinct training items, in groups of about equal size."""
    train = dataset.interactions.part("train")
    counts = Csr.of(train.user, train.item, dataset.n_users).counts.numpy()
    return _quantiles(np.arange(dataset.n_users), counts, n_groups, "training items")


def target_popularity(dataset: Dataset, part: str, n_groups: int = 4) -> pl.DataFrame:
    """Users with a target in ``part`` by the mean number of training users of their targets."""
    target = dataset.interactions.part(part)
    wanted = Csr.of(target.user, target.item, dataset.n_users)
    taken = training_popularity(dataset).counts[wanted.indices.numpy()]
    counts = wanted.counts.numpy()
    users = np.flatnonzero(counts)
    total = np.bincount(wanted.row.numpy(), weights=taken, minlength=dataset.n_users)
    return _quantiles(users, total[users] / counts[users], n_groups, "training users per target")


def cold_targets(dataset: Dataset, part: str) -> pl.DataFrame:
    """Users with a target in ``part`` by how many of their targets nobody took in training: none, some, or all."""
    target = dataset.interactions.part(part)
    wanted = Csr.of(target.user, target.item, dataset.n_users)
    cold = training_popularity(dataset).counts[wanted.indices.numpy()] == 0
    counts = wanted.counts.numpy()
    users = np.flatnonzero(counts)
    share = np.bincount(wanted.row.numpy(), weights=cold, minlength=dataset.n_users)[users] / counts[users]
    labels = np.select([share == 0, share == 1], ["no target cold", "all targets cold"], "some targets cold")
    return pl.DataFrame({"user": users, "group": labels}).sort("group", maintain_order=True)


def _quantiles(users: np.ndarray, value: np.ndarray, n_groups: int, what: str) -> pl.DataFrame:
    """Users in order of a value, cut so that equal values stay together, labelled by the range of each group."""
    edges = np.unique(np.quantile(value, np.linspace(0, 1, n_groups + 1)[1:-1], method="lower"))
    number = np.searchsorted(edges, value)
    order = np.argsort(number, kind="stable")
    labels = {
        n: f"{low:.4g} {what}" if low == high else f"{low:.4g}–{high:.4g} {what}"
        for n in np.unique(number)
        for low, high in [(value[number == n].min(), value[number == n].max())]
    }
    return pl.DataFrame({"user": users[order], "group": [labels[n] for n in number[order]]})
