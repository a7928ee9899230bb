from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import DIM, batch, context, made, same, tables, total, train
from torch import Tensor

from prismrec.assembly import Assembly
from prismrec.errors import PrismError
from prismrec.models import BPR, FREEDOM, VBPR, CLEARBackbone, Model
from prismrec.plugins.clear import CLEAR, redundant_directions
from prismrec.sampling import generator
from prismrec.types import Feats, Rows

HOSTS = [VBPR, FREEDOM, CLEARBackbone]
on_vbpr_and_freedom = pytest.mark.parametrize("model", [VBPR, FREEDOM], ids=lambda model: model.name)


def config(**settings: Any) -> CLEAR.Config:
    return CLEAR.Config(**{"rank": 3, "strength": 0.9, **settings})


def correlated(n: int = 200, widths: tuple[int, ...] = (8, 8), shared: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """Tables (n, d_m) in double precision that share factors of falling strength, with means far from zero."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    factors = normal(n, shared) * torch.arange(shared, 0, -1)
    names = ["image", "text", "audio", "video"]
    return {names[i]: factors @ normal(shared, w) + normal(n, w) + 5 * normal(w) for i, w in enumerate(widths)}


def everywhere(tables: dict[str, Tensor]) -> dict[str, Tensor]:
    return {m: torch.ones(len(values), dtype=torch.bool) for m, values in tables.items()}


def covariance(a: Tensor, b: Tensor) -> Tensor:
    return (a - a.mean(0)).T @ (b - b.mean(0)) / len(a)


def projectors(tables: dict[str, Tensor], cfg: CLEAR.Config) -> dict[str, Tensor]:
    bases = redundant_directions(tables, everywhere(tables), cfg)
    return {m: torch.eye(len(u), dtype=u.dtype) - cfg.strength * u @ u.T for m, u in bases.items()}


def plugin_of(assembly: Assembly) -> CLEAR:
    plugin = assembly.chain[0]
    assert isinstance(plugin, CLEAR)
    return plugin


# ----------------------------------------------------------------------------------------------- facts of the card


@pytest.mark.parametrize("widths", [(8, 8), (8, 5)])
@pytest.mark.parametrize("strength", [0.3, 0.9])
def test_fact_1_the_first_singular_values_of_the_cross_covariance_shrink_and_the_rest_stay(
    strength: float, widths: tuple[int, int]
) -> None:
    x = correlated(widths=widths)
    p = projectors(x, config(strength=strength))
    u, s, wt = torch.linalg.svd(covariance(x["image"], x["text"]), full_matrices=False)
    after = covariance(x["image"] @ p["image"], x["text"] @ p["text"])
    expected = torch.where(torch.arange(len(s)) < 3, (1 - strength) ** 2 * s, s)
    assert torch.allclose(u @ torch.diag(expected) @ wt, after, atol=1e-9 * float(s[0]))  # the same singular vectors


@on_vbpr_and_freedom
def test_fact_2_strength_zero_leaves_the_model_bit_for_bit(model: type[Model]) -> None:
    ctx = context()
    plain = train(made(model, ctx), ctx, epochs=3)
    off = train(made(model, ctx, [(CLEAR, CLEAR.Config(strength=0.0))]), ctx, epochs=3)
    assert same(tables(plain.represent()), tables(off.represent()))
    assert same(dict(plain.named_parameters()), dict(off.named_parameters()))
    assert off.plugins.state_dict() == {} and not list(off.plugins.parameters())
    rng = generator(1)
    before = rng.get_state()
    plugin_of(off).start_epoch(0, {}, rng)
    assert torch.equal(rng.get_state(), before)


def test_fact_2_strength_one_leaves_nothing_in_the_redundant_span() -> None:
    x = correlated()
    cfg = config(strength=1.0)
    p, bases = projectors(x, cfg), redundant_directions(x, everywhere(x), cfg)
    for m, values in x.items():
        centred = values - values.mean(0)
        assert (centred @ p[m] @ bases[m]).abs().max() < 1e-9
        assert torch.allclose(bases[m].T @ bases[m], torch.eye(3, dtype=torch.float64), atol=1e-12)


@on_vbpr_and_freedom
def test_fact_3_projectors_carry_no_gradient_and_the_gradient_of_a_feature_is_projected(model: type[Model]) -> None:
    ctx = context()
    assembly = made(model, ctx, [(CLEAR, config())])
    assembly.start_epoch(0, generator(0))
    plugin = plugin_of(assembly)
    assert not list(plugin.parameters()) and not any(b.requires_grad for b in plugin.buffers())
    values = torch.randn(6, DIM, requires_grad=True)
    upstream = torch.randn(6, DIM)
    out, cost = plugin.encode({"image": Rows(values)}, batch(ctx))
    (gradient,) = torch.autograd.grad((out["image"].values * upstream).sum(), values)
    basis = plugin.get_buffer("basis_image")
    assert basis.any() and cost == {}
    assert torch.allclose(gradient, upstream @ (torch.eye(DIM) - 0.9 * basis @ basis.T), atol=1e-6)


def test_fact_4_turning_one_side_turns_its_directions_and_leaves_inner_products() -> None:
    x = correlated()
    turn, _ = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64))
    turned = {"image": x["image"] @ turn, "text": x["text"]}
    cfg = config()
    before, after = (redundant_directions(t, everywhere(t), cfg)["image"] for t in (x, turned))
    assert torch.allclose(after @ after.T, turn.T @ before @ before.T @ turn, atol=1e-9)  # spans: signs are free
    a, b = (t["image"] @ projectors(t, cfg)["image"] for t in (x, turned))
    assert torch.allclose(a @ a.T, b @ b.T, atol=1e-6)


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("k", [1, 3])
def test_fact_5_planted_shared_factors_are_found(k: int, modalities: int) -> None:
    rng = torch.Generator().manual_seed(2)
    shared = torch.randn(4000, k, generator=rng)
    names = ["image", "text", "audio"][:modalities]
    place = {m: torch.linalg.qr(torch.randn(10, k, generator=rng))[0] for m in names}
    x = {m: 2 * shared @ directions.T + torch.randn(4000, 10, generator=rng) for m, directions in place.items()}
    bases = redundant_directions(x, everywhere(x), config(rank=k))
    for m, directions in place.items():
        cosines = torch.linalg.svdvals(bases[m].T @ directions)  # of the principal angles
        assert cosines.min() > 0.99  # below 9 degrees


# ------------------------------------------------------------------------------------- departures and the settings


def test_departure_1_with_two_modalities_the_stacked_method_is_the_papers() -> None:
    x = correlated(widths=(8, 6))
    u, _, wt = torch.linalg.svd(covariance(x["image"], x["text"]))
    bases = redundant_directions(x, everywhere(x), config())
    for m, expected in (("image", u[:, :3]), ("text", wt[:3].T)):
        assert torch.allclose(bases[m] @ bases[m].T, expected @ expected.T, atol=1e-9)


def test_departure_1_with_more_the_covariances_with_all_others_stand_side_by_side() -> None:
    x = correlated(widths=(8, 6, 5))
    stacked = torch.cat([covariance(x["text"], x["image"]), covariance(x["text"], x["audio"])], dim=1)
    expected = torch.linalg.svd(stacked).U[:, :3]
    basis = redundant_directions(x, everywhere(x), config())["text"]
    assert torch.allclose(basis @ basis.T, expected @ expected.T, atol=1e-9)


def test_departure_2_items_that_lack_a_modality_take_no_part() -> None:
    x = correlated()
    present = everywhere(x)
    present["image"][:50], present["text"][150:] = False, False
    both = slice(50, 150)
    found = redundant_directions(x, present, config())
    expected = redundant_directions(
        {m: v[both] for m, v in x.items()}, everywhere({m: v[both] for m, v in x.items()}), config()
    )
    assert all(torch.allclose(found[m], expected[m]) for m in x)


def test_departure_3_directions_without_covariance_are_left_alone() -> None:
    x = correlated(shared=2)
    noise_free = {m: torch.cat([v[:, :2], torch.zeros(len(v), 6, dtype=v.dtype)], dim=1) for m, v in x.items()}
    bases = redundant_directions(noise_free, everywhere(noise_free), config(rank=6))
    assert all((b.norm(dim=0) > 0).sum() == 2 for b in bases.values())
    constant = {m: torch.ones_like(v) for m, v in x.items()}
    assert not any(b.any() for b in redundant_directions(constant, everywhere(constant), config()).values())


def test_modalities_that_no_item_shares_have_no_redundancy() -> None:
    x = correlated()
    present = everywhere(x)
    present["image"][100:], present["text"][:100] = False, False
    assert not any(b.any() for b in redundant_directions(x, present, config()).values())


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999, 1.0])
def test_the_energy_rule_takes_the_fewest_directions_that_hold_the_share(share: float) -> None:
    x = correlated()
    energy = torch.linalg.svdvals(covariance(x["image"], x["text"])).square()
    basis = redundant_directions(x, everywhere(x), config(rank="energy", share=share))["image"]
    k = int((basis.norm(dim=0) > 0.5).sum())
    assert basis.shape == (8, 8) and not basis[:, k:].any()
    assert energy[:k].sum() >= share * energy.sum() * (1 - 1e-9)
    assert energy[: k - 1].sum() < share * energy.sum()


@pytest.mark.parametrize("penalty", [0.0001, 0.01, 0.1, 2.0])
def test_the_spectrum_rule_minimises_what_is_left_plus_the_price_of_directions(penalty: float) -> None:
    x = correlated()
    energy = torch.linalg.svdvals(covariance(x["image"], x["text"])).square()
    price = [float(energy[k:].sum() + penalty * k * energy.sum()) for k in range(len(energy) + 1)]
    basis = redundant_directions(x, everywhere(x), config(rank="spectrum", penalty=penalty))["image"]
    assert int((basis.norm(dim=0) > 0.5).sum()) == price.index(min(price))


def test_projectors_are_renewed_at_the_first_epoch_and_every_interval() -> None:
    ctx = context()
    assembly = made(VBPR, ctx, [(CLEAR, config(interval=3))])
    plugin, seen = plugin_of(assembly), []
    optimizer = torch.optim.SGD(assembly.parameters(), lr=1.0)
    for epoch in range(7):
        assembly.start_epoch(epoch, generator(0))
        seen.append(plugin.get_buffer("basis_text").clone())
        optimizer.zero_grad()
        total(assembly.loss(batch(ctx, seed=epoch))).backward()
        optimizer.step()
    assert seen[0].any()
    for a, b, changed in zip(seen, seen[1:], [False, False, True, False, False, True], strict=False):
        assert torch.equal(a, b) != changed


@on_vbpr_and_freedom
def test_the_basis_is_that_of_the_models_features_at_the_start_of_the_epoch(model: type[Model]) -> None:
    ctx = context(missing=True)
    assembly = made(model, ctx, [(CLEAR, config())])
    feats = {m: rows.values for m, rows in assembly.model.project(ctx.raw, None).items()}
    assembly.start_epoch(0, generator(0))
    expected = redundant_directions(feats, {m: ctx.raw[m].present for m in feats}, config())
    plugin = plugin_of(assembly)
    assert all(torch.equal(plugin.get_buffer(f"basis_{m}"), expected[m]) for m in feats)
    assert all(torch.allclose(plugin.get_buffer(f"mean_{m}"), v[ctx.raw[m].present].mean(0)) for m, v in feats.items())


def test_training_and_evaluation_use_the_projected_features_wherever_the_model_uses_features() -> None:
    ctx = context()
    assembly = made(VBPR, ctx, [(CLEAR, config())])
    assembly.start_epoch(0, generator(0))
    plugin, plain = plugin_of(assembly), assembly.model.project(ctx.raw, None)
    reps = assembly.represent()
    for m, rows in plain.items():
        basis = plugin.get_buffer(f"basis_{m}")
        expected = rows.values @ (torch.eye(DIM) - 0.9 * basis @ basis.T)
        assert torch.allclose(reps.modal[m][1].values, expected, atol=1e-6)
    content = sum(rows.values for _, rows in reps.modal.values())
    assert torch.allclose(reps.item.values[:, DIM:], content, atol=1e-6)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("model", HOSTS, ids=lambda model: model.name)
def test_damping_in_the_projections_weight_is_damping_of_the_features(model: type[Model], center: bool) -> None:
    """In training no product with the features is made; terms and gradients are those of the product."""
    ctx = context(missing=True)
    assembly = made(model, ctx, [(CLEAR, config(center=center))])
    assembly.start_epoch(0, generator(0))
    rows, project = batch(ctx), assembly.model.project
    results = []
    for early in (False, True):

        def made_early(raw: Any, index: Any, early: bool = early) -> Feats:
            feats = project(raw, index)
            return {m: Rows(r.values, r.index) for m, r in feats.items()} if early else feats

        assembly.model.project = made_early  # type: ignore[method-assign]
        terms = assembly.loss(rows)
        gradients = torch.autograd.grad(total(terms), list(assembly.parameters()))
        results.append([*terms.values(), *gradients])
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_before_the_first_epoch_it_is_the_identity() -> None:
    ctx = context()
    assert same(tables(made(VBPR, ctx, [CLEAR]).represent()), tables(made(VBPR, ctx).represent()))


def test_centring_takes_the_mean_of_present_items_away_first() -> None:
    ctx = context(missing=True)
    centred, plain = (made(VBPR, ctx, [(CLEAR, config(center=yes))]) for yes in (True, False))
    for assembly in (centred, plain):
        assembly.start_epoch(0, generator(0))
    a, b = (assembly.represent().modal["text"][1].values for assembly in (centred, plain))
    plugin = plugin_of(plain)
    basis, mean = plugin.get_buffer("basis_text"), plugin.get_buffer("mean_text")
    assert torch.allclose(b - a, (mean @ (torch.eye(DIM) - 0.9 * basis @ basis.T)).expand_as(a), atol=1e-6)
    assert torch.allclose(a[ctx.raw["text"].present].mean(0), torch.zeros(DIM), atol=1e-6)


def test_projectors_are_saved() -> None:
    ctx = context()
    names = set(made(VBPR, ctx, [CLEAR]).plugins.state_dict())
    assert names == {f"0.{kind}_{m}" for kind in ("basis", "mean") for m in ("image", "text")}


# --------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("model", "modalities", "found"), [(BPR, 2, "none"), (VBPR, 1, "image"), (FREEDOM, 1, "image")]
)
def test_fewer_than_two_projected_modalities_are_refused(model: type[Model], modalities: int, found: str) -> None:
    with pytest.raises(
        PrismError, match=f"clear needs at least two projected modalities; {model.name} projects {found} here"
    ):
        made(model, context(modalities), [CLEAR])


@pytest.mark.parametrize("rank", [0, -1, DIM + 1])
def test_a_rank_beyond_the_width_is_refused(rank: int) -> None:
    with pytest.raises(PrismError, match=rf"clear\.rank is {rank}; it must lie between 1 and .* {DIM}"):
        made(VBPR, context(), [(CLEAR, config(rank=rank))])


@pytest.mark.parametrize(
    "bad", [{"strength": 1.1}, {"strength": -0.1}, {"interval": 0}, {"rank": "some"}, {"share": 0.0}]
)
def test_settings_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        CLEAR.Config(**bad)
