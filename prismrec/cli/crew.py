"""``prismrec train --workers``: the processes that train together are started, watched and started again by a launcher.

On one machine that is torch's elastic launcher, on a cluster Ray Train. Either way each runs the same loop, and where one is
lost, all begin again from the last checkpoint of the run's folder.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prismrec.cluster import cluster
from prismrec.errors import PrismError

if TYPE_CHECKING:
    from prismrec.config import RunSettings

_RESTARTS = 3  # times that all begin again from the last checkpoint, since one was lost


@dataclass(frozen=True)
class Many:
    """How many processes train together, where (a Ray cluster's address; "": here), and whether they spread the tables."""

    workers: int = 1
    ray: str = ""
    shard: bool = False

    def __bool__(self) -> bool:
        return self.workers > 1 or bool(self.ray)

    def again(self, folder: Path) -> str:
        """The command that goes on with the run in ``folder``."""
        words = [f"--workers {self.workers}"] if self.workers > 1 else []
        words += [f"--ray {self.ray}"] if self.ray else []
        return " ".join([f"prismrec train --resume {folder}", *words, *(["--shard"] if self.shard else [])])


def launch(many: Many, folder: Path, arguments: Sequence[str]) -> None:
    """The run in ``folder``, begun and not finished, in so many processes of this machine, until all have ended well.

    ``arguments``: more for each process's command line. Where one is lost, all begin again. Raises ``PrismError`` where that
    was of no use.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(_threads(many.workers)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=many.workers,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=_RESTARTS,
        monitor_interval=0.2,
    )
    try:
        command = ["train", "--resume", str(folder), *(["--shard"] if many.shard else []), *arguments]
        elastic_launch(config, sys.executable)("-m", "prismrec", *command)
    except SignalException:
        raise KeyboardInterrupt from None
    except ChildFailedError as error:
        raise PrismError(
            f"{len(error.failures)} of {many.workers} processes failed, after {_RESTARTS} new beginnings; the first said why "
            f"above. Go on with: {many.again(folder)}"
        ) from None


def launch_on(many: Many, folder: Path, run: RunSettings, **how: Any) -> None:
    """The same by so many processes of a Ray cluster, each of ``run.threads`` CPUs, and a GPU where the device is one.

    ``how``: what ``train.train_part`` is told. The folder must be seen by all machines under its name: Ray checks that.
    """
    threads = run.threads or 1
    with cluster(many.ray, many.workers * threads, heard=not how["quiet"]):
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.exceptions import TrainingFailedError

        enough = ray.cluster_resources().get("GPU", 0) >= many.workers
        gpu = run.device.startswith("cuda") or (run.device == "auto" and enough)
        trainer = TorchTrainer(
            _part,
            train_loop_config={"folder": folder.resolve(), "shard": many.shard, **how},
            scaling_config=ScalingConfig(
                num_workers=many.workers,
                use_gpu=gpu,
                resources_per_worker={"CPU": threads, **({"GPU": 1} if gpu else {})},
            ),
            run_config=RunConfig(
                name="ray", storage_path=str(folder.resolve()), failure_config=FailureConfig(max_failures=_RESTARTS)
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            raise PrismError(
                f"Training on the cluster failed, after {_RESTARTS} new beginnings: {_why(error)} "
                f"Go on with: {many.again(folder)}"
            ) from None


def _part(how: dict[str, Any]) -> None:
    """What each process of the cluster runs."""
    from prismrec.cli.train import train_part

    train_part(**how)


def _why(error: Exception) -> str:
    """The last line of what Ray tells of a failure; the first process's own words where it has any."""
    failures = getattr(error, "worker_failures", {})
    first = next((failures[rank] for rank in sorted(failures)), error)
    return (str(first).strip().splitlines() or [type(first).__name__])[-1].strip()


def _threads(workers: int) -> int:
    from prismrec.machine import cores

    return max(1, cores() // workers)
