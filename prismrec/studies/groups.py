"""Groups of the users of a part, known from the training rows: who was helped, and who was not.

A user falls into one group of each grouping. All of it is counted in training rows; only which items are a user's targets
comes from the part that is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
import torch

from prismrec.data.dataset import Dataset
from prismrec.evaluate import Protocol, by_warmth, target_popularity, training_popularity, user_activity
from prismrec.types import Reps

COLD = 5
"""Training users up to which an item counts as cold."""


def coldest_target(dataset: Dataset, part: str) -> pl.DataFrame:
    """Users with a target in ``part`` by the fewest training users that one of their targets has: 0, 1–5, more.

    Columns ``user`` (internal id) and ``group``, coldest first.
    """
    target = dataset.interactions.part(part)
    taken = training_popularity(dataset).counts[target.item]
    fewest = np.full(dataset.n_users, np.iinfo(np.int64).max)
    np.minimum.at(fewest, target.user, taken)
    users = np.unique(target.user).astype(np.int64)
    number = np.digitize(fewest[users], [1, COLD + 1])
    labels = np.array(["0 training users", f"1–{COLD} training users", f"more than {COLD} training users"])
    order = np.argsort(number, kind="stable")
    return pl.DataFrame({"user": users[order], "group": labels[number[order]]})


def lacking(dataset: Dataset, part: str) -> pl.DataFrame:
    """Users with a target in ``part`` by whether one of their targets lacks the features of some modality.

    Columns ``user`` (internal id) and ``group``; nobody where every item has all features.
    """
    without = np.zeros(dataset.n_items, bool)
    for modality in dataset.modalities.values():
        without |= ~modality.present
    if not without.any():
        return pl.DataFrame(schema={"user": pl.Int64, "group": pl.String})
    target = dataset.interactions.part(part)
    users = np.unique(target.user).astype(np.int64)
    touched = np.isin(users, target.user[without[target.item]])
    order = np.argsort(~touched, kind="stable")
    labels = np.where(touched, "a target lacks a modality", "all targets have all modalities")
    return pl.DataFrame({"user": users[order], "group": labels[order]})


def _activity(dataset: Dataset, part: str) -> pl.DataFrame:
    return user_activity(dataset)


GROUPINGS: Mapping[str, Callable[[Dataset, str], pl.DataFrame]] = {
    "activity": _activity,
    "popularity": target_popularity,
    "cold items": coldest_target,
    "missing features": lacking,
}
"""Name of a grouping → users (internal ids) of a part with the label of their group, in order of the groups."""

PLACED_BY: Mapping[str, str] = {
    "activity": "the user's number of training items",
    "popularity": "the mean number of training users of the user's held-out items",
    "cold items": "the number of training users of the user's rarest held-out item",
    "missing features": "whether one of the user's held-out items lacks a modality",
}
"""Name of a grouping → what a user is placed by. The first two make about equal quarters."""


def grouped(
    reps: Reps, dataset: Dataset, part: str, rules: Protocol, metrics: Sequence[str], device: torch.device | str = "cpu"
) -> dict[str, dict[str, dict[str, float]]]:
    """Means of ``metrics`` on ``part`` by warm and cold items apart, and for each group of users.

    Grouping → label → ``users`` (their number) and each metric. ``items`` is by kinds of items (``evaluate.by_warmth``), where
    the data has cold ones; the others are ``GROUPINGS`` that tell users apart.
    """
    by_kind = by_warmth(dataset, part, rules, metrics, device)
    found: dict[str, dict[str, dict[str, float]]] = {}
    evaluation = by_kind["all"].evaluate(reps)
    if len(by_kind) > 1:
        found["items"] = {
            kind: {"users": len(evaluator.users), **(evaluation.mean if kind == "all" else evaluator(reps))}
            for kind, evaluator in by_kind.items()
        }
    user = evaluation.per_user["user"].to_numpy()
    names = [name for name in evaluation.mean if name in evaluation.per_user.columns]
    values = evaluation.per_user.select(names).to_numpy()
    for (by, label), rows in rows_by_group(dataset, part, user).items():
        means = dict(zip(names, map(float, values[rows].mean(0)), strict=True))
        found.setdefault(by, {})[label] = {"users": len(rows), **means}
    return {by: groups for by, groups in found.items() if len(groups) > 1}


def rows_by_group(dataset: Dataset, part: str, user: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """(grouping, label) → positions in ``user`` (n,), internal ids of users with a target in ``part``; none is empty."""
    place = np.full(dataset.n_users, -1)
    place[user] = np.arange(len(user))
    found = {}
    for by, group in GROUPINGS.items():
        for (label,), members in group(dataset, part).group_by("group", maintain_order=True):
            at = place[members["user"].to_numpy()]
            if (at >= 0).any():
                found[by, str(label)] = np.sort(at[at >= 0])
    return found
