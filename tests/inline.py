"""A stand-in for the processes of a study: its tasks are done here, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prismrec.errors import PrismError
from prismrec.studies.jobs import Outcome, Task, final, trial


class Here:
    """Does tasks in this process, notes which, and stops after ``most``, as a kill would."""

    def __init__(self, most: int = 1000, before: Callable[[Task], None] | None = None) -> None:
        self.done: list[tuple[str, Any]] = []
        self.most, self.before = most, before

    def __call__(self, tasks: Iterable[Task | None], jobs: int) -> Iterator[Outcome]:
        for task in tasks:
            assert task is not None  # one after the other: nothing to wait for
            if len(self.done) >= self.most:
                raise KeyboardInterrupt
            if self.before is not None:
                self.before(task)
            self.done.append((task.name, task.arguments[-1] if task.do in (final, trial) else task.arguments[0].folder))
            try:
                yield Outcome(task, task.do(*task.arguments))
            except PrismError as error:
                yield Outcome(task, error=str(error))


def refuse(sentence: str) -> None:
    """A task that is given bad input."""
    raise PrismError(sentence)
