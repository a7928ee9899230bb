"""``prismrec train --workers``: the processes that train together are started, watched and started again by a launcher.

On one machine that is torch's elastic launcher, on a cluster Ray Train. Either way each runs the same loop, and where one is
lost, all begin again from the last checkpoint of the run's folder.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prismrec.cluster import cluster
from prismrec.errors import PrismError

_RESTARTS = 3  # times that all begin again from the last checkpoint, since one was lost


def launch(workers: int, arguments: Sequence[str]) -> None:
    """``prismrec`` with these arguments in as many processes of this machine, until all have ended well.

    Where one is lost, all begin again. Raises ``PrismError`` where that was of no use.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(_threads(workers)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=workers,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=_RESTARTS,
        monitor_interval=0.2,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "prismrec", *arguments)
    except SignalException:
        raise KeyboardInterrupt from None
    except ChildFailedError as error:
        raise PrismError(
            f"{len(error.failures)} of {workers} processes failed, after {_RESTARTS} new beginnings; the first said why above. "
            f"Go on with: prismrec {' '.join(arguments)} --workers {workers}"
        ) from None


def launch_on(address: str, workers: int, folder: Path, device: str, threads: int, **how: Any) -> None:
    """The run in ``folder``, begun and not finished, by so many processes of the Ray cluster at ``address``.

    ``threads``: CPUs that each asks for; ``how``: what ``train.train_part`` is told. The folder must be seen by all machines
    under its name: Ray checks that. Raises ``PrismError`` where beginning again was of no use.
    """
    with cluster(address, workers * threads, heard=not how["quiet"]):
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.exceptions import TrainingFailedError

        gpu = device.startswith("cuda") or (device == "auto" and ray.cluster_resources().get("GPU", 0) >= workers)
        trainer = TorchTrainer(
            _part,
            train_loop_config={"folder": str(folder.resolve()), **how},
            scaling_config=ScalingConfig(
                num_workers=workers, use_gpu=gpu, resources_per_worker={"CPU": threads, **({"GPU": 1} if gpu else {})}
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
                f"Go on with: prismrec train --resume {folder} --workers {workers} --ray {address}"
            ) from None


def _part(how: dict[str, Any]) -> None:
    """What each process of the cluster runs."""
    from prismrec.cli.train import train_part

    train_part(Path(how["folder"]), quiet=how["quiet"], track=how["track"])


def _why(error: Exception) -> str:
    """The last line of what Ray tells of a failure; the first process's own words where it has any."""
    failures = getattr(error, "worker_failures", {})
    first = next((failures[rank] for rank in sorted(failures)), error)
    return (str(first).strip().splitlines() or [type(first).__name__])[-1].strip()


def _threads(workers: int) -> int:
    from prismrec.machine import cores

    return max(1, cores() // workers)
