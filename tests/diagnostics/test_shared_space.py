from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from scipy.linalg import subspace_angles
from subjects import assembled, planted, shared_of
from torch import Tensor

from prismrec.data.sources import read
from prismrec.data.synthetic import Factor
from prismrec.diagnostics.shared_space import (
    Classes,
    classes_of,
    explained,
    fusion,
    separation,
    shared_subspace,
    split,
)
from prismrec.diagnostics.stages import presence, stages
from prismrec.diagnostics.subject import Subject
from prismrec.errors import PrismError
from prismrec.plugins.clear import spectra


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cell(finding: object, stage: str, of: str, space: str, column: str) -> float:
    table = finding.table  # type: ignore[attr-defined]
    rows = table.filter((pl.col("stage") == stage) & (pl.col("of") == of) & (pl.col("space") == space))
    return float(rows[column].item())


def test_fisher_ratio_of_two_constructed_classes_is_the_known_one() -> None:
    n, d, distance = 20_000, 3, 2.0
    label = torch.arange(2 * n) // n
    x = normal(2 * n, d)
    x[:n, 0] += distance
    found = separation(x, label)
    assert found.fisher == pytest.approx(distance**2 / (2 * d), rel=0.03)  # ‖μ₁ − μ₂‖² / (Var₁ + Var₂)
    assert found.within == pytest.approx(d, rel=0.02)
    assert found.between == pytest.approx(distance**2 / 2, rel=0.05)  # variance of two means, over n − 1 = 1


def test_fisher_ratio_is_the_mean_of_eq_18_over_pairs_of_classes() -> None:
    label = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    x = normal(len(label), 4)
    groups = [x[label == c] for c in range(3)]
    means, variances = [g.mean(0) for g in groups], [float(g.var(0).sum()) for g in groups]
    by_hand = [
        (float((means[a] - means[b]).square().sum()) - variances[a] / len(groups[a]) - variances[b] / len(groups[b]))
        / (variances[a] + variances[b])
        for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    assert separation(x, label).fisher == pytest.approx(float(np.mean(by_hand)))


@pytest.mark.parametrize("d", [2, 40])
def test_classes_that_mean_nothing_come_to_zero_in_any_number_of_dimensions(d: int) -> None:
    values = [separation(normal(60, d, seed=s), torch.arange(60) % 6).fisher for s in range(40)]
    assert abs(np.mean(values)) < 0.015


def test_fisher_ratio_knows_no_scale_and_no_rotation() -> None:
    x, label = normal(30, 5), torch.arange(30) % 3
    rotation, _ = torch.linalg.qr(normal(5, 5, seed=1))
    assert separation(7 * x @ rotation + 3, label).fisher == pytest.approx(separation(x, label).fisher)


def test_a_sum_doubles_what_points_the_same_way_and_only_that() -> None:
    v, rest_v, rest_t = normal(500, 3), normal(500, 3, seed=1), normal(500, 3, seed=2)

    def ratio(t: Tensor) -> tuple[float, float, float]:
        found = fusion({"a": v, "b": t}, {"a": rest_v, "b": rest_t})
        assert found is not None
        return found.cosine, found.ratio, found.apart

    cosine, together, apart = ratio(v)  # ρ = 1: eq. 22 with α = β, an amplification of two
    assert cosine == pytest.approx(1) and together / apart == pytest.approx(2, rel=0.1)
    cosine, together, apart = ratio(v[torch.randperm(500, generator=torch.Generator().manual_seed(0))])
    assert abs(cosine) < 0.1 and together / apart == pytest.approx(1, rel=0.15)
    assert fusion({"a": v, "b": normal(500, 4)}, {"a": rest_v, "b": normal(500, 4)}) is None


def test_parts_add_up_and_are_orthogonal() -> None:
    basis, _ = torch.linalg.qr(normal(6, 2))
    inside, outside = split(normal(50, 6, seed=1) + 5, basis)
    assert torch.allclose((inside * outside).sum(1), torch.zeros(50, dtype=torch.float64), atol=1e-10)
    assert torch.allclose((inside + outside).mean(0), torch.zeros(6, dtype=torch.float64), atol=1e-10)
    assert torch.linalg.matrix_rank(inside) == 2


def test_explained_variance_is_that_of_least_squares() -> None:
    x, noise = normal(2000, 3), normal(2000, 2, seed=1)
    y = x @ normal(3, 2, seed=2)
    assert explained(y, x) == pytest.approx(1)
    assert explained(noise, x) < 0.01
    share = float(y.var(0).sum() / (y.var(0).sum() + noise.var(0).sum()))
    assert explained(y + noise, x) == pytest.approx(share, abs=0.03)
    assert explained(y, torch.cat([x, x], 1)) == pytest.approx(1)


def test_on_planted_data_the_kinds_are_told_apart_inside_the_shared_subspace_alone() -> None:
    data = planted(n_items=1500, missing=0.0)
    subject = Subject.of_data(data.dataset)
    finding = shared_subspace(subject)
    for m in ("image", "text"):
        assert cell(finding, "raw", m, "shared", "fisher") > 0.5
        assert abs(cell(finding, "raw", m, "rest", "fisher")) < 0.05
        energy = data.dataset.modalities[m].values.var(0).sum()
        assert cell(finding, "raw", m, "all", "energy") == pytest.approx(energy, rel=1e-4)
    assert "20 classes (category)" in finding.says and len(finding.figures) == 2


def test_the_subspace_is_the_planted_one_before_and_after_and_damped_by_the_strength() -> None:
    data = planted(missing=0.0)
    subject = assembled(data, clear={"rank": 4, "strength": 0.9})
    finding = shared_subspace(subject)
    for m in ("image", "text"):
        inside, outside = (
            cell(finding, "after", m, space, "energy") / cell(finding, "before", m, space, "energy")
            for space in ("shared", "rest")
        )
        assert inside == pytest.approx(0.1**2, rel=1e-3) and outside == pytest.approx(1, rel=1e-3)
        # a scale changes no Fisher ratio
        assert cell(finding, "after", m, "shared", "fisher") == pytest.approx(
            cell(finding, "before", m, "shared", "fisher"), rel=1e-3
        )
    shares = [cell(finding, "final", "item vectors", space, "share") for space in ("shared", "rest", "all")]
    assert shares[0] + shares[1] == pytest.approx(1) and 0 <= shares[0] <= 1 and shares[2] == 1


def test_three_modalities_share_the_planted_subspace() -> None:
    data = planted(n_items=1500, modalities={"image": 24, "text": 20, "audio": 16}, missing=0.0)
    tables = stages(subject := Subject.of_data(data.dataset))["raw"]
    for m, (u, _) in spectra(tables, presence(subject, tables)).items():
        assert np.rad2deg(subspace_angles(u[:, :10].double().numpy(), shared_of(data, m))).max() < 25
    finding = shared_subspace(subject, rank=10)
    assert all(cell(finding, "raw", m, "shared", "fisher") > 0.3 for m in tables)
    assert all(abs(cell(finding, "raw", m, "rest", "fisher")) < 0.05 for m in tables)


def test_without_classes_it_speaks_of_energy_alone() -> None:
    data = planted().dataset
    subject = Subject.of_data(replace(data, item_table=data.item_table.drop("category")))
    finding = shared_subspace(subject)
    assert finding.table["fisher"].null_count() == len(finding.table)
    assert "no classes" in finding.says and len(finding.figures) == 1


def test_classes_come_from_the_caller_or_the_item_table() -> None:
    data = planted().dataset
    n = data.n_items
    genres = ["Drama|Comedy" if i % 2 else "Horror" for i in range(n - 3)] + ["Rare", "Rare", None]
    found = classes_of(replace(data, item_table=pl.DataFrame({"item": range(n), "genres": genres})))
    assert found is not None
    assert (found.names, found.source) == (["Drama", "Horror"], "the first of genres")
    assert np.bincount(found.label + 1).tolist() == [3, (n - 3) // 2, (n - 3) - (n - 3) // 2]
    lists = [["Drama", "Comedy"] if i % 2 else ["Horror"] for i in range(n)]
    listed = classes_of(replace(data, item_table=pl.DataFrame({"item": range(n), "categories": lists})))
    assert listed is not None and listed.names == ["Drama", "Horror"]
    assert classes_of(replace(data, item_table=pl.DataFrame({"item": range(n), "category": ["x"] * n}))) is None
    assert classes_of(replace(data, item_table=pl.DataFrame({"item": range(n)}))) is None
    random = Classes(np.arange(n) % 4, ["a", "b", "c", "d"], "the caller")
    finding = shared_subspace(Subject.of_data(data), classes=random)
    assert "4 classes (the caller)" in finding.says
    assert abs(cell(finding, "raw", "image", "shared", "fisher")) < 0.05


def test_genres_of_movielens_are_classes(shared_data: Path) -> None:
    found = classes_of(read(shared_data / "ml100k"))
    assert found is not None and found.source == "the first of genres"
    assert {"Drama", "Comedy", "Horror"} <= set(found.names) and (found.label >= 0).mean() > 0.95


def test_where_nothing_is_shared_clear_damps_what_only_one_modality_knows() -> None:
    data = planted(redundant=Factor(0, 0.0), missing=0.0)
    finding = shared_subspace(assembled(data, clear={"rank": 8, "strength": 0.9}))
    for m in ("image", "text"):
        assert cell(finding, "before", m, "shared", "share") > 0.5
        assert cell(finding, "after", m, "all", "energy") < 0.55 * cell(finding, "before", m, "all", "energy")


def test_a_rank_out_of_bounds_is_refused() -> None:
    with pytest.raises(PrismError, match="between 1 and 20"):
        shared_subspace(Subject.of_data(planted().dataset), rank=21)
