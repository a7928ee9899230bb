import json

import numpy as np
import polars as pl
import pytest

from prismrec.data.dataset import Dataset, Interactions
from prismrec.data.ids import IdMap
from prismrec.data.inspect import inspect
from prismrec.data.modalities import modality


def data(rows, n_users, n_items, *, split=True, **modalities) -> Dataset:
    user, item, part, time = (np.array(c) for c in zip(*rows, strict=True))
    log = Interactions(
        user.astype(np.int32),
        item.astype(np.int32),
        part.astype(np.int8) if split else None,
        timestamp=time.astype(np.int64),
    )
    ids = (IdMap(pl.Series(range(n)), what) for n, what in ((n_users, "user"), (n_items, "item")))
    features = {name: modality(np.array(values, np.float32), name, n_items) for name, values in modalities.items()}
    return Dataset("toy", *ids, log, features)


ROWS = [(0, 0, 0, 5), (0, 0, 0, 6), (0, 1, 2, 1), (0, 0, 1, 7), (1, 2, 2, 3), (1, 0, 1, 2)]


def test_every_number():
    seen = inspect(data(ROWS, 3, 5, image=[[1], [0], [0], [2], [0]], text=[[1], [1], [0], [0], [0]]))
    assert (seen.users, seen.items, seen.interactions) == (3, 5, 6)
    assert seen.users_without_rows == 1 and seen.items_without_rows == 2
    assert seen.density == 4 / 15 and seen.sparsity == 1 - 4 / 15 and seen.duplicates == 2
    assert seen.user_degree["min"] == 2 and seen.user_degree["max"] == 4 and seen.user_degree["mean"] == 3
    assert seen.item_degree["50%"] == 1 and seen.item_degree["max"] == 4
    train, valid, test = (seen.parts[name] for name in ("train", "valid", "test"))
    assert (train.rows, train.users, train.items, train.users_without, train.cold_rows) == (2, 1, 1, 2, 0)
    assert (valid.rows, valid.users_without, valid.cold_rows) == (2, 1, 0)
    assert (test.rows, test.users_without, test.cold_rows) == (2, 1, 2)
    assert seen.leakage == {"train and valid": 1, "train and test": 0, "valid and test": 0}
    assert seen.earlier_test_rows == 1  # user 0 is tested on time 1 and trains on time 6; user 1 never trains
    assert (seen.modalities["image"].present, seen.modalities["image"].missing, seen.modalities["text"].share) == (
        2,
        3,
        0.4,
    )
    assert seen.items_without_modality == 2
    assert seen.ranges == {"timestamp": (1.0, 4.0, 7.0)}
    remarks = " ".join(seen.remarks())
    for said in (
        "2 rows repeat",
        "1 pairs stand in both train and valid",
        "2 test rows (100.0%)",
        "3 items (60.0%) lack image",
    ):
        assert said in remarks


def test_without_a_split_there_is_a_remark():
    seen = inspect(data(ROWS, 3, 5, split=False))
    assert seen.parts == {} and seen.leakage == {} and seen.earlier_test_rows is None
    assert any("no split yet" in remark for remark in seen.remarks())


def test_a_clean_data_set_draws_no_remarks_and_all_is_json():
    seen = inspect(data([(0, 0, 0, 1), (0, 1, 1, 2), (0, 2, 2, 3), (1, 1, 0, 1), (1, 2, 0, 1)], 2, 3))
    assert seen.remarks() == []
    assert json.loads(json.dumps(seen.as_dict()))["parts"]["train"]["rows"] == 3


def test_the_oddities_of_shared_data_are_found(shared_data):
    from prismrec.data.sources import read

    seen = inspect(read(shared_data / "tiktok"))
    assert seen.parts["train"].users_without == 10
    assert seen.parts["valid"].users_without == 6_257 and seen.parts["test"].users_without == 3_178
    held_out = seen.parts["valid"].rows + seen.parts["test"].rows
    cold = seen.parts["valid"].cold_rows + seen.parts["test"].cold_rows
    assert cold / held_out == pytest.approx(0.07, abs=0.005)
    assert sum(seen.leakage.values()) == 0 and seen.duplicates == 0
