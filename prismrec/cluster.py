"""A connection to a Ray cluster, for whatever is spread over machines: encoding, training, trials of a search.

Ray schedules, restarts and carries; folders of data and of runs must be seen by all machines under the same name.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prismrec.errors import PrismError

LOCAL = "local"
HELP = "the address of a Ray cluster, auto, or local for one of this machine"


@contextmanager
def cluster(address: str, cpus: int, heard: bool = False) -> Iterator[None]:
    """A connection to the cluster at ``address`` (``auto``: the one that the environment names), or to a new one of this
    machine with so many CPUs (``local``). A connection that exists already is used, and left.

    ``heard``: what processes of the cluster print is printed here too.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError:
        raise PrismError('A cluster needs Ray; run: pip install "prismrec[ray]".') from None
    if ray.is_initialized():
        yield
        return
    where: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False} if address == LOCAL else {"address": address}
    quiet = ray.LoggingConfig(log_level="ERROR")  # of what Ray has to say of itself
    try:
        ray.init(**where, log_to_driver=heard, logging_level=logging.ERROR, logging_config=quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200].rstrip(".")
        raise PrismError(
            f"There is no Ray cluster at {address!r} ({said}); give its address, auto, or local for one of this machine."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()
