from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from subjects import assembled, planted
from torch import Tensor

from prismrec.data.synthetic import Factor
from prismrec.diagnostics.information import (
    Canonical,
    code_information,
    gaussian_information,
    information_by_chance,
    trained_bound,
    training_information,
)
from prismrec.diagnostics.subject import Subject
from prismrec.errors import PrismError
from prismrec.experiment import configure


def pair(n: int, correlations: list[float], extra: tuple[int, int] = (0, 0), seed: int = 0) -> tuple[Tensor, Tensor]:
    """Gaussians (n, r + extra) whose canonical correlations are known, mixed and shifted."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    rho = torch.tensor(correlations, dtype=torch.float64)
    a = normal(n, len(rho))
    b = rho * a + (1 - rho.square()).sqrt() * normal(n, len(rho))
    a, b = torch.cat([a, normal(n, extra[0])], 1), torch.cat([b, normal(n, extra[1])], 1)
    return a @ normal(a.shape[1], a.shape[1]) + 3, b @ normal(b.shape[1], b.shape[1]) - 1


def test_canonical_correlations_and_information_are_the_known_ones() -> None:
    rho = [0.9, 0.5, 0.2]
    a, b = pair(40_000, rho, extra=(2, 4))
    found = Canonical.of(a, b).correlations
    assert found[:3].tolist() == pytest.approx(rho, abs=0.02)
    assert found[3:].max() < 0.03
    truth = -0.5 * sum(math.log(1 - r**2) for r in rho)
    assert gaussian_information(found) == pytest.approx(truth, abs=0.02)
    assert gaussian_information(torch.zeros(4)) == 0


def test_variates_are_white_and_correlate_in_pairs() -> None:
    a, b = pair(500, [0.8, 0.4], extra=(1, 3))
    canonical = Canonical.of(a, b)
    left, right = canonical(a, b)
    assert left.shape == right.shape == (500, 3)
    eye = torch.eye(3, dtype=torch.float64)
    assert torch.allclose(left.T @ left / 500, eye, atol=1e-9)
    assert torch.allclose(left.T @ right / 500, torch.diag(canonical.correlations), atol=1e-9)


def test_what_a_small_sample_shows_by_chance_is_told() -> None:
    a, b = pair(300, [], extra=(10, 8))
    found, chance = gaussian_information(Canonical.of(a, b).correlations), information_by_chance(a, b)
    assert chance == pytest.approx(10 * 8 / (2 * 300), rel=0.25)  # Σρ²/2 with E ρ² summing to d_a d_b / n
    assert found == pytest.approx(chance, rel=0.3)


def test_a_freshly_trained_bound_approaches_the_truth_from_below() -> None:
    truth = -0.5 * 2 * math.log(1 - 0.8**2)
    found = trained_bound(*pair(3000, [0.8, 0.8]), steps=160)
    assert 0.7 * truth < found < truth + 0.1
    assert trained_bound(*pair(2000, [], extra=(3, 3)), steps=100) < 0.05
    small = pair(300, [0.5])
    assert trained_bound(*small, steps=40) == trained_bound(*small, steps=40)


def test_an_invertible_map_changes_no_estimate() -> None:
    a, b = pair(400, [0.9, 0.6], extra=(2, 2))
    turned = a @ torch.randn(4, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64) + 7
    assert torch.allclose(Canonical.of(a, b).correlations, Canonical.of(turned, b).correlations, atol=1e-9)
    assert trained_bound(a, b, steps=60) == pytest.approx(trained_bound(turned, b, steps=60), abs=1e-3)


@pytest.mark.parametrize(("strength", "kept"), [(0.9, True), (1.0, False)])
def test_clear_takes_information_away_only_at_full_strength(strength: float, kept: bool) -> None:
    subject = assembled(planted(redundant=Factor(3, 1.7)), clear={"rank": 6, "strength": strength}, dim=8)
    finding = code_information(subject, steps=0)
    before, after = finding.table["gaussian"].to_list()
    if kept:
        assert after == pytest.approx(before, rel=1e-4)
        assert "invertibly" in finding.says
    else:
        assert after < before / 3
        assert "invertibly" not in finding.says
    assert finding.table["bound"].null_count() == 2 and "critic" not in finding.says


def test_modalities_that_share_nothing_have_no_more_than_chance() -> None:
    shared, apart = (
        code_information(assembled(planted(redundant=factor), dim=8), steps=60).table.row(0, named=True)
        for factor in (Factor(10, 1.7), Factor(0, 0.0))
    )
    assert shared["gaussian"] > 4 * shared["chance"]
    assert apart["gaussian"] < 1.5 * apart["chance"] and apart["bound"] < 0.05
    assert shared["bound"] > 0.3


def test_three_modalities_are_estimated_in_pairs() -> None:
    finding = code_information(assembled(planted(modalities={"image": 24, "text": 20, "audio": 16}), dim=4), steps=20)
    assert finding.table.select("a", "b").rows() == [("image", "text"), ("image", "audio"), ("text", "audio")]
    assert len(finding.figures) == 1


def test_it_needs_a_model_and_more_items_than_columns() -> None:
    data = planted()
    with pytest.raises(PrismError, match="codes of a model"):
        code_information(Subject.of_data(data.dataset))
    with pytest.raises(PrismError, match="more items than columns"):
        code_information(assembled(data, dim=250))


# ------------------------------------------------------------------------------------------------- along training


def trained(history: list[dict[str, Any]], **settings: Any) -> Subject:
    subject = assembled(planted(), dim=4)
    cfg, _ = configure(planted().dataset, "vbpr", ["mrdib"], settings={f"mrdib.{k}": v for k, v in settings.items()})
    return replace(subject, config=cfg, history=history)


def test_logged_terms_are_turned_into_nats() -> None:
    def record(epoch: int) -> dict[str, Any]:
        terms = {"rank": 0.5, "mrdib.kl.image": 0.02 * epoch, "mrdib.kl.text": 0.04, "mrdib.mi.image-text": 0.3 / epoch}
        return {"epoch": epoch, "terms": terms}

    finding = training_information(trained([record(1), record(2)], compress=0.01, redundant=0.1))
    found = {(e, w, of): nats for e, w, of, nats in finding.table.rows()}
    assert found == {
        (1, "kl", "image"): pytest.approx(2.0),
        (1, "kl", "text"): pytest.approx(4.0),
        (1, "mi", "image-text"): pytest.approx(3.0),
        (2, "kl", "image"): pytest.approx(4.0),
        (2, "kl", "text"): pytest.approx(4.0),
        (2, "mi", "image-text"): pytest.approx(1.5),
    }
    assert len(finding.figures) == 2
    assert "image 2 → 4" in finding.says


def test_weights_that_set_themselves_are_read_from_the_log() -> None:
    weights = {"compress": 0.5, "redundant": 0.25, "unique": 0.1}
    record = {"epoch": 1, "terms": {"mrdib.kl.image": 1.0, "mrdib.mi.image-text": 1.0}, "plugins": {"mrdib": weights}}
    finding = training_information(trained([record], balance="auto"))
    assert np.array_equal(finding.table["nats"].to_numpy(), [2.0, 4.0])


def test_a_run_without_estimates_is_refused_with_a_sentence() -> None:
    with pytest.raises(PrismError, match="this run has no mrdib"):
        training_information(assembled(planted(), dim=4))
    with pytest.raises(PrismError, match="log holds no estimate"):
        training_information(trained([{"epoch": 1, "terms": {"rank": 0.5}}], compress=0.0, redundant=0.0, unique=0.1))
