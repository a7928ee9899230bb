"""Neighbours by modality: counts against sets, chance against draws, planted truths recovered."""

import numpy as np
import polars as pl
import pytest
import torch

from prismrec import graphs
from prismrec.data.synthetic import Factor, draw
from prismrec.diagnostics import Subject, View
from prismrec.diagnostics.neighbours import (
    common_area,
    cosines,
    neighbour_lists,
    neighbours,
    overlap_table,
    shared_places,
    similarities,
    similarity_samples,
)
from prismrec.errors import PrismError
from prismrec.nn import Raw

NOTHING = Factor(0, 0.0)


def planted(n_items: int = 400, **factors: object) -> Subject:
    sizes = {"n_users": 40, "n_items": n_items, "interactions": 6.0, "missing": 0.0, "seed": 3, **factors}
    return Subject.of_data(draw(**sizes).dataset)  # type: ignore[arg-type]


def test_shared_places_are_those_of_sets() -> None:
    rng = np.random.default_rng(0)
    a, b = (np.stack([rng.permutation(12)[:7] for _ in range(50)]) for _ in range(2))
    a[3, 4:], b[3, 2:], b[4] = -1, -1, -1  # lists that end early, and no list
    found = shared_places(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    for row in range(50):
        for k in range(1, 8):
            assert found[row, k - 1] == len((set(a[row, :k]) & set(b[row, :k])) - {-1})


def test_no_item_is_its_own_neighbour_even_among_copies() -> None:
    values = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).repeat(4, 1)
    lists = neighbour_lists({"image": Raw(values, torch.ones(12, dtype=torch.bool))}, 3)["image"]
    for item, row in enumerate(lists.tolist()):
        assert set(row) == {other for other in range(12) if other % 3 == item % 3} - {item}


def test_modalities_that_share_nothing_name_the_same_neighbours_by_chance_alone() -> None:
    subject = planted(redundant=NOTHING)
    table = neighbours(subject).table
    assert table["chance"].to_list() == pytest.approx([k / 399 for k in table["k"]])
    large = table.filter(pl.col("k") >= 20)
    assert large["times_chance"].to_list() == pytest.approx([1.0] * len(large), abs=0.12)


def test_modalities_that_repeat_each_other_name_the_same_neighbours() -> None:
    subject = planted(unique=NOTHING, synergy=NOTHING, nuisance=0)
    found = neighbours(subject)
    at = found.table.row(by_predicate=pl.col("k") == 5, named=True)
    assert at["overlap"] > 0.5
    assert at["times_chance"] > 40
    assert "image and text share" in found.says
    some = neighbours(planted()).table.row(by_predicate=pl.col("k") == 5, named=True)
    assert 3 < some["times_chance"] < at["times_chance"]


def test_a_modality_repeated_word_for_word_shares_all() -> None:
    raw = planted().raw["image"]
    twice = {"image": raw, "again": raw}
    table = overlap_table(twice, neighbour_lists(twice, 20), (5, 20))
    assert table["overlap"].to_list() == [1.0, 1.0]
    assert table["standard_error"].to_list() == [0.0, 0.0]


def test_three_modalities_give_three_pairs_and_missing_items_their_own_chance() -> None:
    widths = {"image": 24, "text": 16, "audio": 12}
    subject = planted(redundant=NOTHING, modalities=widths, missing=0.5, n_items=300)
    table = overlap_table(subject.raw, neighbour_lists(subject.raw, 40), (40,))
    assert table["modalities"].to_list() == ["image, text", "image, audio", "text, audio"]
    present = {m: raw.present for m, raw in subject.raw.items()}
    for row in table.iter_rows(named=True):
        a, b = row["modalities"].split(", ")
        both = int((present[a] & present[b]).sum())
        assert row["items"] == both < 300
        assert row["chance"] == pytest.approx(
            40 * (both - 1) / ((int(present[a].sum()) - 1) * (int(present[b].sum()) - 1))
        )
        assert row["times_chance"] == pytest.approx(1.0, abs=0.15)
    found = similarities(subject)
    assert len(found.table) == 12
    assert len(found.figures) == 4


def test_a_catalogue_shorter_than_the_lists_gets_shorter_ones() -> None:
    table = neighbours(planted(n_items=24, interactions=5.0)).table
    assert table["k"].to_list() == [5, 10, 20]


def test_similarities_are_cosines_of_what_is_retrieved() -> None:
    subject = planted(n_items=60)
    lists = neighbour_lists(subject.raw, 7)
    samples = similarity_samples(subject.raw, lists, 7)
    ids, cosine = graphs.knn(subject.raw["image"].values, subject.raw["image"].present, 8)
    assert torch.equal(lists["image"], ids[:, 1:])
    np.testing.assert_allclose(samples["image", "image"], cosine[:, 1:].reshape(-1), atol=1e-5)
    text = torch.nn.functional.normalize(subject.raw["text"].values.float(), dim=1)
    rows = torch.arange(60).repeat_interleave(7)
    np.testing.assert_allclose(samples["image", "text"], (text[rows] * text[ids[:, 1:].reshape(-1)]).sum(1), atol=1e-5)


def test_what_another_modality_retrieves_is_similar_only_where_knowledge_is_shared() -> None:
    def gain(subject: Subject) -> float:
        table = similarities(subject).table
        mean = dict(zip(zip(table["by"], table["in"], strict=True), table["mean"], strict=True))
        assert mean["text", "text"] > mean["image", "text"]
        return float(mean["image", "text"] - mean["random", "text"])

    assert gain(planted(redundant=NOTHING)) == pytest.approx(0, abs=0.02)
    assert gain(planted()) > 0.1
    assert gain(planted(unique=NOTHING)) > gain(planted())


def test_alike_distributions_of_similarity_say_nothing_of_shared_knowledge() -> None:
    """The left half of the paper's figure would look the same on data whose modalities share nothing."""
    subject = planted(redundant=NOTHING, modalities={"image": 32, "text": 32})
    samples = similarity_samples(subject.raw, neighbour_lists(subject.raw, 20), 20)
    assert common_area(samples["image", "image"], samples["text", "text"]) > 0.85
    assert common_area(np.zeros(5), np.ones(5)) == 0
    assert common_area(np.arange(5.0), np.arange(5.0)) == 1


def test_random_pairs_hold_no_item_with_itself() -> None:
    one_hot = torch.eye(30)
    raw = {m: Raw(one_hot, torch.ones(30, dtype=torch.bool)) for m in ("image", "text")}
    samples = similarity_samples(raw, neighbour_lists(raw, 5), 5)
    assert not samples["random", "image"].any()


def test_cosines_of_half_precision_and_of_zeros() -> None:
    table = torch.tensor([[3.0, 4.0], [0.0, 0.0], [4.0, 3.0]], dtype=torch.float16)
    found = cosines(table, torch.tensor([0, 0, 0]), torch.tensor([0, 1, 2]))
    assert found.tolist() == pytest.approx([1.0, 0.0, 0.96])


def test_one_modality_has_nobody_to_be_compared_with() -> None:
    subject = planted(modalities={"image": 8})
    for measure in (neighbours, similarities):
        with pytest.raises(PrismError, match="at least 2 modalities; the data has 1"):
            measure(subject)


def test_the_same_seed_gives_the_same_finding() -> None:
    subject = planted(n_items=60)
    assert similarities(subject).figures == similarities(subject).figures
    other = Subject.of_data(subject.dataset, View(seed=1))
    assert not similarities(subject).table.equals(similarities(other).table)
