"""Amazon Baby under the protocol of the published tables: settings chosen on validation, then five seeds on test.

    python -m benchmarks.baby search DATA --work DIR [--jobs 4]     # each card's grid, validation only, seed 999
    python -m benchmarks.baby seeds DATA --work DIR [--jobs 4]      # the packaged winners, five seeds, test once each
    python -m benchmarks.baby table --work DIR                      # Markdown: both tables, beside the published rows

Every trial and every run is kept under DIR, so that an interrupted search goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MODELS = ("ease", "bpr", "lightgcn", "vbpr", "freedom")
SEEDS = (999, 1, 2, 3, 4)
# Each card's grid, and beyond it where the best point lay on its edge: features here are unit vectors, so that weights
# that meet features want larger values than with the published ones.
GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "bpr": {"model.reg": (2.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)},
    "vbpr": {"model.reg": (2.0, 1.0, 0.5, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)},
    "lightgcn": {"model.layers": (1, 2, 3, 4), "model.reg": (1e-2, 1e-3, 1e-4)},
    "freedom": {"model.prune": (0.8, 0.9), "model.reg": (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)},
}
PUBLISHED = {  # recall@10, recall@20, ndcg@10, ndcg@20
    "bpr": (0.0357, 0.0575, 0.0192, 0.0249),
    "lightgcn": (0.0479, 0.0754, 0.0257, 0.0328),
    "vbpr": (0.0423, 0.0663, 0.0223, 0.0284),
    "freedom": (0.0627, 0.0992, 0.0330, 0.0424),
}
METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


def trials() -> Iterator[tuple[str, dict[str, float]]]:
    """Every point of every grid."""
    for model, grid in GRIDS.items():
        for values in itertools.product(*grid.values()):
            yield model, dict(zip(grid, values, strict=True))


def search_one(data: str, work: Path, model: str, settings: dict[str, float]) -> None:
    """One trial on one thread. The test rows are dropped before anything else happens."""
    import torch

    from prismrec.data.sources import read
    from prismrec.evaluate import Evaluator, protocol
    from prismrec.experiment import assemble, configure
    from prismrec.train import fit

    dataset = read(data).development()
    cfg, _ = configure(dataset, model, settings=settings, protocol="mmrec", threads=1, seed=999)
    torch.set_num_threads(1)
    device = torch.device("cpu")
    validate = Evaluator.of(dataset, "valid", protocol("mmrec"), METRICS, device)
    progress = fit(*assemble(cfg, dataset, device), validate, cfg.train)
    record = {
        "model": model,
        "settings": settings,
        "best": progress.best,
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "seconds": progress.seconds,
    }
    trial_path(work, model, settings).write_text(json.dumps(record, indent=2))


def trial_path(work: Path, model: str, settings: dict[str, float]) -> Path:
    """Where a trial is kept."""
    name = "_".join(f"{key.removeprefix('model.')}{value:g}" for key, value in settings.items())
    return work / "trials" / f"{model}_{name}.json"


def search(data: str, work: Path, jobs: int) -> None:
    """All trials that are not there yet, a process each."""
    (work / "trials").mkdir(parents=True, exist_ok=True)
    commands = [
        [sys.executable, "-m", "benchmarks.baby", "one", data, "--work", str(work), "--model", model,
         "--settings", json.dumps(settings)]
        for model, settings in trials()
        if not trial_path(work, model, settings).exists()
    ]  # fmt: skip
    run_all(commands, jobs)


def seeds(data: str, work: Path, jobs: int) -> None:
    """The command line as a user has it: packaged settings are found by the data's fingerprint."""
    commands = []
    for model, seed in itertools.product(MODELS, SEEDS):
        out = work / "runs" / f"{model}-{seed}"
        if (out / "result.json").exists() or (model == "ease" and seed != SEEDS[0]):
            continue
        where = ["--resume", str(out)] if (out / "config.yaml").exists() else ["--out", str(out)]
        start = [] if where[0] == "--resume" else [data, "--model", model, "--protocol", "mmrec", "--seed", str(seed)]
        threads = [] if where[0] == "--resume" else ["--threads", "1"]
        commands.append([sys.executable, "-m", "prismrec", "train", *start, *threads, *where, "--quiet"])
    run_all(commands, jobs)


def run_all(commands: list[list[str]], jobs: int) -> None:
    """Run commands, ``jobs`` at a time, and stop at the first that fails."""

    def one(command: list[str]) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print("done:", *command[3:], flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, commands))


def table(work: Path) -> str:
    """Markdown of both stages."""
    lines = ["## Search (validation recall@20, seed 999)", "", "| model | settings | recall@20 | best epoch | epochs |"]
    lines.append("|---|---|---|---|---|")
    records = [json.loads(path.read_text()) for path in sorted((work / "trials").glob("*.json"))]
    for model in GRIDS:
        mine = sorted((r for r in records if r["model"] == model), key=lambda r: -r["best"])
        for place, r in enumerate(mine):
            settings = " ".join(f"{key.removeprefix('model.')}={value:g}" for key, value in r["settings"].items())
            mark = "**" if place == 0 else ""
            lines.append(f"| {model} | {settings} | {mark}{r['best']:.4f}{mark} | {r['best_epoch']} | {r['epochs']} |")
    lines += ["", "## Five seeds on test", "", "| model | " + " | ".join(METRICS) + " | recall@20 against published |"]
    lines.append("|---" * (len(METRICS) + 2) + "|")
    for model in MODELS:
        found = sorted((work / "runs").glob(f"{model}-*/result.json"))
        results = [json.loads(path.read_text())["test"] for path in found]
        if not results:
            continue
        values = {m: [r[m] for r in results] for m in METRICS}
        spread = {m: f" ± {statistics.stdev(v):.4f}" if len(v) > 1 else "" for m, v in values.items()}
        cells = [f"{statistics.mean(values[m]):.4f}{spread[m]}" for m in METRICS]
        against = "-"
        if model in PUBLISHED:
            against = f"{statistics.mean(values['recall@20']) / PUBLISHED[model][1] - 1:+.1%}"
        lines.append(
            f"| {model} ({len(results)} seed{'s'[: len(results) > 1]}) | " + " | ".join(cells) + f" | {against} |"
        )
        if model in PUBLISHED:
            lines.append("| published | " + " | ".join(f"{value:.4f}" for value in PUBLISHED[model]) + " | |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("search", "seeds", "table", "one"))
    parser.add_argument("data", nargs="?", default="")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--model")
    parser.add_argument("--settings", type=json.loads)
    args = parser.parse_args()
    if args.stage == "table":
        print(table(args.work))
    elif args.stage == "one":
        search_one(args.data, args.work, args.model, args.settings)
    else:
        {"search": search, "seeds": seeds}[args.stage](args.data, args.work, args.jobs)


if __name__ == "__main__":
    main()
