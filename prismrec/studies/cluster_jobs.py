"""The same tasks as ``jobs`` does, as tasks of a Ray cluster: it says where each runs, and runs it again where it was lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prismrec.studies.jobs import Outcome, Task, Waiting, said

_RETRIES = 3  # times that a task is begun again whose process or machine was lost


def room(cpus: int) -> int:
    """How many tasks of so many CPUs the cluster that this process is connected to takes at a time."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1) // cpus))


def work_on(tasks: Iterable[Task | None], jobs: int, cpus: int, gpus: float = 0.0) -> Iterator[Outcome]:
    """``jobs.work`` on the cluster that this process is connected to: at most ``jobs`` at a time, each with so many CPUs.

    A task's files must lie where all machines see them. Whoever stops asking cancels what is under way.
    """
    import ray

    do = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=_RETRIES)(said)
    waiting, going = Waiting(iter(tasks), jobs), dict[Any, Task]()
    try:
        while True:
            for task in waiting.taken(lambda: len(going)):
                going[do.remote(task.do, task.arguments)] = task
            if waiting.ended(len(going)):
                return
            (ended,), _ = ray.wait(list(going))
            task = going.pop(ended)
            try:
                yield Outcome(task, *ray.get(ended))
            except ray.exceptions.RayError as error:
                why = (str(error).strip() or type(error).__name__).splitlines()[-1]
                yield Outcome(
                    task, error=f"The cluster could not do it ({_RETRIES} new beginnings where it was lost): {why}"
                )
    finally:
        for reference in going:
            ray.cancel(reference, force=True)
