"""Groups of users against counting by hand, on a catalogue most of whose items hardly anybody took."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from program import dataset as drawn

from prismrec.data.dataset import Dataset
from prismrec.studies.groups import COLD, GROUPINGS, PLACED_BY, coldest_target, lacking, rows_by_group


@pytest.fixture(scope="module")
def data() -> Dataset:
    return drawn(n_users=150, n_items=400, interactions=6.0)


def by_hand(data: Dataset) -> dict[int, list[int]]:
    """User → training users of each of his test items."""
    train, test = (data.interactions.part(part) for part in ("train", "test"))
    takers = Counter(int(item) for _, item in {(int(u), int(i)) for u, i in zip(train.user, train.item, strict=True)})
    found: dict[int, list[int]] = {}
    for u, i in zip(test.user, test.item, strict=True):
        found.setdefault(int(u), []).append(takers[int(i)])
    return found


def test_a_user_is_placed_by_the_rarest_target(data: Dataset) -> None:
    known = by_hand(data)
    found = coldest_target(data, "test")
    assert sorted(found["user"].to_list()) == sorted(known)
    for user, label in found.iter_rows():
        rarest = min(known[user])
        expected = "0" if rarest == 0 else f"1–{COLD}" if rarest <= COLD else f"more than {COLD}"
        assert label == f"{expected} training users"
    labels = found["group"].unique(maintain_order=True).to_list()
    assert labels == [f"{x} training users" for x in ("0", f"1–{COLD}", f"more than {COLD}")]  # coldest first


def test_each_user_falls_into_one_group_of_each_grouping(data: Dataset) -> None:
    users = np.array(sorted(by_hand(data)))
    found = rows_by_group(data, "test", users)
    assert GROUPINGS.keys() == PLACED_BY.keys()
    for by in GROUPINGS:
        parts = [rows for (own, _), rows in found.items() if own == by]
        assert len(parts) > 1 and sorted(np.concatenate(parts)) == list(range(len(users)))


def test_groups_are_told_by_user_and_not_by_place(data: Dataset) -> None:
    users = np.array(sorted(by_hand(data)))
    shuffled = np.random.default_rng(0).permutation(users)
    a, b = rows_by_group(data, "test", users), rows_by_group(data, "test", shuffled)
    assert a.keys() == b.keys()
    for key, rows in a.items():
        assert set(users[rows]) == set(shuffled[b[key]])
    few = rows_by_group(data, "test", users[:3])
    assert all(len(rows) for rows in few.values()) and sum(map(len, few.values())) == 3 * len(GROUPINGS)


def test_only_the_ranked_part_and_training_rows_are_counted(data: Dataset) -> None:
    for by, group in GROUPINGS.items():
        whole = group(data, "valid")
        assert whole.equals(group(data.development(), "valid")), by


def test_users_whose_targets_lack_features_are_a_group_where_there_are_any(data: Dataset) -> None:
    whole = {m: modality.present for m, modality in data.modalities.items()}
    test = data.interactions.part("test")
    for user, label in lacking(data, "test").iter_rows():
        items = test.item[test.user == user]
        assert (label == "a target lacks a modality") == (not all(present[items].all() for present in whole.values()))
    complete = drawn(n_users=30, n_items=40, interactions=6.0, missing=0.0)
    assert lacking(complete, "test").is_empty()
    assert {by for by, _ in rows_by_group(complete, "test", np.arange(30))} == GROUPINGS.keys() - {"missing features"}
