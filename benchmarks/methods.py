"""Do the methods help? Hosts with and without them on Baby and TikTok, protocol of the published tables.

    python -m benchmarks.methods run DATA_FOLDER --work DIR [--jobs 4] [--hours 4] [--only ARM ...] [--data baby ...]
    python -m benchmarks.methods table                      # writes benchmarks/results/methods-<date>.md

``run`` tries each arm's settings on validation (the test rows are dropped before anything else happens), takes the best,
and trains it with three seeds, the test part evaluated once each. Every finished trial and run is a JSON under
benchmarks/results/methods, so that the command goes on where it was, in a fresh clone too; weights of trials stay in --work,
and spare the first seed's training. ``hours`` is wall clock: no run starts after it.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import time
import zlib
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.methods_plan import ARMS, Arm
from prismrec.io import load_tensors, save_tensors, write_json

KEPT = Path(__file__).parent / "results" / "methods"
DATA = ("baby", "tiktok")
SEEDS = (999, 1, 2)
METRICS = ("recall", "ndcg", "precision", "map")


def metrics_of(arm: Arm) -> list[str]:
    """What is computed of every trial and run of an arm."""
    return [f"{m}@{k}" for m in METRICS for k in dict.fromkeys((arm.cutoff, 10))]


def trial_path(arm: Arm, data: str, number: int) -> Path:
    """Where a trial's record is kept."""
    return KEPT / data / arm.name / f"trial-{number}.json"


def seed_path(arm: Arm, data: str, seed: int) -> Path:
    """Where a run's record is kept."""
    return KEPT / data / arm.name / f"seed-{seed}.json"


def weights_path(work: Path, arm: Arm, data: str, what: str) -> Path:
    """Where the weights of the best epoch of a trial ("trial-0") or run ("seed-1") wait for their test evaluation."""
    return work / data / arm.name / f"{what}.safetensors"


def trials(arm: Arm, data: str) -> dict[int, dict[str, Any]]:
    """Number → record of the arm's finished trials. One of other settings than the plan's does not count."""
    found = {}
    for number, settings in enumerate(arm.tried):
        path = trial_path(arm, data, number)
        record = json.loads(path.read_text()) if path.exists() else {}
        if record.get("settings") == settings:
            found[number] = record
    return found


def runs(arm: Arm, data: str) -> dict[int, dict[str, Any]]:
    """Seed → record of the arm's finished runs with its best settings; none while a trial is missing."""
    number = best_trial(arm, data)
    found = {}
    for seed in SEEDS if number is not None else ():
        path = seed_path(arm, data, seed)
        record = json.loads(path.read_text()) if path.exists() else {}
        if record.get("settings") == arm.tried[number or 0]:
            found[seed] = record
    return found


def best_trial(arm: Arm, data: str) -> int | None:
    """The number of the trial with the best validation metric; None while one is missing. Ties go to the first."""
    found = trials(arm, data)
    if len(found) < len(arm.tried):
        return None
    return max(found, key=lambda number: (found[number]["valid"][arm.metric], -number))


def train(arm: Arm, folder: Path, data: str, number: int, seed: int, weights: Path) -> dict[str, Any]:
    """Train an arm with its settings ``number`` on one thread, keep ``weights``, say what came of it on validation."""
    import torch

    from prismrec.data.sources import read
    from prismrec.evaluate import Evaluator, protocol
    from prismrec.experiment import assemble, configure
    from prismrec.machine import cpu_threads, memory_kept
    from prismrec.train import fit

    dataset = read(folder / data).development()
    settings = {"train.metric": arm.metric, **arm.tried[number]}
    cfg, _ = configure(dataset, arm.model, arm.plugins, settings=settings, protocol="mmrec", threads=1, seed=seed)
    with cpu_threads(1), memory_kept():
        validate = Evaluator.of(dataset, "valid", protocol("mmrec"), metrics_of(arm), torch.device("cpu"))
        assembly, sampler = assemble(cfg, dataset, torch.device("cpu"))
        progress = fit(assembly, sampler, validate, cfg.train)
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
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "seconds": round(progress.seconds, 1),
    }


def trial(arm: Arm, folder: Path, data: str, number: int, work: Path) -> None:
    """One setting, validation only."""
    weights = weights_path(work, arm, data, f"trial-{number}")
    write_json(trial_path(arm, data, number), train(arm, folder, data, number, SEEDS[0], weights))


def final(arm: Arm, folder: Path, data: str, seed: int, work: Path) -> None:
    """The chosen settings with one seed, evaluated on the test part, once."""
    import torch

    from prismrec.config import resolve
    from prismrec.data.sources import read
    from prismrec.evaluate import Evaluator, protocol
    from prismrec.experiment import assemble

    number = best_trial(arm, data)
    assert number is not None
    weights = weights_path(work, arm, data, f"trial-{number}")
    if seed == SEEDS[0] and weights.exists():
        record = json.loads(trial_path(arm, data, number).read_text())
    else:
        weights = weights_path(work, arm, data, f"seed-{seed}")
        record = train(arm, folder, data, number, seed, weights)
    dataset = read(folder / data)
    torch.set_num_threads(1)
    assembly, _ = assemble(resolve(record["config"]), dataset.development(), torch.device("cpu"))
    assembly.load_state_dict(load_tensors(weights))
    evaluation = Evaluator.of(dataset, "test", protocol("mmrec"), metrics_of(arm), torch.device("cpu")).evaluate(
        assembly.represent()
    )
    users = evaluation.per_user
    hits = users[f"recall@{arm.cutoff}"] * users["n_relevant"]
    kept = {f"hits@{arm.cutoff}": pack(hits.round().to_numpy()), "relevant": pack(users["n_relevant"].to_numpy())}
    write_json(seed_path(arm, data, seed), {**record, "test": evaluation.mean, **kept})


def pack(counts: np.ndarray) -> str:
    """Small whole numbers, one for each evaluated user, as text."""
    return base64.b64encode(zlib.compress(counts.clip(0, 255).astype(np.uint8).tobytes(), 9)).decode()


def unpack(text: str) -> np.ndarray:
    """What ``pack`` made of numbers."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).astype(float)


Job = tuple[str, str, str, int]  # stage, arm, data, number of a trial or seed


def due(arms: list[Arm], data: list[str]) -> list[Job]:
    """All that can be done now, in order: an arm's trials, then its seeds."""
    jobs: list[Job] = []
    for arm in arms:
        for name in data:
            missing = [n for n in range(len(arm.tried)) if n not in trials(arm, name)]
            jobs += [("trial", arm.name, name, n) for n in missing]
            if not missing:
                jobs += [("final", arm.name, name, s) for s in SEEDS if s not in runs(arm, name)]
    return jobs


def run(arms: list[Arm], folder: Path, data: list[str], work: Path, jobs: int, hours: float) -> None:
    """A process for each job, ``jobs`` at a time, until nothing is due or the hours are over."""
    start = time.monotonic()
    running: dict[Future[int], Job] = {}
    failed: set[Job] = set()

    def launch(job: Job) -> int:
        stage, arm, name, number = job
        command = [sys.executable, "-m", "benchmarks.methods", stage, str(folder), "--work", str(work)]
        command += ["--only", arm, "--data", name, "--number", str(number)]
        return subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode

    with ThreadPoolExecutor(jobs) as pool:
        while True:
            left = hours * 3600 - (time.monotonic() - start)
            ready = [job for job in due(arms, data) if job not in running.values() and job not in failed]
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
    for stage, arm, name, number in due(arms, data):
        print(f"not run: {name} {arm} {stage} {number}")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("run", "table", "trial", "final"))
    parser.add_argument("folder", nargs="?", type=Path, help="the folder that holds baby/ and tiktok/")
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--only", nargs="*", default=[arm.name for arm in ARMS], choices=[arm.name for arm in ARMS])
    parser.add_argument("--data", nargs="*", default=list(DATA), choices=DATA)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--number", type=int, help="of a trial, or a seed; used by run itself")
    args = parser.parse_args()
    arms = [arm for arm in ARMS if arm.name in args.only]
    if args.stage == "table":
        from benchmarks.methods_table import write

        print(write())
    elif args.stage == "run":
        run(arms, args.folder, args.data, args.work, args.jobs, args.hours)
    else:
        {"trial": trial, "final": final}[args.stage](arms[0], args.folder, args.data[0], args.number, args.work)


if __name__ == "__main__":
    main()
