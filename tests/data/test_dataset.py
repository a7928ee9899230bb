from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from prismrec.data.dataset import Dataset, Interactions, Modality
from prismrec.data.ids import IdMap
from prismrec.errors import PrismError


@pytest.fixture
def toy() -> Dataset:
    rows = Interactions(
        np.array([0, 1, 1], np.int32),
        np.array([1, 0, 1], np.int32),
        np.array([0, 1, 2], np.int8),
        weight=np.array([1, 2, 3], np.float32),
    )
    image = Modality(np.ones((2, 3), np.float32), np.ones(2, bool))
    return Dataset(
        "toy", IdMap(pl.Series(["u", "v"]), "user"), IdMap(pl.Series([7, 9]), "item"), rows, {"image": image}
    )


def test_development_has_no_test_rows_and_all_columns_move_together(toy):
    rows = toy.development().interactions
    assert rows.split.tolist() == [0, 1] and rows.weight.tolist() == [1, 2] and rows.user.tolist() == [0, 1]
    assert rows.timestamp is None and rows.rating is None
    assert toy.interactions.part("valid", "test").item.tolist() == [0, 1]


def test_parts_before_a_split_are_refused_in_a_sentence(toy):
    unsplit = replace(toy, interactions=replace(toy.interactions, split=None))
    with pytest.raises(PrismError, match=r"no split yet.*prismrec data split"):
        unsplit.development()


def test_an_empty_part_is_refused_in_a_sentence_where_it_is_needed(toy):
    toy.require("train", "valid", "test")
    with pytest.raises(PrismError, match=r"test part of 'toy' is empty \(rows: 1 train, 1 valid, 0 test\)"):
        toy.development().require("train", "test")


def test_the_fingerprint_is_pinned(toy):
    """Run folders and caches are keyed by it: it must not move with a library, a machine or a refactoring."""
    assert toy.fingerprint == PINNED


def test_the_fingerprint_sees_every_change_of_content_and_nothing_else(toy):
    rows, image = toy.interactions, toy.modalities["image"]
    changed = [
        replace(toy, users=IdMap(pl.Series(["u", "w"]), "user")),
        replace(toy, items=IdMap(pl.Series([79, 9]), "item")),
        replace(toy, interactions=replace(rows, split=np.array([0, 1, 1], np.int8))),
        replace(toy, interactions=replace(rows, weight=None)),
        replace(toy, interactions=replace(rows, weight=None, rating=rows.weight)),
        replace(toy, interactions=rows.take(np.array([1, 0, 2]))),
        replace(toy, modalities={}),
        replace(toy, modalities={"text": image}),
        replace(toy, modalities={"image": Modality(image.values * 2, image.present)}),
        replace(toy, modalities={"image": Modality(image.values, ~image.present)}),
        replace(toy, modalities={"image": Modality(image.values.reshape(3, 2)[:2], image.present)}),
    ]
    assert len({d.fingerprint for d in [toy, *changed]}) == len(changed) + 1
    same = replace(toy, name="other", items=IdMap(pl.Series([7, 9], dtype=pl.Int16), "item"), provenance={"steps": []})
    fortran = Modality(np.asfortranarray(image.values), image.present)
    assert same.fingerprint == replace(toy, modalities={"image": fortran}).fingerprint == toy.fingerprint


PINNED = "71e709d70854c639"
