"""Train, validation and test: by a ratio per user, leaving one out, by a cut in time, or with items that training never sees.

Each function takes a ``Dataset`` (an earlier split is replaced) and returns one whose rows carry a part. All are functions of
the data, the arguments and an integer seed alone, bit-reproducible, and independent of the order of rows: the place of a
row among those of its user comes from a hash of seed, user and item, not from a stream of random numbers. (Rows that
agree in user, item and time cannot be told apart and share out their places in order.)

A pair of user and item that occurs twice can fall into two parts: drop duplicates first (``prismrec.data.prepare``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import polars as pl

from prismrec.data.dataset import PARTS, Dataset, Interactions
from prismrec.data.prepare import restrict, with_step
from prismrec.errors import PrismError

Order = Literal["random", "time"]
"""Which rows of a user are held out: random ones, or the latest."""

SMALL = 10
"""A user with fewer rows gives one each to validation and test."""


def by_ratio(
    dataset: Dataset, *, ratio: tuple[int, int, int] = (8, 1, 1), order: Order = "random", seed: int = 0
) -> Dataset:
    """Per user, in whole rows: the rule of the MMRec benchmarks, for any ratio a : b : c.

    A user with n rows, n < 3: all to train. n < 10: one to validation, one to test, the rest to train. Otherwise
    h = ⌊n (b + c) / (a + b + c)⌋ rows are held out, ⌊h b / (b + c)⌋ of them for validation, the rest for test.
    (8 : 1 : 1, n = 15: 12, 1, 2.) A part whose share is 0 gets nothing. ``order="time"`` takes the latest rows for test
    and those before them for validation ("per-user last").

    Raises ``PrismError`` for a bad ratio and if a part stays empty.
    """
    a, b, c = ratio
    if a <= 0 or b < 0 or c < 0 or b + c == 0:
        raise PrismError(
            f"The ratio {a}:{b}:{c} does not split; expected whole numbers such as 8:1:1, the first above 0 and one of the "
            "others too."
        )
    n = np.bincount(dataset.interactions.user, minlength=dataset.n_users)
    held = n * (b + c) // (a + b + c)
    valid = held * b // (b + c)
    few = n < SMALL
    valid = np.where(few, int(b > 0), valid)
    test = np.where(few, int(c > 0), held - np.where(few, 0, valid))
    step = {"by": "ratio", "ratio": [a, b, c], "order": order, "seed": seed}
    return _per_user(dataset, valid, test, order, seed, step)


def leave_one_out(dataset: Dataset, *, order: Order = "random", seed: int = 0) -> Dataset:
    """Per user one row to test and one to validation, the rest to train; a user with fewer than 3 rows: all to train.

    ``order="time"``: the last row is for test, the one before it for validation. Raises ``PrismError`` if no user has 3.
    """
    one = np.ones(dataset.n_users, np.int64)
    return _per_user(dataset, one, one, order, seed, {"by": "leave-one-out", "order": order, "seed": seed})


def by_cutoff(
    dataset: Dataset,
    *,
    quantiles: tuple[float, float] = (0.8, 0.9),
    at: tuple[int, int] | None = None,
) -> Dataset:
    """One cut in time for all users: rows before ``at[0]`` train, rows from ``at[1]`` on test, those between validation.

    Without ``at``, the times are those of the row at each of ``quantiles`` of all rows in order of time (rows of one time
    stay together, so parts can differ from the quantiles). A user may have no training row, whatever their number of rows:
    training on later rows would be the leak that this split exists to prevent. Raises ``PrismError`` without times, for
    times or quantiles out of order, and if a part stays empty.
    """
    times = _times(dataset)
    if at is None:
        low, high = quantiles
        if not 0 < low < high < 1:
            raise PrismError(
                f"Quantiles {low:g} and {high:g} do not cut; expected 0 < first < second < 1, such as 0.8 and 0.9."
            )
        places = [int(len(times) * q) for q in quantiles]
        first, second = (int(t) for t in np.partition(times, places)[places])
    else:
        first, second = at
    if first > second:
        raise PrismError(f"Validation would start at {first}, after test at {second}; give the earlier time first.")
    labels = (times >= first).astype(np.int8) + (times >= second).astype(np.int8)
    span = f"times run from {times.min()} to {times.max()}, the cuts are {first} and {second}"
    return _labelled(dataset, labels, {"by": "cutoff", "at": [first, second]}, tuple(PARTS), span)


def by_item(
    dataset: Dataset,
    *,
    share: tuple[float, float] = (0.1, 0.1),
    ratio: tuple[int, int, int] = (8, 1, 1),
    order: Order = "random",
    seed: int = 0,
) -> Dataset:
    """Strict cold items: a ``share`` of the items has all its rows in validation, another one in test, and none in training.

    Of the I items that have rows ⌊I·share⌋ are drawn, each likely as any other: no item is cold in both parts. The rows of all
    other items, which are warm, are divided as ``by_ratio`` does (``ratio``, ``order``, ``seed``); with 1 : 0 : 0 they all go
    to training. So a part can be looked at on warm items, on cold ones, and on all (``prismrec.cold``).

    Raises ``PrismError`` for shares that leave no item for training or draw none, and if a part stays empty.
    """
    rows = dataset.interactions
    have = np.unique(rows.item)
    n_valid, n_test = (int(len(have) * part) for part in share)
    if min(share) < 0 or n_valid + n_test == 0 or n_valid + n_test >= len(have):
        raise PrismError(
            f"Shares {share[0]:g} and {share[1]:g} of {len(have):,} items make {max(n_valid, 0):,} cold for validation and "
            f"{max(n_test, 0):,} for test; expected shares of 0 or more, such as 0.1 and 0.1, that draw some and leave some."
        )
    none = np.zeros(len(have), np.int32)
    drawn = have[np.argsort(keys(Interactions(none, have), seed), kind="stable")]
    part_of = np.zeros(dataset.n_items, np.int8)
    part_of[drawn[:n_valid]] = PARTS["valid"]
    part_of[drawn[n_valid : n_valid + n_test]] = PARTS["test"]
    labels = part_of[rows.item]
    warm = labels == 0
    if ratio[1] or ratio[2]:
        split = by_ratio(replace(dataset, interactions=rows.take(warm)), ratio=ratio, order=order, seed=seed)
        assert split.interactions.split is not None
        labels[warm] = split.interactions.split
    step = {"by": "item", "share": list(share), "ratio": list(ratio), "order": order, "seed": seed}
    cold = {"cold_items": {"valid": n_valid, "test": n_test}}
    wanted = [p for p, n in (("train", 1), ("valid", n_valid + ratio[1]), ("test", n_test + ratio[2])) if n]
    why = f"{n_valid + n_test:,} of {len(have):,} items are cold"
    return _labelled(dataset, labels, {**step, **cold}, tuple(wanted), why)


def is_warm(dataset: Dataset) -> np.ndarray:
    """Which items have a training row (I,) bool; the others are cold."""
    warm = np.zeros(dataset.n_items, bool)
    warm[dataset.interactions.part("train").item] = True
    return warm


def warm_part(dataset: Dataset) -> Dataset:
    """The data as training may know it before its cold items exist: those items, their features and all their rows are gone.

    Users stay, those without a row too.
    """
    warm = is_warm(dataset)
    rows = dataset.interactions
    kept = replace(dataset, interactions=rows.take(warm[rows.item]))
    step = {"step": "warm items", "dropped": int((~warm).sum())}
    return restrict(replace(kept, provenance=with_step(dataset, step)), np.ones(dataset.n_users, bool), warm)


def _per_user(
    dataset: Dataset, valid: np.ndarray, test: np.ndarray, order: Order, seed: int, step: Mapping[str, Any]
) -> Dataset:
    """The last ``test`` (U,) rows of each user's order to test, the ``valid`` (U,) before them to validation."""
    rows = dataset.interactions
    n = np.bincount(rows.user, minlength=dataset.n_users)
    valid, test = np.where(n < 3, 0, valid), np.where(n < 3, 0, test)
    place = _places(dataset, order, seed)
    from_end = n[rows.user] - 1 - place
    labels = np.zeros(len(rows), np.int8)
    labels[from_end < (valid + test)[rows.user]] = PARTS["valid"]
    labels[from_end < test[rows.user]] = PARTS["test"]
    wanted = [p for p in PARTS if p not in ("valid", "test") or step.get("ratio", [1, 1, 1])[PARTS[p]]]
    why = f"users have at most {int(n.max(initial=0)):,} rows"
    return _labelled(dataset, labels, step, tuple(wanted), why)


def _places(dataset: Dataset, order: Order, seed: int) -> np.ndarray:
    """The place 0..n-1 of each row among the rows of its user."""
    rows = dataset.interactions
    by: dict[str, np.ndarray] = {"user": rows.user}
    if order == "time":
        by["time"] = _times(dataset)
    elif order != "random":
        raise PrismError(f"Rows can be held out in the order 'random' or 'time'; {order!r} was asked for.")
    by["key"] = keys(rows, seed)
    if order == "random" and rows.timestamp is not None:
        by["time"] = rows.timestamp
    sequence = pl.DataFrame(by).with_row_index("row").sort(list(by), maintain_order=True)["row"].to_numpy()
    n = np.bincount(rows.user, minlength=dataset.n_users)
    starts = np.cumsum(n) - n
    place = np.empty(len(rows), np.int64)
    place[sequence] = np.arange(len(rows)) - starts[rows.user[sequence]]
    return place


def keys(rows: Interactions, seed: int) -> np.ndarray:
    """A uniform 64-bit hash of seed, user and item of each row (N,): the finaliser of SplitMix64, twice."""
    pair = (rows.user.astype(np.uint64) << np.uint64(32)) | rows.item.astype(np.uint64)
    start = _mixed(np.array([seed % 2**64], np.uint64))
    return _mixed(pair ^ start)


def _mixed(x: np.ndarray) -> np.ndarray:
    """SplitMix64 (Steele, Lea & Flood, OOPSLA 2014): one step and its finaliser; overflow wraps on purpose."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed


def _times(dataset: Dataset) -> np.ndarray:
    times = dataset.interactions.timestamp
    if times is None:
        raise PrismError(
            f"A split by time was asked for, but {dataset.name!r} has no timestamps; name their column when reading "
            "(timestamp='…', --timestamp), or split at random."
        )
    return times


def _labelled(
    dataset: Dataset, labels: np.ndarray, step: Mapping[str, Any], wanted: tuple[str, ...], why: str
) -> Dataset:
    for part in wanted:
        if not (labels == PARTS[part]).any():
            raise PrismError(
                f"The {part} part of this split of {dataset.name!r} would be empty ({len(labels):,} rows; {why}); "
                "a user needs 3 rows to give one to validation and test: use more data or another split."
            )
    rows = replace(dataset.interactions, split=labels)
    return replace(dataset, interactions=rows, provenance=with_step(dataset, {"step": "split", **step}))
