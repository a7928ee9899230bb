"""train → evaluate → recommend, as scripts call them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from program import call, dataset, planted, snapshot

from prismrec.data import store
from prismrec.evaluate import LIST_METRICS, METRICS
from prismrec.models.bpr import BPR

QUICK = ["--set", "train.epochs=3", "--threads", "1"]
MODELS = {
    "mostpop": [], "itemknn": [], "ease": [], "bpr": ["--set", "model.dim=8"], "lightgcn": ["--set", "model.dim=8"],
    "vbpr": ["--set", "model.dim=8"],
    "freedom": ["--set", "model.dim=8", "--plugin", "clear", "--set", "clear.rank=4"],
}  # fmt: skip
DATA = dataset()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted(tmp_path_factory.mktemp("data") / "planted")


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    for model, settings in MODELS.items():
        said = call(
            "train", data, "--model", model, *settings, *QUICK, "--seed", "4", "--out", folder / model, "--quiet"
        )
        assert said.status == 0 and said.err == "", said.err
    return {model: folder / model for model in MODELS}


def result(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "result.json").read_text())
    return content


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("part", ["valid", "test"])
def test_evaluation_agrees_with_the_result_to_the_last_bit(runs: dict[str, Path], model: str, part: str) -> None:
    said = call("evaluate", runs[model], "--part", part, "--format", "json")
    assert said.status == 0 and said.err == ""
    answer = json.loads(said.out)
    assert answer["part"] == part and answer["protocol"] == "default"
    assert answer["metrics"] == result(runs[model])[part]


@pytest.mark.parametrize("model", MODELS)
def test_result_json_has_what_scripts_rely_on(runs: dict[str, Path], data: Path, model: str) -> None:
    content = result(runs[model])
    for key in ("valid", "test", "epochs", "best_epoch", "seconds_per_epoch", "seconds_per_evaluation", "peak_memory_mb",
                "config", "data_fingerprint"):  # fmt: skip
        assert key in content
    assert set(content["test"]) == set(content["valid"]) == {*METRICS, *LIST_METRICS}
    assert content["data_fingerprint"] == store.load(data).fingerprint
    assert content["config"]["model"]["name"] == model and content["config"]["run"]["seed"] == 4
    assert content["epochs"] == (0 if model in ("mostpop", "itemknn", "ease") else 3)


def test_training_tells_what_it_does_on_stderr_and_what_came_of_it_on_stdout(data: Path, tmp_path: Path) -> None:
    said = call("train", data, "-m", "vbpr", "-p", "clear", "--set", "model.dim=8", *QUICK, "-o", tmp_path / "run")
    assert said.status == 0
    for text in ("vbpr+clear on planted: 60 users, 40 items", "modalities: image (64), text (48)", "settings: defaults",
                 "building vbpr+clear", "epoch    3", "recall@20"):  # fmt: skip
        assert text in said.err
    assert (
        "best epoch" in said.out and "result.json" in said.out and f"prismrec recommend {tmp_path / 'run'}" in said.out
    )
    test = result(tmp_path / "run")["test"]
    row = next(line.split() for line in said.out.splitlines() if line.split()[:1] == ["ndcg"])
    assert row[-4:] == [f"{test[f'ndcg@{k}']:.4f}" for k in (5, 10, 20, 50)]
    table = [line for line in said.out.splitlines() if not line.startswith(("look at", "next", "best"))]
    assert max(map(len, table)) <= 80 and "…" not in "".join(table)


def test_quiet_prints_the_result_only(data: Path, tmp_path: Path) -> None:
    said = call("train", data, "-m", "mostpop", "--threads", "1", "-o", tmp_path / "run", "-q")
    assert said.status == 0 and said.err == "" and "recall" in said.out and "next:" not in said.out


def test_a_run_finds_a_folder_of_its_own(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert call("train", data, "-m", "mostpop", "-q", "--seed", "7", "--threads", "1").status == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["planted-mostpop-seed7", "planted-mostpop-seed7-2"]
    said = call("train", data, "-m", "mostpop", "--out", "runs/planted-mostpop-seed7")
    assert said.status == 2 and "already holds a run" in said.sentence and "prismrec train --resume" in said.sentence


def test_settings_come_from_a_file_and_from_the_line(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("model: {name: lightgcn, layers: 1, dim: 4}\ntrain: {lr: 1e-2, epochs: 2}\nrun: {threads: 1}\n")
    out = tmp_path / "run"
    said = call("train", data, "--config", file, "--set", "model.layers=2", "--protocol", "mmrec", "--seed", 11,
                "--device", "cpu", "--out", out)  # fmt: skip
    assert said.status == 0 and f"settings: {file} · protocol mmrec · seed 11" in said.err
    config = result(out)["config"]
    assert (config["model"]["layers"], config["train"]["lr"], config["run"]["seed"]) == (2, 0.01, 11)
    answer = json.loads(call("evaluate", out, "--format", "json").out)
    assert answer["protocol"] == "mmrec" and answer["metrics"] == result(out)["test"]
    other = json.loads(call("evaluate", out, "--protocol", "default", "--format", "json").out)
    assert other["protocol"] == "default" and other["metrics"]["recall@5"] >= answer["metrics"]["recall@5"]


def test_ignored_weights_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.ones(len(DATA.interactions), np.float32)
    store.save(replace(DATA, interactions=replace(DATA.interactions, weight=weight)), tmp_path / "weighted")
    command = ["train", tmp_path / "weighted", "-m", "bpr", *QUICK, "-o"]
    assert "ignores the interaction weights" not in call(*command, tmp_path / "a").err
    monkeypatch.setattr(BPR, "uses_weights", False)
    assert "bpr ignores the interaction weights" in call(*command, tmp_path / "b").err


def test_an_interrupt_says_how_to_go_on(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prismrec import experiment

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "fit", interrupted)
    said = call("train", data, "-m", "bpr", *QUICK, "-o", tmp_path / "run")
    assert (
        said.status == 130 and f"Interrupted. Go on with: prismrec train --resume {tmp_path / 'run'}" in said.sentence
    )
    monkeypatch.undo()
    assert call("train", "--resume", tmp_path / "run", "-q").status == 0


def test_evaluation_of_chosen_metrics_in_each_format(runs: dict[str, Path]) -> None:
    run = runs["bpr"]
    chosen = ["--metric", "recall@20", "--metric", "ndcg@3"]
    text = call("evaluate", run, *chosen).out
    assert "test part, protocol default" in text and "@3" in text and "map" not in text
    values = json.loads(call("evaluate", run, *chosen, "--format", "json").out)["metrics"]
    assert list(values) == ["recall@20", "ndcg@3"]
    rows = list(csv.DictReader(io.StringIO(call("evaluate", run, *chosen, "-f", "csv").out)))
    assert {row["metric"]: float(row["value"]) for row in rows} == values


def test_somebody_elses_embeddings_under_the_same_rules(runs: dict[str, Path], data: Path, tmp_path: Path) -> None:
    from prismrec.run_folder import saved_reps

    reps = saved_reps(runs["bpr"])
    np.savez(tmp_path / "theirs.npz", user=reps.user.numpy(), item=reps.item.values.numpy())
    said = call("evaluate", "--scores", tmp_path / "theirs.npz", "--data", data, "--format", "json")
    assert json.loads(said.out)["metrics"] == result(runs["bpr"])["test"]


# lists


def test_lists_in_each_format_are_the_same(runs: dict[str, Path]) -> None:
    asked = ["recommend", runs["freedom"], "--user", "u00003", "-u", "u00001", "--top", "4"]
    rows = json.loads(call(*asked, "--format", "json").out)
    assert [row["user"] for row in rows] == ["u00003"] * 4 + ["u00001"] * 4 and [row["rank"] for row in rows] == [
        1,
        2,
        3,
        4,
    ] * 2
    table = list(csv.DictReader(io.StringIO(call(*asked, "--format", "csv").out)))
    assert [(row["user"], row["item"], row["title"]) for row in table] == [
        (r["user"], r["item"], r["title"]) for r in rows
    ]
    text = call(*asked).out
    for row in rows:
        assert row["item"] in text
    seen = set(DATA.items.decode(DATA.interactions.item[DATA.interactions.user == 3]).to_list())
    assert not seen & {row["item"] for row in rows[:4]}


@pytest.mark.parametrize("suffix", ["parquet", "csv", "json"])
def test_everybodys_lists_go_to_a_file(runs: dict[str, Path], tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"recs.{suffix}"
    said = call("recommend", runs["itemknn"], "--all", "--top", "3", "-o", out)
    assert said.status == 0 and said.out == "" and "180 rows for 60 users" in said.sentence
    table = {"parquet": pl.read_parquet, "csv": pl.read_csv, "json": pl.read_json}[suffix](out)
    assert table["user"].unique(maintain_order=True).to_list() == DATA.users.external.to_list()
    assert table.group_by("user").len()["len"].unique().to_list() == [3]
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_all_can_be_printed_for_programs(runs: dict[str, Path]) -> None:
    rows = call("recommend", runs["mostpop"], "--all", "--top", "2", "--format", "csv").out.splitlines()
    assert len(rows) == 1 + 2 * 60


def test_one_modality_and_seen_items(runs: dict[str, Path]) -> None:
    both, image = (
        json.loads(call("recommend", runs["freedom"], "-u", "u00003", "-f", "json", *more).out)
        for more in ([], ["--modality", "image"])
    )
    assert [row["item"] for row in both] != [row["item"] for row in image]
    everything = call("recommend", runs["freedom"], "-u", "u00003", "-k", "40", "--include-seen", "-f", "csv").out
    assert len(everything.splitlines()) == 41


def test_lists_for_somebody_of_whom_items_are_known(runs: dict[str, Path]) -> None:
    asked = ["recommend", runs["freedom"], "--for", "i00003", "--for", "i00017", "-k", "4"]
    rows = json.loads(call(*asked, "-f", "json").out)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4] and "user" not in rows[0]
    assert not {"i00003", "i00017"} & {row["item"] for row in rows}
    shown = call(*asked)
    assert shown.status == 0 and rows[0]["item"] in shown.out
    assert "or everybody with --all" in call(*asked, "--user", "u00001").sentence


def test_groups_of_items_and_users_are_evaluated_apart(runs: dict[str, Path]) -> None:
    asked = ["evaluate", runs["freedom"], "--groups", "--metric", "recall@10"]
    found = json.loads(call(*asked, "--format", "json").out)
    assert {"activity", "popularity"} <= found["groups"].keys()
    for groups in found["groups"].values():
        assert len(groups) > 1 and all({"users", "recall@10"} <= means.keys() for means in groups.values())
    parts = found["groups"]["activity"].values()
    whole = sum(means["users"] * means["recall@10"] for means in parts) / sum(means["users"] for means in parts)
    assert whole == pytest.approx(found["metrics"]["recall@10"])
    assert "activity" in call(*asked).out
    lines = call(*asked, "--format", "csv").out.splitlines()
    assert any(line.startswith("activity: ") and ": recall@10," in line for line in lines)
    assert "name a run folder" in call("evaluate", "--scores", "x.npz", "--data", "y", "--groups").sentence


def test_titles_are_shown_as_they_are(tmp_path: Path) -> None:
    """Square brackets are markup to the library that draws tables; a title must survive it."""
    titles = [f"[bold]Kettle {i}[/] [/nothing]" for i in range(DATA.n_items)]
    table = DATA.item_table.with_columns(title=pl.Series(titles))
    store.save(replace(DATA, item_table=table), tmp_path / "data")
    assert call("train", tmp_path / "data", "-m", "mostpop", "-q", "--threads", "1", "-o", tmp_path / "run").status == 0
    said = call("recommend", tmp_path / "run", "-u", "u00000", "-k", "1")
    assert said.status == 0 and "[bold]Kettle" in said.out and "[/nothing]" in said.out


def test_using_a_run_leaves_it_as_it_was(runs: dict[str, Path]) -> None:
    before = snapshot(runs["vbpr"])
    call("evaluate", runs["vbpr"])
    call("recommend", runs["vbpr"], "--user", "u00003")
    call("train", "--resume", runs["vbpr"])
    assert snapshot(runs["vbpr"]) == before


def test_real_data_are_read_as_they_are(shared_data: Path, tmp_path: Path) -> None:
    said = call(
        "train",
        shared_data / "tiktok",
        "-m",
        "vbpr",
        "--set",
        "train.epochs=1",
        "--threads",
        "1",
        "-o",
        tmp_path / "run",
    )
    assert said.status == 0, said.err
    assert "9,308 users, 6,710 items" in said.err and "audio (128), image (128)" in said.err
    answer = json.loads(call("evaluate", tmp_path / "run", "--format", "json").out)
    assert answer["metrics"] == result(tmp_path / "run")["test"]
    rows = json.loads(call("recommend", tmp_path / "run", "--user", "17", "-f", "json").out)
    assert len(rows) == 10 and rows[0]["user"] == 17
