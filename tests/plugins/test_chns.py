from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import ITEMS, batch, batches, context, loss, made, same, tables, total
from torch import Tensor
from torch.nn import functional as F

from prismrec.assembly import Assembly
from prismrec.errors import PrismError
from prismrec.models import FREEDOM, VBPR, BRMRSBackbone, Context, LightGCN, Model
from prismrec.plugins import CHNS, Synergy
from prismrec.sampling import Sampler, generator
from prismrec.types import Batch, Reps, Rows

on_hosts = pytest.mark.parametrize("model", [VBPR, FREEDOM, BRMRSBackbone], ids=lambda model: model.name)
NAMES = ("image", "text")


def config(**settings: Any) -> CHNS.Config:
    return CHNS.Config(**{"weight": 1.0, "candidates": 5, **settings})


def assembled(model: type[Model], ctx: Context, cfg: CHNS.Config, **settings: Any) -> Assembly:
    assembly = made(model, ctx, [(CHNS, cfg)], **settings)
    assembly.start_epoch(0, generator(0))
    return assembly


def chns(assembly: Assembly) -> CHNS:
    plugin = assembly.chain[0]
    assert isinstance(plugin, CHNS)
    return plugin


def step(assembly: Assembly) -> Reps:
    """Representations of everybody as a step of training has them."""
    with torch.no_grad():
        reps: Reps = assembly.model(assembly.model.project(assembly.raw, None))
    return reps


def scores(reps: Reps, rows: Batch, items: Tensor, m: str | None) -> Tensor:
    """Entries of the dense score matrix."""
    users, table = reps.sides(m)
    return (users @ table.values.T)[rows.user.reshape(-1, *[1] * (items.dim() - 1)), items]


def by_hand(reps: Reps, rows: Batch, judge: dict[str, str | None], n: int) -> dict[str, Tensor]:
    """The terms by their equations, one judge for each modality."""
    out = {}
    for m, other in judge.items():
        pool = rows.neg[:, :n]
        j = pool.gather(1, scores(reps, rows, pool, other).argmax(1, keepdim=True)).squeeze(1)
        out[f"chns.{m}"] = -F.logsigmoid(scores(reps, rows, rows.pos, m) - scores(reps, rows, j, m)).mean()
    return out


# ----------------------------------------------------------------------------------------------- facts of the card


@pytest.mark.parametrize("pool", ["batch", "fresh"])
@pytest.mark.parametrize("refresh", [0, 2])
@on_hosts
def test_fact_1_the_chosen_negative_is_a_candidate_and_never_an_item_of_its_user(
    model: type[Model], refresh: int, pool: str
) -> None:
    ctx = context()
    assembly = assembled(model, ctx, config(pool=pool, refresh=refresh))
    owned = set(zip(ctx.user.tolist(), ctx.item.tolist(), strict=True))
    sampler = Sampler(
        ctx.user, ctx.item, None, ctx.n_users, ctx.n_items, batch_size=16, n_neg=5, n_fresh=assembly.n_fresh
    )
    for rows in sampler.epoch(0):
        chosen = chns(assembly)._hardest(assembly.represent(), rows)
        assert set(chosen) == set(NAMES)
        for items in chosen.values():
            assert not owned & set(zip(rows.user.tolist(), items.tolist(), strict=True))
            assert (items[:, None] == rows.neg).any(1).all()


@on_hosts
def test_fact_1_with_one_candidate_it_is_the_modalities_bpr_on_a_uniform_negative(model: type[Model]) -> None:
    ctx = context()
    assembly = assembled(model, ctx, config(candidates=1))
    rows = batch(ctx, assembly.n_neg)
    assert assembly.n_neg == 1
    reps, terms = step(assembly), assembly.loss(rows)
    for m in NAMES:
        margin = scores(reps, rows, rows.pos, m) - scores(reps, rows, rows.neg[:, 0], m)
        assert torch.allclose(terms[f"chns.{m}"], -F.logsigmoid(margin).mean(), atol=1e-6)
    uniform = assembled(model, ctx, config(strategy="uniform"))
    assert same(loss(uniform, rows), terms) and uniform.n_neg == 1


@on_hosts
def test_fact_2_each_modality_learns_from_the_positive_and_the_others_choice_alone(model: type[Model]) -> None:
    """Rows of a free-standing table in place of the model's: their gradients show which were used, and how."""
    ctx = context()
    assembly = assembled(model, ctx, config())
    rng = torch.Generator().manual_seed(0)
    user = torch.randn(ctx.n_users, 4, generator=rng, requires_grad=True)
    items = {m: torch.randn(ITEMS, 4, generator=rng, requires_grad=True) for m in NAMES}
    rows = batch(ctx, 5, size=1)
    reps = Reps(user, Rows(items["text"].detach()), {m: (user, Rows(table)) for m, table in items.items()})
    terms = chns(assembly).loss({}, reps, {}, rows)
    hardest = chns(assembly)._hardest(reps, rows)
    for m, other in (("image", "text"), ("text", "image")):
        gradients = torch.autograd.grad(
            terms[f"chns.{m}"], [user, *items.values()], retain_graph=True, allow_unused=True
        )
        gradient = dict(zip(("user", *items), gradients, strict=True))
        assert gradient[other] is None  # the choice carries none
        assert gradient[m] is not None and gradient["user"] is not None
        used = set(gradient[m].any(1).nonzero().squeeze(1).tolist())
        assert used == {int(rows.pos[0]), int(hardest[other][0])}
        assert set(gradient["user"].any(1).nonzero().squeeze(1).tolist()) == {int(rows.user[0])}
        slope = torch.sigmoid(scores(reps, rows, hardest[other], m) - scores(reps, rows, rows.pos, m))
        assert torch.allclose(gradient[m][hardest[other][0]], slope * user[rows.user[0]], atol=1e-6)


@pytest.mark.parametrize("strategy", ["cross", "own", "fused"])
@on_hosts
def test_the_terms_are_those_of_the_equations_for_every_strategy(model: type[Model], strategy: str) -> None:
    ctx = context()
    assembly = assembled(model, ctx, config(strategy=strategy, weight=0.3))
    rows = batch(ctx, assembly.n_neg)
    judges: dict[str, dict[str, str | None]] = {
        "cross": {"image": "text", "text": "image"},
        "own": {"image": "image", "text": "text"},
        "fused": {"image": None, "text": None},
    }
    terms = assembly.loss(rows)
    plain = made(model, ctx)
    plain.start_epoch(0, generator(0))
    expected = by_hand(step(assembly), rows, judges[strategy], 5)
    assert {name for name in terms if name.startswith("chns.")} == set(expected)
    assert all(torch.allclose(terms[name], 0.3 * value, atol=1e-6) for name, value in expected.items())
    rest = {name: term for name, term in terms.items() if name not in expected}
    assert same({n: t.detach() for n, t in rest.items()}, {n: t.detach() for n, t in plain.loss(rows).items()})


# ------------------------------------------------------------------------------------- departures and the settings


@on_hosts
def test_departure_1_of_three_modalities_each_learns_from_both_others_averaged(model: type[Model]) -> None:
    ctx = context(3)
    assembly = assembled(model, ctx, config())
    rows, reps = batch(ctx, assembly.n_neg), step(assembly)
    terms = assembly.loss(rows)
    names = ("image", "text", "audio")
    for m in names:
        pairs = [by_hand(reps, rows, {m: other}, 5)[f"chns.{m}"] for other in names if other != m]
        assert torch.allclose(terms[f"chns.{m}"], (pairs[0] + pairs[1]) / 2, atol=1e-6)


def test_departure_2_rows_count_by_their_weights() -> None:
    ctx = context(weights=True)
    assembly = assembled(VBPR, ctx, config(candidates=1))
    rows, reps = batch(ctx), step(assembly)
    assert rows.weight is not None
    margin = scores(reps, rows, rows.pos, "text") - scores(reps, rows, rows.neg[:, 0], "text")
    expected = (-F.logsigmoid(margin) * rows.weight).mean()
    assert torch.allclose(assembly.loss(rows)["chns.text"], expected, atol=1e-6)


@on_hosts
def test_departure_3_candidates_that_lack_something_come_last_and_positives_that_lack_it_do_not_teach_it(
    model: type[Model],
) -> None:
    ctx = context(missing=True)  # item 4 lacks both, items 0, 3 and 15 the image
    assembly = assembled(model, ctx, config())
    lacking = torch.tensor([0, 3, 4])
    neg = torch.tensor([[0, 5, 3, 4, 0], [4, 3, 0, 0, 3]])
    rows = Batch(torch.tensor([1, 2]), torch.tensor([7, 3]), neg)
    chosen = chns(assembly)._hardest(step(assembly), rows)
    for items in chosen.values():
        assert items.tolist() == [5, 4]  # the one that is complete; where none is, the first
    terms, reps = assembly.loss(rows), step(assembly)
    for m, taught in (("image", [1.0, 0.0]), ("text", [1.0, 1.0])):
        j = chosen["text" if m == "image" else "image"]
        margin = scores(reps, rows, rows.pos, m) - scores(reps, rows, j, m)
        assert torch.allclose(terms[f"chns.{m}"], (-F.logsigmoid(margin) * torch.tensor(taught)).mean(), atol=1e-6)
    assert not ctx.raw["image"].present[lacking].any()


def test_departure_4_the_literal_reading_drops_the_models_ranking_term_and_not_that_of_synergy() -> None:
    ctx = context()
    rows = batch(ctx, 5)
    both, literal = (assembled(VBPR, ctx, config(literal=yes)).loss(rows) for yes in (False, True))
    assert set(both) - set(literal) == {"rank"}
    chain = [(CHNS, config(literal=True)), (Synergy, Synergy.Config())]
    terms, alone = made(VBPR, ctx, chain).loss(rows), made(VBPR, ctx, [Synergy]).loss(rows)
    assert torch.equal(terms["rank"], alone["rank"])


def test_candidates_may_be_lent_by_the_batch_or_drawn_for_the_row() -> None:
    for pool, refresh, expected in (
        ("batch", 0, (5, 1)),
        ("fresh", 0, (5, 5)),
        ("batch", 3, (5, 1)),
        ("fresh", 3, (5, 5)),
    ):
        assembly = assembled(VBPR, context(), config(pool=pool, refresh=refresh))
        assert (assembly.n_neg, assembly.n_fresh) == expected


def test_representations_that_choose_are_made_anew_every_so_many_steps_and_at_each_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ctx = context()
    assembly = assembled(VBPR, ctx, config(refresh=3))
    asked: list[int] = []
    represent = assembly.represent
    monkeypatch.setattr(assembly, "represent", lambda: asked.append(1) or represent())
    source, counts = batches(ctx, 5), []
    for epoch in range(2):
        assembly.start_epoch(epoch, generator(0))
        for _ in range(5):
            assembly.loss(next(source))
            counts.append(len(asked))
    assert counts == [1, 1, 1, 2, 2, 3, 3, 3, 4, 4]


@on_hosts
def test_a_choice_made_anew_in_every_step_is_the_exact_one(model: type[Model]) -> None:
    ctx = context()
    settings = {"prune": 0.0} if model is FREEDOM else {}  # it chooses on the whole graph
    exact, anew = (assembled(model, ctx, config(refresh=r), **settings) for r in (0, 1))
    rows = batch(ctx, 5)
    a, b = loss(exact, rows), loss(anew, rows)
    assert a.keys() == b.keys() and all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)


def test_only_the_positive_one_negative_and_the_chosen_are_projected_with_refresh(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ctx = context()
    assembly = assembled(VBPR, ctx, config(refresh=1))
    shown: list[Tensor] = []
    project = assembly.model.project

    def watched(raw: Any, index: Any) -> Any:
        if index is not None:
            shown.append(index.ids)
        return project(raw, index)

    monkeypatch.setattr(assembly.model, "project", watched)
    rows = batch(ctx, 5, size=2)
    terms = assembly.loss(rows)
    total(terms).backward()
    chosen = torch.stack(list(chns(assembly)._hardest(assembly.represent(), rows).values()))
    assert set(shown[0].tolist()) == set(torch.cat([rows.pos, rows.neg[:, 0], chosen.flatten()]).tolist())


def test_terms_reach_the_projection_of_a_host_whose_own_loss_reads_no_features() -> None:
    """FREEDOM without its modality terms makes features when they are first read: here by the choice, without gradient."""
    ctx = context()
    assembly = assembled(FREEDOM, ctx, config(), reg=0.0)
    total(assembly.loss(batch(ctx, 5))).backward()
    assert all(p.grad is not None and p.grad.any() for p in assembly.model.phi.parameters())


def test_it_changes_training_and_nothing_of_an_untrained_model() -> None:
    ctx = context()
    assembly = assembled(VBPR, ctx, config())
    assert same(tables(assembly.represent()), tables(made(VBPR, ctx).represent()))
    assert not list(assembly.plugins.parameters()) and not assembly.plugins.state_dict()


# --------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("model", "modalities", "strategy", "needed", "found"),
    [(LightGCN, 2, "cross", 2, "none"), (VBPR, 1, "cross", 2, "image"), (LightGCN, 2, "own", 1, "none")],
)
def test_too_few_modalities_are_refused(
    model: type[Model], modalities: int, strategy: str, needed: int, found: str
) -> None:
    with pytest.raises(
        PrismError, match=rf"chns .*'{strategy}' needs {needed} or more .*{model.name} states {found} here"
    ):
        made(model, context(modalities), [(CHNS, config(strategy=strategy))])
    if strategy == "cross" and modalities == 1:
        own = assembled(model, context(modalities), config(strategy="own"))
        assert "chns.image" in own.loss(batch(context(modalities), 5))


@pytest.mark.parametrize(
    "bad", [{"weight": -0.1}, {"candidates": 0}, {"strategy": "both"}, {"refresh": -1}, {"pool": "all"}]
)
def test_settings_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        CHNS.Config(**bad)


def test_a_batch_without_its_weights_is_one_with_equal_weights() -> None:
    ctx = context()
    rows = batch(ctx, 5)
    assembly = assembled(VBPR, ctx, config())
    plain, weighed = loss(assembly, rows), loss(assembly, replace(rows, weight=torch.ones(len(rows.user))))
    assert all(torch.allclose(plain[name], weighed[name]) for name in plain)
