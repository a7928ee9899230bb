"""Approximate neighbours: what is found, what it costs in recall, who has none, and how a run tells of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from program import dataset
from torch import Tensor

import prismrec
from prismrec import cache, graphs
from prismrec.errors import PrismError
from prismrec.graphs import near

pytest.importorskip("faiss", reason="the extra 'ann' is not installed")


@pytest.fixture(scope="module")
def features() -> tuple[Tensor, Tensor]:
    """Around centres, as items are; a tenth lacks the modality, one row is zero, three are copies."""
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(30, 12, generator=rng)
    values = centres[torch.randint(30, (3000,), generator=rng)] + 0.5 * torch.randn(3000, 12, generator=rng)
    present = torch.rand(3000, generator=rng) > 0.1
    values[7], present[7] = 0.0, True
    values[100:103], present[100:103] = values[100].clone(), True
    return values, present


def test_the_recall_asked_for_is_reached_and_told(features: tuple[Tensor, Tensor]) -> None:
    exact, _ = graphs.knn(*features, 8)
    looked = []
    for recall in (0.5, 0.9):
        search = near.Near(recall)
        ids, _ = search(*features, 8)
        (said,) = search.told()
        assert said["recall"] >= recall and said["items"] == 3000 and said["cells"] > said["looked"]
        assert near._recall(exact, ids) == pytest.approx(said["recall"], abs=0.05)
        looked.append(said["looked"])
    assert looked[0] < looked[1]


def test_who_looks_everywhere_finds_what_the_exact_search_finds(features: tuple[Tensor, Tensor]) -> None:
    search = near.Near(1.0)
    ids, cosine = search(*features, 8)
    exact_ids, exact = graphs.knn(*features, 8)
    assert search.found[0].recall == 1.0
    assert torch.equal(ids, exact_ids)
    assert torch.allclose(cosine, exact, atol=1e-6)
    assert ids[100, :3].tolist() == [100, 101, 102] and ids[101, :3].tolist() == [101, 100, 102]
    lacking = ~features[1]
    lacking[7] = True
    assert (ids[lacking] == -1).all() and not torch.isin(ids, lacking.nonzero()).any()


def test_half_precision_features_and_fewer_items_than_places() -> None:
    values = torch.randn(5, 6, generator=torch.Generator().manual_seed(1)).half()
    ids, cosine = near.Near(0.9)(values, torch.ones(5, dtype=torch.bool), 9)
    exact, truth = graphs.knn(values, torch.ones(5, dtype=torch.bool), 9)
    assert torch.equal(ids, exact) and torch.allclose(cosine, truth, atol=1e-5)


def test_the_cache_remembers_them_beside_the_exact_ones(
    features: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISMREC_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "_WORTH", 0)
    told: list[dict[str, object]] = []
    first, _ = cache.knn(*features, 8, 0.8, told.append)
    cache.knn(*features, 8)
    monkeypatch.setattr(graphs, "Near", lambda recall: lambda *_: pytest.fail("searched again"))
    again, _ = cache.knn(*features, 8, 0.8, told.append)
    assert torch.equal(first, again) and len(list(tmp_path.iterdir())) == 2
    assert told[1] == pytest.approx(told[0]) and told[0]["k"] == 8


def test_where_comparing_all_is_quick_all_are_compared(features: tuple[Tensor, Tensor]) -> None:
    ids, _ = cache.knn(*features, 8, 0.5, lambda found: pytest.fail("not exact"))
    assert torch.equal(ids, graphs.knn(*features, 8)[0])


def test_a_run_writes_what_its_neighbours_are_worth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISMREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_WORTH", 0)
    settings = {"train.epochs": 1, "model.dim": 4, "run.threads": 1, "run.neighbour_recall": 0.9}
    prismrec.Recommender("freedom", settings=settings).fit(dataset(), out=tmp_path / "run")
    said = json.loads((tmp_path / "run" / "neighbours.json").read_text())
    assert [found["recall"] >= 0.9 for found in said] == [True, True]
    loaded = prismrec.load(tmp_path / "run")
    assert loaded is not None


def test_without_faiss_the_extra_is_named(features: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(PrismError, match=r"prismrec\[ann\]"):
        near.Near(0.9)(*features, 8)
