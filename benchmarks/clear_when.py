"""When CLEAR helps and when it does not: planted catalogues that differ in what is shared and in what users care for.

    python -m benchmarks.clear_when [--seeds 3] [--threads 1] [--only vbpr] [--write]

The same host with the same settings, without CLEAR and with a few of its settings, on each catalogue ("once": directions are
taken before the first step and kept); a seed draws another catalogue and another start. What is compared is ndcg@20 on
validation; the test part of a catalogue is looked at once, by the setting that validation chose (none at all among them).
Runs that are already in the record are not made again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.setting import RESULTS, describe, heading, parser, table
from prismrec.data.synthetic import Factor, Planted, draw
from prismrec.demo import ENTRIES
from prismrec.diagnostics.shared_space import shared_subspace
from prismrec.diagnostics.spectrum import redundant_rank
from prismrec.diagnostics.subject import Subject
from prismrec.experiment import configure, run

METRIC = "ndcg@20"
NAME = "clear-when"
TOTAL = 1.7 * 3**0.5
"""Standard deviation of the utility that image, text and what they share come to together, on every catalogue."""
_WIDTHS = {"image": 64, "text": 48}
_THREE = {**_WIDTHS, "audio": 40}


def _set(
    shared: tuple[int, float], unique: tuple[int, float], modalities: Mapping[str, int] = _WIDTHS
) -> dict[str, Any]:
    """Sizes of the groups, and how much they matter; strengths are scaled so that their variances sum to ``TOTAL``²."""
    scale = TOTAL / (shared[1] + len(modalities) * unique[1]) ** 0.5
    redundant, own = (Factor(size, scale * weight**0.5) for size, weight in (shared, unique))
    return {"redundant": redundant, "unique": own, "modalities": modalities}


SETS: Mapping[str, dict[str, Any]] = {
    "shared, and nobody cares": _set((10, 0), (10, 1)),
    "the same, shared dominates": _set((30, 0), (10, 1)),
    "shared and unique matter alike": _set((10, 1), (10, 1)),
    "only what is shared matters": _set((10, 1), (10, 0)),
    "everything is shared": _set((10, 1), (0, 0)),
    "nothing is shared": _set((0, 0), (10, 1)),
    "three modalities: nobody cares": _set((10, 0), (10, 1), _THREE),
    "three modalities: alike": _set((10, 1), (10, 1), _THREE),
    "three modalities: only shared": _set((10, 1), (10, 0), _THREE),
    "three modalities: nothing": _set((0, 0), (10, 1), _THREE),
}
VARIANTS: Mapping[str, Mapping[str, Any] | None] = {
    "without": None,
    "k=10, λ=0.3": {"clear.rank": 10, "clear.strength": 0.3},
    "k=4, λ=0.9": {"clear.rank": 4, "clear.strength": 0.9},
    "k=10, λ=0.9": {"clear.rank": 10, "clear.strength": 0.9},
    "k=30, λ=0.9": {"clear.rank": 30, "clear.strength": 0.9},
    "k=10, λ=0.9, once": {"clear.rank": 10, "clear.strength": 0.9, "clear.interval": 1000},
}
MODELS = ("vbpr", "freedom", "clear-backbone")
_BACKBONE = {"train.lr": 0.005, "train.epochs": 60}  # the best of 0.005, 0.01 and 0.02 on validation, without CLEAR


def settings_of(model: str, modalities: Sequence[str]) -> dict[str, Any]:
    """The demonstration's settings of a host, for these modalities."""
    known = {name: settings for name, plugins, settings in ENTRIES if not plugins} | {"clear-backbone": _BACKBONE}
    found = dict(known[model])
    if "model.weights" in found:
        found["model.weights"] = dict.fromkeys(modalities, 1 / len(modalities))
    return {**found, "train.metric": METRIC, "train.every": 2, "train.patience": 6}


def measure(planted: Planted, model: str, variant: str, seed: int, threads: int) -> dict[str, float]:
    """Validation and test ``METRIC`` of one run."""
    clear = VARIANTS[variant]
    settings = settings_of(model, list(planted.dataset.modalities)) | dict(clear or {}) | {"run.threads": threads}
    cfg, _ = configure(planted.dataset, model, ["clear"] if clear else [], settings=settings, seed=seed)
    result = run(cfg, planted.dataset)
    return {"valid": result.valid[METRIC], "test": result.test[METRIC], "seconds": result.summary["seconds"]}


def shared(planted: Planted) -> dict[str, float]:
    """What the diagnoses say of the raw features: directions above chance, energy and classes inside and outside."""
    subject = Subject.of_data(planted.dataset)
    ranks = redundant_rank(subject).table
    found = {
        rule: float(ranks.filter((ranks["rule"] == rule) & (ranks["setting"].eq_missing(setting)))["k"].max())  # type: ignore[arg-type]
        for rule, setting in (("above chance", None), ("spectrum", 0.01))
    }
    space = shared_subspace(subject, rank=10).table
    found["energy"] = float(space.filter(space["space"] == "shared")["share"].mean())  # type: ignore[arg-type]
    return found


def plan(models: Sequence[str], seeds: int) -> Iterator[tuple[str, int, str, str]]:
    """(catalogue, seed, model, variant), the cheap ones first."""
    for seed in range(seeds):
        for model in models:
            for name in SETS:
                for variant in VARIANTS:
                    yield name, seed, model, variant


def text(record: Mapping[str, Any]) -> str:
    """Markdown of a record: ndcg@20 without CLEAR and what each setting adds, mean ± sd over seeds of paired differences."""
    runs = record["runs"]
    parts = ["# When CLEAR helps", heading(record["about"]), ABOUT]
    for model in dict.fromkeys(r["model"] for r in runs):
        rows = []
        for name in SETS:
            values = {
                v: {r["seed"]: r for r in runs if (r["model"], r["set"], r["variant"]) == (model, name, v)}
                for v in VARIANTS
            }
            seeds = sorted(set.intersection(*(set(of) for of in values.values())))
            if not seeds:
                continue
            base = np.array([values["without"][s]["valid"] for s in seeds])
            cells = [name, f"{base.mean():.4f}"]
            for variant in list(VARIANTS)[1:]:
                cells.append(_spread(np.array([values[variant][s]["valid"] for s in seeds]) - base))
            chosen = [max(VARIANTS, key=lambda v, s=s: values[v][s]["valid"]) for s in seeds]  # type: ignore[misc]
            gain = [values[v][s]["test"] - values["without"][s]["test"] for v, s in zip(chosen, seeds, strict=True)]
            cells += [f"{sum(v != 'without' for v in chosen)} of {len(seeds)}", _spread(np.array(gain))]
            rows.append(cells)
        header = ["catalogue", "without", *list(VARIANTS)[1:], "CLEAR chosen", "then on test"]
        parts += [f"## {model}", table(header, rows)]
    rows = []
    for name in SETS:
        found = [d for d in record["shared"] if d["set"] == name]
        if found:
            means = [float(np.mean([d[key] for d in found])) for key in ("above chance", "spectrum", "energy")]
            rows.append([name, f"{means[0]:.1f}", f"{means[1]:.1f}", f"{means[2]:.0%}"])
    header = ["catalogue", "directions above chance", "spectrum rule", "energy in the first 10"]
    return "\n\n".join([*parts, "## What `prismrec diagnose` says of the raw features", table(header, rows)])


ABOUT = (
    f"{METRIC} on validation, mean over seeds; with CLEAR: the difference, paired by seed, mean ± standard deviation. "
    "Catalogues of 1,000 users and 500 items (`prismrec.data.synthetic.draw`), whose utility has the same variance everywhere. "
    "“Nobody cares”: the shared factors fill the features and have no weight in anybody's taste, which is the paper's "
    "assumption. “Once”: directions are taken before the first step and kept. “CLEAR chosen”: seeds in which validation "
    "prefers some setting of CLEAR to none; “then on test”: what that choice gains."
)


def _spread(values: np.ndarray) -> str:
    return f"{values.mean():+.4f} ± {values.std(ddof=1) if len(values) > 1 else 0:.4f}"


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--only", choices=MODELS, action="append", help="one host; may be repeated")
    args = arguments.parse_args()
    path = RESULTS / f"{NAME}.json"
    record = _read(path) if path.is_file() else {"about": describe(args.threads), "runs": [], "shared": []}
    done = {(r["set"], r["seed"], r["model"], r["variant"]) for r in record["runs"]}
    drawn: dict[tuple[str, int], Planted] = {}
    for key in plan(args.only or MODELS, args.seeds):
        if key in done:
            continue
        name, seed, model, variant = key
        if (name, seed) not in drawn:
            drawn[name, seed] = draw(1000, 500, seed=seed, **SETS[name])
        planted = drawn[name, seed]
        if not any((d["set"], d["seed"]) == (name, seed) for d in record["shared"]):
            record["shared"].append({"set": name, "seed": seed, **shared(planted)})
        found = measure(planted, model, variant, seed, args.threads)
        record["runs"].append({"set": name, "seed": seed, "model": model, "variant": variant, **found})
        print(f"{name}, seed {seed}, {model} {variant}: {found['valid']:.4f} in {found['seconds']:.0f} s", flush=True)
        if args.write:
            path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    shown = text(record)
    print("\n" + shown)
    if args.write:
        path.with_suffix(".md").write_text(shown + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
