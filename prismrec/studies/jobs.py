"""Many runs on one machine: processes that train, one task at a time each.

Tasks are asked for when a process is free, so that what comes next may hang on what came before. Ctrl-C, or any other way
out, kills the processes at once: a run that was killed is gone on with by the same command. A process whose parent is gone
leaves, so that it does not hold its run's folder against the next command.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from prismrec.errors import PrismError

_SPAWN = get_context("spawn")  # a forked copy of torch's threads hangs


@dataclass(frozen=True)
class Task:
    """``do(*arguments)`` in a process of its own; both must be picklable: a function of a module, plain arguments.

    ``name``: what a person is told of it. ``fresh``: in a process that did nothing before, so that its peak of memory is
    its own.
    """

    name: str
    do: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    fresh: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a task returned, or the sentence of its ``error``; ``trace`` says where, unless it was bad input."""

    task: Task
    value: Any = None
    error: str = ""
    trace: str = ""


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: connection.Connection
    task: Task | None = None


Work = Callable[[Iterable["Task | None"], int], Iterator[Outcome]]
"""Who does tasks: ``work``, or its like elsewhere."""


@dataclass
class Waiting:
    """Tasks that are asked for one by one, as long as fewer than ``jobs`` of them are being done."""

    tasks: Iterator[Task | None]
    jobs: int
    over: bool = False

    def taken(self, doing: Callable[[], int]) -> Iterator[Task]:
        """Those to begin now, where ``doing`` says how many are being done."""
        while not self.over and doing() < self.jobs:
            try:
                task = next(self.tasks)
            except StopIteration:
                self.over = True
                return
            if task is None:  # nothing now: ask again after the next outcome
                return
            yield task

    def ended(self, doing: int) -> bool:
        """Whether nothing is left to wait for, with ``doing`` tasks being done."""
        if not doing and not self.over:
            raise PrismError("A study waits for the outcome of a task, and none is being done.")
        return not doing


def work(tasks: Iterable[Task | None], jobs: int) -> Iterator[Outcome]:
    """Outcomes in the order in which tasks end, of at most ``jobs`` ≥ 1 processes at a time.

    ``tasks`` is asked for the next one only when a process is free, after the caller has seen the outcomes so far; it may
    give ``None`` as "nothing now, ask again after the next outcome". A task that fails, or whose process is killed, is an
    outcome with an ``error``; the others go on.
    """
    waiting = Waiting(iter(tasks), jobs)
    workers: list[_Worker] = []
    try:
        while True:
            for task in waiting.taken(lambda: sum(worker.task is not None for worker in workers)):
                _give(workers, task)
            busy = [worker for worker in workers if worker.task is not None]
            if waiting.ended(len(busy)):
                return
            ready = set(connection.wait([end for worker in busy for end in (worker.pipe, worker.process.sentinel)]))
            for worker in busy:
                if worker.pipe in ready or worker.process.sentinel in ready:
                    yield _take(workers, worker)
    finally:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join()
            worker.pipe.close()


def _give(workers: list[_Worker], task: Task) -> None:
    """Hand a task to an idle process that suits it, or to a new one."""
    idle = [worker for worker in workers if worker.task is None]
    for worker in idle if task.fresh else []:
        _dismiss(workers, worker)
    worker = idle[0] if idle and not task.fresh else _hire(workers)
    worker.task = task
    worker.pipe.send((task.do, task.arguments))


def _hire(workers: list[_Worker]) -> _Worker:
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_serve, args=(theirs,), daemon=True)
    with _deaf():
        process.start()
    theirs.close()
    worker = _Worker(process, ours)
    workers.append(worker)
    return worker


def _dismiss(workers: list[_Worker], worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.join()
    workers.remove(worker)


@contextmanager
def _deaf() -> Iterator[None]:
    """A process started within does not hear Ctrl-C: its parent does, and kills it. Only the main thread can arrange it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _take(workers: list[_Worker], worker: _Worker) -> Outcome:
    """What a process has to say: a value, an error, or nothing because it was killed."""
    task = worker.task
    assert task is not None
    try:
        value, error, trace = worker.pipe.recv()
    except EOFError:
        worker.process.join()
        workers.remove(worker)
        code = worker.process.exitcode or 0
        why = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
        hint = " (the system ends processes so when memory runs out; take fewer --jobs)" if code == -9 else ""
        return Outcome(task, error=f"Its process ended by {why}{hint}.")
    worker.task = None
    if task.fresh:
        _dismiss(workers, worker)
    return Outcome(task, value, error, trace)


def _serve(pipe: connection.Connection) -> None:
    """In a process: do what is asked until nobody is there to ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    while True:
        try:
            do, arguments = pipe.recv()
        except EOFError:
            return
        pipe.send(said(do, arguments))


def said(do: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, str, str]:
    """What ``do(*arguments)`` came to: its value, or the sentence of its error and where it was, as ``Outcome`` has them."""
    try:
        return do(*arguments), "", ""
    except PrismError as error:
        return None, str(error), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {error}", traceback.format_exc()


def _leave_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def trial(config: dict[str, Any], data: str, folder: Path) -> dict[str, Any]:
    """A task: train and validate, the test part closed; returns trial.json."""
    from prismrec.config import resolve
    from prismrec.data.sources import read
    from prismrec.experiment import explore

    return explore(resolve(config), read(data), folder, None, data)


def final(config: dict[str, Any], data: str, folder: Path) -> dict[str, Any]:
    """A task: a run, or the rest of one that a trial began, with its test part; returns result.json."""
    from prismrec.config import resolve
    from prismrec.data.sources import read
    from prismrec.experiment import run
    from prismrec.run_folder import finished, saved_result

    return saved_result(folder) if finished(folder) else run(resolve(config), read(data), folder, None, data).summary
