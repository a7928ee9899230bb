"""A run looked at again is the run that was: the same weights, the same bits, no test rows unless asked for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from program import dataset

from prismrec.data.dataset import Dataset
from prismrec.data.splits import by_ratio
from prismrec.data.store import save
from prismrec.diagnostics import DIAGNOSTICS, Diagnosis, Subject, View, diagnose
from prismrec.errors import PrismError
from prismrec.experiment import configure, run
from prismrec.index import FUSED, Index
from prismrec.runs import restore


@pytest.fixture(scope="module")
def data() -> Dataset:
    return dataset(n_users=60, n_items=50, interactions=9.0)


@pytest.fixture(scope="module")
def trained(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose best epoch is not its last, on data that was saved."""
    where = tmp_path_factory.mktemp("data") / "shop"
    save(data, where)
    folder = tmp_path_factory.mktemp("runs") / "one"
    chosen = ["train.epochs=8", "train.batch_size=64", "train.lr=0.05", "model.dim=16"]
    cfg, _ = configure(data, "freedom", ["clear"], assignments=chosen, device="cpu", threads=1)
    run(cfg, data, folder, data=str(where))
    return folder


@pytest.fixture(scope="module")
def found(trained: Path) -> Diagnosis:
    """Everything that can be said of the run."""
    return diagnose(trained)


def test_a_restored_run_says_what_it_said_at_its_best_epoch(trained: Path, data: Dataset) -> None:
    assembly = restore(trained, data)
    assert not assembly.training
    reps, index = assembly.represent(), Index.load(trained / "index")
    sides = {FUSED: (reps.user, reps.item), **reps.modal}
    assert sides.keys() == index.sides.keys()
    for name, (user, item) in sides.items():
        assert torch.equal(user.float(), index.sides[name][0])
        assert torch.equal(item.values.float(), index.sides[name][1])


def test_a_subject_holds_what_a_diagnosis_needs(trained: Path, data: Dataset) -> None:
    found = Subject.of_run(trained)  # the run knows where its data lies
    assert found.label == "freedom + clear"
    assert list(found.raw) == list(found.before) == list(found.after) == ["image", "text"]
    assert found.assembly is not None and found.config is not None and found.reps is not None
    for m in found.raw:
        before, after = found.before[m].values, found.after[m].values
        assert before.shape == after.shape == (data.n_items, 16)
        assert not torch.equal(before, after), "CLEAR has changed nothing"
        assert not before.requires_grad
        torch.testing.assert_close(after, found.assembly.chain[0].encode(dict(found.before), None)[0][m].values)
    assert [record["epoch"] for record in found.history] == list(range(1, 9))
    assert found.folder == trained


def test_the_test_rows_are_not_there_unless_asked_for(trained: Path, data: Dataset) -> None:
    held = data.interactions
    assert held.split is not None
    for part, rows in (("valid", (held.split < 2).sum()), ("test", len(held))):
        assert len(Subject.of_run(trained, data, View(part=part)).dataset.interactions) == rows
        assert len(Subject.of_data(data, View(part=part)).dataset.interactions) == rows


def test_other_data_is_refused(trained: Path, data: Dataset) -> None:
    with pytest.raises(PrismError, match="trained on data with fingerprint"):
        Subject.of_run(trained, by_ratio(data, seed=7))
    with pytest.raises(PrismError, match="trained on data with fingerprint"):
        restore(trained, by_ratio(data, seed=7))


def test_a_run_on_data_in_memory_asks_where_it_is(data: Dataset, tmp_path: Path) -> None:
    cfg, _ = configure(data, "mostpop", device="cpu")
    run(cfg, data, tmp_path / "run")
    with pytest.raises(PrismError, match=r"data in memory.*prismrec diagnose .* --data DATA"):
        Subject.of_run(tmp_path / "run")
    found = Subject.of_run(tmp_path / "run", data)
    assert found.reps is not None and not found.before and not found.history


def test_an_unfinished_run_and_no_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PrismError, match="no run folder"):
        Subject.of_run(tmp_path)


def test_data_without_a_split_can_be_looked_at(data: Dataset) -> None:
    bare = replace(data, interactions=replace(data.interactions, split=None))
    found = diagnose(Subject.of_data(bare), ["neighbours"])
    assert [finding.name for finding in found.findings] == ["neighbours"]
    assert len(found.subject.dataset.interactions) == len(data.interactions)


def test_views_that_make_no_sense_are_refused() -> None:
    with pytest.raises(PrismError, match="k is 0"):
        View(k=0)
    with pytest.raises(PrismError, match="'train'"):
        View(part="train")


def test_every_finding_is_named_after_its_function_and_can_be_written(found: Diagnosis, tmp_path: Path) -> None:
    names = [measure.__name__ for measure in DIAGNOSTICS]
    assert len(set(names)) == len(names) >= 4
    done, skipped = [finding.name for finding in found.findings], [name for name, _ in found.skipped]
    assert sorted(done + skipped) == sorted(names)
    assert {"neighbours", "similarities", "subsets", "confusions"} <= set(done)
    for finding in found.findings:
        assert finding.says.endswith(".")
        assert finding.figures
        assert len(finding.table) > 0
        finding.table.write_csv(tmp_path / "table.csv")  # flat
        assert not any(dtype.is_nested() for dtype in finding.table.dtypes)
    figures = [svg for finding in found.findings for svg in finding.figures]
    assert len({svg[: svg.index("viewBox")] for svg in figures}) == len(figures), "two figures have one label"


def test_a_diagnosis_leaves_the_run_as_it_was_and_comes_out_the_same_again(trained: Path, found: Diagnosis) -> None:
    look = Subject.of_run(trained)
    assert look.assembly is not None
    before = {name: value.clone() for name, value in look.assembly.state_dict().items()}
    random = torch.random.get_rng_state()
    quick = ("neighbours", "similarities", "singular_values", "subsets", "confusions")
    again = diagnose(look, quick)
    assert torch.equal(random, torch.random.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in look.assembly.state_dict().items())
    before_that = [finding for finding in found.findings if finding.name in quick]
    for a, b in zip(before_that, again.findings, strict=True):
        assert a.table.equals(b.table), a.name
        assert a.says == b.says
        assert a.figures == b.figures


def test_what_does_not_apply_is_skipped_with_its_reason(data: Dataset) -> None:
    found = diagnose(Subject.of_data(data))
    assert ("subsets", "It looks at representations, which data alone does not have.") in found.skipped
    assert "neighbours" in [finding.name for finding in found.findings]
    one = replace(data, modalities={"image": data.modalities["image"]})
    reasons = dict(diagnose(Subject.of_data(one)).skipped)
    assert reasons["neighbours"] == "It needs at least 2 modalities; the data has 1."


def test_a_misspelt_measurement_is_suggested(data: Dataset) -> None:
    with pytest.raises(PrismError, match=r"no diagnosis 'neighbors'\. Did you mean 'neighbours'"):
        diagnose(Subject.of_data(data), ["neighbors"])


def test_missing_features_do_not_spoil_what_is_found(data: Dataset) -> None:
    modality = data.modalities["image"]
    present = modality.present.copy()
    present[::3] = False
    values = np.where(present[:, None], modality.values, 0).astype(np.float32)
    some = replace(data, modalities={**data.modalities, "image": replace(modality, values=values, present=present)})
    for finding in diagnose(Subject.of_data(some)).findings:
        for column in finding.table.select(pl.col(pl.Float64, pl.Float32)):
            assert column.is_finite().all(), (finding.name, column.name)
