from __future__ import annotations

from pathlib import Path

import pytest
import torch

from prismrec import cache, graphs


@pytest.fixture
def features() -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.randn(300, 20, generator=torch.Generator().manual_seed(0))
    return values, torch.rand(300, generator=torch.Generator().manual_seed(1)) > 0.1


def test_a_second_search_reads_what_the_first_found(
    features: tuple[torch.Tensor, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISMREC_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "_WORTH", 0)
    values, present = features
    ids, cosine = cache.knn(values, present, 5)
    direct = graphs.knn(values, present, 5)
    assert torch.equal(ids, direct[0])
    assert torch.equal(cosine, direct[1])
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(graphs, "knn", lambda *_: pytest.fail("searched again"))
    again = cache.knn(values, present, 5)
    assert torch.equal(again[0], ids)
    assert torch.equal(again[1], cosine)


def test_other_content_is_another_entry(
    features: tuple[torch.Tensor, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISMREC_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "_WORTH", 0)
    values, present = features
    changed = values.clone()
    changed[7] *= -1
    keys = [cache._key(*args) for args in ((values, present, 5), (changed, present, 5), (values, ~present, 5))]
    assert len({*keys, cache._key(values, present, 6)}) == 4
    assert not torch.equal(cache.knn(values, present, 5)[0], cache.knn(changed, present, 5)[0])


def test_a_broken_entry_is_made_anew_and_an_unwritable_folder_does_not_matter(
    features: tuple[torch.Tensor, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISMREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_WORTH", 0)
    ids, _ = cache.knn(*features, 5)
    entry = next((tmp_path / "cache").iterdir())
    entry.write_bytes(entry.read_bytes()[:100])
    assert torch.equal(cache.knn(*features, 5)[0], ids)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PRISMREC_CACHE", str(tmp_path / "file"))
    assert torch.equal(cache.knn(*features, 5)[0], ids)
