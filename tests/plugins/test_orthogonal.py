from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import batch, context, loss, made, train
from torch import Tensor

from prismrec.assembly import Assembly
from prismrec.errors import PrismError
from prismrec.models import BPR, FREEDOM, MGCN, VBPR, Model
from prismrec.plugins.base import Offer
from prismrec.plugins.orthogonal import Orthogonal, cross, gram
from prismrec.plugins.pairs import Pairs
from prismrec.types import Batch

QUICK = settings(max_examples=40)
MEASURES = {"cross": cross, "gram": gram}
every_kind = pytest.mark.parametrize("kind", MEASURES)


def with_it(model: type[Model], modalities: int = 2, missing: bool = False, **settings: Any) -> Assembly:
    return made(model, context(modalities, missing=missing), [(Orthogonal, Orthogonal.Config(**settings))])


def sides(assembly: Assembly) -> list[Tensor]:
    return [rows.values for _, rows in assembly.represent().modal.values()]


@QUICK
@given(st.integers(0, 2**31), st.integers(1, 9))
def test_gram_is_the_size_of_all_inner_products_of_items_with_items(seed: int, n: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(n, 4, generator=rng, dtype=torch.float64) for _ in range(2))
    h_t, h_v = a.T, b.T  # items as columns, as in BR-MRS's proof
    assert torch.allclose(gram(a, b), (h_t.T @ h_v).square().sum() / n**2)


@QUICK
@given(st.integers(0, 2**31), st.integers(1, 9))
def test_cross_is_the_size_of_the_products_of_dimensions_whatever_their_numbers(seed: int, n: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(n, d, generator=rng, dtype=torch.float64) for d in (3, 5))
    total = torch.zeros(3, 5, dtype=torch.float64)
    for x, y in zip(a - a.mean(0), b - b.mean(0), strict=True):
        if n > 1:
            total += torch.outer(x / x.norm(), y / y.norm()) / n
    value = cross(a, b)
    assert torch.allclose(value, total.square().sum()) and 0 <= value <= 1 + 1e-9
    assert torch.allclose(cross(3 * a + 7, b), value)  # neither the mean nor the length matters


@every_kind
def test_a_weight_means_the_same_for_any_number_of_items(kind: str) -> None:
    a, b = torch.randn(20, 4), torch.randn(20, 4)
    once, twice = MEASURES[kind](a, b), MEASURES[kind](torch.cat([a, a]), torch.cat([b, b]))
    assert torch.allclose(once, twice)


@every_kind
def test_codes_in_orthogonal_subspaces_cost_nothing_and_shared_ones_do(kind: str) -> None:
    if kind == "gram":
        a, b = torch.eye(6)[torch.arange(30) % 3], torch.eye(6)[3 + torch.arange(30) % 3]
        assert gram(a, b) == 0 and gram(a, a) > 0.1
    else:
        sign = torch.tensor([-1.0, 1.0])
        a, b = torch.cartesian_prod(sign, sign).T.unsqueeze(2)  # two variables that say nothing of each other
        assert cross(a, b) == 0 and cross(a, a) == pytest.approx(1) and cross(a, -a) == pytest.approx(1)


@every_kind
@pytest.mark.parametrize("model", [VBPR, FREEDOM, MGCN], ids=lambda model: model.name)
def test_the_term_is_that_of_the_distinct_positive_items(model: type[Model], kind: str) -> None:
    assembly = with_it(model, weight=0.5, kind=kind)
    rows = batch(context())
    a, b = (x[rows.pos.unique()] for x in sides(assembly))
    assert torch.allclose(loss(assembly, rows)["orthogonal"], 0.5 * MEASURES[kind](a, b), rtol=1e-4)


@every_kind
def test_three_modalities_are_three_pairs_of_items_that_have_both(kind: str) -> None:
    assembly = with_it(VBPR, modalities=3, missing=True, weight=1.0, kind=kind)
    rows = Batch(torch.arange(6), torch.arange(6), torch.full((6, 1), 9))
    a, b, c = sides(assembly)
    first, rest = torch.tensor([1, 2, 5]), torch.tensor([0, 1, 2, 3, 5])  # who has image, and who has text and audio
    measure = MEASURES[kind]
    expected = (measure(a[first], b[first]) + measure(a[first], c[first]) + measure(b[rest], c[rest])) / 3
    assert torch.allclose(loss(assembly, rows)["orthogonal"], expected, rtol=1e-4)


@every_kind
@pytest.mark.parametrize("items", [[0, 3], [1]])
def test_a_batch_without_a_pair_of_items_costs_something_finite(items: list[int], kind: str) -> None:
    assembly = with_it(VBPR, missing=True, weight=1.0, kind=kind)
    pos = torch.tensor(items)
    term = loss(assembly, Batch(pos, pos, torch.full((len(items), 1), 9)))["orthogonal"]
    term.backward()
    assert term.isfinite() and (term == 0) == (kind == "cross" or items == [0, 3])
    assert all(p.grad is None or p.grad.isfinite().all() for p in assembly.parameters())


def test_with_it_the_modalities_come_to_share_less() -> None:
    ctx = context()
    items = torch.arange(15)
    free, apart = (sides(train(with_it(VBPR, weight=weight), ctx, epochs=20)) for weight in (0.0, 20.0))
    assert cross(*(x[items] for x in apart)) < 0.5 * cross(*(x[items] for x in free))


def test_what_it_cannot_compare_is_refused() -> None:
    with pytest.raises(PrismError, match="orthogonal needs at least two modalities; bpr states sides for none here"):
        with_it(BPR)
    with pytest.raises(PrismError, match="orthogonal needs at least two modalities; freedom projects image here"):
        with_it(FREEDOM, modalities=1, codes="features")
    everybody = torch.ones(3, dtype=torch.bool)
    offer = Offer("m", 3, 3, {"a": 4, "b": 5}, {"a": everybody, "b": everybody}, {"a": (2, 2), "b": (2, 2)}, (2, 2))
    with pytest.raises(PrismError, match="codes of one width; those of m are a 4, b 5 wide"):
        Pairs.offered("orthogonal", offer, "features", same_width=True)
    assert Pairs.offered("orthogonal", offer, "features", same_width=False).present == {"a": None, "b": None}
    assert Pairs.offered("orthogonal", offer, "sides", same_width=True).present == {"a": None, "b": None}
