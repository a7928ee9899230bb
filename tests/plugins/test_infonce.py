from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny import batch, context, loss, made, train
from torch import Tensor
from torch.nn import functional as F

from prismrec.assembly import Assembly
from prismrec.errors import PrismError
from prismrec.models import BPR, FREEDOM, MGCN, VBPR, Model
from prismrec.plugins.infonce import InfoNCE
from prismrec.types import Batch

on_hosts = pytest.mark.parametrize("model", [VBPR, FREEDOM, MGCN], ids=lambda model: model.name)


def with_it(model: type[Model], modalities: int = 2, missing: bool = False, **settings: Any) -> Assembly:
    return made(model, context(modalities, missing=missing), [(InfoNCE, InfoNCE.Config(**settings))])


def by_hand(codes: Sequence[Tensor], items: Sequence[int], tau: float) -> float:
    """The loss of one direction, one item after the other."""
    a, b = codes
    rows = []
    for i in items:
        alike = {j: math.exp(float(F.cosine_similarity(a[i], b[j], dim=0)) / tau) for j in items}
        rows.append(-math.log(alike[i] / sum(alike.values())))
    return sum(rows) / len(rows)


def sides(assembly: Assembly) -> dict[str, Tensor]:
    return {m: rows.values.double() for m, (_, rows) in assembly.represent().modal.items()}


@on_hosts
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_term_is_that_of_the_definition_on_the_distinct_positive_items(model: type[Model], symmetric: bool) -> None:
    assembly = with_it(model, weight=0.7, temperature=0.5, symmetric=symmetric)
    rows = batch(context())
    assert len(rows.pos.unique()) < len(rows.pos)
    items, codes = rows.pos.unique().tolist(), list(sides(assembly).values())
    expected = by_hand(codes, items, 0.5)
    if symmetric:
        expected = (expected + by_hand(codes[::-1], items, 0.5)) / 2
    assert loss(assembly, rows)["infonce"].item() == pytest.approx(0.7 * expected, abs=1e-6)


def test_on_features_it_reads_what_goes_into_the_graphs_and_on_sides_what_comes_out() -> None:
    rows = batch(context())
    assembly = with_it(MGCN, weight=1.0, codes="features", symmetric=False)
    feats = [table.values.detach().double() for table in assembly.model.project(assembly.raw, None).values()]
    expected = by_hand(feats, rows.pos.unique().tolist(), 0.2)
    assert loss(assembly, rows)["infonce"].item() == pytest.approx(expected, abs=1e-5)
    assert loss(with_it(MGCN, weight=1.0), rows)["infonce"].item() != pytest.approx(expected, abs=1e-3)


def test_items_that_lack_a_modality_take_no_part_in_its_pairs() -> None:
    assembly = with_it(VBPR, missing=True, weight=1.0, symmetric=False)
    rows = Batch(torch.arange(6), torch.arange(6), torch.full((6, 1), 9))
    codes = list(sides(assembly).values())
    assert loss(assembly, rows)["infonce"].item() == pytest.approx(by_hand(codes, [1, 2, 5], 0.2), abs=1e-5)


@pytest.mark.parametrize("items", [[0, 3], [0, 1, 3], [1]])
def test_where_fewer_than_two_items_have_both_there_is_nothing_to_align(items: list[int]) -> None:
    assembly = with_it(VBPR, missing=True, weight=1.0)
    pos = torch.tensor(items)
    terms = loss(assembly, Batch(pos, pos, torch.full((len(items), 1), 9)))
    assert terms["infonce"] == 0
    terms["infonce"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in assembly.parameters())


def test_three_modalities_are_three_pairs_of_equal_weight() -> None:
    assembly = with_it(VBPR, modalities=3, weight=1.0, symmetric=False)
    rows = batch(context(3))
    a, b, c = sides(assembly).values()
    items = rows.pos.unique().tolist()
    expected = sum(by_hand(pair, items, 0.2) for pair in [(a, b), (a, c), (b, c)]) / 3
    assert loss(assembly, rows)["infonce"].item() == pytest.approx(expected, abs=1e-5)


def test_with_it_the_modalities_of_an_item_come_to_agree() -> None:
    def agreement(weight: float) -> float:
        assembly = train(with_it(VBPR, weight=weight), context(), epochs=20)
        a, b = (F.normalize(x, dim=1) for x in sides(assembly).values())
        return float(((a * b).sum(1) - (a @ b.T).mean(1)).mean())

    assert agreement(5.0) > agreement(0.0) + 0.2


def test_what_it_cannot_compare_is_refused() -> None:
    with pytest.raises(PrismError, match="infonce needs at least two modalities; vbpr states sides for image here"):
        with_it(VBPR, modalities=1)
    with pytest.raises(PrismError, match="infonce needs at least two modalities; bpr projects none here"):
        with_it(BPR, codes="features")
