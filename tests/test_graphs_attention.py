from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prismrec import graphs
from prismrec.graphs import Edges, Places

ROWS, COLUMNS, WIDTH = 7, 9, 4


def edges(seed: int = 0) -> Edges:
    """The last row and the last column have no entry."""
    rng = torch.Generator().manual_seed(seed)
    user, item = (torch.randint(n - 1, (25,), generator=rng) for n in (ROWS, COLUMNS))
    return Edges(user, item, ROWS, COLUMNS)


def dense(places: Places, values: Tensor) -> Tensor:
    return torch.zeros(places.rows, places.columns).index_put((places.row.long(), places.column.long()), values)


@pytest.fixture(params=["upright", "flipped"])
def places(request: pytest.FixtureRequest) -> Places:
    upright = Places.of(edges())
    return upright if request.param == "upright" else upright.flip()


def drawn(*shapes: tuple[int, ...]) -> list[Tensor]:
    rng = torch.Generator().manual_seed(3)
    return [torch.randn(*shape, generator=rng).requires_grad_() for shape in shapes]


def gradients(out: Tensor, of: list[Tensor]) -> list[Tensor]:
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(5))
    return list(torch.autograd.grad((out * weight).sum(), of))


def close(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.allclose(x, y, atol=1e-5) for x, y in zip(a, b, strict=True))


def test_a_matrix_its_transpose_and_its_flip_hold_the_same_values() -> None:
    places = Places.of(edges())
    flipped = places.flip()
    values = torch.arange(1.0, len(places.row) + 1)
    matrix = dense(places, values)
    assert torch.equal(places.matrix(values).dense(), matrix)
    assert torch.equal(places.transposed(values).dense(), matrix.T)
    assert torch.equal(flipped.matrix(values[places.order]).dense(), matrix.T)
    assert torch.equal(flipped.transposed(values[places.order]).dense(), matrix)
    assert torch.equal(values[places.order][flipped.order], values)


def test_inner_products_and_their_gradients_are_those_of_the_dense_product(places: Places) -> None:
    x, y = drawn((places.rows, WIDTH), (places.columns, WIDTH))
    found, expected = places.dots(x, y), (x @ y.T)[places.row.long(), places.column.long()]
    assert torch.allclose(found, expected, atol=1e-5)
    assert close(gradients(found, [x, y]), gradients(expected, [x, y]))


def test_products_and_their_gradients_are_those_of_the_dense_matrix(places: Places) -> None:
    values, y = drawn((len(places.row),), (places.columns, WIDTH))
    found, expected = places.times(values, y), dense(places, values) @ y
    assert torch.allclose(found, expected, atol=1e-5)
    assert close(gradients(found, [values, y]), gradients(expected, [values, y]))


@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_softmax_and_its_gradient_are_those_of_each_row_by_itself(places: Places, scale: float) -> None:
    (start,) = drawn((len(places.row),))
    values = (scale * start).detach().requires_grad_()
    rows = [values[places.row == r] for r in range(places.rows)]
    found, expected = places.softmax(values), torch.cat([row.softmax(0) for row in rows])
    assert found.isfinite().all() and torch.allclose(found, expected, atol=1e-6)
    assert close(gradients(found, [values]), gradients(expected, [values]))
    total = dense(places, found).sum(1)
    has = torch.bincount(places.row, minlength=places.rows) > 0
    assert torch.allclose(total, has.float()) and not has.all()


def test_places_without_an_entry() -> None:
    nobody = torch.zeros(0, dtype=torch.int64)
    places = Places.of(Edges(nobody, nobody, ROWS, COLUMNS))
    x, y = drawn((ROWS, WIDTH), (COLUMNS, WIDTH))
    near = places.softmax(places.dots(x, y))
    out = places.times(near, y)
    assert near.shape == (0,) and out.shape == (ROWS, WIDTH) and not out.any()
    assert not any(g.any() for g in gradients(out, [x, y]))


def test_under_autocast_everything_is_made_in_full_precision(places: Places) -> None:
    x, y = drawn((places.rows, WIDTH), (places.columns, WIDTH))
    exact = places.times(places.softmax(places.dots(x, y)), y)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(places.times(places.softmax(places.dots(x, y)), y), exact)


def test_places_follow_their_module_and_are_not_saved() -> None:
    assert isinstance(graphs.Places.of(edges()).to("cpu"), Places) and Places.of(edges()).state_dict() == {}


@pytest.mark.parametrize(("many", "columns"), [(2, 5), (9, 4)])
def test_lists_of_one_length_are_rows_and_a_column_may_come_twice(many: int, columns: int) -> None:
    ids = torch.randint(columns, (3, many), generator=torch.Generator().manual_seed(1))
    ids[1] = 1
    places, weights, table = Places.lists(ids, columns), *drawn((3, many), (columns, WIDTH))
    wanted = (weights.unsqueeze(2) * table[ids]).sum(1)
    found = places.times(weights.reshape(-1), table)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert close(gradients(found, [weights, table]), gradients(wanted, [weights, table]))
    (rows,) = drawn((3, WIDTH))
    wanted, found = torch.einsum("nd,ncd->nc", rows, table[ids]), places.dots(rows, table).view(3, many)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert close(gradients(found, [rows, table]), gradients(wanted, [rows, table]))
