from __future__ import annotations

import math

import pytest
import torch
from tiny import context
from torch import nn

from prismrec import graphs
from prismrec import nn as prism_nn
from prismrec.nn import Projections, Projector, Raw, UnitProjector, xavier_table
from prismrec.types import ItemIds, Rows


def raw(n: int = 12, width: int = 5, missing: tuple[int, ...] = (2, 7), dtype: torch.dtype = torch.float32) -> Raw:
    present = torch.ones(n, dtype=torch.bool)
    present[list(missing)] = False
    values = torch.randn(n, width, generator=torch.Generator().manual_seed(n)).half().to(dtype)
    return Raw(torch.where(present[:, None], values, torch.tensor(99.0, dtype=dtype)), present)


def test_the_mean_is_that_of_present_rows_and_zero_where_there_is_none() -> None:
    data = raw()
    assert torch.allclose(data.mean(), data.values[data.present].mean(0), atol=1e-6)
    assert torch.equal(raw(4, 3, (0, 1, 2, 3)).mean(), torch.zeros(3))
    assert (data.width, data.complete, raw(missing=()).complete) == (5, False, True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("missing", [(), (2, 7)])
@pytest.mark.parametrize("trainable", [False, True])
def test_vbpr_fact_5_projecting_the_items_of_a_batch_equals_rows_of_the_full_projection(
    trainable: bool, missing: tuple[int, ...], dtype: torch.dtype
) -> None:
    data = raw(missing=missing, dtype=dtype)
    phi = Projector(data, nn.Linear(5, 3), trainable)
    index = ItemIds.of(torch.tensor([2, 11, 3, 2]), 12)
    whole = phi(data, None)
    assert whole.dtype == torch.float32 and torch.allclose(phi(data, index), whole[index.ids], atol=1e-6)


@pytest.mark.parametrize("trainable", [False, True])
def test_an_item_without_the_modality_stands_in_with_the_mean_of_those_that_have_it(trainable: bool) -> None:
    data = raw()
    phi = Projector(data, nn.Linear(5, 3), trainable)
    expected = phi.net(data.values[data.present].mean(0))
    assert torch.allclose(phi(data, None)[[2, 7]], expected.expand(2, 3), atol=1e-6)


def test_large_tables_are_projected_in_blocks_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    data = raw()
    phi = Projector(data, nn.Linear(5, 3))
    whole = phi(data, None)
    monkeypatch.setattr(prism_nn, "_BLOCK", 5)
    assert torch.allclose(phi(data, None), whole, atol=1e-6)
    assert torch.allclose(data.mean(), phi.stand_in, atol=1e-6)


def test_frozen_features_are_no_state_and_trained_ones_start_at_the_features() -> None:
    data = raw()
    frozen, trained = Projector(data, nn.Linear(5, 3)), Projector(data, nn.Linear(5, 3), trainable=True)
    assert set(frozen.state_dict()) == {"stand_in", "net.weight", "net.bias"}
    assert set(trained.state_dict()) == {"stand_in", "table", "net.weight", "net.bias"}
    assert trained.table is not None and trained.table.requires_grad
    assert torch.equal(trained.table[data.present], data.values[data.present])
    assert torch.allclose(trained.table[2], data.values[data.present].mean(0), atol=1e-6)


def test_new_items_are_projected_from_their_raw_rows_alone() -> None:
    data = raw()
    phi = Projector(data, nn.Linear(5, 3))
    new = Raw(data.values[[4, 2]], data.present[[4, 2]])
    assert torch.allclose(phi(new, None), phi(data, None)[[4, 2]], atol=1e-6)


def test_projections_are_made_for_the_modalities_that_have_one() -> None:
    data = {"image": raw(), "text": raw(12, 4)}
    phi = Projections({"text": Projector(data["text"], nn.Linear(4, 2))})
    index = ItemIds.of(torch.tensor([1, 5]), 12)
    feats = phi.project(data, index)
    assert list(feats) == ["text"] and feats["text"].values.shape == (2, 2) and feats["text"].index is index
    assert phi.project(data, None)["text"].index is None


def test_double_precision_goes_through() -> None:
    data = raw()
    phi = Projector(data, nn.Linear(5, 3)).double()
    assert phi(data, None).dtype == torch.float64


def test_xavier_tables_fill_their_bounds_and_no_more() -> None:
    table = xavier_table(300, 20)
    bound = math.sqrt(6 / 320)
    assert isinstance(table, nn.Parameter) and table.shape == (300, 20)
    assert 0.99 * bound < table.abs().max() <= bound


@pytest.mark.parametrize("width", [5, 32])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("items", [1, 16, 37])
def test_the_gradient_of_a_batch_is_that_of_a_plain_product_of_its_rows(items: int, bias: bool, width: int) -> None:
    data = raw(60, width)
    phi = Projector(data, nn.Linear(width, 3, bias=bias))
    index = ItemIds.of(torch.randperm(60, generator=torch.Generator().manual_seed(items))[:items], 60)
    rows = torch.where(data.present[:, None], data.values, phi.stand_in)[index.ids]
    upstream = torch.randn(items, 3)
    parameters = list(phi.net.parameters())
    expected = torch.autograd.grad((phi.net(rows) * upstream).sum(), parameters)
    for _ in range(2):  # the second time in memory that is there already
        out = phi(data, index)
        assert torch.allclose(out, phi.net(rows), atol=1e-5)
        found = torch.autograd.grad((out * upstream).sum(), parameters)
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found, expected, strict=True))


def test_a_projection_made_between_forward_and_backward_changes_no_gradient() -> None:
    data = raw(60, 32)
    phi = Projector(data, nn.Linear(32, 3))
    first, second = (ItemIds.of(torch.arange(60)[part], 60) for part in (slice(0, 20), slice(15, 60)))
    alone = [torch.autograd.grad(phi(data, index).square().sum(), phi.net.weight)[0] for index in (first, second)]
    together = torch.autograd.grad(phi(data, first).square().sum() + phi(data, second).square().sum(), phi.net.weight)[
        0
    ]
    assert torch.allclose(together, alone[0] + alone[1], rtol=1e-4, atol=1e-4)


NETS = {
    "linear": lambda: nn.Linear(5, 3),
    "no bias": lambda: nn.Linear(5, 3, bias=False),
    "mlp": lambda: nn.Sequential(nn.Linear(5, 4), nn.LeakyReLU(), nn.Linear(4, 3)),
    "not linear at the end": lambda: nn.Sequential(nn.Linear(5, 3), nn.Tanh()),
}


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("net", NETS)
def test_a_matrix_that_goes_into_the_last_layer_gives_the_product_of_the_features_and_its_gradients(
    net: str, whole: bool, trainable: bool
) -> None:
    torch.manual_seed(1)
    data = raw(60)
    phi = Projector(data, NETS[net](), trainable)
    index = None if whole else ItemIds.of(torch.arange(7, 40), 60)
    matrix, upstream = torch.randn(3, 2), torch.randn(60 if whole else 33, 2)
    parameters = list(phi.parameters())
    once, twice = phi(data, index, matrix), phi(data, index) @ matrix
    assert torch.allclose(once, twice, atol=1e-6)
    found, expected = (torch.autograd.grad((out * upstream).sum(), parameters) for out in (once, twice))
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(found, expected, strict=True))


def test_in_training_features_are_made_when_they_are_read_and_once() -> None:
    data = {"image": raw(), "text": raw(12, 4)}
    asked = []

    class Watched(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            asked.append(len(x))
            return super().forward(x)

    phi = Projections({m: Projector(r, Watched(r.width, 3)) for m, r in data.items()})
    feats = phi.project(data, None)
    assert asked == []
    assert feats["text"].values is feats["text"].values and asked == [12]
    with torch.no_grad():
        phi.project(data, None)
    assert asked == [12, 12, 12]


def test_modality_weights_start_as_a_softmax() -> None:
    weights = prism_nn.modality_weights(50, 3)
    assert weights.is_leaf and weights.requires_grad and torch.allclose(weights.sum(1), torch.ones(50))
    assert len(weights.unique()) > 100


def test_preferences_travel_with_features_in_unit_rows() -> None:
    user, item = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])
    graph = graphs.Edges(user, item, 3, 4).graph()
    taste = prism_nn.Preferences(3, 5, ["image", "text"])
    feats = {m: Rows(torch.randn(4, 5)) for m in taste}
    start = {m: (nn.functional.normalize(taste[m]), nn.functional.normalize(feats[m].values)) for m in taste}
    for m, (users, rows) in taste.travel(graph, 2, feats).items():
        both = graphs.propagate_sum(graph, 2, *start[m])
        assert torch.allclose(rows.values, both[1], atol=1e-6) and torch.allclose(users, both[0], atol=1e-6)
        assert torch.allclose(users[2], start[m][0][2])  # took nothing
    sizes = [taste[m][[0, 2, 2]].square().mean() for m in taste]
    assert torch.allclose(taste.size(torch.tensor([0, 2, 2])), sizes[0] + sizes[1])


@pytest.mark.parametrize("missing", [False, True])
def test_a_projection_of_unit_rows_divides_what_it_gives(missing: bool) -> None:
    raw = context(missing=missing).raw["image"]
    raw = Raw(raw.values * torch.arange(len(raw.values))[:, None], raw.present)  # the first row is zero
    phi = UnitProjector(raw, 4)
    x = torch.where(raw.present[:, None], raw.values, raw.mean())
    expected = torch.nn.functional.normalize(x, dim=1) @ phi.plain.net.weight.T + phi.bias
    index, matrix = ItemIds.of(torch.tensor([0, 5, 3]), len(x)), torch.randn(4, 2)
    assert torch.allclose(phi(raw, None), expected, atol=1e-6)
    assert torch.allclose(phi(raw, index), expected[index.ids], atol=1e-6)
    assert torch.allclose(phi(raw, index, matrix), expected[index.ids] @ matrix, atol=1e-6)
    assert torch.equal(raw.lengths, torch.linalg.vector_norm(raw.values, dim=1))


def test_a_learnt_slope_is_that_of_pytorch_with_its_gradients() -> None:
    theirs, ours = nn.PReLU().double(), prism_nn.PReLU().double()
    x = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.equal(ours(x), theirs(x))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    wanted = torch.autograd.grad(theirs(x).square().sum(), [x, theirs.weight])
    found = torch.autograd.grad(ours(x).square().sum(), [x, ours.weight])
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(found, wanted, strict=True))
