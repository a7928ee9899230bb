"""``prismrec train --workers``: the processes that train together are started, watched and started again by a launcher."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Sequence

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


def _threads(workers: int) -> int:
    from prismrec.machine import cores

    return max(1, cores() // workers)
