from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from subjects import assembled, planted, shared_of

from prismrec.data.synthetic import Factor
from prismrec.diagnostics.spectrum import (
    above_chance,
    effective_rank,
    energy_shares,
    names_of_spectra,
    objective,
    redundant_rank,
    singular_values,
)
from prismrec.diagnostics.stages import presence, stages
from prismrec.diagnostics.subject import Subject
from prismrec.errors import PrismError
from prismrec.plugins.clear import energy_rank, spectra, spectrum_rank

K, STRENGTH = 4, 0.7


def columns(finding: object, stage: str, name: str = "sigma") -> np.ndarray:
    table = finding.table  # type: ignore[attr-defined]
    values: np.ndarray = table.filter(table["stage"] == stage)[name].to_numpy()
    return values


def test_after_the_plug_in_the_first_values_are_one_minus_strength_squared_times_as_large() -> None:
    subject = assembled(planted(), clear={"rank": K, "strength": STRENGTH})
    before, after = (columns(singular_values(subject), stage) for stage in ("before", "after"))
    damped = np.where(np.arange(len(before)) < K, (1 - STRENGTH) ** 2 * before, before)
    # σ below single precision of σ₁ are rounding: features are projected in it
    np.testing.assert_allclose(after, np.sort(damped)[::-1], rtol=1e-4, atol=1e-6 * before[0])


def test_the_spectrum_is_that_of_the_cross_covariance() -> None:
    subject = assembled(planted())
    finding = singular_values(subject)
    (tables,) = stages(subject).values()
    there = torch.stack(list(presence(subject, tables).values())).all(0)
    v, t = (table[there].numpy() - table[there].numpy().mean(0) for table in tables.values())
    expected = np.linalg.svd(v.T @ t / len(v), compute_uv=False)
    np.testing.assert_allclose(columns(finding, "projected"), expected, atol=1e-10 * expected[0])
    np.testing.assert_allclose(columns(finding, "projected", "share"), expected**2 / (expected**2).sum(), atol=1e-10)
    assert finding.table["between"].unique().to_list() == ["image × text"]
    assert "image and text" in finding.says


@pytest.mark.parametrize("modalities", [{"image": 24, "text": 20}, {"image": 24, "text": 20, "audio": 16}])
def test_the_planted_shared_subspace_is_found(modalities: Mapping[str, int]) -> None:
    size = 4
    data = planted(modalities=modalities, redundant=Factor(size, 1.7), missing=0.0)
    subject = Subject.of_data(data.dataset)
    (tables,) = stages(subject).values()
    for m, (u, _) in spectra(tables, presence(subject, tables)).items():
        found = np.rad2deg(subspace_angles(u[:, :size].double().numpy(), shared_of(data, m)))
        assert found.max() < 20, (m, found)
        other = np.rad2deg(subspace_angles(u[:, -size:].double().numpy(), shared_of(data, m)))
        assert other.min() > 45


@pytest.mark.parametrize("modalities", [{"image": 24, "text": 20}, {"image": 24, "text": 20, "audio": 16}])
def test_the_rules_find_the_planted_number_of_shared_factors(modalities: Mapping[str, int]) -> None:
    data = planted(n_items=1500, modalities=modalities, redundant=Factor(4, 1.7), missing=0.0)
    table = redundant_rank(Subject.of_data(data.dataset)).table
    for rule, setting in (("spectrum", 0.01), ("above chance", None)):
        rows = table.filter((table["rule"] == rule) & table["setting"].eq_missing(setting))
        assert rows["k"].to_list() == [4] * len(names_of_spectra(modalities)), rule  # type: ignore[arg-type]


def test_no_direction_stands_above_chance_where_nothing_is_shared() -> None:
    subject = Subject.of_data(planted(n_items=1500, redundant=Factor(0, 0.0)).dataset)
    (tables,) = stages(subject).values()
    assert set(above_chance(tables, presence(subject, tables)).values()) <= {0, 1}  # one in eleven by chance
    by_rule = redundant_rank(subject).table
    assert by_rule.filter(by_rule["rule"] == "spectrum")["k"].min() > 4, "the rule of eq. 13 does not see that"


def test_shares_are_shares_and_a_flat_spectrum_has_full_rank() -> None:
    assert energy_shares(torch.tensor([3.0, 4.0])).tolist() == pytest.approx([9 / 25, 16 / 25])
    assert energy_shares(torch.zeros(3)).tolist() == [0, 0, 0]
    assert effective_rank(torch.ones(5)) == pytest.approx(5)
    assert effective_rank(torch.tensor([1.0, 0, 0])) == pytest.approx(1)


def test_the_objective_is_the_papers_and_its_minimum_the_rules() -> None:
    s = torch.tensor([4.0, 3.0, 1.0, 0.5], dtype=torch.float64)
    by_hand = [float(s[k:].square().sum() / s.square().sum()) + 0.05 * k for k in range(5)]
    assert objective(s, 0.05).tolist() == pytest.approx(by_hand)
    assert spectrum_rank(s, 0.05) == int(np.argmin(by_hand)) == 2
    assert energy_rank(s, 1.0) == 4


def test_the_rank_of_the_run_and_a_validated_one_stand_beside_the_rules() -> None:
    subject = assembled(planted(), clear={"rank": 3})
    finding = redundant_rank(subject, validated=8)
    rows = {rule: k for rule, k in finding.table.select("rule", "k").iter_rows() if rule in ("the run", "validation")}
    assert rows == {"the run": 3, "validation": 8}
    assert finding.says.endswith("the run used 3; validation chose 8.")
    own = redundant_rank(assembled(planted(), clear={"rank": "spectrum", "penalty": 0.2})).table
    run, rule = (
        own.filter((own["rule"] == name) & (own["setting"] == 0.2))["k"].item() for name in ("the run", "spectrum")
    )
    assert run == rule


def test_three_modalities_have_a_spectrum_each_against_the_rest() -> None:
    subject = assembled(planted(modalities={"image": 24, "text": 20, "audio": 16}), clear={"rank": 2})
    finding = singular_values(subject)
    assert set(finding.table["between"]) == {"image × the rest", "text × the rest", "audio × the rest"}
    assert len(finding.figures) == 2 and len(redundant_rank(subject).figures) == 3


def test_what_has_no_two_modalities_is_refused_with_a_sentence() -> None:
    data = planted(modalities={"image": 24})
    with pytest.raises(PrismError, match="at least 2 modalities"):
        singular_values(Subject.of_data(data.dataset))
    with pytest.raises(PrismError, match="lightgcn projects none"):
        redundant_rank(assembled(planted(), model="lightgcn"))
