"""A study: arms, each searched on validation and then trained with several seeds; a folder that is gone on with.

An arm's search sees validation alone. Its best settings are then trained with every seed in a folder each, and those runs,
and nothing else, open the test part, where the study asks for it at all. Arms wait for nobody: while one is still searched,
another one's runs are trained, and all cores are busy to the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prismrec.config import RunConfig, resolve
from prismrec.errors import PrismError
from prismrec.run_folder import finished, saved_result, saved_trial, trial_stands
from prismrec.runs import Run
from prismrec.studies.jobs import Outcome, Task, final, trial, work
from prismrec.studies.question import ArmOf, Question
from prismrec.studies.search import Asked, Search, Trial


@dataclass
class _Line:
    """How far an arm is."""

    name: str
    arm: ArmOf
    search: Search | None
    left: list[int] = field(default_factory=list)  # seeds not yet given to a process
    running: int = 0
    done: int = 0
    searching: bool = False
    error: str = ""

    @property
    def open(self) -> bool:
        """Whether there is something left to begin."""
        return not self.error and (self.searching or bool(self.left))


@dataclass(frozen=True)
class Event:
    """Something ended: a trial of an arm's search, or the run with a seed. ``error`` says why it failed."""

    arm: str
    what: str
    value: float | None
    seconds: float | None
    error: str = ""


class Study:
    """A question, its folder, and how far it is. The folder is to be held (``io.locked``) by whoever works on it."""

    def __init__(self, question: Question, folder: Path, jobs: int = 1) -> None:
        self.question, self.folder, self.jobs = question, folder, jobs
        self.lines = [self._line(name, arm) for name, arm in question.arms.items()]
        self.owners: dict[int, tuple[_Line, Task]] = {}

    def _line(self, name: str, arm: ArmOf) -> _Line:
        search = None
        if arm.space and self.question.trials:
            asked = Asked(
                data=self.question.data,
                config=arm.config,
                space=arm.space,
                sampler=self.question.sampler,
                pruner=self.question.pruner,
                trials=self.question.trials,
                home=self.question.home,
            )
            search = Search(asked, self.folder / "searches" / name, self.jobs)
        left = [seed for seed in arm.seeds if not self._stands(name, seed)]
        line = _Line(name, arm, search, left, searching=search is not None)
        line.done = len(arm.seeds) - len(left)
        if search is not None:
            line.done += sum(trial.state != "running" for trial in search.trials())
        return line

    def run_folder(self, arm: str, seed: int) -> Path:
        """Where the run of an arm with a seed is."""
        return self.folder / "runs" / arm / f"seed-{seed}"

    def _stands(self, arm: str, seed: int) -> bool:
        folder = self.run_folder(arm, seed)
        return finished(folder) if self.question.part == "test" else trial_stands(folder)

    @property
    def total(self) -> int:
        """Trials and runs in all, as far as is known."""
        trials = [line.search.limit or 0 for line in self.lines if line.search is not None]
        return sum(trials) + sum(len(line.arm.seeds) for line in self.lines)

    @property
    def done(self) -> int:
        """Trials and runs that have ended, in earlier calls too."""
        return sum(line.done for line in self.lines)

    @property
    def failures(self) -> dict[str, str]:
        """Arm → why it came to nothing."""
        return {line.name: line.error for line in self.lines if line.error}

    def work(self) -> Iterator[Event]:
        """Do all that is left; each trial and run as it ends."""
        for outcome in work(self._tasks(), self.jobs):
            yield self._take(outcome)

    def _tasks(self) -> Iterator[Task | None]:
        """The next task of the arm that has the fewest under way; None while all that is left waits for what is."""
        while waiting := [line for line in self.lines if line.open]:
            waiting.sort(key=lambda line: (line.running, line.done))
            task = next((task for line in waiting if (task := self._begun(line)) is not None), None)
            if task is not None or any(line.running for line in self.lines):
                yield task
            # else searches have ended without a task: their runs come next

    def _begun(self, line: _Line) -> Task | None:
        """The next task of an arm, counted as under way."""
        task = self._next(line)
        if task is not None:
            line.running += 1
            self.owners[id(task)] = line, task
        return task

    def _next(self, line: _Line) -> Task | None:
        if line.searching and line.search is not None:
            task = line.search.next()
            if task is not None:
                return task
            if line.running:
                return None
            line.searching = False
            if line.search.best() is None:
                line.error = "No trial of its search succeeded."
                return None
        if not line.left:
            return None
        seed = line.left.pop(0)
        cfg = self.config(line.name, seed)
        do = final if self.question.part == "test" else trial
        arguments = cfg.tree(), self.question.data.path, self.run_folder(line.name, seed)
        return Task(f"seed {seed}", do, arguments, fresh=True)  # its peak of memory is a figure of the table

    def config(self, arm: str, seed: int) -> RunConfig:
        """The settings of an arm's run: the best of its search, or those it started from."""
        line = next(line for line in self.lines if line.name == arm)
        cfg = resolve(line.arm.config)
        if line.search is not None:
            best = line.search.best()
            assert best is not None
            cfg = line.search.config_of(best)
        return replace(cfg, run=cfg.run.model_copy(update={"seed": seed}))

    def _take(self, outcome: Outcome) -> Event:
        line, task = self.owners.pop(id(outcome.task))
        line.running -= 1
        line.done += 1
        if task.do not in (final, trial):
            assert line.search is not None
            try:
                ended: Trial = line.search.take(outcome)
            except PrismError as error:
                line.error, line.searching = str(error), False
                return Event(line.name, task.name, None, None, line.error)
            what = f"trial {ended.number}" + (" (cut short)" if ended.state == "pruned" else "")
            return Event(line.name, what, ended.value, ended.seconds, ended.error)
        if outcome.error:
            line.error = f"{task.name}: {outcome.error}"
            return Event(line.name, task.name, None, None, outcome.error)
        said = outcome.value
        value = said[self.question.part][said["config"]["train"]["metric"]]
        return Event(line.name, task.name, value, said["seconds"])

    def results(self) -> dict[str, list[dict[str, Any]]]:
        """Arm → result.json (or, judged on validation, trial.json) of each seed that stands, in order."""
        read = saved_result if self.question.part == "test" else saved_trial
        found = {
            name: [read(self.run_folder(name, seed)) for seed in arm.seeds if self._stands(name, seed)]
            for name, arm in self.question.arms.items()
        }
        return {name: results for name, results in found.items() if results}

    def runs(self) -> dict[str, list[Run]]:
        """Arm → its finished runs, in order of seed; arms with all of their seeds only."""
        found = {}
        for name, arm in self.question.arms.items():
            if all(finished(self.run_folder(name, seed)) for seed in arm.seeds):
                found[name] = [Run.read(self.run_folder(name, seed)) for seed in arm.seeds]
        return found

    @property
    def hosts(self) -> dict[str, str]:
        """Arm → the arm that it is compared with, where one is named."""
        return {name: arm.host for name, arm in self.question.arms.items() if arm.host}
