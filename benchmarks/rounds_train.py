"""One training of a round, on one thread: what came of it on validation, and, asked apart, on the test part.

A training that was killed goes on from its last checkpoint, in a folder beside its weights.
"""

from __future__ import annotations

import base64
import shutil
import statistics
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prismrec.io import load_tensors, read_json, save_tensors, write_json

if TYPE_CHECKING:
    from benchmarks.rounds import Arm, Record, Settings
    from prismrec.checkpoint import Checkpoints
    from prismrec.data.dataset import Dataset
    from prismrec.types import Reps

PROTOCOL = "mmrec"  # that of the published tables


def train(arm: Arm, settings: Settings, folder: Path, data: str, seed: int, weights: Path) -> Record:
    """Train an arm with ``settings``, keep ``weights`` if its test part may be asked for, say what came of it on validation."""
    import torch

    from prismrec.data.sources import read
    from prismrec.evaluate import Evaluator, protocol
    from prismrec.experiment import assemble, configure
    from prismrec.machine import cpu_threads, memory_kept, peak_memory_mb
    from prismrec.train import fit

    cpu = torch.device("cpu")
    dataset = read(folder / data).development()
    plain = weights.with_suffix(".yaml")  # a file of its own, so that the plan alone decides, and no packaged settings
    plain.parent.mkdir(parents=True, exist_ok=True)
    plain.write_text(f"model: {{name: {arm.model}}}\n", encoding="utf-8")
    asked = {"train.metric": arm.metric, **settings}
    cfg, _ = configure(dataset, arm.model, arm.plugins, plain, settings=asked, protocol=PROTOCOL, threads=1, seed=seed)
    checkpoints = _checkpoints(weights.with_suffix(""), {"config": cfg.tree(), "fingerprint": dataset.fingerprint})
    with cpu_threads(1), memory_kept():
        validate = Evaluator.of(dataset, "valid", protocol(PROTOCOL), arm.metrics, cpu)
        assembly, sampler = assemble(cfg, dataset, cpu)
        trained: Record = {}
        if assembly.trainable:
            progress = fit(assembly, sampler, validate, cfg.train, checkpoints)
            trained = {"epochs": progress.epoch, "best_epoch": progress.best_epoch}
            trained |= {
                "seconds": round(progress.seconds, 1),
                "seconds_epoch": round(statistics.median(r["seconds"] for r in progress.history), 2),
            }
        reps = assembly.represent()
        valid = validate(reps)
        if arm.looks:
            trained["subsets"] = subset_shares(reps, dataset, arm.cutoff)
    state = assembly.state_dict()
    directions = {k: int(v.any(0).sum()) for k, v in state.items() if ".basis_" in k}
    if arm.test != "never":
        save_tensors(weights, {k: v.contiguous() for k, v in state.items()})
    shutil.rmtree(checkpoints.folder)
    return {
        "arm": arm.name,
        "data": data,
        "fingerprint": dataset.fingerprint,
        "seed": seed,
        "settings": settings,
        "config": cfg.tree(),
        "valid": valid,
        **trained,
        **({"directions": directions} if directions else {}),
        "peak_mb": round(peak_memory_mb(cpu) or 0),
    }


def _checkpoints(folder: Path, of: dict[str, Any]) -> Checkpoints:
    """Those of the training that ``of`` describes; what another one left in the folder is dropped."""
    from prismrec.checkpoint import Checkpoints

    said = folder / "of.json"
    if folder.exists() and not (said.exists() and read_json(said) == of):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(said, of)
    return Checkpoints(folder)


def subset_shares(reps: Reps, dataset: Dataset, k: int) -> dict[str, float]:
    """Share of validation pairs of a user and a held-out item in each cell of ``prismrec.diagnostics.subsets``."""
    from prismrec.diagnostics.subject import Subject, View
    from prismrec.diagnostics.subsets import all_ranks, cells, held_out
    from prismrec.evaluate import protocol, seen_for

    pairs = held_out(Subject("", dataset, {}, View(k=k, part="valid")))
    table = cells(all_ranks(reps, pairs, seen_for(dataset, "valid", protocol(PROTOCOL))), k)
    return dict(zip(table["cell"], table["share"], strict=True))


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
    evaluation = Evaluator.of(dataset, "test", protocol(PROTOCOL), arm.metrics, cpu).evaluate(assembly.represent())
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
