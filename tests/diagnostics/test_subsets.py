"""User subsets: ranks against a plain loop, cells that partition, planted synergy that shows."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prismrec.data.dataset import Dataset
from prismrec.data.splits import leave_one_out
from prismrec.data.synthetic import Factor, Planted, draw
from prismrec.diagnostics import Subject, View
from prismrec.diagnostics.subsets import all_ranks, cell_names, cells, held_out, ranks_of, subsets, with_intervals
from prismrec.errors import PrismError
from prismrec.evaluate import Evaluator
from prismrec.ranking import Csr
from prismrec.types import Reps, Rows

NOTHING = Factor(0, 0.0)


def naive(user: np.ndarray, item: np.ndarray, u: int, target: int, masked: set[int]) -> int:
    """Equation 4, word for word; a masked target scores −∞."""
    scores = [-np.inf if j in masked else float(user[u] @ item[j]) for j in range(len(item))]
    return 1 + sum(scores[j] > scores[target] for j in range(len(item)) if j != target)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("block", [1, 40, 1 << 22])
def test_ranks_are_those_of_a_plain_loop(masks: bool, block: int) -> None:
    rng = np.random.default_rng(1)
    user = rng.integers(-2, 3, (6, 2)).astype(np.float32)  # few values: many ties
    item = rng.integers(-2, 3, (13, 2)).astype(np.float32)
    u, target = np.repeat(np.arange(6), 5), rng.integers(0, 13, 30)
    seen = [(row, j) for row in range(6) for j in rng.choice(13, 4, replace=False).tolist()]
    known = Csr.of(np.array([a for a, _ in seen]), np.array([b for _, b in seen]), 6) if masks else None
    pairs = torch.from_numpy(u), torch.from_numpy(target)
    found = ranks_of(torch.from_numpy(user), torch.from_numpy(item), pairs, known, block)
    hidden = {row: {j for r, j in seen if r == row and masks} for row in range(6)}
    assert found.tolist() == [naive(user, item, a, b, hidden[a]) for a, b in zip(u, target, strict=True)]


def test_equal_scores_cost_nothing_and_the_best_rank_is_one() -> None:
    user, item = torch.ones(1, 1), torch.ones(5, 1)
    pairs = (torch.tensor([0]), torch.tensor([3]))
    assert ranks_of(user, item, pairs).tolist() == [1]
    assert ranks_of(user, -torch.arange(5.0)[:, None], pairs).tolist() == [4]


@given(
    st.integers(1, 3).flatmap(lambda m: st.lists(st.lists(st.integers(1, 30), min_size=m + 1, max_size=m + 1),
                                                 min_size=1, max_size=40)),
    st.integers(1, 30),
)  # fmt: skip
def test_cells_partition_at_any_cutoff(rows: list[list[int]], k: int) -> None:
    names = [*("image", "text", "audio")[: len(rows[0]) - 1], "fused"]
    ranks = dict(zip(names, torch.tensor(rows).T, strict=True))
    table = cells(ranks, k)
    assert len(table) == table["cell"].n_unique() == 2 ** len(names)
    assert table["pairs"].sum() == len(rows)
    assert table["share"].sum() == pytest.approx(1)
    assert table["chance"].sum() == pytest.approx(1)
    for name, rank in ranks.items():
        assert table.filter(pl.col(name))["pairs"].sum() == int((rank <= k).sum())


def test_the_four_subsets_are_those_of_the_paper() -> None:
    """Equations 5 to 8, on one pair for each of the eight combinations."""
    hits = [hits for _, hits in cell_names(("image", "text"))]
    rank = torch.where(torch.tensor(hits), 3, 9)
    table = cells({"image": rank[:, 0], "text": rank[:, 1], "fused": rank[:, 2]}, 5)
    assert table["pairs"].to_list() == [1] * 8
    told = {row["cell"]: (row["image"], row["text"], row["fused"]) for row in table.iter_rows(named=True)}
    assert told["unique text"] == (False, True, False)  # U_t
    assert told["unique image"] == (True, False, False)  # U_v
    assert told["synergy"] == (False, False, True)  # U_tv
    assert told["degradation"] == (True, True, False)  # U_r
    assert told["none hits"] == (False, False, False)
    assert told["all hit"] == (True, True, True)
    assert told["image + fused"] == (True, False, True)
    assert dict(cell_names(("a", "b", "c")))["a + c, not fused"] == (True, False, True, False)


def oracles(planted: Planted, fused: tuple[str, ...], **branches: tuple[str, ...]) -> Reps:
    """Representations that know these groups of the truth: fused, and each modality."""
    reps = planted.oracle(*fused)
    known = {m: planted.oracle(*groups) for m, groups in branches.items()}
    return replace(reps, modal={m: (side.user, side.item) for m, side in known.items()})


def looked(planted: Planted, reps: Reps, k: int = 20, dataset: Dataset | None = None) -> dict[str, float]:
    subject = Subject.of_data(dataset or planted.dataset, View(k=k))
    found = subsets(replace(subject, reps=reps))
    return dict(zip(found.table["cell"], found.table["share"], strict=True))


def test_the_synergy_subset_grows_with_planted_synergy_and_is_empty_without() -> None:
    shares = []
    for strength in (0.0, 0.7, 1.4, 2.8):
        planted = draw(600, 200, unique=NOTHING, hidden=NOTHING, synergy=Factor(2, strength), missing=0.0, seed=2)
        both = oracles(planted, ("redundant", "synergy"), image=("redundant",), text=("redundant",))
        shares.append(looked(planted, both)["synergy"])
    assert shares[0] == 0
    assert all(b > a + 0.01 for a, b in pairwise(shares))


def test_adding_two_unique_parts_fills_the_synergy_subset_too() -> None:
    """Fusion alone hits: that need not be an exclusive or. Two halves that add up do it as well, and a reader should know."""
    planted = draw(600, 200, redundant=NOTHING, synergy=NOTHING, hidden=NOTHING, missing=0.0, seed=2)
    reps = oracles(planted, ("unique:image", "unique:text"), image=("unique:image",), text=("unique:text",))
    share = looked(planted, reps)
    assert share["synergy"] > 0.03
    assert share["unique image"] > 0.03
    assert share["unique text"] > 0.03


def test_a_modality_that_fusion_ignores_is_unique_and_one_that_it_contradicts_degrades() -> None:
    planted = draw(600, 200, redundant=NOTHING, synergy=NOTHING, hidden=NOTHING, missing=0.0, seed=2)
    groups = {"image": ("unique:image",), "text": ("unique:text",)}
    share = looked(planted, oracles(planted, ("unique:image",), **groups))
    assert share["unique image"] == share["synergy"] == share["degradation"] == 0
    assert share["unique text"] > 0.1
    against = oracles(planted, ("unique:image",), image=("unique:image", "unique:text"), text=("unique:text",))
    share = looked(planted, replace(against, user=-against.user))
    assert share["degradation"] > 0.1


def test_three_modalities_have_sixteen_cells() -> None:
    widths = {"image": 16, "text": 16, "audio": 16}
    planted = draw(150, 100, modalities=widths, seed=4)
    knows = {m: ("redundant", f"unique:{m}") for m in widths}
    share = looked(planted, oracles(planted, (), **knows))
    assert len(share) == 16
    assert sum(share.values()) == pytest.approx(1)
    assert {"unique image", "unique text", "unique audio", "synergy", "degradation"} < set(share)


def test_fused_hits_are_the_recall_of_the_evaluator() -> None:
    planted = draw(200, 120, seed=5)
    data = leave_one_out(planted.dataset, seed=0)
    reps = planted.oracle()
    full = replace(reps, modal={m: (reps.user, reps.item) for m in ("image", "text")})
    subject = replace(Subject.of_data(data, View(k=10)), reps=full)
    found = subsets(subject)
    recall = Evaluator.of(data.development(), "valid", metrics=["recall@10"])(reps)["recall@10"]
    assert found.table.filter(pl.col("fused"))["share"].sum() == pytest.approx(recall)
    assert " users, " in found.says and "pairs" not in found.says


def test_masking_is_that_of_the_protocol_unless_told_otherwise() -> None:
    planted = draw(100, 80, seed=6)
    reps = planted.oracle()
    full = replace(reps, modal={m: (reps.user, reps.item) for m in ("image", "text")})
    masked, bare = (
        subsets(replace(Subject.of_data(planted.dataset, View(masked=on)), reps=full)).table for on in (True, False)
    )
    hits = [table.filter(pl.col("fused"))["pairs"].sum() for table in (masked, bare)]
    assert hits[0] > hits[1]
    pairs = held_out(Subject.of_data(planted.dataset))
    rank = all_ranks(full, pairs)["fused"]
    assert hits[1] == int((rank <= 20).sum())


def test_intervals_hold_the_share_and_narrow_with_users() -> None:
    rng = torch.Generator().manual_seed(0)

    def width(n: int) -> float:
        ranks = {name: torch.randint(1, 40, (2 * n,), generator=rng) for name in ("image", "text", "fused")}
        table = with_intervals(cells(ranks, 10), ranks, torch.arange(n).repeat(2), 10)
        assert (table["low"] <= table["share"]).all() and (table["share"] <= table["high"]).all()
        return float((table["high"] - table["low"]).mean())

    assert width(1600) == pytest.approx(width(100) / 4, rel=0.35)


def test_pairs_given_twice_count_once() -> None:
    data = draw(30, 40, interactions=6.0, seed=1).dataset
    rows = data.interactions
    twice = replace(data, interactions=rows.take(np.concatenate([np.arange(len(rows)), np.arange(len(rows))])))
    assert [ids.tolist() for ids in held_out(Subject.of_data(twice))] == [
        ids.tolist() for ids in held_out(Subject.of_data(data))
    ]


def test_a_model_without_branches_and_data_alone_are_told_why() -> None:
    planted = draw(30, 40, interactions=6.0, seed=1)
    subject = Subject.of_data(planted.dataset)
    with pytest.raises(PrismError, match="representations, which data alone does not have"):
        subsets(subject)
    with pytest.raises(PrismError, match="at least 2 modalities; this one states none"):
        subsets(replace(subject, reps=planted.oracle()))
    one = Reps(torch.ones(30, 1), Rows(torch.ones(40, 1)), {"image": (torch.ones(30, 1), Rows(torch.ones(40, 1)))})
    with pytest.raises(PrismError, match="this one states image"):
        subsets(replace(subject, reps=one))
