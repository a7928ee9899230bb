from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from scipy.stats import norm, wasserstein_distance
from subjects import assembled, planted

from prismrec.diagnostics.maps import modality_map, overlap, sliced_overlap, sliced_wasserstein, tsne
from prismrec.diagnostics.subject import Subject
from prismrec.errors import PrismError


def normal(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, *shape))


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("dims", [1, 2])
def test_overlap_of_two_normal_clouds_is_the_known_one(shift: float, dims: int) -> None:
    a, b = normal(20_000, dims), normal(20_000, dims, seed=1)
    b[:, 0] += shift
    assert overlap(a, b) == pytest.approx(2 * norm.cdf(-shift / 2), abs=0.03)


def test_overlap_knows_no_scale_and_no_order() -> None:
    a, b = normal(500, 2), normal(800, 2, seed=1) + 0.7
    assert overlap(a, b) == pytest.approx(overlap(b, a), abs=1e-12)
    assert overlap(100 * a - 3, 100 * b - 3) == pytest.approx(overlap(a, b), abs=1e-4)
    assert overlap(a, a) == pytest.approx(1)
    assert overlap(a, a + 1000) == pytest.approx(0, abs=1e-9)


def test_sliced_wasserstein_distance_of_shifted_clouds_is_the_mean_shift_along_directions() -> None:
    a = normal(1000, 6)
    shift = np.array([3.0, 0, 0, 0, 0, 0])
    directions = normal(20_000, 6, seed=5)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    assert sliced_wasserstein(a, a + shift) == pytest.approx(np.abs(directions @ shift).mean(), rel=0.1)
    assert sliced_wasserstein(a, a[::-1].copy()) == pytest.approx(0, abs=1e-12)


def test_sliced_wasserstein_distance_of_scaled_normal_clouds() -> None:
    # W₁ between N(0, 1) and N(0, s²) is (s − 1) E|z| = (s − 1) √(2/π), along every direction
    found = sliced_wasserstein(normal(4000, 4), 3 * normal(4000, 4, seed=1))
    assert found == pytest.approx(2 * np.sqrt(2 / np.pi), rel=0.05)


def test_in_one_dimension_it_is_the_wasserstein_distance() -> None:
    a, b = normal(300, 1), 2 * normal(300, 1, seed=1) + 1
    assert sliced_wasserstein(a, b) == pytest.approx(wasserstein_distance(a[:, 0], b[:, 0]))


def test_sliced_overlap_falls_as_clouds_part() -> None:
    a = normal(400, 8)
    values = [sliced_overlap(a, normal(400, 8, seed=1) + shift) for shift in (0.0, 0.5, 2.0)]
    assert values[0] > 0.9 > values[1] > values[2]


def test_a_map_keeps_clusters_apart_and_is_the_same_every_time() -> None:
    points = np.concatenate([normal(40, 5), normal(40, 5, seed=1) + 12])
    placed = tsne(points, seed=3)
    assert np.array_equal(placed, tsne(points, seed=3))
    a, b = placed[:40], placed[40:]
    assert np.linalg.norm(a.mean(0) - b.mean(0)) > 2 * max(a.std(), b.std())


@pytest.fixture(scope="module")
def clear() -> Subject:
    return assembled(planted(), clear={"rank": 3})


def test_the_finding_has_a_row_a_stage_and_a_figure_with_text(clear: Subject) -> None:
    finding = modality_map(clear, at_most=40)
    assert finding.table["stage"].to_list() == ["before", "after"]
    assert finding.table["items_on_map"].to_list() == [40, 40]
    missing = {m: raw.present for m, raw in clear.raw.items()}
    assert finding.table["items"].to_list() == [int((missing["image"] & missing["text"]).sum())] * 2
    assert "40 of " in finding.says
    (svg,) = finding.figures
    texts = [node.text or "" for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"image", "text"} <= set(texts) and any(t.startswith("before: map overlap 0.") for t in texts)
    assert not re.search(r"(fill|stroke): ?#", svg), "a colour that does not follow light and dark"


def test_the_same_subject_gives_the_same_bits(clear: Subject) -> None:
    one, two = (modality_map(clear, at_most=30) for _ in range(2))
    assert one.table.equals(two.table) and one.figures == two.figures


def test_three_modalities_are_compared_in_pairs() -> None:
    finding = modality_map(assembled(planted(modalities={"image": 24, "text": 20, "audio": 16})), at_most=30)
    assert finding.table.select("a", "b").rows() == [("image", "text"), ("image", "audio"), ("text", "audio")]


def test_it_refuses_what_it_cannot_compare(clear: Subject) -> None:
    with pytest.raises(PrismError, match="widths differ: image 24, text 20"):
        modality_map(Subject.of_data(planted().dataset))
    with pytest.raises(PrismError, match="allow at least 10"):
        modality_map(clear, at_most=3)


@pytest.mark.parametrize("package", ["ot", "openTSNE"])
def test_without_the_extra_it_says_what_to_install(
    clear: Subject, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PrismError, match=r"pip install 'prismrec\[diagnose\]'"):
        modality_map(clear, at_most=10)
