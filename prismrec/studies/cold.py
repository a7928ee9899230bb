"""Cold start, measured: models that were trained on the warm items of a split rank its cold items by their features.

An item is cold if it has no training row: by ``splits.by_item``, or because it came after a cut in time. Training does not
know that cold items exist (``splits.warm_part``): not as negatives, not as neighbours, not in validation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prismrec.cold import Trained, widened
from prismrec.compare import paired
from prismrec.config import RunConfig
from prismrec.data.dataset import Dataset
from prismrec.data.splits import is_warm, warm_part
from prismrec.errors import PrismError
from prismrec.evaluate import by_warmth, protocol
from prismrec.experiment import assemble, context, run
from prismrec.machine import cpu_threads, pick_device
from prismrec.run_folder import finished, saved_config
from prismrec.runs import Scores, restore
from prismrec.train import Watcher
from prismrec.types import Reps

FLOOR = "contentknn"
FLOORS = ("mostpop", FLOOR)
"""What every model is shown beside: who is popular says nothing of cold items, what they look like and say does."""
MAIN = ("recall@20", "ndcg@20")
"""Metrics that are shown, and whose differences from the floor are tested."""


@dataclass(frozen=True)
class Entry:
    """What one model came to: kind of ranking (``evaluate.by_warmth``) → values per user and their means."""

    label: str
    kinds: Mapping[str, Scores]
    folder: Path | None = None

    def as_dict(self, floor: Entry | None = None) -> dict[str, Any]:
        """Plain values; with ``floor`` also the paired differences from it, over the same users."""
        found: dict[str, Any] = {
            "label": self.label,
            "folder": None if self.folder is None else self.folder.name,
            "kinds": {kind: {"users": len(scores), **scores.mean} for kind, scores in self.kinds.items()},
        }
        if floor is not None and floor is not self:
            kinds = {kind: _apart(scores, floor.kinds[kind]) for kind, scores in self.kinds.items()}
            found["against"] = {"label": floor.label, "kinds": kinds}
        return found


def _apart(ours: Scores, theirs: Scores) -> dict[str, dict[str, float]]:
    gains = {m: paired(ours.values(m), theirs.values(m)) for m in MAIN if m in ours.mean}
    return {m: {"mean": gain.mean, "low": gain.low, "high": gain.high, "p": gain.p} for m, gain in gains.items()}


def check(cfg: RunConfig, dataset: Dataset) -> None:
    """Raise ``PrismError`` where there is no cold item, or this model has nothing to say of one, before any training."""
    dataset.require("train", "valid", "test")
    if is_warm(dataset).all():
        raise PrismError(
            f"Every item of {dataset.name!r} has a training row, so none is cold. Make a split with cold ones: "
            "prismrec data split DATA --by item -o OUT"
        )
    if not dataset.modalities:
        raise PrismError(f"{dataset.name!r} has no features, and nothing else is known of a cold item; import some.")
    warm, device = warm_part(dataset), pick_device(cfg.run.device)
    counts = {part: len(warm.interactions.part(part)) for part in ("train", "valid", "test")}
    if not all(counts.values()):
        raise PrismError(
            f"The warm items of {dataset.name!r} have {counts['valid']:,} rows in validation and {counts['test']:,} in test; "
            "training on them needs some in both. Split with a ratio such as --ratio 8:1:1, or at other times."
        )
    known = warm.development()
    assembly, _ = assemble(cfg, known, device)
    Trained(assembly, context(known, device)).check()


def entries(
    cfg: RunConfig,
    dataset: Dataset,
    part: str = "test",
    folder: Path | None = None,
    watcher: Watcher | None = None,
    metrics: Sequence[str] | None = None,
) -> list[Entry]:
    """Train on the warm items, add the cold ones by their features, rank both for ``part`` ("valid" or "test").

    The first entry is the model's own score, the others are its scores by one modality alone, where it states any. ``folder``:
    that of the run on the warm items; an unfinished one is gone on with, a finished one is read.
    """
    warm, device = warm_part(dataset), pick_device(cfg.run.device)
    if folder is not None and finished(folder):
        saved, _ = saved_config(folder)
        if saved != cfg:
            raise PrismError(f"{folder} holds a run with other settings ({saved.label}); name another folder with -o.")
        assembly = restore(folder, warm, device)
    else:
        assembly = run(cfg, warm, folder, watcher).assembly
    with cpu_threads(cfg.run.threads):
        reps = widened(Trained.of(assembly, warm), dataset)
        evaluators = by_warmth(dataset, part, protocol(cfg.run.protocol), metrics or cfg.run.metrics)
        found = []
        for side in (None, *reps.modal):
            user, item = reps.sides(side)
            kinds = {kind: Scores.of(rank.evaluate(Reps(user, item))) for kind, rank in evaluators.items()}
            found.append(Entry(cfg.label if side is None else f"{cfg.label} by {side}", kinds, folder))
    return found


def counts(dataset: Dataset, part: str) -> dict[str, float]:
    """Warm and cold items, rows of ``part`` on each, and the recall@20 that a random order of the cold items has."""
    warm = is_warm(dataset)
    target = dataset.interactions.part(part).item
    n_cold = int((~warm).sum())
    return {
        "warm": int(warm.sum()),
        "cold": n_cold,
        "warm_targets": int(warm[target].sum()),
        "cold_targets": int((~warm[target]).sum()),
        "chance@20": min(1.0, 20 / n_cold),
    }


def record(dataset: Dataset, part: str, cfg: RunConfig, entries: Sequence[Entry]) -> dict[str, Any]:
    """All figures as plain values; ``cfg``: that of one of the runs, whose seed and protocol are those of all."""
    floor = next((entry for entry in entries if entry.label == FLOOR), None)
    return {
        "data": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "modalities": {m: modality.width for m, modality in dataset.modalities.items()},
        "part": part,
        "protocol": cfg.run.protocol,
        "seed": cfg.run.seed,
        "items": counts(dataset, part),
        "entries": [entry.as_dict(floor) for entry in entries],
    }
