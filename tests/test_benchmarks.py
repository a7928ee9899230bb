"""The benchmarks run, on a catalogue of a few users, and what they say adds up. No time is asserted."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmarks are no part of the package

from benchmarks import against_reference, compiled, floor, gpu, plan, plugin_cost, precision, setting, speed
from prismrec.data.dataset import Dataset
from prismrec.data.synthetic import draw
from prismrec.graphs import inner_products
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


def test_where_there_is_time_for_one_epoch_alone_that_one_counts(tiny: Dataset) -> None:
    found = speed.measure("bpr", tiny, epochs=2, seconds=1e-9, batch_size=128)
    assert len(found["epochs"]) == len(found["evaluations"]) == 2


@pytest.mark.parametrize("name", [*[model.name for model in MODELS], "vbpr+clear"])
def test_every_model_is_measured(tiny: Dataset, name: str) -> None:
    found = speed.measure(name, tiny, epochs=2, seconds=60.0, batch_size=128)
    trained = bool(found["epochs"])
    assert len(found["evaluations"]) == (4 if trained else 2)
    assert len(found["epochs"]) in (0, 4)
    assert bool(found["floor"]) == trained
    shown = speed.text(setting.describe(1), tiny.name, {name: found})
    assert f"| {name} " in shown and (f"### {name}\n" in shown) == trained


def test_the_floor_is_the_sum_of_amounts_over_rates(tiny: Dataset) -> None:
    assembly, sampler = speed.assembled(tiny, "bpr", batch_size=120)
    counts = floor.Counts.of(sampler)
    assert (counts.batch, counts.steps) == (120, 2.5)
    terms = floor.terms(assembly, floor.listen(assembly, sampler))
    speeds = {term.rate: 10.0 * (1 + i) for i, term in enumerate(terms)}
    seconds = floor.seconds(terms, speeds, counts)
    assert seconds == {term.what: 2.5 * term.amount / speeds[term.rate] for term in terms}
    cached = floor.seconds(terms, speeds | {"stream, cached": 1e9}, counts, cached=True)
    changed = {what for what in seconds if seconds[what] != cached[what]}
    assert changed == {term.what for term in terms if term.rate == "stream"} != set()


def amounts(tiny: Dataset, name: str) -> tuple[floor.Step, dict[str, float]]:
    assembly, sampler = speed.assembled(tiny, name, batch_size=100)
    assembly.start_epoch(0, generator(0))
    step = floor.listen(assembly, sampler)
    terms = floor.terms(assembly, step)
    assert set(floor.rates(assembly, step)) == {"stream, cached"} | {term.rate for term in terms}
    assert len({term.what for term in terms}) == len(terms)
    assert all(term.amount > 0 for term in terms)
    assert all(p.grad is None for p in assembly.parameters())
    return step, {term.what: term.amount for term in terms}


def test_a_step_of_bpr_reads_its_rows_and_writes_their_gradients_and_adam_moves_seven_streams(tiny: Dataset) -> None:
    step, found = amounts(tiny, "bpr")
    assert step.rows == {(60, 64): 2 * 100, (40, 64): 2 * 200} and not step.sparse
    assert found["Adam: 4 streams read, 3 written"] == 7 * 4 * 64 * (60 + 40)
    assert found["rows of 40 × 64 fetched"] == 2 * 200 * 256


def test_a_step_of_lightgcn_is_three_layers_forward_and_back(tiny: Dataset) -> None:
    step, found = amounts(tiny, "lightgcn")
    assert step.sparse == {(300, 60, 40, 64): 6, (300, 40, 60, 64): 6}
    assert found["sparse 40 × 60 (300 entries) · 64, 6×: entries and results"] == 6 * (300 * 8 + 40 * 256)
    assert found["rows of 40 × 64 fetched"] >= 6 * 300 * 256


@pytest.mark.parametrize("name", ["vbpr", "freedom"])
def test_a_step_multiplies_the_batchs_distinct_items_once_forward_and_once_back(tiny: Dataset, name: str) -> None:
    _, sampler = speed.assembled(tiny, name, batch_size=100)
    items = len(next(sampler.epoch(0)).items.unique())
    step, _ = amounts(tiny, name)
    work = sum(m * k * n * times for (m, k, n), times in step.products.items())
    assert work == 2 * items * (32 + 20) * 64
    if name == "freedom":  # two layers on at most the fifth of the edges that is kept, one on the item graph
        assert sum(times for (entries, *_), times in step.sparse.items() if entries <= 60) == 8
        assert sum(times for (_, rows, table, _), times in step.sparse.items() if rows == table == 40) == 2


def test_parts_that_share_a_side_are_one_product() -> None:
    a, b = torch.rand(4, 5, 6), torch.rand(6, 7)
    with floor.Step() as step:
        torch.bmm(a, b.expand(4, 6, 7))
        torch.bmm(torch.rand(5, 6).expand(4, 5, 6), torch.rand(4, 6, 7))
        torch.bmm(a, torch.rand(4, 6, 7))
        torch.addmm(torch.rand(7), a[0], b)
    assert step.products == {(20, 6, 7): 1, (5, 6, 28): 1, (5, 6, 7): 5}


def test_a_product_at_places_alone_fetches_a_row_for_each() -> None:
    places = torch.tensor([[0, 3], [2, 2], [1, 3]])
    with floor.Step() as step:
        inner_products(torch.rand(3, 5), torch.rand(4, 5), places)
    assert step.rows == {(4, 5): 6} and not step.products


def test_speeds_are_positive() -> None:
    assert floor.stream(4096) > 0
    assert floor.gather(10, 4, count=130) > 0
    assert floor.multiply(20, 32, 8) > 0 and floor.multiply(5, 7, 3) > 0


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
    faster = [{"training": 0.25, "evaluation": 0.0, "recall": 0.1}] * 2
    both = {"bpr": {"theirs": theirs, "ours": ours}, "bm3": {"theirs": theirs, "ours": faster}}
    shown = against_reference.text(setting.describe(1), "abc", both, "cpu")
    assert "9.0×" in shown and "8.0 – 10.0" in shown and "the processor's" in shown
    assert "Geometric mean of the 2 ratios: **18.0×**" in shown  # of 9 and 36


def test_the_gpu_page_is_written_from_what_each_model_took(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_best", lambda run, device: 1e-3)
    cpu = torch.device("cpu")
    speeds = gpu.rates(cpu)
    assert speeds.keys() == {"bandwidth", "fp32", "tf32", "bf16"} and min(speeds.values()) > 0
    models = {name: gpu.measure(name, tiny, cpu, 1, speeds) for name in ("vbpr", "itemknn")}
    assert [len(models["vbpr"][key]) for key in ("epochs", "evaluations")] == [1, 1] and models["vbpr"]["waits"] is None
    best = gpu.to_best(tiny, cpu, epochs=2)
    assert 1 <= best["best_epoch"] <= best["epochs"] == 2 and best["seconds"] > 0
    found = {"rates": speeds, "models": models, "best": best}
    shown = gpu.text(setting.describe(1), "a device", tiny.name, found)
    assert "| vbpr " in shown and "| itemknn " in shown and f"after epoch {best['best_epoch']} of 2" in shown


def test_the_floor_on_a_device_is_bytes_over_bandwidth_and_multiply_adds_over_the_peak(tiny: Dataset) -> None:
    one, other = ({"bandwidth": bandwidth, "fp32": 1e9} for bandwidth in (1e6, 2e6))
    slow, fast = (gpu.least(tiny, "bpr", speeds) for speeds in (one, other))
    assert slow["bytes"] == 2 * fast["bytes"] > 0 and slow["products"] == fast["products"] == 0
    steps = 300 / min(2048, 300)
    assert slow["bytes"] * 1e6 == pytest.approx(steps * (7 * 4 * 64 * 100 + 256 * 2 * 300 * 3))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_benchmark_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit) as stopped:
        gpu.main()
    assert stopped.value.code == 2 and "sees no CUDA device" in capsys.readouterr().err


def test_plain_and_compiled_steps_are_timed_by_turns(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda step, **_: step)
    monkeypatch.setattr(compiled, "_SKIPPED", 0)
    found = compiled.measure(tiny, "bpr", 1, torch.device("cpu"))
    assert [len(found[way]) for way in ("plain", "compiled")] == [1, 1] and found["first"] > 0
    shown = compiled.text(setting.describe(1), "cpu", tiny.name, {"bpr": found})
    assert "| bpr " in shown and " % |" in shown


def test_precisions_are_compared_in_pairs_of_one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(precision.SETTINGS, "train.batch_size", 256)
    few = draw(n_users=60, n_items=40, interactions=10.0, seed=3).dataset
    found = [precision.score(few, "vbpr", kind, 0, epochs=2) for kind in precision.PRECISIONS]
    assert [one["epochs"] for one in found] == [2, 2] and all(0 <= one["recall@20"] <= 1 for one in found)
    made = [
        {"data": "d", "model": "vbpr", "seed": seed, "precision": kind, "recall@20": 0.5 + by, "ndcg@20": 0.25}
        for seed, kind, by in [(0, "fp32", 0.0), (0, "bf16", 0.1), (1, "fp32", 0.0), (1, "bf16", 0.1), (2, "fp32", 9.0)]
    ]
    recall, _ = precision.rows(made)
    assert recall == ["vbpr, d", "recall@20", "2", "0.5000", "0.6000", "+0.1000 ± 0.0000", "+20.0 %"]
    assert (0, "vbpr", "bf16") not in precision.missing(made, 1) and (1, "vbpr", "bf16") in precision.missing(
        made[:3], 2
    )
    assert "| vbpr, d " in precision.text(setting.describe(1), made)


def test_a_difference_comes_with_its_interval() -> None:
    mean, half = precision.difference([(0.0, 1.0), (0.0, 2.0), (0.0, 3.0)])
    assert mean == 2.0 and half == pytest.approx(4.302653 / 3**0.5, rel=1e-6)


def test_the_plan_is_what_the_records_give() -> None:
    shown = plan.PAGE.read_text(encoding="utf-8")
    assert all(" | ".join(line) in shown for line in plan.lines())
    much = {what: takes for what, takes, _ in plan.lines()}
    assert much["tables"] == "282 GB"  # 1.1 thousand million rows of 64 numbers of 4 bytes
    assert much["an HNSW index of all items"].startswith("51 GB")
