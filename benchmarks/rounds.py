"""A round of runs: arms on data sets, some settings tried on validation, the best of them trained with several seeds.

``run`` tries each arm's settings on validation (the test rows are dropped before anything else happens), takes the best,
and trains it with each seed, the test part evaluated once each. Every finished trial and run is a JSON under
benchmarks/results/ROUND, so that the command goes on where it was, in a fresh clone too; weights of trials stay in --work,
and spare their seeds' training. ``hours`` is wall clock: no run starts after it. ``table`` writes the page.

The protocol is that of the published tables (``--protocol mmrec``).
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.rounds_train import tested, train
from prismrec.io import write_json

RESULTS = Path(__file__).parent / "results"
METRICS = ("recall", "ndcg", "precision", "map")
Settings = dict[str, Any]
Record = dict[str, Any]
Job = tuple[str, str, str, int]  # stage, arm, data, number of a trial or seed


@dataclass(frozen=True)
class Arm:
    """A model or recipe with plug-ins. ``metric`` chooses the epoch and the settings; its cutoff is that of the tables.

    ``tried``: settings, of which validation chooses, in addition to those that the arm ``base`` chose on the same data;
    ``tried_on``: data set → other settings. ``where``: data set → seeds that try each setting there (validation is their
    mean); empty: everywhere, with one. ``against``: the arm it is compared with. ``test``: whether the chosen settings
    go to the test part: always; with a "gain" on validation over that arm, which then goes there too; never, as of a sweep.
    ``published``: metric → value. ``known``: ROUND/ARM of earlier records; one of the same settings and seed counts, and
    so does one of ``base`` where it is the same training. ``cutoffs``: lengths of lists that are looked at, too.
    ``looks``: whether user subsets are counted.
    """

    name: str
    model: str
    tried: tuple[Settings, ...]
    plugins: tuple[str, ...] = ()
    metric: str = "recall@20"
    against: str = ""
    published: dict[str, float] = field(default_factory=dict)
    base: str = ""
    tried_on: Mapping[str, tuple[Settings, ...]] = field(default_factory=dict)
    where: Mapping[str, int] = field(default_factory=dict)
    test: Literal["always", "gain", "never"] = "always"
    known: str = ""
    cutoffs: tuple[int, ...] = ()
    looks: bool = False

    @property
    def cutoff(self) -> int:
        """K."""
        return int(self.metric.partition("@")[2])

    @property
    def metrics(self) -> list[str]:
        """What is computed of every trial and run."""
        return [f"{m}@{k}" for m in METRICS for k in dict.fromkeys((self.cutoff, 10, *self.cutoffs))]

    def is_on(self, data: str) -> bool:
        """Whether it is run on a data set."""
        return not self.where or data in self.where


def vary(common: Settings, *each: Settings) -> tuple[Settings, ...]:
    """The settings tried: each on top of what is common."""
    return tuple({**common, **one} for one in each)


@dataclass(frozen=True)
class Round:
    """``name`` is that of its module in benchmarks, and of the folder of its records."""

    name: str
    arms: tuple[Arm, ...]
    data: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def kept(self) -> Path:
        """Where records are kept."""
        return RESULTS / self.name

    def path(self, arm: Arm, data: str, what: str) -> Path:
        """The record of a trial ("trial-0") or run ("seed-1")."""
        return self.kept / data / arm.name / f"{what}.json"

    def tried(self, arm: Arm, data: str) -> tuple[Settings, ...]:
        """The settings of an arm on a data set; none while the arm that it builds on has not chosen its own."""
        own = arm.tried_on.get(data, arm.tried)
        base = self.arm(arm.base)
        if base is None:
            return own
        chosen = self.best_trial(base, data)
        return () if chosen is None else vary(self.tried(base, data)[chosen], *own)

    def planned(self, arm: Arm, data: str) -> list[tuple[Settings, int]]:
        """Settings and seed of each trial; those of the first seed come first, so that their numbers are the settings'."""
        return [(one, seed) for seed in self.seeds[: arm.where.get(data, 1)] for one in self.tried(arm, data)]

    def trials(self, arm: Arm, data: str) -> dict[int, Record]:
        """Number → record of the arm's finished trials. One of other settings than the plan's does not count."""
        found: dict[int, Record] = {}
        for number, (one, seed) in enumerate(self.planned(arm, data)):
            record = _read(self.path(arm, data, f"trial-{number}"))
            if record.get("settings") != one:
                record = self._earlier(arm, data, one, seed, "valid")
            if record:
                found[number] = record
        return found

    def scores(self, arm: Arm, data: str) -> list[list[float]]:
        """For each setting the validation metric of its finished trials, a value a seed."""
        found, count = self.trials(arm, data), len(self.tried(arm, data))
        return [[found[n]["valid"][arm.metric] for n in sorted(found) if n % count == i] for i in range(count)]

    def best_trial(self, arm: Arm, data: str) -> int | None:
        """The number of the setting with the best validation metric; None while a trial is missing. Ties go to the first."""
        scores = self.scores(arm, data)
        if not scores or sum(map(len, scores)) < len(self.planned(arm, data)):
            return None
        return max(range(len(scores)), key=lambda i: (float(np.mean(scores[i])), -i))

    def best_score(self, arm: Arm, data: str) -> float | None:
        """The validation metric of the chosen settings."""
        number = self.best_trial(arm, data)
        return None if number is None else float(np.mean(self.scores(arm, data)[number]))

    def opens(self, arm: Arm, data: str) -> bool:
        """Whether the arm's chosen settings go to the test part."""
        if arm.test != "gain" or not arm.is_on(data):
            return arm.test == "always" and arm.is_on(data)
        host = self.arm(arm.against)
        if host is None:
            return any(other.against == arm.name and self.opens(other, data) for other in self.arms)
        ours, theirs = self.best_score(arm, data), self.best_score(host, data)
        return ours is not None and theirs is not None and ours > theirs

    def runs(self, arm: Arm, data: str) -> dict[int, Record]:
        """Seed → record of the arm's finished runs with its best settings; none while a trial is missing."""
        number = self.best_trial(arm, data)
        if number is None:
            return {}
        chosen = self.tried(arm, data)[number]
        found = {}
        for seed in self.seeds:
            record = _read(self.path(arm, data, f"seed-{seed}"))
            if record.get("settings") != chosen:
                record = self._earlier(arm, data, chosen, seed, "test")
            if record:
                found[seed] = record
        return found

    def _earlier(self, arm: Arm, data: str, settings: Settings, seed: int, part: str) -> Record:
        """The record of the same training, ``part`` evaluated, by an earlier round or by the arm that this one builds on."""
        base = self.arm(arm.base)
        same = base is not None and (base.model, base.plugins, base.metric) == (arm.model, arm.plugins, arm.metric)
        for place in [arm.known] * bool(arm.known) + [f"{self.name}/{arm.base}"] * same:
            name, _, old = place.partition("/")
            for path in sorted((RESULTS / name / data / old).glob("*.json")):
                record = _read(path)
                if (record["settings"], record["seed"]) == (settings, seed) and part in record:
                    return record
        return {}

    def arm(self, name: str) -> Arm | None:
        """The arm of a name."""
        return next((arm for arm in self.arms if arm.name == name), None)

    def due(self, arms: list[Arm], data: list[str]) -> list[Job]:
        """All that can be done now, in order: data sets, arms, an arm's trials, then its seeds."""
        jobs: list[Job] = []
        for name in data:
            for arm in arms:
                if not arm.is_on(name):
                    continue
                done, planned = self.trials(arm, name), self.planned(arm, name)
                missing = [n for n in range(len(planned)) if n not in done]
                jobs += [("trial", arm.name, name, n) for n in missing]
                if planned and not missing and self.opens(arm, name):
                    runs = self.runs(arm, name)
                    jobs += [("final", arm.name, name, s) for s in self.seeds if s not in runs]
        return jobs

    def missing(self, data: str) -> list[str]:
        """What was not run, a line for each arm."""
        lines = []
        for arm in self.arms:
            if not arm.is_on(data):
                continue
            count = max(arm.where.get(data, 1), 1) * len(arm.tried_on.get(data, arm.tried))
            lacking = count - len(self.trials(arm, data))
            opened = arm.test == "always" or (not lacking and self.opens(arm, data))
            seeds = [s for s in self.seeds if s not in self.runs(arm, data)] if opened else []
            if lacking or seeds:
                said = [f"{lacking} of {count} trials"] if lacking else []
                said += [f"seed{'s'[: len(seeds) > 1]} {', '.join(map(str, seeds))}"] if seeds else []
                lines.append(f"- {data}, {arm.name}: {' and '.join(said)}")
        return lines

    def trial(self, arm: Arm, folder: Path, data: str, number: int, work: Path) -> None:
        """One setting with one seed, validation only."""
        settings, seed = self.planned(arm, data)[number]
        weights = _weights(work, arm, data, f"trial-{number}")
        record = train(arm, settings, folder, data, seed, weights)
        write_json(self.path(arm, data, f"trial-{number}"), record)

    def final(self, arm: Arm, folder: Path, data: str, seed: int, work: Path) -> None:
        """The chosen settings with one seed, evaluated on the test part, once."""
        number = self.best_trial(arm, data)
        assert number is not None
        settings = self.tried(arm, data)[number]
        planned = self.planned(arm, data)
        trial = planned.index((settings, seed)) if (settings, seed) in planned else None
        weights = _weights(work, arm, data, f"trial-{trial}")
        if trial is not None and weights.exists():
            record = self.trials(arm, data)[trial]
        else:
            weights = _weights(work, arm, data, f"seed-{seed}")
            record = train(arm, settings, folder, data, seed, weights)
        write_json(self.path(arm, data, f"seed-{seed}"), {**record, **tested(arm, record, folder / data, weights)})


def _read(path: Path) -> Record:
    return _parsed(path, path.stat().st_mtime_ns) if path.exists() else {}


@functools.cache
def _parsed(path: Path, written: int) -> Record:
    """A record is read again only when it was ``written`` again."""
    found: Record = json.loads(path.read_text())
    return found


def _weights(work: Path, arm: Arm, data: str, what: str) -> Path:
    """Where the weights of the best epoch wait for their test evaluation."""
    return work / data / arm.name / f"{what}.safetensors"


def mean_and_spread(found: list[dict[str, Any]], metric: str) -> str:
    """Mean ± standard deviation over seeds; empty where no run was asked for it."""
    values = [run["test"][metric] for run in found if metric in run["test"]]
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def run(plan: Round, arms: list[Arm], args: argparse.Namespace) -> None:
    """A process for ``batch`` jobs of an arm, ``jobs`` processes at a time, until nothing is due or the hours are over."""
    start = time.monotonic()
    running: dict[Future[int], list[Job]] = {}
    failed: set[Job] = set()

    def due() -> list[Job]:
        return [job for job in plan.due(arms, args.data) if job[0] in args.stages]

    def launch(batch: list[Job]) -> int:
        stage, arm, name, _ = batch[0]
        command = [sys.executable, "-m", f"benchmarks.{plan.name}", stage, str(args.folder), "--work", str(args.work)]
        command += ["--only", arm, "--data", name, "--number", *(str(number) for *_, number in batch)]
        # a session of its own: some schedulers share the processor by session
        return subprocess.run(command, check=False, stdout=subprocess.DEVNULL, start_new_session=True).returncode

    with ThreadPoolExecutor(args.jobs) as pool:
        while True:
            left = args.hours * 3600 - (time.monotonic() - start)
            taken = failed.union(*running.values())
            ready = [job for job in due() if job not in taken]
            while left > 0 and ready and len(running) < args.jobs:
                batch = [job for job in ready if job[:3] == ready[0][:3]][: args.batch]
                ready = [job for job in ready if job not in batch]
                running[pool.submit(launch, batch)] = batch
            if not running:
                break
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                batch, broken, still = running.pop(done), bool(done.result()), due()
                failed |= set([job for job in batch if job in still][:broken])  # those after it had no turn
                minutes = (time.monotonic() - start) / 60
                for stage, arm, name, number in batch:
                    outcome = "done" if (stage, arm, name, number) not in still else "FAILED or not reached"
                    print(f"{minutes:6.1f} min  {outcome}: {name} {arm} {stage} {number}", flush=True)
    for stage, arm, name, number in due():
        print(f"not run: {name} {arm} {stage} {number}")


def main(plan: Round, write: Callable[[], str], about: str | None) -> None:
    """Parse the command line of a round's module."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("run", "table", "trial", "final"))
    parser.add_argument("folder", nargs="?", type=Path, help="the folder that holds the data sets")
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--only", nargs="*", default=["*"], metavar="ARM", help="names, or patterns such as 'vbpr*'")
    parser.add_argument("--data", nargs="*", default=list(plan.data), choices=plan.data)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument(
        "--batch", type=int, default=1, help="jobs of an arm that share a process: short ones start sooner"
    )
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument(
        "--stages", nargs="*", default=["trial", "final"], choices=("trial", "final"), help="what to run"
    )
    parser.add_argument("--number", type=int, nargs="*", default=[], help="of trials, or seeds; used by run itself")
    args = parser.parse_args()
    arms = [arm for arm in plan.arms if any(fnmatch.fnmatchcase(arm.name, asked) for asked in args.only)]
    if not arms:
        parser.error(f"no arm is called {' or '.join(args.only)}; there are {', '.join(arm.name for arm in plan.arms)}")
    if args.stage == "table":
        print(write())
    elif args.stage == "run":
        run(plan, arms, args)
    else:
        for number in args.number:
            {"trial": plan.trial, "final": plan.final}[args.stage](
                arms[0], args.folder, args.data[0], number, args.work
            )
