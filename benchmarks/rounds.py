"""A round of runs: arms on data sets, some settings tried on validation, the best of them trained with several seeds.

``run`` tries each arm's settings on validation (the test rows are dropped before anything else happens), takes the best,
and trains it with each seed, the test part evaluated once each. Every finished trial and run is a JSON under
benchmarks/results/ROUND, so that the command goes on where it was, in a fresh clone too; weights of trials stay in --work,
and spare the first seed's training. ``hours`` is wall clock: no run starts after it. ``table`` writes the page.

The protocol is that of the published tables (``--protocol mmrec``).
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prismrec.io import load_tensors, save_tensors, write_json

RESULTS = Path(__file__).parent / "results"
METRICS = ("recall", "ndcg", "precision", "map")
Settings = dict[str, Any]
Record = dict[str, Any]
Job = tuple[str, str, str, int]  # stage, arm, data, number of a trial or seed


@dataclass(frozen=True)
class Arm:
    """A model or recipe with plug-ins. ``metric`` chooses the epoch and the settings; its cutoff is that of the tables.

    ``tried``: settings, of which validation chooses. ``against``: the arm it is compared with. ``published``: metric → value.
    """

    name: str
    model: str
    tried: tuple[Settings, ...]
    plugins: tuple[str, ...] = ()
    metric: str = "recall@20"
    against: str = ""
    published: dict[str, float] = field(default_factory=dict)

    @property
    def cutoff(self) -> int:
        """K."""
        return int(self.metric.partition("@")[2])

    @property
    def metrics(self) -> list[str]:
        """What is computed of every trial and run."""
        return [f"{m}@{k}" for m in METRICS for k in dict.fromkeys((self.cutoff, 10))]


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

    def trials(self, arm: Arm, data: str) -> dict[int, Record]:
        """Number → record of the arm's finished trials. One of other settings than the plan's does not count."""
        found = {number: _read(self.path(arm, data, f"trial-{number}")) for number in range(len(arm.tried))}
        return {number: r for number, r in found.items() if r.get("settings") == arm.tried[number]}

    def best_trial(self, arm: Arm, data: str) -> int | None:
        """The number of the trial with the best validation metric; None while one is missing. Ties go to the first."""
        found = self.trials(arm, data)
        if len(found) < len(arm.tried):
            return None
        return max(found, key=lambda number: (found[number]["valid"][arm.metric], -number))

    def runs(self, arm: Arm, data: str) -> dict[int, Record]:
        """Seed → record of the arm's finished runs with its best settings; none while a trial is missing."""
        number = self.best_trial(arm, data)
        if number is None:
            return {}
        found = {seed: _read(self.path(arm, data, f"seed-{seed}")) for seed in self.seeds}
        return {seed: r for seed, r in found.items() if r.get("settings") == arm.tried[number]}

    def arm(self, name: str) -> Arm | None:
        """The arm of a name."""
        return next((arm for arm in self.arms if arm.name == name), None)

    def due(self, arms: list[Arm], data: list[str]) -> list[Job]:
        """All that can be done now, in order: an arm's trials, then its seeds."""
        jobs: list[Job] = []
        for arm in arms:
            for name in data:
                missing = [n for n in range(len(arm.tried)) if n not in self.trials(arm, name)]
                jobs += [("trial", arm.name, name, n) for n in missing]
                if not missing:
                    jobs += [("final", arm.name, name, s) for s in self.seeds if s not in self.runs(arm, name)]
        return jobs

    def missing(self, data: str) -> list[str]:
        """What was not run, a line for each arm."""
        lines = []
        for arm in self.arms:
            lacking = len(arm.tried) - len(self.trials(arm, data))
            seeds = [s for s in self.seeds if s not in self.runs(arm, data)]
            if lacking or seeds:
                said = [f"{lacking} of {len(arm.tried)} trials"] if lacking else []
                said += [f"seed{'s'[: len(seeds) > 1]} {', '.join(map(str, seeds))}"] if seeds else []
                lines.append(f"- {data}, {arm.name}: {' and '.join(said)}")
        return lines

    def trial(self, arm: Arm, folder: Path, data: str, number: int, work: Path) -> None:
        """One setting, validation only."""
        weights = _weights(work, arm, data, f"trial-{number}")
        record = train(arm, folder, data, number, self.seeds[0], weights)
        write_json(self.path(arm, data, f"trial-{number}"), record)

    def final(self, arm: Arm, folder: Path, data: str, seed: int, work: Path) -> None:
        """The chosen settings with one seed, evaluated on the test part, once."""
        number = self.best_trial(arm, data)
        assert number is not None
        weights = _weights(work, arm, data, f"trial-{number}")
        if seed == self.seeds[0] and weights.exists():
            record = self.trials(arm, data)[number]
        else:
            weights = _weights(work, arm, data, f"seed-{seed}")
            record = train(arm, folder, data, number, seed, weights)
        write_json(self.path(arm, data, f"seed-{seed}"), {**record, **tested(arm, record, folder / data, weights)})


def _read(path: Path) -> Record:
    found: Record = json.loads(path.read_text()) if path.exists() else {}
    return found


def _weights(work: Path, arm: Arm, data: str, what: str) -> Path:
    """Where the weights of the best epoch wait for their test evaluation."""
    return work / data / arm.name / f"{what}.safetensors"


def train(arm: Arm, folder: Path, data: str, number: int, seed: int, weights: Path) -> Record:
    """Train an arm with its settings ``number`` on one thread, keep ``weights``, say what came of it on validation."""
    import torch

    from benchmarks.speed import Stopwatch
    from prismrec.data.sources import read
    from prismrec.evaluate import Evaluator, protocol
    from prismrec.experiment import assemble, configure
    from prismrec.machine import cpu_threads, memory_kept, peak_memory_mb
    from prismrec.train import fit

    cpu = torch.device("cpu")
    dataset = read(folder / data).development()
    settings = {"train.metric": arm.metric, **arm.tried[number]}
    plain = weights.with_suffix(".yaml")  # a file of its own, so that the plan alone decides, and no packaged settings
    plain.parent.mkdir(parents=True, exist_ok=True)
    plain.write_text(f"model: {{name: {arm.model}}}\n", encoding="utf-8")
    cfg, _ = configure(
        dataset, arm.model, arm.plugins, plain, settings=settings, protocol="mmrec", threads=1, seed=seed
    )
    watch = Stopwatch()
    with cpu_threads(1), memory_kept():
        validate = Evaluator.of(dataset, "valid", protocol("mmrec"), arm.metrics, cpu)
        assembly, sampler = assemble(cfg, dataset, cpu)
        trained: Record = {}
        if assembly.trainable:
            progress = fit(assembly, sampler, validate, cfg.train, None, watch)
            trained = {"epochs": progress.epoch, "best_epoch": progress.best_epoch}
            trained |= {
                "seconds": round(progress.seconds, 1),
                "seconds_epoch": round(statistics.median(watch.epochs), 2),
            }
        valid = validate(assembly.represent())
    save_tensors(weights, {k: v.contiguous() for k, v in assembly.state_dict().items()})
    return {
        "arm": arm.name,
        "data": data,
        "fingerprint": dataset.fingerprint,
        "seed": seed,
        "settings": arm.tried[number],
        "config": cfg.tree(),
        "valid": valid,
        **trained,
        "peak_mb": round(peak_memory_mb(cpu) or 0),
    }


def tested(arm: Arm, record: Record, folder: Path, weights: Path) -> Record:
    """The means over the test part, and each user's hits and relevant items."""
    import torch

    from prismrec.config import resolve
    from prismrec.data.sources import read
    from prismrec.evaluate import Evaluator, protocol
    from prismrec.experiment import assemble

    cpu = torch.device("cpu")
    dataset = read(folder)
    torch.set_num_threads(1)
    assembly, _ = assemble(resolve(record["config"]), dataset.development(), cpu)
    assembly.load_state_dict(load_tensors(weights))
    evaluation = Evaluator.of(dataset, "test", protocol("mmrec"), arm.metrics, cpu).evaluate(assembly.represent())
    users = evaluation.per_user
    hits = users[f"recall@{arm.cutoff}"] * users["n_relevant"]
    kept = {f"hits@{arm.cutoff}": pack(hits.round().to_numpy()), "relevant": pack(users["n_relevant"].to_numpy())}
    return {"test": evaluation.mean, **kept}


def pack(counts: np.ndarray) -> str:
    """Small whole numbers, one for each evaluated user, as text."""
    return base64.b64encode(zlib.compress(counts.clip(0, 255).astype(np.uint8).tobytes(), 9)).decode()


def unpack(text: str) -> np.ndarray:
    """What ``pack`` made of numbers."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).astype(float)


def mean_and_spread(found: list[dict[str, Any]], metric: str) -> str:
    """Mean ± standard deviation over seeds."""
    values = [run["test"][metric] for run in found]
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def run(plan: Round, arms: list[Arm], folder: Path, data: list[str], work: Path, jobs: int, hours: float) -> None:
    """A process for each job, ``jobs`` at a time, until nothing is due or the hours are over."""
    start = time.monotonic()
    running: dict[Future[int], Job] = {}
    failed: set[Job] = set()

    def launch(job: Job) -> int:
        stage, arm, name, number = job
        command = [sys.executable, "-m", f"benchmarks.{plan.name}", stage, str(folder), "--work", str(work)]
        command += ["--only", arm, "--data", name, "--number", str(number)]
        # a session of its own: some schedulers share the processor by session
        return subprocess.run(command, check=False, stdout=subprocess.DEVNULL, start_new_session=True).returncode

    with ThreadPoolExecutor(jobs) as pool:
        while True:
            left = hours * 3600 - (time.monotonic() - start)
            ready = [job for job in plan.due(arms, data) if job not in running.values() and job not in failed]
            while left > 0 and ready and len(running) < jobs:
                job = ready.pop(0)
                running[pool.submit(launch, job)] = job
            if not running:
                break
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                stage, arm, name, number = job = running.pop(done)
                if done.result():
                    failed.add(job)
                minutes = (time.monotonic() - start) / 60
                outcome = "FAILED" if done.result() else "done"
                print(f"{minutes:6.1f} min  {outcome}: {name} {arm} {stage} {number}", flush=True)
    for stage, arm, name, number in plan.due(arms, data):
        print(f"not run: {name} {arm} {stage} {number}")


def main(plan: Round, write: Callable[[], str], about: str | None) -> None:
    """Parse the command line of a round's module."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("run", "table", "trial", "final"))
    parser.add_argument("folder", nargs="?", type=Path, help="the folder that holds the data sets")
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--only", nargs="*", default=[a.name for a in plan.arms], choices=[a.name for a in plan.arms])
    parser.add_argument("--data", nargs="*", default=list(plan.data), choices=plan.data)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--number", type=int, help="of a trial, or a seed; used by run itself")
    args = parser.parse_args()
    arms = [arm for arm in plan.arms if arm.name in args.only]
    if args.stage == "table":
        print(write())
    elif args.stage == "run":
        run(plan, arms, args.folder, args.data, args.work, args.jobs, args.hours)
    else:
        {"trial": plan.trial, "final": plan.final}[args.stage](
            arms[0], args.folder, args.data[0], args.number, args.work
        )
