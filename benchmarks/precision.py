"""Does training in bfloat16 cost accuracy? The same runs in both precisions, by several seeds, on two catalogues.

    python -m benchmarks.precision run [--data ML100K_FOLDER] [--only planted] [--seeds 5]
    python -m benchmarks.precision table

Four models, on a planted catalogue (``prismrec.data.synthetic``) and on MovieLens-100k with its text features where it is
found (``--data``, ``PRISMREC_DATA``/ml100k or ../shared/data/ml100k). A pair of runs shares data, seed and settings and
differs in ``train.precision`` alone; each chooses its epoch on validation, and the test part is looked at once, at the end.
``run`` keeps every run in ``results/precision`` and goes on where it was; ``table`` writes the page from what is there: means
over seeds and the mean difference with its 95 % interval (Student's t over seeds). On a CPU bfloat16 is slower than single
precision where the processor has no units for it: only accuracy is measured here.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from scipy import stats

from benchmarks.setting import RESULTS, ROOT, describe, heading, parser, table
from prismrec.data.dataset import Dataset
from prismrec.data.sources import read
from prismrec.data.synthetic import draw
from prismrec.experiment import configure, run
from prismrec.io import atomic, write_json

MODELS = ("vbpr", "freedom", "bm3", "mgcn")
RUNS = RESULTS / "precision"
PRECISIONS = ("fp32", "bf16")
METRICS = ("recall@20", "ndcg@20")
SETTINGS: dict[str, Any] = {
    "train.lr": 5e-3,
    "train.batch_size": 4096,
    "train.epochs": 100,
    "train.patience": 8,
    "train.every": 2,
}


def catalogues(folder: Path | None) -> dict[str, Dataset]:
    """The planted one, and MovieLens-100k where it is."""
    found = {"planted": draw(n_users=2000, n_items=800, interactions=20.0, seed=3).dataset}
    if folder is not None and folder.is_dir():
        found["ml100k"] = read(folder)
    return found


def score(dataset: Dataset, model: str, precision: str, seed: int, **settings: Any) -> dict[str, float]:
    """Metrics of the test part at the epoch that validation chose, and how many epochs there were."""
    more = {f"train.{key}": value for key, value in settings.items()}
    cfg, _ = configure(
        dataset,
        settings={"model.name": model, **SETTINGS, **more, "train.precision": precision},
        device="cpu",
        seed=seed,
        threads=torch.get_num_threads(),
    )
    result = run(cfg, dataset)
    return {metric: result.test[metric] for metric in METRICS} | {"epochs": result.progress.epoch}


def difference(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean of second minus first, and half the width of its 95 % interval."""
    apart = [b - a for a, b in pairs]
    if len(apart) < 2:
        return apart[0], float("nan")
    half = stats.t.ppf(0.975, len(apart) - 1) * statistics.stdev(apart) / len(apart) ** 0.5
    return statistics.mean(apart), float(half)


def rows(records: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row for each catalogue, model and metric."""
    out = []
    for data, model in dict.fromkeys((r["data"], r["model"]) for r in records):
        mine = {(r["seed"], r["precision"]): r for r in records if (r["data"], r["model"]) == (data, model)}
        seeds = [seed for seed, precision in mine if precision == "fp32" and (seed, "bf16") in mine]
        for metric in METRICS:
            pairs = [(mine[seed, "fp32"][metric], mine[seed, "bf16"][metric]) for seed in seeds]
            exact, rough = (statistics.mean(side) for side in zip(*pairs, strict=True))
            mean, half = difference(pairs)
            means = [f"{exact:.4f}", f"{rough:.4f}", f"{mean:+.4f} ± {half:.4f}", f"{100 * mean / exact:+.1f} %"]
            out.append([f"{model}, {data}", metric, str(len(seeds)), *means])
    return out


def text(about: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """The page of results."""
    header = ["model, data", "metric", "seeds", "fp32", "bf16", "difference", "of fp32"]
    settings = ", ".join(f"{key.removeprefix('train.')} {value:g}" for key, value in SETTINGS.items())
    return "\n\n".join(
        [
            "# Single precision and bfloat16",
            heading(about),
            f"Autocast on a CPU; {settings}, each model's other settings its defaults. Test part, at the epoch that validation "
            "chose; pairs share a seed. `benchmarks/precision.py` says more. A difference whose interval holds 0 is none that "
            "these seeds can tell; of two or three seeds little can be told. BPR and LightGCN are left out: without dense "
            "products they train to the same bits.",
            table(header, rows(records)),
        ]
    )


def recorded(path: Path) -> list[dict[str, Any]]:
    """The runs that a file holds."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def missing(records: Sequence[Mapping[str, Any]], seeds: int) -> list[tuple[int, str, str]]:
    """Runs that are still to be made: (seed, model, precision), seed by seed."""
    done = {(r["seed"], r["model"], r["precision"]) for r in records}
    wanted = itertools.product(range(seeds), MODELS, PRECISIONS)
    return [one for one in wanted if one not in done]


def main() -> None:
    arguments = parser(__doc__)
    shared = Path(os.environ.get("PRISMREC_DATA", ROOT.parent / "shared" / "data")) / "ml100k"
    arguments.add_argument("what", choices=["run", "table"])
    arguments.add_argument("--data", type=Path, default=shared, help="the folder of MovieLens-100k")
    arguments.add_argument("--only", choices=["planted", "ml100k"], help="one of the catalogues")
    arguments.add_argument("--seeds", type=int, default=5)
    args = arguments.parse_args()
    torch.set_num_threads(args.threads)
    if args.what == "run":
        for data, dataset in catalogues(args.data).items():
            records = recorded(RUNS / f"{data}.json")
            for seed, model, precision in missing(records, args.seeds) if args.only in (None, data) else []:
                scores = score(dataset, model, precision, seed)
                records.append({"data": data, "model": model, "seed": seed, "precision": precision, **scores})
                write_json(RUNS / f"{data}.json", records)
                print(records[-1], flush=True)
        return
    shown = text(describe(args.threads), [record for path in sorted(RUNS.glob("*.json")) for record in recorded(path)])
    print(shown)
    with atomic(RESULTS / "precision.md") as path:
        path.write_text(shown + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
