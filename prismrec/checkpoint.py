"""What a training run must remember to go on exactly where it was: safetensors and JSON, written atomically.

A checkpoint is one JSON file, which names the tensor files and their checksums. It is replaced last, so that whatever kills
the process leaves either the old checkpoint or the new one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prismrec.errors import PrismError
from prismrec.io import load_tensors, read_json, save_tensors, write_json


@dataclass(frozen=True)
class Progress:
    """How far training is: ``epoch`` epochs are done, ``best`` is the best validation value, at ``best_epoch`` (from 1).

    ``seconds`` counts training and validation over all interruptions; ``done`` says that the stopping rule was met, and
    ``why``; ``history`` has one record an epoch.
    """

    epoch: int = 0
    best: float = float("-inf")
    best_epoch: int = 0
    seconds: float = 0.0
    done: bool = False
    why: str = ""
    history: tuple[dict[str, Any], ...] = field(default_factory=tuple)

    def after(self, record: dict[str, Any], value: float, seconds: float) -> Progress:
        """Progress after one more epoch whose validation value is ``value``; only a strictly better one counts."""
        epoch = self.epoch + 1
        better = value > self.best
        return replace(
            self,
            epoch=epoch,
            best=value if better else self.best,
            best_epoch=epoch if better else self.best_epoch,
            seconds=self.seconds + seconds,
            history=(*self.history, record),
        )


class Checkpoints:
    """The checkpoint of a run, in a folder of its own: ``checkpoint.json``, ``last-N.safetensors``, ``best-N.safetensors``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = folder / "checkpoint.json"

    def exists(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return self.index.is_file()

    def save(self, progress: Progress, last: dict[str, Tensor], best: dict[str, Tensor]) -> None:
        """Write both sets of tensors, then the index that makes them count, then drop what no index names any more."""
        known = self._read()["files"] if self.exists() else {}
        files = {}
        for role, step, tensors in (("last", progress.epoch, last), ("best", progress.best_epoch, best)):
            name = f"{role}-{step}.safetensors"
            unchanged = role == "best" and known.get(role, {}).get("name") == name
            digest = known[role]["sha256"] if unchanged else save_tensors(self.folder / name, tensors)
            files[role] = {"name": name, "sha256": digest}
        state = {**asdict(progress), "history": list(progress.history)}
        state["best"] = progress.best if progress.best_epoch else None  # -inf is not JSON
        write_json(self.index, {"format": 1, "progress": state, "files": files, "sha256": _digest(state, files)})
        kept = {entry["name"] for entry in files.values()}
        for old in self.folder.glob("*.safetensors"):
            if old.name not in kept:
                old.unlink(missing_ok=True)

    def load(self) -> tuple[Progress, dict[str, Tensor], dict[str, Tensor]]:
        """Progress, last tensors and best tensors; a damaged checkpoint is refused with a sentence."""
        index = self._read()
        state, files = index["progress"], index["files"]
        state["history"] = tuple(state["history"])
        state["best"] = float("-inf") if state["best"] is None else state["best"]
        last, best = (load_tensors(self.folder / files[r]["name"], files[r]["sha256"]) for r in ("last", "best"))
        return Progress(**state), last, best

    def history(self) -> tuple[dict[str, Any], ...]:
        """The records of the epochs done; none before the first checkpoint."""
        return tuple(self._read()["progress"]["history"]) if self.exists() else ()

    def _read(self) -> dict[str, Any]:
        index = read_json(self.index)
        try:
            if index["sha256"] == _digest(index["progress"], index["files"]):
                return dict(index)
        except (KeyError, TypeError):
            pass
        raise PrismError(
            f"{self.index} does not match the checksum in it: it was changed after it was written. "
            "Restore it from a copy, or train again."
        )


def _digest(state: dict[str, Any], files: dict[str, dict[str, str]]) -> str:
    return hashlib.sha256(json.dumps([state, files], sort_keys=True).encode()).hexdigest()


def pack(module: torch.nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
    """The state of module, optimizer and loss scaler as named tensors."""
    tensors = {f"module.{name}": value for name, value in module.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": torch.as_tensor(value) for name, value in state.items()}
    tensors |= {f"scaler.{name}": torch.tensor(float(value)) for name, value in scaler.state_dict().items()}
    return tensors


def unpack(
    tensors: dict[str, Tensor],
    module: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> None:
    """Put packed tensors back, in place."""
    load_module(module, strip(tensors, "module."))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in strip(tensors, "optimizer.").items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    kept = {name: value.item() for name, value in strip(tensors, "scaler.").items()}
    if kept:
        kept |= {name: int(kept[name]) for name in ("growth_interval", "_growth_tracker")}
        scaler.load_state_dict(kept)


def strip(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def load_module(module: torch.nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load a state dict; one of another model or another size is refused with a sentence."""
    own = module.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        have, want = tensors.get(name), own.get(name)
        if have is None or want is None or have.shape != want.shape:
            raise PrismError(
                f"The checkpoint does not fit this model: {name} is {'absent' if have is None else tuple(have.shape)} there "
                f"and {'absent' if want is None else tuple(want.shape)} here. The data or the settings have changed since."
            )
    module.load_state_dict(tensors)
