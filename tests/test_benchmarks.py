"""The benchmarks run, on a catalogue of a few users, and what they say adds up. No time is asserted."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmarks are no part of the package

from benchmarks import against_reference, floor, plugin_cost, setting, speed
from prismrec.data.dataset import Dataset
from prismrec.models import MODELS
from prismrec.sampling import generator

TINY = setting.Size(users=60, items=40, parts=(300, 70, 80), image=32, text=20)


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return setting.data(TINY)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    def once(run: object, seconds: float = 0.0) -> float:
        assert callable(run)
        run()
        return 1e-3

    monkeypatch.setattr(floor, "best", once)
    monkeypatch.setattr(floor, "_LARGE", 4096)


def test_the_drawn_data_has_the_size_asked_for(tiny: Dataset) -> None:
    rows = tiny.interactions
    assert rows.split is not None
    assert [int((rows.split == part).sum()) for part in range(3)] == list(TINY.parts)
    assert (tiny.n_users, tiny.n_items) == (60, 40)
    assert len(np.unique(rows.user.astype(np.int64) * 40 + rows.item)) == sum(TINY.parts)
    assert set(tiny.interactions.part("train").user) == set(range(60))
    image = tiny.modalities["image"].values
    assert image.shape == (40, 32) and image.dtype == np.float32 and (image >= 0).all() and (image == 0).any()


@pytest.mark.parametrize("name", [*[model.name for model in MODELS], "vbpr+clear"])
def test_every_model_is_measured(tiny: Dataset, name: str) -> None:
    found = speed.measure(name, tiny, epochs=2, batch_size=128)
    trained = bool(found["epochs"])
    assert len(found["evaluations"]) == (4 if trained else 2)
    assert len(found["epochs"]) in (0, 4)
    accounted = name.split("+")[0] in floor.ACCOUNTED
    assert bool(found["floor"]) == accounted and (trained or not accounted)
    shown = speed.text(setting.describe(1), tiny.name, {name: found})
    assert f"| {name} " in shown and (f"### {name}\n" in shown) == accounted


def test_the_floor_is_the_sum_of_amounts_over_rates(tiny: Dataset) -> None:
    assembly, sampler = speed.assembled(tiny, "bpr", batch_size=100)
    counts = floor.Counts.of(sampler)
    assert (counts.steps, counts.batch) == (3, 100) and counts.users <= 60 and counts.items <= 40
    terms = {term.what: term for term in floor.terms(assembly, counts)}
    assert terms["Adam: 4 streams read, 3 written"].amount == 7 * 4 * 64 * (60 + 40)
    assert terms["batch rows read: users"].amount == 100 * 64 * 4
    assert terms["batch rows read: items"].amount == 2 * 100 * 64 * 4
    speeds = {term.rate: 10.0 * (1 + i) for i, term in enumerate(terms.values())}
    seconds = floor.seconds(list(terms.values()), speeds, counts)
    assert seconds == {what: 3 * term.amount / speeds[term.rate] for what, term in terms.items()}
    cached = floor.seconds(list(terms.values()), speeds | {"stream, cached": 1e9}, counts, cached=True)
    changed = {what for what in seconds if seconds[what] != cached[what]}
    assert changed == {what for what, term in terms.items() if term.rate == "stream"}


def test_graphs_and_projections_are_counted(tiny: Dataset) -> None:
    def amounts(name: str) -> tuple[floor.Counts, dict[str, float]]:
        assembly, sampler = speed.assembled(tiny, name, batch_size=100)
        assembly.start_epoch(0, generator(0))
        counts = floor.Counts.of(sampler)
        terms = floor.terms(assembly, counts)
        assert set(floor.rates(assembly, counts, sampler)) == {"stream, cached"} | {term.rate for term in terms}
        assert len({term.what for term in terms}) == len(terms)
        assert all(term.amount > 0 for term in terms)
        return counts, {term.what: term.amount for term in terms}

    _, light = amounts("lightgcn")  # three layers, forward and back; 300 edges; a row is written, its start read
    assert light["users ← items: rows gathered, 6×"] == 6 * 300 * 256
    assert light["items ← users: entries and results, 6×"] == 6 * (300 * 8 + 2 * 40 * 256)
    counts, free = amounts("freedom")
    assert free["projection of image"] == counts.items * 32 * 64
    assert free["gradient of the projection of text"] == counts.items * 20 * 64
    assert free["users ← items: rows gathered, 4×"] <= 4 * 60 * 256  # at most the fifth of the edges that is kept
    _, visual = amounts("vbpr")
    assert visual["batch rows read: users"] == 2 * light["batch rows read: users"]


def test_speeds_are_positive() -> None:
    assert floor.stream(4096) > 0
    assert floor.gather(10, 4, torch.arange(10).repeat(13)) > 0
    assert all(rate > 0 for rate in [*floor.products(20, 32, 8), *floor.products(5, 7, 3)])


@pytest.mark.parametrize("case", plugin_cost.CASES, ids=lambda case: case.name)
def test_plugins_are_compared_in_pairs(case: plugin_cost.Case, tiny: Dataset) -> None:
    found = plugin_cost.measure(case, tiny, pairs=2, extra={"train.batch_size": 128})
    assert [len(found[key]) for key in ("plain", "with", "represented_plain", "represented_with")] == [2, 2, 2, 2]
    assert found["exported"][0] == found["exported"][1] > 0
    row = plugin_cost.text(setting.describe(1), {case.name: found}).splitlines()[-1]
    assert row.startswith(f"| {case.plugin} on {case.host}") and f"≤ {case.limit} %" in row and "same" in row


def test_the_ratio_is_the_median_and_its_interval_holds_it() -> None:
    plain = np.array([1.0, 2.0, 4.0, 1.0, 1.0])
    middle, low, high = plugin_cost.ratio(plain, plain * [1.0, 1.1, 1.2, 1.3, 1.4])
    assert middle == pytest.approx(1.2) and low == pytest.approx(1.0) and high == pytest.approx(1.4)
    assert plugin_cost.ratio(plain, 3 * plain) == (3, 3, 3)


def test_stand_ins_take_anything() -> None:
    stub = against_reference.Stub("absent")
    assert stub.anything.at_all(1, two=3).more.__name__ == "absent.anything.at_all.more"
    with pytest.raises(AttributeError):
        _ = stub.__wrapped__


def test_the_comparison_is_written_from_rounds() -> None:
    theirs = [{"training": 4.0, "evaluation": 4.0, "recall": 0.1}, {"training": 5.0, "evaluation": 5.0, "recall": 0.1}]
    ours = [{"training": 0.5, "evaluation": 0.5, "recall": 0.1}, {"training": 1.0, "evaluation": 0.0, "recall": 0.1}]
    shown = against_reference.text(setting.describe(1), "abc", {"bpr": {"theirs": theirs, "ours": ours}})
    assert "9.0×" in shown and "8.0 – 10.0" in shown
