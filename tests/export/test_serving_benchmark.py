"""The benchmark of exports runs, on a few users and items. No time is asserted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # the benchmarks are no part of the package

from benchmarks import serving_index


def test_lists_in_bulk_beside_their_floor(capsys: pytest.CaptureFixture[str]) -> None:
    serving_index.bulk(1, repeats=1, n_users=50, n_items=300)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("floor") and any(line.startswith("Shelf.lists") for line in lines)


def test_one_list_among_many_beside_the_library_alone(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("faiss", reason="the extra 'ann' is not installed")
    serving_index.million(2000, 1, ["ivf"], asked=100)
    assert "plain ivf" in capsys.readouterr().out
