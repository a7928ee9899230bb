"""A search: many trials of one arm, each with other settings, and the best of them by validation. Optuna keeps the record.

What chooses sees validation alone: a trial is ``experiment.explore``, which leaves the test part closed. A search may be
stopped at any time; one asked the same in the same folder goes on with it, and trains on what had begun where it stood.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field

from prismrec.config import RunConfig, resolve
from prismrec.data.dataset import Dataset
from prismrec.errors import PrismError
from prismrec.io import disk_full, read_json, remove_parts, write_json, write_text
from prismrec.machine import available_cores
from prismrec.models import Strict
from prismrec.run_folder import finished
from prismrec.space import Space
from prismrec.studies import search_sampling as sampling
from prismrec.studies.jobs import Outcome, Task, Work, work
from prismrec.studies.search_sampling import PrunerName, SamplerName
from prismrec.studies.search_space import apply, check_space, parse_space, standing, written
from prismrec.studies.search_trial import Order, attempt

State = Literal["complete", "pruned", "failed", "running"]
_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}
_BEGUN, _ENDED = "begun", "ended"  # what Optuna keeps of a trial for us: who does it, what came of it
_HOPELESS = 3  # trials that fail before any succeeds


class DataOf(Strict):
    """The data of a study: where it lies, and what it is."""

    path: str
    name: str
    fingerprint: str

    @staticmethod
    def of(dataset: Dataset, path: str | Path) -> DataOf:
        """A data set that was read from ``path``."""
        return DataOf(path=str(Path(path).resolve()), name=dataset.name, fingerprint=dataset.fingerprint)


class Asked(Strict):
    """What is searched, where, how, and for how long. All but the last four make the ``question``.

    ``config``: the settings that trials start from; ``space``: setting → values or range, as in a file. ``trials`` in all,
    of all machines that share the study; ``hours`` of this folder's; 0: no such limit.
    """

    data: DataOf
    config: dict[str, Any]
    space: dict[str, Any]
    sampler: SamplerName = "tpe"
    pruner: PrunerName = "median"
    trials: int = Field(0, ge=0)
    hours: float = Field(0.0, ge=0)
    storage: str = ""
    home: str = Field(default_factory=lambda: uuid.uuid4().hex)

    @staticmethod
    def of(cfg: RunConfig, dataset: Dataset, data: str, space: Space, where: str = "space", **rest: Any) -> Asked:
        """The question for a configuration and a space, checked; ``data``: where the data set was read from.

        ``where``: what to call the space if it is refused.
        """
        check_space(space, cfg, where)
        asked = Asked(data=DataOf.of(dataset, data), config=cfg.tree(), space=written(space), **rest)
        if asked.sampler == "grid":
            sampling.grid_size(space)
        return asked

    @property
    def cfg(self) -> RunConfig:
        """The settings that trials start from."""
        return resolve(self.config)

    @property
    def question(self) -> dict[str, Any]:
        """What makes two searches the same one; not the budget, nor what a machine has to do with it."""
        run = {key: value for key, value in self.config["run"].items() if key not in ("threads", "device")}
        return {
            "data": self.data.fingerprint,
            "config": {**self.config, "run": run},
            "space": self.space,
            "sampler": self.sampler,
            "pruner": self.pruner,
        }

    @property
    def name(self) -> str:
        """The name of the study in its storage: the same wherever the same is asked."""
        text = json.dumps(self.question, sort_keys=True)
        return f"{self.data.name} {self.cfg.label} {hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Trial:
    """One trial. ``value``: what the metric reached on validation; None if it failed or has not ended.

    ``here``: whether it was trained in this folder.
    """

    number: int
    state: State
    value: float | None
    settings: Mapping[str, Any]
    epochs: int | None = None
    best_epoch: int | None = None
    seconds: float | None = None
    error: str = ""
    here: bool = True


class Search:
    """One arm's search in a folder: says what to do next, and is told what came of it.

    ``jobs``: trials at a time, which share the cores. ``storage``: URL of a database that several machines share; none: a
    file in the folder, which whoever runs the search is to hold (``io.locked``). The metric that chooses the epoch chooses
    the trial. ``doing``: trials in hand; ``interrupted``: those that were, when a search of this folder was stopped.
    """

    def __init__(self, asked: Asked, folder: Path, jobs: int = 1, storage: str = "") -> None:
        self.asked, self.folder, self.jobs = asked, folder, jobs
        self.cfg = asked.cfg
        self.metric = self.cfg.train.metric
        self.space = parse_space(asked.space, self.cfg, "space")
        self.place = folder / "trials" / self.cfg.label
        self.place.mkdir(parents=True, exist_ok=True)
        remove_parts(self.place)
        self.url = storage or sampling.private(folder)
        self.database = sampling.storage(self.url)
        self.study = optuna.create_study(
            storage=self.database,
            study_name=asked.name,
            direction="maximize",
            load_if_exists=True,
            sampler=sampling.sampler(asked.sampler, self.space, self.cfg.run.seed, standing(self.space, self.cfg)),
            pruner=sampling.pruner(asked.pruner),
        )
        self.distributions = {key: sampling.distribution(dimension) for key, dimension in self.space.items()}
        self.doing: set[int] = set()
        self.interrupted = [t for t in self._begun() if t.state is TrialState.RUNNING and self._ours(t)]
        self.started = time.monotonic()
        record = self.place / "search.json"
        self.before = float(read_json(record)["seconds"]) if record.is_file() else 0.0

    @property
    def limit(self) -> int | None:
        """Trials in all; None if hours alone limit them."""
        sizes = [self.asked.trials] if self.asked.trials else []
        if not self.space:
            sizes.append(1)  # nothing to choose: the settings as they stand
        elif self.asked.sampler == "grid":
            sizes.append(sampling.grid_size(self.space))
        return min(sizes, default=None)

    @property
    def threads(self) -> int:
        """CPU threads of a trial that begins now: as set, else its share of the cores."""
        return self.cfg.run.threads or max(1, available_cores() // self.jobs)

    @property
    def seconds(self) -> float:
        """Time spent in this folder, over all interruptions."""
        return self.before + time.monotonic() - self.started

    def next(self) -> Task | None:
        """The next trial to be done here: one that was interrupted, else a new one; None if the budget is spent."""
        if self.interrupted:
            return self._task(self.interrupted.pop(0))
        if self._spent(len(self._begun())):
            return None
        trial = self.study.ask(self.distributions)
        trial.set_user_attr(_BEGUN, {"home": self.asked.home, "threads": self.threads})
        return self._task(self.study.get_trials(deepcopy=False)[trial.number])

    def take(self, outcome: Outcome) -> Trial:
        """Record what came of a task of ``next``, on disk too. A trial that failed is a trial; a full disk is an error."""
        number, value = outcome.task.arguments[0].number, outcome.value
        self.doing.discard(number)
        if disk_full(RuntimeError(outcome.error)):
            raise PrismError(f"The disk is full ({outcome.error}). Free some space and go on; nothing is lost.")
        if outcome.error:
            self._note(number, {"error": outcome.error, "trace": outcome.trace})
            # a sampler forgets what failed, but stays away from what was pruned at once: from where training diverges
            self.study.tell(number, state=TrialState.PRUNED)
        else:
            facts = {key: value[key] for key in ("epochs", "best_epoch", "seconds", "stopped", "valid")}
            self._note(number, {**facts, "reached": value["valid"][self.metric]})
            if value.get("pruned"):
                self.study.tell(number, state=TrialState.PRUNED)
            else:
                self.study.tell(number, value["valid"][self.metric])
        trials = self.trials()
        self._tidy(trials)
        self.write(trials)
        failed = [trial for trial in trials if trial.state == "failed"]
        if len(failed) >= _HOPELESS and not any(trial.state in ("complete", "pruned") for trial in trials):
            raise PrismError(f"All of the first {len(failed)} trials failed; the last one said: {failed[-1].error}")
        return next(trial for trial in trials if trial.number == number)

    def run(self, doing: Work | None = None) -> Iterator[Trial]:
        """Do all that is left, ``jobs`` at a time: each trial as it ends. ``doing``: who does it, if not this machine."""
        for outcome in (doing or work)(iter(self.next, None), self.jobs):
            yield self.take(outcome)
        self.write(self.trials())

    def _spent(self, begun: int) -> bool:
        """Whether nothing more is to begin."""
        late = 0 < self.asked.hours <= self.seconds / 3600
        return late or (self.limit is not None and begun >= self.limit)

    def trials(self) -> list[Trial]:
        """All trials so far, of every machine, by number."""
        return [self._trial(trial) for trial in self._begun()]

    def best(self) -> Trial | None:
        """The trial that reached most on validation, of those trained to their end; the earliest of equals."""
        return best_of(self.trials())

    def folder_of(self, number: int) -> Path:
        """Where a trial's run folder is, if it was trained here."""
        return self.place / f"{number:04d}"

    def config_of(self, trial: Trial) -> RunConfig:
        """All settings of a trial, as for a run of its own: with the threads and the device that the search was given."""
        return apply(self.cfg, trial.settings)

    def importance(self) -> dict[str, float]:
        """Setting → share of what matters for being among the best; empty if the trials are too few to say."""
        return sampling.importance(self.space, [(t.settings, t.value) for t in self.trials() if t.value is not None])

    def write(self, trials: list[Trial]) -> None:
        """Keep what is known so far in ``search.json``, and the best settings in ``best.yaml`` beside it.

        The importance of settings comes last, once nothing more is to begin.
        """
        best = best_of(trials)
        write_json(
            self.place / "search.json",
            {
                "arm": self.cfg.label,
                "study": self.asked.name,
                "metric": self.metric,
                "sampler": self.asked.sampler,
                "pruner": self.asked.pruner,
                "space": self.asked.space,
                "limit": self.limit,
                "hours": self.asked.hours,
                "seconds": self.seconds,
                "counts": dict(Counter(trial.state for trial in trials)),
                "best": None if best is None else asdict(best),
                "importance": {} if self.doing or not self._spent(len(trials)) else self.importance(),
                "trials": [asdict(trial) for trial in trials],
            },
        )
        if best is not None:
            text = yaml.safe_dump(self.config_of(best).tree(), sort_keys=False, allow_unicode=True)
            write_text(self.place / "best.yaml", f"# {self._story(best, trials)}\n{text}")

    def _story(self, best: Trial, trials: list[Trial]) -> str:
        return (
            f"Trial {best.number} of {len(trials)} on {self.asked.data.name} ({self.asked.data.fingerprint}): "
            f"{self.metric} {best.value:.4f} on validation."
        )

    def _task(self, trial: FrozenTrial) -> Task:
        self.doing.add(trial.number)
        cfg = apply(self.cfg, trial.params)
        run = cfg.run.model_copy(update={"threads": trial.user_attrs[_BEGUN]["threads"]})
        order = Order(
            trial.number,
            replace(cfg, run=run).tree(),
            self.asked.data.path,
            self.folder_of(trial.number).resolve(),
            self.url,
            self.asked.name,
            self.asked.pruner,
        )
        return Task(f"{cfg.label} trial {trial.number}", attempt, (order,))

    def _begun(self) -> list[FrozenTrial]:
        """Trials that were given to a process; one that was stopped while its settings were drawn never counts."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if _BEGUN in trial.user_attrs]

    def _ours(self, trial: FrozenTrial) -> bool:
        return bool(trial.user_attrs[_BEGUN]["home"] == self.asked.home)

    def _trial(self, trial: FrozenTrial) -> Trial:
        known = trial.user_attrs.get(_ENDED, {})
        return Trial(
            number=trial.number,
            state="failed" if "error" in known else _STATES[trial.state],
            value=known.get("reached"),
            settings=dict(trial.params),
            epochs=known.get("epochs"),
            best_epoch=known.get("best_epoch"),
            seconds=known.get("seconds"),
            error=known.get("error", ""),
            here=self._ours(trial),
        )

    def _note(self, number: int, facts: Mapping[str, Any]) -> None:
        known = self.database.get_study_id_from_name(self.asked.name)
        trial = self.database.get_trial_id_from_study_id_trial_number(known, number)
        self.database.set_trial_user_attr(trial, _ENDED, dict(facts))

    def _tidy(self, trials: list[Trial]) -> None:
        """Drop the weights of trials that are not the best: they can be trained again, and would fill the disk."""
        best = best_of(trials)
        for trial in trials:
            folder = self.folder_of(trial.number)
            over = trial.here and trial.state != "running" and not finished(folder)
            if over and (best is None or trial.number != best.number):
                shutil.rmtree(folder / "checkpoint", ignore_errors=True)


def best_of(trials: list[Trial]) -> Trial | None:
    """The trial of the highest value, of those trained to their end; the earliest of equals."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    return max(complete, key=lambda trial: (trial.value, -trial.number), default=None)
