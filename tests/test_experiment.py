"""A run from settings to result: what it writes, what it never sees, what it refuses before it writes anything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from program import dataset, snapshot, with_rows

from prismrec import experiment, run_folder
from prismrec.config import RunConfig, resolve
from prismrec.data.dataset import PARTS, Dataset, Interactions
from prismrec.errors import PrismError
from prismrec.evaluate import LIST_METRICS, METRICS, Evaluator, protocol

DATA = dataset()
TEST = PARTS["test"]


def settings(model: str = "vbpr", plugins: dict[str, Any] | None = None, **train: Any) -> RunConfig:
    width = {"dim": 8} if model not in ("mostpop", "itemknn", "ease") else {}
    tree = {"model": {"name": model, **width}, "plugins": plugins or {}, "train": {"epochs": 4, "lr": 0.03, **train}}
    return resolve({**tree, "run": {"seed": 2, "threads": 1}})


CLEAR = {"clear": {"rank": 3, "interval": 2}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "vbpr"
    experiment.run(settings("vbpr", CLEAR), DATA, folder, data="somewhere")
    return folder


def test_result_json_holds_what_scripts_rely_on(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    wanted = {"valid", "test", "epochs", "best_epoch", "seconds_per_epoch", "seconds_per_evaluation", "peak_memory_mb",
              "config", "data_fingerprint"}  # fmt: skip
    assert wanted <= set(result)
    for part in ("valid", "test"):
        assert set(result[part]) == {*METRICS, *LIST_METRICS}
        assert all(isinstance(value, float) for value in result[part].values())
    assert result["epochs"] == 4 and 1 <= result["best_epoch"] <= 4
    assert result["data_fingerprint"] == DATA.fingerprint
    assert result["peak_memory_mb"] > 50 and result["seconds_per_epoch"] > 0 and result["seconds_per_evaluation"] > 0
    assert resolve(result["config"]) == settings("vbpr", CLEAR)


def test_a_run_folder_holds_what_the_documentation_says(run: Path) -> None:
    names = {path.relative_to(run).as_posix().split(".")[0] for path in run.rglob("*") if path.is_file()} - {""}
    assert {"config", "environment", "metrics", "result", "per_user/valid", "per_user/test", "index/manifest"} <= names
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    for line in lines:
        assert set(line) == {"epoch", "lr", "loss", "terms", "valid", "seconds", "seconds_evaluation"}
        assert line["loss"] == pytest.approx(sum(line["terms"].values())) and "recall@20" in line["valid"]
    known = yaml.safe_load((run / "config.yaml").read_text())["data"]
    assert known["fingerprint"] == DATA.fingerprint and known["path"] == str(Path("somewhere").resolve())
    environment = json.loads((run / "environment.json").read_text())
    assert environment["torch"] == torch.__version__ and environment["threads"] == 1


def test_the_result_is_that_of_the_chosen_epoch(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    values = [line["valid"]["recall@20"] for line in lines]
    assert result["best_epoch"] == 1 + values.index(max(values))
    for metric, value in lines[result["best_epoch"] - 1]["valid"].items():
        assert result["valid"][metric] == value


@pytest.mark.parametrize("model", ["vbpr", "freedom", "lightgcn"])
def test_the_chosen_epoch_is_evaluated_even_where_later_ones_were_worse(model: str) -> None:
    """Nothing of the last epoch's weights may be left in what is evaluated."""
    result = experiment.run(settings(model, lr=0.1, epochs=12), DATA)
    assert result.progress.best_epoch < 12, "choose a rate at which the last epoch is not the best"
    record = result.progress.history[result.progress.best_epoch - 1]
    assert {metric: result.valid[metric] for metric in record["valid"]} == record["valid"]


def test_values_per_user_are_kept_on_external_ids_and_their_means_are_the_result(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    for part in ("valid", "test"):
        table = pl.read_parquet(run / "per_user" / f"{part}.parquet")
        held_out = np.unique(DATA.interactions.part(part).user)
        assert table["user"].to_list() == DATA.users.decode(held_out).to_list()
        for metric in METRICS:
            assert float(table[metric].to_numpy().mean()) == result[part][metric]


def test_saved_representations_give_the_result_again(run: Path) -> None:
    reps = run_folder.saved_reps(run)
    evaluator = Evaluator.of(DATA, "test", protocol("default"), METRICS)
    result = run_folder.saved_result(run)
    assert evaluator(reps) == {metric: result["test"][metric] for metric in METRICS}


# the test split


def altered(data: Dataset) -> Dataset:
    """The same data with other items in its test rows."""
    rows = data.interactions
    assert rows.split is not None
    item = rows.item.copy()
    test = rows.split == TEST
    item[test] = (item[test] + 7) % data.n_items
    return with_rows(data, replace(rows, item=item))


def without_test(data: Dataset) -> Dataset:
    return data.development()


@pytest.mark.parametrize(("model", "plugins"), [("freedom", CLEAR), ("vbpr", {}), ("ease", {}), ("itemknn", {})])
def test_other_test_rows_change_neither_weights_nor_epoch(model: str, plugins: dict[str, Any]) -> None:
    results = [experiment.run(settings(model, plugins), data) for data in (DATA, altered(DATA))]
    first, second = results
    assert first.progress.best_epoch == second.progress.best_epoch and first.valid == second.valid

    def timeless(result: experiment.Result) -> list[dict[str, Any]]:
        return [{k: v for k, v in r.items() if not k.startswith("seconds")} for r in result.progress.history]

    assert timeless(first) == timeless(second)
    for name, sides in first.index.sides.items():
        for ours, theirs in zip(sides, second.index.sides[name], strict=True):
            assert torch.equal(ours.to_dense(), theirs.to_dense())
    assert first.test != second.test


def test_test_rows_are_not_read_before_the_epoch_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    part, fit = Interactions.part, experiment.fit

    def spied(self: Interactions, *names: str) -> Interactions:
        if "test" in names:
            events.append("test rows read")
        return part(self, *names)

    def watched(*arguments: Any) -> Any:
        progress = fit(*arguments)
        events.append("epoch chosen")
        return progress

    monkeypatch.setattr(Interactions, "part", spied)
    monkeypatch.setattr(experiment, "fit", watched)
    experiment.run(settings("freedom", CLEAR, epochs=2), DATA)
    assert events[0] == "epoch chosen" and "test rows read" in events


def test_whatever_trains_and_validates_holds_no_test_row(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Dataset] = []
    assemble, of = experiment.assemble, Evaluator.of

    def assembling(cfg: RunConfig, data: Dataset, *rest: Any) -> Any:
        given.append(data)
        return assemble(cfg, data, *rest)

    def evaluating(data: Dataset, part: str, *rest: Any) -> Evaluator:
        if part == "valid" and len(given) < 2:
            given.append(data)
        return of(data, part, *rest)

    monkeypatch.setattr(experiment, "assemble", assembling)
    monkeypatch.setattr(Evaluator, "of", staticmethod(evaluating))
    experiment.run(settings(epochs=1), DATA)
    assert len(given) == 2
    for data in given:
        assert data.interactions.split is not None and not (data.interactions.split == TEST).any()
        assert len(data.interactions) == int((DATA.interactions.split != TEST).sum())


def test_masks_of_test_items_do_not_reach_validation() -> None:
    """Under both protocols validation ranks all items but those of training."""
    for name in ("default", "mmrec"):
        masks = protocol(name).masks
        assert masks["valid"] == ("train",) and "test" not in masks["test"]


# trials


@pytest.mark.parametrize("model", ["freedom", "ease"])
def test_a_trial_never_reads_test_rows_and_the_run_goes_on_from_it(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Interactions.part

    def closed(self: Interactions, *names: str) -> Interactions:
        assert "test" not in names
        return part(self, *names)

    with monkeypatch.context() as patched:
        patched.setattr(Interactions, "part", closed)
        trial = experiment.explore(settings(model), DATA, tmp_path / "run")
        assert experiment.explore(settings(model), DATA, tmp_path / "run") == trial  # it stands: nothing is trained
    assert "test" not in trial and not run_folder.finished(tmp_path / "run")
    epochs = (tmp_path / "run" / "metrics.jsonl").read_text() if trial["epochs"] else ""
    finished = experiment.run(settings(model), DATA, tmp_path / "run")
    straight = experiment.run(settings(model), DATA)
    assert finished.test == straight.test and finished.valid == straight.valid
    assert trial["valid"] == straight.valid and trial["epochs"] == straight.progress.epoch
    if trial["epochs"]:
        assert (tmp_path / "run" / "metrics.jsonl").read_text() == epochs  # no epoch was trained again


def test_a_trial_is_the_same_with_other_test_rows(tmp_path: Path) -> None:
    one = experiment.explore(settings("vbpr"), DATA, tmp_path / "one")
    other = experiment.explore(settings("vbpr"), altered(DATA), tmp_path / "other")
    assert one["valid"] == other["valid"] and one["best_epoch"] == other["best_epoch"]


def test_a_trial_of_other_settings_or_data_is_refused(tmp_path: Path) -> None:
    experiment.explore(settings(epochs=1), DATA, tmp_path / "run")
    with pytest.raises(PrismError, match="holds a run with other settings"):
        experiment.explore(settings(epochs=2), DATA, tmp_path / "run")
    with pytest.raises(PrismError, match="was trained on data with fingerprint"):
        experiment.explore(settings(epochs=1), altered(DATA), tmp_path / "run")


# what is refused, and when


def parts(data: Dataset, keep: set[str]) -> Dataset:
    split = data.interactions.split
    assert split is not None
    return with_rows(data, data.interactions.take(np.isin(split, [PARTS[name] for name in keep])))


@pytest.mark.parametrize("gone", ["train", "valid", "test"])
def test_an_empty_part_is_refused_before_anything_is_written(gone: str, tmp_path: Path) -> None:
    with pytest.raises(PrismError, match=f"The {gone} part of 'planted' is empty .* make another split"):
        experiment.run(settings(), parts(DATA, set(PARTS) - {gone}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_data_without_split_or_features_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    unsplit = with_rows(DATA, replace(DATA.interactions, split=None))
    with pytest.raises(PrismError, match=r"no split yet.*prismrec data split"):
        experiment.run(settings(), unsplit, tmp_path / "run")
    with pytest.raises(PrismError, match="freedom needs at least 1 modality; the data offers none"):
        experiment.run(settings("freedom"), replace(DATA, modalities={}), tmp_path / "run")
    one = replace(DATA, modalities={"image": DATA.modalities["image"]})
    with pytest.raises(PrismError, match="clear needs at least two"):
        experiment.run(settings("vbpr", CLEAR), one, tmp_path / "run")
    with pytest.raises(PrismError, match="weights names the modality 'sound'"):
        cfg = resolve({"model": {"name": "freedom", "weights": {"sound": 1.0}}, "run": {"threads": 1}})
        experiment.run(cfg, DATA, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    before = snapshot(tmp_path)
    with pytest.raises(PrismError, match="exists and holds no run"):
        experiment.run(settings(), DATA, tmp_path)
    with pytest.raises(PrismError, match="exists and holds no run"):
        experiment.run(settings(), DATA, tmp_path / "notes.txt")
    assert snapshot(tmp_path) == before


def test_a_run_that_fails_late_keeps_what_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(experiment.Index, "save", full)
    with pytest.raises(OSError, match="No space"):
        experiment.run(settings(), DATA, tmp_path / "run")
    monkeypatch.undo()
    assert not run_folder.finished(tmp_path / "run")
    again = experiment.run(settings(), DATA, tmp_path / "run")
    assert again.test == experiment.run(settings(), DATA).test


def test_threads_and_random_state_are_given_back() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    experiment.run(settings(epochs=1), DATA)
    assert torch.get_num_threads() == 2 and torch.equal(torch.random.get_rng_state(), before)


def test_settings_rise_from_defaults_over_files_to_assignments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = {"model": {"name": "freedom", "layers": 4, "prune": 0.5}, "train": {"lr": 0.5}}
    monkeypatch.setattr(
        experiment,
        "published",
        lambda model, plugins, data: ("freedom/x.yaml", published) if model == "freedom" else None,
    )
    cfg, source = experiment.configure(DATA, "freedom")
    assert source == "freedom/x.yaml" and (cfg.model_cfg.model_dump()["layers"], cfg.train.lr) == (4, 0.5)
    cfg, _ = experiment.configure(
        DATA, "freedom", ["clear"], settings={"model.layers": 3}, assignments=["model.layers=2"], seed=8
    )
    assert (cfg.model_cfg.model_dump()["layers"], cfg.run.seed, cfg.label) == (2, 8, "freedom+clear")
    cfg, source = experiment.configure(DATA, "bpr")
    assert source == "defaults"
    file = tmp_path / "x.yaml"
    file.write_text(yaml.safe_dump({"model": {"name": "freedom", "layers": 1}, "plugins": {"clear": {"rank": 5}}}))
    cfg, source = experiment.configure(DATA, file=file)
    assert source == str(file) and cfg.model_cfg.model_dump()["layers"] == 1 and cfg.train.lr == 1e-3
    cfg, _ = experiment.configure(DATA, "vbpr", ["clear"], file)
    assert cfg.label == "vbpr+clear" and cfg.plugins[0][1].model_dump()["rank"] == 5
    for broken in ("model: freedom", "plugins: [clear]"):
        file.write_text(broken)
        with pytest.raises(PrismError, match="expected settings by name"):
            experiment.configure(DATA, "freedom", file=file)


def test_a_config_without_its_data_is_refused(run: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load((run / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**tree, "data": None}))
    with pytest.raises(PrismError, match="says nothing of its data"):
        run_folder.saved_config(tmp_path)
    with pytest.raises(PrismError, match=r"holds no result yet\. Finish it: prismrec train --resume"):
        run_folder.saved_result(tmp_path)


def test_epochs_that_are_not_validated_do_not_count_as_quick_validations() -> None:
    result = experiment.run(settings(every=4, epochs=8), DATA)
    times = [record["seconds_evaluation"] for record in result.progress.history]
    assert [time > 0 for time in times] == [False, False, False, True] * 2
    assert result.summary["seconds_per_evaluation"] == np.median([times[3], times[7]])


def test_models_without_parameters_are_runs_like_others(tmp_path: Path) -> None:
    result = experiment.run(settings("mostpop"), DATA, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "result.json").read_text())
    assert summary["epochs"] == summary["best_epoch"] == 0 and summary["stopped"] == "nothing to train"
    assert summary["seconds_per_epoch"] > 0 and summary["test"] == result.test
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == ""
