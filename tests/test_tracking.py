"""Numbers of a run in other people's formats: every epoch once, also after an interruption."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
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


class Server:
    """MLflow as far as a run is written to it, which dies before its ``last`` call."""

    def __init__(self, last: int = 1000) -> None:
        self.left, self.params, self.points = last, dict[str, Any](), list[Any]()
        self.runs: list[str] = []

    def _call(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="1")

    def create_run(self, experiment: str, run_name: str) -> Any:
        self.runs.append(run_name)
        return SimpleNamespace(info=SimpleNamespace(run_id=f"r{len(self.runs)}"))

    def update_run(self, run: str, status: str) -> None: ...

    def log_param(self, run: str, key: str, value: Any) -> None:
        self._call()
        assert self.params.setdefault(key, value) == value

    def log_batch(self, run: str, metrics: list[Any]) -> None:
        self._call()
        self.points += metrics

    def get_metric_history(self, run: str, name: str) -> list[Any]:
        return [SimpleNamespace(step=step) for key, _, _, step in self.points if key == name]


@pytest.mark.parametrize("died", [1, 5, 10_000])
def test_mlflow_killed_at_any_call_has_all_settings_and_each_number_once(
    died: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg, server = resolve({"model": {"name": "bpr"}}), Server(died)
    entities = SimpleNamespace(Metric=lambda *values: values)
    for name, module in {"mlflow": SimpleNamespace(), "mlflow.entities": entities,
                         "mlflow.tracking": SimpleNamespace(MlflowClient=lambda: server)}.items():  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    numbers = {"loss": 1.0, "valid/recall@20": 0.5}
    try:
        writer = tracking.MLflow(tmp_path, cfg)
        server.left = min(server.left, 1)
        for epoch in (1, 2):
            writer.write(epoch, numbers)
        raise AssertionError("it was not killed")
    except KeyboardInterrupt:
        server.left = 1000
    writer = tracking.MLflow(tmp_path, cfg)
    for epoch in (1, 2):
        writer.write(epoch, numbers)
    assert len(server.runs) == 1 and set(server.params) == {key for key, _ in tracking.flat(cfg.tree())}
    written = [(name, epoch) for name, _, _, epoch in server.points]
    assert sorted(written) == [(name, epoch) for name in ("loss", "valid/recall_at_20") for epoch in (1, 2)]


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
