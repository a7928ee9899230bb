from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import batch, context
from torch import Tensor

from prismrec.types import Batch, ItemIds, Reps, Rows

QUICK = settings(max_examples=50)


@QUICK
@given(st.lists(st.integers(0, 19), min_size=1, max_size=40), st.integers(20, 30))
def test_item_ids_are_sorted_distinct_and_know_their_rows(items: list[int], n_items: int) -> None:
    index = ItemIds.of(torch.tensor(items).reshape(1, -1), n_items)
    assert index.ids.tolist() == sorted(set(items))
    assert index.position[index.ids].tolist() == list(range(len(index.ids)))
    assert len(index.position) == n_items


@QUICK
@given(st.lists(st.integers(0, 19), min_size=1, max_size=40), st.integers(0, 2**31))
def test_a_partial_table_answers_like_the_whole_one(items: list[int], seed: int) -> None:
    table = torch.randn(20, 3, generator=torch.Generator().manual_seed(seed))
    asked = torch.tensor(items)
    index = ItemIds.of(asked, 20)
    part = Rows(table[index.ids], index)
    assert torch.equal(part.at(asked), table[asked])
    pairs = torch.stack([asked, asked.flip(0)], dim=1)
    assert torch.equal(part.at(pairs), Rows(table).at(pairs)) and part.at(pairs).shape == (len(items), 2, 3)


def test_rows_with_other_values_keep_their_items() -> None:
    index = ItemIds.of(torch.tensor([4, 2]), 6)
    rows = Rows(torch.randn(2, 3), index)
    other = rows.with_values(torch.ones(2, 5))
    assert other.index is index and other.width == 5 and rows.width == 3
    assert torch.equal(other.at(torch.tensor([4])), torch.ones(1, 5))


def test_a_gradient_reaches_the_rows_asked_for_and_adds_up_over_repetitions() -> None:
    table = torch.zeros(4, 2, requires_grad=True)
    Rows(table).at(torch.tensor([[1, 1], [3, 1]])).sum().backward()
    assert table.grad is not None and table.grad[:, 0].tolist() == [0, 3, 0, 1]


@QUICK
@given(st.integers(0, 2**31))
def test_scores_of_pairs_are_entries_of_the_score_matrix(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    user, item = torch.randn(5, 4, generator=rng), torch.randn(9, 4, generator=rng)
    taste, look = torch.randn(5, 2, generator=rng), torch.randn(9, 2, generator=rng)
    reps = Reps(user, Rows(item), {"image": (taste, Rows(look))})
    u, i = torch.randint(5, (6,), generator=rng), torch.randint(9, (6,), generator=rng)
    several = torch.randint(9, (6, 3), generator=rng)
    for modality, matrix in ((None, user @ item.T), ("image", taste @ look.T)):
        assert torch.allclose(reps.score(u, i, modality), matrix[u, i], atol=1e-6)
        assert torch.allclose(reps.score(u, several, modality), matrix[u[:, None], several], atol=1e-6)
        assert reps.score(u, several[:, :1], modality).shape == (6, 1)


def test_scores_on_the_rows_of_a_batch_are_those_on_all_rows() -> None:
    user, item = torch.randn(5, 4), torch.randn(9, 4)
    i = torch.tensor([8, 0, 8])
    index = ItemIds.of(i, 9)
    part, whole = Reps(user, Rows(item[index.ids], index)), Reps(user, Rows(item))
    u = torch.tensor([1, 2, 3])
    assert torch.equal(part.score(u, i), whole.score(u, i))


def test_a_modality_that_no_model_states_is_not_there() -> None:
    with pytest.raises(KeyError):
        Reps(torch.ones(1, 1), Rows(torch.ones(1, 1))).score(torch.tensor([0]), torch.tensor([0]), "image")


def test_a_model_sees_the_first_negatives_only() -> None:
    rows = batch(context(), n_neg=3)
    assert torch.equal(rows.negatives(2).neg, rows.neg[:, :2])
    assert rows.negatives(3) is rows
    assert rows.negatives(1).user is rows.user


def test_records_are_frozen() -> None:
    rows = batch(context())
    with pytest.raises(dataclasses.FrozenInstanceError):
        rows.user = rows.pos  # type: ignore[misc]


@pytest.mark.parametrize("weights", [False, True])
def test_a_batch_moves_whole(weights: bool) -> None:
    rows = batch(context(weights=weights))
    rows = dataclasses.replace(rows, picks={"somebody": rows.neg})
    moved = rows.to(torch.device("meta"))
    tensors = [moved.user, moved.pos, moved.neg, *moved.picks.values(), *([moved.weight] if weights else [])]
    assert all(isinstance(value, Tensor) and value.device.type == "meta" for value in tensors)
    assert isinstance(moved, Batch) and (moved.weight is not None) == weights


@pytest.mark.parametrize("made", [False, True])
def test_rows_times_a_matrix_and_plus_a_row_are_the_same_made_before_or_after(made: bool) -> None:
    table, first, second, row = torch.randn(4, 3), torch.randn(3, 3), torch.randn(3, 2), torch.randn(3)
    asked = []

    def make(after: Tensor | None) -> Tensor:
        asked.append(after)
        return table if after is None else table @ after

    rows = Rows(make)
    if made:
        assert rows.values is table
    out = rows.plus(row).times(first).plus(row).times(second)
    expected = ((table + row) @ first + row) @ second
    assert torch.allclose(out.values, expected, atol=1e-6)
    assert len(asked) == 1 and (asked[0] is None) == made  # one product with the table
    assert torch.allclose(rows.values, table) and out.values is out.values


def test_rows_still_to_be_made_keep_their_index() -> None:
    index = ItemIds.of(torch.tensor([5, 2]), 7)
    rows = Rows(lambda after: torch.eye(2) if after is None else after, index)
    for changed in (rows, rows.times(torch.eye(2)), rows.plus(torch.zeros(2)), rows.with_values(torch.eye(2))):
        assert changed.index is index
        assert torch.equal(changed.at(torch.tensor([5])), torch.tensor([[0.0, 1.0]]))
        assert changed.width == 2


def test_rows_of_a_batch_are_taken_once_and_parts_of_a_table_are_cut_from_the_whole() -> None:
    rows = batch(context(), n_neg=3)
    table = torch.randn(11, 6, requires_grad=True)
    items = torch.randn(17, 4, requires_grad=True)
    wide = Rows(torch.cat([items, items[:, :2]], dim=1))
    reps = Reps(table, wide, {"image": (table[:, 2:], Rows(items)), "text": (table[:, 2:].clone(), Rows(items))})
    assert reps.users(rows.user) is reps.users(rows.user)
    assert reps.items(rows.negatives(1)) is reps.items(rows.negatives(1))  # views of the same negatives
    assert reps.items(rows.negatives(1)) is not reps.items(rows.negatives(2))
    for m in (None, "image", "text"):
        users, rows_of = reps.sides(m)
        assert torch.equal(reps.users(rows.user, m), users[rows.user])
        expected = torch.cat([rows_of.at(rows.pos).unsqueeze(0), rows_of.at(rows.neg.T)])
        assert torch.equal(reps.items(rows, m), expected)
    both = (reps.users(rows.user, "image") * 2 + reps.users(rows.user, "text")).sum()
    (gradient,) = torch.autograd.grad(both, table)
    count = torch.bincount(rows.user, minlength=11).float()
    assert torch.allclose(gradient, count[:, None] * torch.tensor([0.0, 0, 3, 3, 3, 3]))


def test_what_was_taken_without_a_gradient_is_taken_again_with_one() -> None:
    table = torch.randn(5, 3, requires_grad=True)
    reps, user = Reps(table, Rows(table)), torch.tensor([1, 3])
    with torch.no_grad():
        assert not reps.users(user).requires_grad
    assert reps.users(user).requires_grad


def test_rows_made_when_first_read_have_their_gradient_whoever_reads_them() -> None:
    weight = torch.randn(4, 2, requires_grad=True)
    rows = Rows(lambda after: weight * 2 if after is None else weight * 2 @ after)
    with torch.no_grad():
        assert rows.values.requires_grad
