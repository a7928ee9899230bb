"""Planted catalogues hold what they promise: which modality knows what is checked from the features alone."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prismrec.data.synthetic import Factor, Planted, draw
from prismrec.errors import PrismError
from prismrec.evaluate import Evaluator

NONE = Factor(0, 0.0)


@pytest.fixture(scope="module")
def planted() -> Planted:
    return draw(seed=3, missing=0.0)


def explained(features: np.ndarray, target: np.ndarray) -> float:
    """R² of a ridge regression, fitted on the even rows and scored on the odd ones: mean over columns of the target."""
    x = (features - features.mean(0)).astype(np.float64)
    y = target - target.mean(0)
    fit, check = slice(0, None, 2), slice(1, None, 2)
    weights = np.linalg.solve(x[fit].T @ x[fit] + np.eye(x.shape[1]), x[fit].T @ y[fit])
    rest = ((y[check] - x[check] @ weights) ** 2).mean(0)
    return float((1 - rest / y[check].var(0)).mean())


def shared_directions(planted: Planted, floor: float = 0.6) -> int:
    """How many canonical correlations between image and text are above ``floor``."""
    sides = []
    for modality in planted.dataset.modalities.values():
        centred = (modality.values - modality.values.mean(0)).astype(np.float64)
        sides.append(np.linalg.svd(centred, full_matrices=False)[0])
    return int((np.linalg.svd(sides[0].T @ sides[1], compute_uv=False) > floor).sum())


def features(planted: Planted, modality: str) -> np.ndarray:
    return planted.dataset.modalities[modality].values


def test_redundant_factors_stand_in_both_modalities(planted: Planted) -> None:
    for modality in ("image", "text"):
        assert explained(features(planted, modality), planted.item["redundant"]) > 0.8
    assert shared_directions(planted) == planted.item["redundant"].shape[1]


def test_unique_factors_stand_in_their_own_modality_only(planted: Planted) -> None:
    for own, other in (("image", "text"), ("text", "image")):
        assert explained(features(planted, own), planted.item[f"unique:{own}"]) > 0.8
        assert explained(features(planted, other), planted.item[f"unique:{own}"]) < 0.05


def test_synergy_is_seen_by_neither_alone_nor_linearly_together(planted: Planted) -> None:
    synergy = planted.item["synergy"]
    image, text = features(planted, "image"), features(planted, "text")
    assert explained(image, synergy) < 0.05
    assert explained(text, synergy) < 0.05
    assert explained(np.concatenate([image, text], axis=1), synergy) < 0.05


def test_synergy_is_the_product_of_codes_that_each_modality_carries(planted: Planted) -> None:
    read = []
    for modality in ("image", "text"):
        assert explained(features(planted, modality), planted.codes[modality]) > 0.8
        x = np.c_[features(planted, modality), np.ones(1000)]
        read.append(x @ np.linalg.lstsq(x, planted.codes[modality], rcond=None)[0])
    for column, truth in zip((read[0] * read[1]).T, planted.item["synergy"].T, strict=True):
        assert np.corrcoef(column, truth)[0, 1] > 0.8


def test_modalities_can_share_nothing() -> None:
    planted = draw(redundant=NONE, missing=0.0, seed=1)
    assert "redundant" not in planted.groups
    assert shared_directions(planted) == 0
    assert planted.dataset.item_table["category"].unique().to_list() == ["thing"]


def test_hidden_factors_stand_in_no_features(planted: Planted) -> None:
    both = np.concatenate([features(planted, "image"), features(planted, "text")], axis=1)
    assert explained(both, planted.item["hidden"]) < 0.05


def test_strength_is_the_standard_deviation_of_a_groups_utility() -> None:
    planted = draw(unique=Factor(5, 1.5), synergy=Factor(3, 0.7), seed=2)
    assert planted.utility("unique:text").std() == pytest.approx(1.5, rel=0.1)
    assert planted.utility("synergy").std() == pytest.approx(0.7, rel=0.1)
    parts = sum(planted.utility(group) for group in planted.groups)
    assert np.allclose(parts, planted.utility())


def test_same_arguments_same_bits_and_another_seed_other_bits() -> None:
    one, two, other = (draw(100, 60, interactions=8, seed=seed) for seed in (5, 5, 6))
    assert one.dataset.fingerprint == two.dataset.fingerprint
    assert all(np.array_equal(one.item[g], two.item[g]) and np.array_equal(one.user[g], two.user[g]) for g in one.item)
    assert one.dataset.item_table.equals(two.dataset.item_table)
    assert one.dataset.fingerprint != other.dataset.fingerprint


def test_noisier_features_move_no_interaction() -> None:
    quiet, loud = draw(100, 60, interactions=8), draw(100, 60, interactions=8, noise=2.0, nuisance=9)
    assert quiet.dataset.interactions_fingerprint == loud.dataset.interactions_fingerprint
    assert quiet.dataset.fingerprint != loud.dataset.fingerprint


def test_the_oracle_beats_whoever_knows_less(planted: Planted) -> None:
    evaluator = Evaluator.of(planted.dataset, "test", metrics=["ndcg@20"])

    def ndcg(*groups: str) -> float:
        return evaluator(planted.oracle(*groups))["ndcg@20"]

    alone = [ndcg(group) for group in planted.groups]
    content = ndcg("redundant", "unique:image", "unique:text")
    assert ndcg() > content + 0.05 > max(alone) + 0.1
    assert ndcg() > ndcg(*(g for g in planted.groups if g != "synergy")) + 0.02
    assert min(alone) > 0.01


def test_popularity_is_as_skewed_as_asked() -> None:
    def share_of_top_tenth(skew: float) -> float:
        rows = draw(popularity=skew, seed=1).dataset.interactions
        counts = np.sort(np.bincount(rows.item, minlength=1000))[::-1]
        return float(counts[:100].sum() / counts.sum())

    flat, default, skewed = (share_of_top_tenth(skew) for skew in (0.0, 0.6, 1.5))
    assert flat < default < skewed
    assert skewed > 1.5 * flat


def test_interactions_are_distinct_enough_and_split() -> None:
    rows = draw(interactions=20, seed=0).dataset.interactions
    counts = np.bincount(rows.user, minlength=2000)
    assert counts.mean() == pytest.approx(20, rel=0.05)
    assert counts.min() >= 5
    assert counts.max() > 50
    assert len(np.unique(rows.user.astype(np.int64) * 1000 + rows.item)) == len(rows)
    assert rows.timestamp is not None
    held = len(rows.part("test")) + len(rows.part("valid"))
    assert held / len(rows) == pytest.approx(0.2, abs=0.03)
    assert set(np.unique(rows.part("test").user)) == set(range(2000))


def test_missing_modalities_are_marked_and_hold_zeros() -> None:
    modalities = draw(missing=0.3, seed=4).dataset.modalities
    absent = [~m.present for m in modalities.values()]
    assert 0.25 < (absent[0] | absent[1]).mean() < 0.35
    assert not (absent[0] & absent[1]).any()
    for modality, gone in zip(modalities.values(), absent, strict=True):
        assert not modality.values[gone].any()
        assert modality.values[~gone].any(axis=1).all()


def test_titles_say_the_factors_that_stand_out(planted: Planted) -> None:
    table, factors = planted.dataset.item_table, planted.item["redundant"]
    assert table.columns == ["item", "title", "category"]
    assert table["item"].to_list() == planted.dataset.items.external.to_list()
    assert table["category"].n_unique() == 20
    assert table.select(pl.col("title").str.contains(pl.col("category"), literal=True).all()).item()
    lamps = factors[(table["category"] == "lamp").to_numpy()]
    assert np.ptp(np.abs(lamps).argmax(axis=1)) == 0
    matching = table["title"].str.ends_with(", matching").to_numpy()
    assert np.array_equal(matching, planted.item["synergy"][:, 0] > 0)


@settings(max_examples=25)
@given(
    n_users=st.integers(1, 40),
    n_items=st.integers(20, 60),
    widths=st.lists(st.integers(1, 9), max_size=4),
    sizes=st.tuples(*[st.integers(0, 13)] * 4),
    missing=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_any_plan_gives_a_whole_data_set(
    n_users: int, n_items: int, widths: list[int], sizes: tuple[int, ...], missing: float, seed: int
) -> None:
    names = {f"m{k}": width for k, width in enumerate(widths)}
    redundant, unique, synergy, hidden = (Factor(size, 1.0) for size in sizes)
    planted = draw(
        n_users,
        n_items,
        modalities=names,
        redundant=redundant,
        unique=unique,
        synergy=synergy,
        hidden=hidden,
        interactions=5,
        missing=missing,
        seed=seed,
    )
    dataset, rows = planted.dataset, planted.dataset.interactions
    assert (dataset.n_users, dataset.n_items, dataset.item_table.height) == (n_users, n_items, n_items)
    assert {m: v.values.shape for m, v in dataset.modalities.items()} == {m: (n_items, w) for m, w in names.items()}
    assert all(np.isfinite(m.values).all() for m in dataset.modalities.values())
    assert 0 <= rows.item.min() <= rows.item.max() < n_items
    assert len(np.unique(rows.user.astype(np.int64) * n_items + rows.item)) == len(rows)
    assert ("synergy" in planted.groups) == (len(widths) > 1 and synergy.size > 0)
    assert planted.utility().shape == (n_users, n_items)
    if len(widths) == 1:
        assert dataset.modalities["m0"].present.all()


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        ({"n_items": 5}, "20 items"),
        ({"interactions": 600.0}, "600 interactions"),
        ({"missing": 1.5}, "1.5"),
        ({"modalities": {"image": 0}}, "'image' is 0 wide"),
        ({"unique": Factor(-1, 1.0)}, "negative"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(plan: dict[str, object], sentence: str) -> None:
    with pytest.raises(PrismError, match=sentence):
        draw(**plan)  # type: ignore[arg-type]


def test_an_unknown_group_is_refused_with_the_nearest_name(planted: Planted) -> None:
    with pytest.raises(PrismError, match="'redundant'"):
        planted.oracle("redundent")
