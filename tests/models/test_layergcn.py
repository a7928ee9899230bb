"""The draws themselves (facts 4 and 5) are also in tests/test_graphs.py."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from tiny import ITEMS, USERS, batch, context, made, same, tables, train
from torch import Tensor
from torch.nn import functional as F

from prismrec import graphs
from prismrec.assembly import Assembly
from prismrec.models import Context, LayerGCN, LightGCN
from prismrec.sampling import generator


def dense(graph: graphs.Bipartite) -> Tensor:
    """Â (N, N) in double precision."""
    a = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.float64)
    a[:USERS, USERS:], a[USERS:, :USERS] = graph.to_user.dense().double(), graph.to_item.dense().double()
    return a


def start(assembly: Assembly) -> Tensor:
    return torch.cat([assembly.model.user, assembly.model.item]).detach().double()


def layers_of(a: Tensor, e: Tensor, layers: int) -> list[tuple[Tensor, Tensor]]:
    """ÂX^l and X^{l+1} of each layer, by the equations."""
    x, out = e, []
    for _ in range(layers):
        y = a @ x
        x = F.cosine_similarity(y, e, dim=1).unsqueeze(1) * y
        out.append((y, x))
    return out


def nodes(assembly: Assembly) -> Tensor:
    """E* (N, d) as the assembly stands, in training or not."""
    reps = assembly.model({})
    return torch.cat([reps.user, reps.item.values])


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_representations_are_those_of_the_equations_on_dense_matrices(layers: int) -> None:
    assembly = made(LayerGCN, context(), layers=layers)
    expected = sum(x for _, x in layers_of(dense(assembly.model.full), start(assembly), layers))
    reps = assembly.represent()
    assert torch.allclose(torch.cat([reps.user, reps.item.values]).double(), expected, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_the_gradient_is_that_of_the_equations_also_for_nodes_without_an_edge(layers: int) -> None:
    assembly = made(LayerGCN, context(), layers=layers, prune=0.7)
    assembly.start_epoch(0, generator(0))
    a, e = dense(assembly.model.pruned), start(assembly).requires_grad_()
    assert (a.sum(1) == 0).any()
    g = torch.randn(e.shape, generator=torch.Generator().manual_seed(0)).double()
    expected = torch.stack([x for _, x in layers_of(a, e, layers)]).sum(0)
    found = nodes(assembly.train())
    assert torch.allclose(found.double(), expected, atol=1e-6)
    (expected * g).sum().backward()
    (found * g).sum().backward()
    ours = torch.cat([assembly.model.user.grad, assembly.model.item.grad])
    assert torch.allclose(ours.double(), e.grad, atol=1e-5)


def test_fact_1_without_pruning_the_graph_of_training_is_that_of_inference_and_nothing_is_drawn() -> None:
    assembly, rng = made(LayerGCN, context(), prune=0.0), generator(0)
    before = rng.get_state()
    assembly.start_epoch(0, rng)
    assert torch.equal(rng.get_state(), before)
    assert assembly.model.pruned is assembly.model.full
    assert torch.equal(nodes(assembly.train()), nodes(assembly.eval()))


@pytest.mark.parametrize("layers", [1, 3])
def test_fact_2_with_cosines_of_one_it_is_the_sum_of_lightgcns_layers_without_the_first(
    layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prismrec.models.layergcn._cosines", lambda y, ego: (torch.ones(len(y), 1),) * 2)
    ctx = context()
    layergcn, lightgcn = made(LayerGCN, ctx, layers=layers), made(LightGCN, ctx, layers=layers)
    lightgcn.load_state_dict(layergcn.state_dict(), strict=False)
    a, b = layergcn.represent(), lightgcn.represent()
    assert torch.allclose(a.user, (layers + 1) * b.user - layergcn.model.user, atol=1e-6)
    assert torch.allclose(a.item.values, (layers + 1) * b.item.values - layergcn.model.item, atol=1e-6)


def test_fact_3_no_row_grows_by_its_cosine() -> None:
    assembly = made(LayerGCN, context(), layers=1)
    y = dense(assembly.model.full) @ start(assembly)
    assert (nodes(assembly.eval()).norm(dim=1) <= y.norm(dim=1) + 1e-7).all()


@pytest.mark.parametrize("prune", [0.1, 0.5, 0.9])
def test_fact_4_the_pruned_graph_has_so_many_entries_is_symmetric_and_has_no_eigenvalue_above_one(prune: float) -> None:
    ctx = context()
    assembly = made(LayerGCN, ctx, prune=prune)
    kept = []
    for epoch in range(3):
        assembly.start_epoch(epoch, generator(0, epoch))
        a = dense(assembly.model.pruned)
        assert int((a > 0).sum()) == 2 * math.floor(len(ctx.user) * (1 - prune) + 1e-6)
        assert torch.equal(a, a.T) and torch.linalg.eigvalsh(a).max() <= 1 + 1e-6
        full = dense(assembly.model.full)
        assert (full[a > 0] > 0).all()
        kept.append(a)
    assert not torch.equal(kept[0], kept[1]) or not torch.equal(kept[1], kept[2])


@pytest.mark.parametrize("draw", ["degree", "uniform", "alternate"])
def test_fact_5_edges_of_rare_nodes_are_kept_more_often_when_drawn_by_degree(draw: str) -> None:
    """Item 0 has two users: one takes nothing else, the other takes everything. Even and odd epochs are told apart."""
    user, item = torch.tensor([0] + [1] * 16), torch.tensor([0, *range(16)])
    assembly = made(LayerGCN, Context(2, ITEMS, user, item, None, {}), prune=0.7, draw=draw)
    rng, kept = generator(0), torch.zeros(2, 2)
    for epoch in range(800):
        assembly.start_epoch(epoch, rng)
        kept[epoch % 2] += assembly.model.pruned.to_user.dense()[:, 0] > 0
    by_degree = {"degree": (True, True), "uniform": (False, False), "alternate": (True, False)}[draw]
    for (rare, popular), favoured in zip(kept.tolist(), by_degree, strict=True):
        if favoured:
            assert rare > 1.5 * popular
        else:
            assert 0.8 < rare / popular < 1.25


def test_whose_turn_it_is_survives_a_checkpoint() -> None:
    ctx = context()
    whole = train(made(LayerGCN, ctx, draw="alternate", prune=0.5), ctx, epochs=3)
    resumed = made(LayerGCN, ctx, seed=9, draw="alternate", prune=0.5)
    resumed.load_state_dict(whole.state_dict())
    fresh = made(LayerGCN, ctx, draw="alternate", prune=0.5)
    for assembly in (whole, resumed, fresh):
        assembly.start_epoch(3, generator(4))
    kept = [dense(assembly.model.pruned) for assembly in (whole, resumed, fresh)]
    assert torch.equal(kept[0], kept[1]) and not torch.equal(kept[0], kept[2])


def test_fact_6_a_node_without_an_edge_is_zero() -> None:
    reps = made(LayerGCN, context()).represent()
    assert not reps.user[-1].any() and not reps.item.values[-2:].any()
    assert reps.user[:-1].any(1).all() and reps.item.values[:-2].any(1).all()


def test_a_node_that_loses_its_edges_for_an_epoch_is_zero_and_the_others_keep_finite_gradients() -> None:
    ctx = context()
    assembly = made(LayerGCN, ctx, prune=0.9)
    assembly.start_epoch(0, generator(0))
    alone = dense(assembly.model.pruned).sum(1) == 0
    x = nodes(assembly.train())
    assert alone.any() and not x[alone].any()
    x.square().sum().backward()
    for table in (assembly.model.user, assembly.model.item):
        assert table.grad is not None and table.grad.isfinite().all()


def test_inference_is_on_the_full_graph_whatever_was_pruned() -> None:
    ctx = context()
    thin, whole = made(LayerGCN, ctx, prune=0.9), made(LayerGCN, ctx, prune=0.0)
    thin.start_epoch(0, generator(0))
    assert same(tables(thin.represent()), tables(whole.represent()))


def test_the_loss_is_that_of_the_equations_on_dense_matrices() -> None:
    ctx = context(weights=True)
    assembly = made(LayerGCN, ctx, reg=0.3, prune=0.5)
    assembly.start_epoch(0, generator(3))
    e = start(assembly)
    x = sum(x for _, x in layers_of(dense(assembly.model.pruned), e, 4))
    for rows in (batch(ctx), dataclasses.replace(batch(ctx), weight=None)):
        u, i, j = rows.user, USERS + rows.pos, USERS + rows.neg[:, 0]
        loss = F.softplus((x[u] * x[j]).sum(1) - (x[u] * x[i]).sum(1))
        weight = torch.ones(len(u)) if rows.weight is None else rows.weight
        size = (e[u].square() + e[i].square() + e[j].square()).sum() / 2
        terms = assembly.loss(rows)
        # departure 2: the published sums, divided by the rows
        assert torch.allclose(terms["rank"].double(), (loss * weight).sum() / len(u), atol=1e-6)
        assert torch.allclose(terms["reg"].double(), 0.3 * size / len(u), atol=1e-6)


def test_departure_1_edges_are_drawn_by_degree_by_default() -> None:
    assert LayerGCN.Config().draw == "degree"
    assert {name for name, _ in made(LayerGCN, context()).named_parameters()} == {"model.user", "model.item"}
