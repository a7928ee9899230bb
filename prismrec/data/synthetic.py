"""Catalogues with planted truth: what one modality knows, what all repeat, what only their combination tells.

An item is a list of factors, a user a taste for each of them. Their utility alone decides who takes what:

    u(u, i) = Σ_g strength_g · ⟨p_u^g, q_i^g⟩ / √size_g + popularity_i          g: a group of factors

=================  ==========================================================================================
group              which features carry it
=================  ==========================================================================================
``redundant``      every modality
``unique:<name>``  the modality of that name only
``synergy``        none alone: each modality carries ±1 codes, the factor is their product (an exclusive or)
``hidden``         none: only behaviour shows it
``popularity``     none: one column, the same for every user
=================  ==========================================================================================

A user takes items without replacement with probabilities softmax(u) (Gumbel top-k), so no ranking of the items
that are left has more expected hits than the ranking by u itself: that is the oracle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
import torch

from prismrec.data.dataset import Dataset, Interactions, Modality
from prismrec.data.ids import IdMap
from prismrec.data.splits import by_ratio
from prismrec.errors import PrismError, nearest
from prismrec.types import Reps, Rows

WIDTHS: Mapping[str, int] = {"image": 64, "text": 48}
"""Modality → width of its raw features, unless told otherwise."""

NOUNS = (
    "jacket boots backpack dress watch sneakers lamp mug scarf chair "
    "headphones notebook tent guitar kettle rug clock pillow umbrella bicycle"
)
ADJECTIVES = (
    "red navy green yellow black white pink grey orange teal "
    "brown violet beige silver gold maroon striped dotted checked plain",
    "waterproof handmade lightweight vintage recycled luxury foldable sporty soft travel "
    "office gift organic washable slim sturdy quiet heated limited basic",
    "loud warm bright crisp mellow deep airy sharp smooth rough clear fast slow near far thin full dry wet round",
)
"""Words for the unique factors of the first, second and third modality, then from the start again."""
MOODS = ("matching", "contrasting")


class Factor(NamedTuple):
    """Factors of one kind: how many (``size`` ≥ 0; 0 leaves them out), standard deviation of their utility."""

    size: int
    strength: float


REDUNDANT = Factor(10, 1.7)
UNIQUE = Factor(10, 1.7)
SYNERGY = Factor(2, 0.8)
HIDDEN = Factor(2, 0.5)
CLUMPED = 0.6
"""Share of the variance of a factor that comes from kinds: an item stands out in one factor, as jackets do."""


@dataclass(frozen=True)
class Planted:
    """A data set and the truth behind it.

    ``user``: group → (U, size) tastes, ``item``: group → (I, size) factors, float64, scaled so that the utility is
    the sum of their inner products. ``codes``: modality → (I, size of synergy), ±1, whose product is the synergy.
    """

    dataset: Dataset
    user: Mapping[str, np.ndarray]
    item: Mapping[str, np.ndarray]
    codes: Mapping[str, np.ndarray]

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of factors that this catalogue has, popularity last."""
        return tuple(self.item)

    def utility(self, *groups: str) -> np.ndarray:
        """True utility (U, I), or the part of it that comes from ``groups``. Dense: for small catalogues."""
        user, item = self._sides(groups)
        return np.asarray(user @ item.T)

    def oracle(self, *groups: str) -> Reps:
        """The truth as float64 representations, for the same evaluator as every model; or what ``groups`` know."""
        user, item = self._sides(groups)
        return Reps(torch.from_numpy(user), Rows(torch.from_numpy(item)))

    def _sides(self, groups: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        for group in groups:
            if group not in self.item:
                raise PrismError(f"This catalogue has no group of factors {group!r}. {nearest(group, self.item)}")
        chosen = groups or self.groups
        return (
            np.concatenate([self.user[g] for g in chosen], axis=1),
            np.concatenate([self.item[g] for g in chosen], axis=1),
        )


def draw(
    n_users: int = 2000,
    n_items: int = 1000,
    *,
    modalities: Mapping[str, int] = WIDTHS,
    redundant: Factor = REDUNDANT,
    unique: Factor = UNIQUE,
    synergy: Factor = SYNERGY,
    hidden: Factor = HIDDEN,
    nuisance: int = 1,
    noise: float = 0.2,
    popularity: float = 0.6,
    interactions: float = 16.0,
    activity: float = 0.5,
    missing: float = 0.03,
    seed: int = 0,
) -> Planted:
    """Draw a catalogue whose truth is known. The same arguments give the same bits.

    ``modalities``: name → width of its features. ``unique`` holds for each modality; ``redundant`` of size 0 gives
    modalities that share nothing. ``nuisance``: factors of each modality that nobody cares about. ``noise``:
    standard deviation of white noise on features whose signal has variance one. ``popularity``: standard deviation
    of the log odds that an item owes to nothing but itself. ``interactions``: mean per user, at least 5 each,
    log-normal with sigma ``activity``. ``missing``: share of items that lack one modality, in [0, 1] (0 where there
    is only one). The split is 8:1:1 at random per user (``splits.by_ratio``); times are uniform over a year, in seconds.
    """
    _check(n_users, n_items, modalities, (redundant, unique, synergy, hidden), interactions, missing)
    stream = _streams(seed)
    names = list(modalities)
    codes = {m: _codes(next(stream), n_items, synergy.size) for m in names}
    item: dict[str, np.ndarray] = {"redundant": _clumped(next(stream), n_items, redundant.size)}
    item |= {f"unique:{m}": _clumped(next(stream), n_items, unique.size) for m in names}
    item["synergy"] = np.prod([codes[m] for m in names], axis=0) if len(names) > 1 else np.zeros((n_items, 0))
    item["hidden"] = next(stream).standard_normal((n_items, hidden.size))
    kind = {"redundant": redundant, "synergy": synergy, "hidden": hidden}
    user = {
        group: _taste(next(stream), n_users, factors.shape[1], kind.get(group, unique).strength)
        for group, factors in item.items()
    }
    item["popularity"] = popularity * next(stream).standard_normal((n_items, 1))
    user["popularity"] = np.ones((n_users, 1))
    present = _present(next(stream), n_items, names, missing)
    features = {
        m: _features(
            next(stream),
            (item["redundant"], item[f"unique:{m}"], codes[m]),
            nuisance,
            width,
            noise,
            present[m],
        )
        for m, width in modalities.items()
    }
    item = {group: factors for group, factors in item.items() if factors.shape[1]}
    user = {group: user[group] for group in item}
    counts = _activity(next(stream), n_users, n_items, interactions, activity)
    rows = _take(next(stream), next(stream), user, item, counts)
    dataset = Dataset(
        name="planted",
        users=IdMap(pl.Series("user", [f"u{u:05d}" for u in range(n_users)]), "user"),
        items=IdMap(pl.Series("item", [f"i{i:05d}" for i in range(n_items)]), "item"),
        interactions=rows,
        modalities=features,
        item_table=_table(item, names),
        provenance={"source": "prismrec.data.synthetic.draw", "seed": seed},
    )
    return Planted(by_ratio(dataset, seed=seed), user, item, codes)


def _check(
    n_users: int,
    n_items: int,
    modalities: Mapping[str, int],
    factors: tuple[Factor, ...],
    interactions: float,
    missing: float,
) -> None:
    if n_users < 1 or n_items < 20:
        raise PrismError(f"A planted catalogue needs ≥ 1 user and ≥ 20 items; {n_users} and {n_items} were asked for.")
    for name, width in modalities.items():
        if width < 1:
            raise PrismError(f"Modality {name!r} is {width} wide; give its features a width of at least 1.")
    for factor in factors:
        if factor.size < 0 or factor.strength < 0:
            raise PrismError(f"{factor} has a negative size or strength; both must be 0 or more.")
    if not 5 <= interactions <= n_items / 4:
        raise PrismError(
            f"{interactions:g} interactions per user were asked for; the mean must lie between 5 and a quarter "
            f"of the {n_items} items ({n_items / 4:g})."
        )
    if not 0 <= missing <= 1:
        raise PrismError(f"The share of items that lack a modality is {missing:g}; it must lie in [0, 1].")


def _streams(seed: int) -> Iterator[np.random.Generator]:
    """A generator for each part, so that asking one part for more does not move the others."""
    part = 0
    while True:
        yield np.random.default_rng([seed, part])
        part += 1


def _codes(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    return rng.integers(0, 2, (n, size)) * 2.0 - 1.0


def _clumped(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    """(n, size) uncorrelated factors of variance one, of which each row has one that stands out."""
    values: np.ndarray = rng.standard_normal((n, size)) * np.sqrt(1 - CLUMPED)
    if size:
        values[np.arange(n), rng.integers(0, size, n)] += np.sqrt(CLUMPED * size) * _codes(rng, n, 1)[:, 0]
    return values


def _taste(rng: np.random.Generator, n: int, size: int, strength: float) -> np.ndarray:
    taste: np.ndarray = _clumped(rng, n, size) * (strength / np.sqrt(max(size, 1)))
    return taste


def _present(rng: np.random.Generator, n_items: int, names: list[str], missing: float) -> dict[str, np.ndarray]:
    """Which items have which modality; none lacks two."""
    lacks = rng.random(n_items) < (missing if len(names) > 1 else 0.0)
    which = rng.integers(0, max(len(names), 1), n_items)
    return {m: ~(lacks & (which == position)) for position, m in enumerate(names)}


def _features(
    rng: np.random.Generator,
    factors: tuple[np.ndarray, ...],
    nuisance: int,
    width: int,
    noise: float,
    present: np.ndarray,
) -> Modality:
    """Factors and nuisance, mixed at random into ``width`` columns of variance one, plus white noise."""
    latent = np.concatenate([*factors, rng.standard_normal((len(present), nuisance))], axis=1)
    mixing = rng.standard_normal((latent.shape[1], width)) / np.sqrt(max(latent.shape[1], 1))
    values = latent @ mixing + noise * rng.standard_normal((len(present), width))
    values[~present] = 0.0
    return Modality(values.astype(np.float32), present)


def _activity(rng: np.random.Generator, n_users: int, n_items: int, mean: float, sigma: float) -> np.ndarray:
    """Interactions of each user: log-normal of the given mean, within 5 and half of the catalogue."""
    counts = np.rint(mean * np.exp(sigma * rng.standard_normal(n_users) - sigma**2 / 2))
    return np.clip(counts, 5, n_items // 2).astype(np.int64)


def _take(
    rng: np.random.Generator,
    clock: np.random.Generator,
    user: Mapping[str, np.ndarray],
    item: Mapping[str, np.ndarray],
    counts: np.ndarray,
) -> Interactions:
    """Sample without replacement from softmax(utility): the top ``counts`` of utility plus Gumbel noise."""
    p, q = np.concatenate(list(user.values()), axis=1), np.concatenate(list(item.values()), axis=1)
    block = max(1, 4_000_000 // len(q))
    taken = []
    for start in range(0, len(p), block):
        keys = p[start : start + block] @ q.T
        keys += rng.gumbel(size=keys.shape)
        most = int(counts[start : start + block].max())
        best = np.argpartition(-keys, most - 1, axis=1)[:, :most]
        order = np.argsort(-np.take_along_axis(keys, best, axis=1), axis=1, kind="stable")
        ranked = np.take_along_axis(best, order, axis=1)
        taken.append(ranked[np.arange(most) < counts[start : start + block, None]])
    rows_user = np.repeat(np.arange(len(p), dtype=np.int32), counts)
    # Times do not follow the order of drawing: favourites would come first, and a split by time would be biased.
    times = clock.integers(1_700_000_000, 1_731_536_000, len(rows_user))
    return Interactions(rows_user, np.concatenate(taken).astype(np.int32), timestamp=times)


def _table(item: Mapping[str, np.ndarray], names: list[str]) -> pl.DataFrame:
    """Titles that say what an item is: its strongest redundant, unique and synergistic factors in words."""
    n = len(item["popularity"])
    noun = _words(item["redundant"], NOUNS) if "redundant" in item else np.full(n, "thing")
    words = [
        _words(item[f"unique:{m}"], ADJECTIVES[position % len(ADJECTIVES)])
        for position, m in enumerate(names)
        if f"unique:{m}" in item
    ]
    title = [" ".join(parts).capitalize() for parts in zip(*reversed(words), noun, strict=True)]
    synergy = item.get("synergy")
    if synergy is not None:
        mood = np.where(synergy[:, 0] > 0, *MOODS)
        title = [f"{text}, {word}" for text, word in zip(title, mood, strict=True)]
    return pl.DataFrame(
        {
            "item": [f"i{i:05d}" for i in range(n)],
            "title": title,
            "category": noun,
        }
    )


def _words(factors: np.ndarray, vocabulary: str) -> np.ndarray:
    """A word for each item: one for either end of each factor, by the factor that stands out most."""
    words, axis = vocabulary.split(), np.abs(factors).argmax(axis=1)
    kinds = [
        words[k % len(words)] + (f" {k // len(words) + 1}" if k >= len(words) else "")
        for k in range(2 * factors.shape[1])
    ]
    chosen: np.ndarray = np.asarray(kinds)[2 * axis + (factors[np.arange(len(axis)), axis] < 0)]
    return chosen
