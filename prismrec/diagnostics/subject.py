"""What a diagnosis looks at: a trained run with its data, or data alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prismrec.assembly import Assembly
from prismrec.config import RunConfig
from prismrec.data.dataset import Dataset
from prismrec.data.sources import read
from prismrec.errors import PrismError
from prismrec.evaluate import Protocol, protocol
from prismrec.experiment import context
from prismrec.machine import pick_device
from prismrec.nn import Raw
from prismrec.run_folder import check_same_data, saved_config
from prismrec.runs import Run, data_of, restore
from prismrec.types import Feats, Reps


@dataclass(frozen=True)
class View:
    """How to look: ``k`` the length of lists; ``part`` ("valid" or "test") whose hits are counted; ``masked``: whether the
    items that the protocol leaves out of a user's list are left out here; ``seed`` of whatever is drawn."""

    k: int = 20
    part: str = "valid"
    masked: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.k < 1:
            raise PrismError(f"k is {self.k}; a list needs at least one place: ask for k ≥ 1.")
        if self.part not in ("valid", "test"):
            raise PrismError(f"The part is {self.part!r}; hits are counted on 'valid' or on 'test'.")


@dataclass(frozen=True)
class Subject:
    """What a diagnosis looks at. All tensors are on one device and carry no gradient.

    ``dataset``: without its test rows unless the view asks for them. ``raw``: modality → raw features of all items and who
    has them. The rest is of a trained run, and empty or None for data alone: ``assembly`` as of its best epoch; ``reps`` of
    all users and items; ``before`` and ``after``: modality → projected features of all items before and after the plug-ins,
    noise off; ``history``: a record an epoch; ``rules``: what is masked.
    """

    label: str
    dataset: Dataset
    raw: Mapping[str, Raw]
    view: View = field(default_factory=View)
    rules: Protocol = field(default_factory=lambda: protocol("default"))
    assembly: Assembly | None = None
    reps: Reps | None = None
    before: Feats = field(default_factory=dict)
    after: Feats = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    config: RunConfig | None = None
    folder: Path | None = None

    @staticmethod
    def of_data(dataset: Dataset, view: View | None = None) -> Subject:
        """A data set that nothing was trained on; it needs no split."""
        view, rows = view or View(), dataset.interactions
        if rows.split is None:
            dataset = replace(dataset, interactions=replace(rows, split=np.zeros(len(rows), np.int8)))
        dataset = _seen(dataset, view)
        return Subject(dataset.name, dataset, context(dataset, torch.device("cpu")).raw, view)

    @staticmethod
    def of_run(
        folder: str | Path,
        dataset: Dataset | str | Path | None = None,
        view: View | None = None,
        device: torch.device | str | None = None,
    ) -> Subject:
        """A finished run. ``dataset``: what it was trained on, or where that lies; by default where it was read from.

        Raises ``PrismError`` for an unfinished run, and for other data than its own.
        """
        run, view = Run.read(folder), view or View()
        cfg, known = saved_config(run.folder)
        if not isinstance(dataset, Dataset):
            dataset = read(data_of(run.folder, known, dataset, f"prismrec diagnose {run.folder} --data DATA"))
        check_same_data(run.folder, known, dataset)
        place = pick_device(cfg.run.device) if device is None else torch.device(device)
        assembly = restore(run.folder, dataset, place)
        return Subject.of_assembly(
            assembly, _seen(dataset, view), run.label, view,
            rules=protocol(cfg.run.protocol), history=run.epochs, config=cfg, folder=run.folder,
        )  # fmt: skip

    @staticmethod
    @torch.no_grad()
    def of_assembly(assembly: Assembly, dataset: Dataset, label: str, view: View | None = None, **more: Any) -> Subject:
        """A model with its plug-ins that is in memory. ``more``: further fields."""
        reps = assembly.represent()
        assembly.eval()  # noise off
        before = after = assembly.model.project(assembly.raw, None)
        for plugin in assembly.chain:
            after, _ = plugin.encode(after, None)
        return Subject(
            label,
            dataset,
            assembly.raw,
            view or View(),
            assembly=assembly,
            reps=reps,
            before=before,
            after=after,
            **more,
        )

    def require_reps(self) -> Reps:
        """Its representations; a ``PrismError`` for data alone."""
        if self.reps is None:
            raise PrismError("It looks at representations, which data alone does not have.")
        return self.reps

    def require_modalities(self, least: int = 2) -> tuple[str, ...]:
        """Names of the modalities with raw features; a ``PrismError`` where there are fewer than ``least``."""
        if len(self.raw) < least:
            raise PrismError(f"It needs at least {least} modalities; the data has {len(self.raw)}.")
        return tuple(self.raw)

    def require_branches(self, least: int = 2) -> tuple[str, ...]:
        """Names of the modalities for which the model states a score of its own; a ``PrismError`` where they are too few."""
        found = tuple(self.require_reps().modal)
        if len(found) < least:
            raise PrismError(
                f"It needs a model that states a score for each of at least {least} modalities; this one states "
                f"{', '.join(found) or 'none'}."
            )
        return found


def _seen(dataset: Dataset, view: View) -> Dataset:
    """The data without its test rows, unless it is they that are asked for."""
    return dataset if view.part == "test" else dataset.development()
