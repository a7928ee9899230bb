"""Numbers of a run in other people's formats: every epoch once, also after an interruption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from program import call, planted

from prismrec import tracking
from prismrec.config import resolve
from prismrec.errors import PrismError
from prismrec.train import Watcher

QUICK = ["-m", "bpr", "--set", "train.epochs=3", "--set", "model.dim=4", "-q"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted(tmp_path_factory.mktemp("tracking") / "data")


def epochs(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def scalars(run: Path) -> dict[str, dict[int, float]]:
    """Name → epoch → value, as TensorBoard reads them; an epoch written twice is an error."""
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    found: dict[str, dict[int, float]] = {}
    for name in events.Tags()["scalars"]:
        points = events.Scalars(name)
        found[name] = {point.step: point.value for point in points}
        assert len(found[name]) == len(points)
    return found


def test_tensorboard_gets_each_epoch_of_a_run_and_of_one_gone_on_with(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    command = ["train", data, *QUICK, "--set", "train.checkpoint_seconds=0", "--track", "tensorboard"]
    assert call(*command, "-o", tmp_path / "whole").status == 0
    epoch, seen = tracking.Tracking.epoch, []

    def killed(self: tracking.Tracking, record: dict[str, Any], progress: Any) -> None:
        epoch(self, record, progress)
        seen.append(record["epoch"])
        if len(seen) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(tracking.Tracking, "epoch", killed)
    assert call(*command, "-o", tmp_path / "parts").status == 130
    said = call("train", "--resume", tmp_path / "parts", "--track", "tensorboard", "-q")
    assert said.status == 0, said.err
    for run in (tmp_path / "whole", tmp_path / "parts"):
        found, records = scalars(run), epochs(run)
        assert len(records) == 3
        for name, value in (
            ("loss", lambda r: r["loss"]),
            ("loss/rank", lambda r: r["terms"]["rank"]),
            ("valid/recall@20", lambda r: r["valid"]["recall@20"]),
        ):
            assert found[name] == pytest.approx({r["epoch"]: value(r) for r in records}, rel=1e-6)


@pytest.mark.skipif(tracking.find_spec("mlflow") is None, reason="the extra mlflow is not installed")
@pytest.mark.filterwarnings("default")  # of libraries that are not ours
def test_mlflow_gets_each_epoch_and_the_settings_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    said = call("train", data, *QUICK, "--track", "mlflow", "-o", tmp_path / "run")
    assert said.status == 0, said.err
    from mlflow.tracking import MlflowClient

    client, run = MlflowClient(), json.loads((tmp_path / "run" / "mlflow.json").read_text())["run"]
    points = client.get_metric_history(run, "valid/recall_at_20")
    assert {p.step: p.value for p in points} == {r["epoch"]: r["valid"]["recall@20"] for r in epochs(tmp_path / "run")}
    assert client.get_run(run).data.params["model.dim"] == "4" and client.get_run(run).info.status == "FINISHED"


def test_what_is_missing_or_unknown_is_said_before_anything_is_trained(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    said = call("train", data, *QUICK, "--track", "mlflow", "-o", tmp_path / "run")
    assert said.status == 2 and "pip install 'prismrec[mlflow]'" in said.sentence
    said = call("train", data, *QUICK, "--track", "tensorbord", "-o", tmp_path / "run")
    assert said.status == 2 and "tensorboard" in said.sentence
    assert not (tmp_path / "run").exists()
    with (
        pytest.raises(PrismError, match="Nothing is known of tracking"),
        tracking.tracked(["x"], tmp_path, resolve({"model": {"name": "bpr"}})),
    ):
        pass


def test_without_tracking_the_watcher_is_the_one_given(tmp_path: Path) -> None:
    class Mine:
        def step(self, epoch: int, done: int, of: int) -> None: ...

        def epoch(self, record: dict[str, Any], progress: Any) -> None: ...

    mine: Watcher = Mine()
    with tracking.tracked([], tmp_path, resolve({"model": {"name": "bpr"}}), mine) as watcher:
        assert watcher is mine
