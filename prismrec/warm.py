"""Training that starts from a finished run, on data with new interactions, users or items.

Numbers of users and items that the run knew are copied, by their ids; rows of new ones start as the model starts them; what
belongs to nobody in particular (projections, gates) is copied whole. Which rows belong to whom is not guessed from names: the
model is made three times for a handful of users and items, and the rows that come with one more user are the users'.

A warm start is a checkpoint after no epoch, from which training then goes on as after any interruption.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prismrec.assembly import Assembly, build
from prismrec.checkpoint import Checkpoints, Progress, pack
from prismrec.config import RunConfig
from prismrec.data.dataset import Dataset
from prismrec.data.ids import IdMap
from prismrec.data.sources import read
from prismrec.errors import PrismError
from prismrec.experiment import assemble
from prismrec.index import Index
from prismrec.io import write_json
from prismrec.machine import cpu_threads, pick_device
from prismrec.models import Context
from prismrec.nn import Raw
from prismrec.ranking import Csr
from prismrec.run_folder import check_free, held, saved_config, saved_result
from prismrec.runs import data_of
from prismrec.train import clone, make_optimizer

_USERS, _ITEMS = 97, 131  # of the catalogue on which shapes are compared


@dataclass(frozen=True)
class Moved:
    """Rows ``old`` (n,) of ``n_old`` are rows ``new`` (n,) of ``n_new``."""

    old: Tensor
    new: Tensor
    n_old: int
    n_new: int

    @staticmethod
    def whole(n: int) -> Moved:
        """All of them, where they are."""
        return Moved(torch.arange(n), torch.arange(n), n, n)

    def then(self, other: Moved) -> Moved:
        """These rows, and those of ``other`` after them."""
        old, new = torch.cat([self.old, self.n_old + other.old]), torch.cat([self.new, self.n_new + other.new])
        return Moved(old, new, self.n_old + other.n_old, self.n_new + other.n_new)

    @property
    def counts(self) -> dict[str, int]:
        """How many are known, new and gone."""
        return {"known": len(self.old), "new": self.n_new - len(self.old), "gone": self.n_old - len(self.old)}


@dataclass(frozen=True)
class Known:
    """Whom the earlier run knew: counts of users and items that are known, new and gone, and held-out rows it trained on.

    ``trained_on``: rows of the new data's validation and test parts that the earlier run has seen in training, or may have
    (``exact`` is False where its own data set is not there any more, so that only what it knew altogether can be compared).
    """

    users: Mapping[str, int]
    items: Mapping[str, int]
    trained_on: int
    held_out: int
    exact: bool

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {"users": dict(self.users), "items": dict(self.items), "held_out": self.held_out,
                "held_out_trained_on": self.trained_on, "exact": self.exact}  # fmt: skip

    def sentences(self) -> list[str]:
        """For people."""
        lines = [
            f"{what}: {n['known']:,} known, {n['new']:,} new, {n['gone']:,} gone"
            for what, n in (("users", self.users), ("items", self.items))
        ]
        if self.trained_on:
            lines.append(
                f"{'' if self.exact else 'Up to '}{self.trained_on:,} of {self.held_out:,} held-out rows of this data were "
                "training rows of the earlier run, so that validation and test figures will be too good. Split so that what "
                "was trained on stays in training, by time for instance, before you believe them."
            )
        return lines


def start(run: Path, cfg: RunConfig, dataset: Dataset, folder: Path, data: str | None = None) -> Known:
    """Prepare the new run ``folder`` so that ``experiment.run`` goes on in it from where ``run`` ended.

    ``cfg``: settings of the new run; ``data``: where ``dataset`` was read from. Writes the starting checkpoint, ``warm.json``
    and the settings. Raises ``PrismError`` where ``run`` is not finished, has another model or other widths, or has no user and
    no item in common with ``dataset``.
    """
    saved_result(run)
    check_free(folder, cfg, dataset)
    dataset.require("train", "valid", "test")
    before, source = saved_config(run)
    _same_model(run, before, cfg)
    learnt = _weights(run)
    index = Index.load(run / "index")
    users, items = _moved(index.users, dataset.users), _moved(index.items, dataset.items)
    if not len(users.old) and not len(items.old):
        raise PrismError(
            f"{run} knows none of the users and items of {dataset.name!r}: its ids look like "
            f"{index.users.external.head(2).to_list()}, these like {dataset.users.external.head(2).to_list()}. "
            "Prepare the new data with the same ids, or train without --warm-start."
        )
    moved = {"users": users, "items": items, "both": users.then(items)}
    device = pick_device(cfg.run.device)
    with cpu_threads(cfg.run.threads):
        assembly, _ = assemble(cfg, dataset.development(), device)
        widths = {m: modality.width for m, modality in dataset.modalities.items()}
        fill(assembly, learnt, owners_of(cfg, widths), moved)
        optimizer = make_optimizer(assembly, cfg.train)
        scaler = torch.amp.GradScaler(device.type, enabled=cfg.train.precision == "fp16")
        # before the settings, which make the folder a run: whoever is killed here leaves none that would start cold
        Checkpoints(folder / "checkpoint").save(Progress(), pack(assembly, optimizer, scaler), clone(assembly))
    known = _known(run, source, index, dataset, moved)
    write_json(
        folder / "warm.json", {"run": str(run.resolve()), "fingerprint": source.get("fingerprint"), **known.record()}
    )
    with held(folder, cfg, dataset, data):
        return known


def fill(
    assembly: Assembly, learnt: Mapping[str, Tensor], owners: Mapping[str, tuple[str, ...]], moved: Mapping[str, Moved]
) -> None:
    """Copy what was ``learnt`` into a model for another catalogue, in place.

    ``owners``: name → for each dimension whose rows it holds: ``users``, ``items``, ``both`` (users first, then items) or
    ``nobody``. ``moved``: where rows of users, items and both go. Buffers of whole numbers (ids, counts) stay as they start.
    """
    own = assembly.state_dict()
    for name, value in own.items():
        old = learnt.get(name)
        if old is None or old.dim() != value.dim():
            raise PrismError(
                f"The earlier run has no {name} like that of this model: its modalities, plug-ins or settings are others. "
                "Use those of the earlier run."
            )
        if not value.is_floating_point():
            continue
        steps = [moved.get(owner) or Moved.whole(n) for owner, n in zip(owners[name], value.shape, strict=True)]
        if [step.n_old for step in steps] != list(old.shape):
            raise PrismError(
                f"{name} has shape {tuple(old.shape)} in the earlier run and {tuple(value.shape)} here: a width or a feature "
                "differs. Use the settings and the encoders of the earlier run."
            )
        part = old
        for d, step in enumerate(steps):
            part = part.index_select(d, step.old)
        if steps:
            value[torch.meshgrid(*(step.new for step in steps), indexing="ij")] = part.to(value.device, value.dtype)
        else:
            value.copy_(part)
    assembly.load_state_dict(own)


def owners_of(cfg: RunConfig, widths: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Whose rows each dimension of each tensor of a model holds: those that come with one more user, or one more item."""
    base, user, item = (_shapes(cfg, widths, *sizes) for sizes in ((0, 0), (1, 0), (0, 1)))
    names = {(False, False): "nobody", (True, False): "users", (False, True): "items", (True, True): "both"}
    return {
        name: tuple(names[u != n, i != n] for n, u, i in zip(shape, user[name], item[name], strict=True))
        for name, shape in base.items()
    }


def _shapes(cfg: RunConfig, widths: Mapping[str, int], users: int, items: int) -> dict[str, torch.Size]:
    """Shapes of the state of a model made for a small catalogue, with so many users and items more."""
    rng = torch.Generator().manual_seed(0)
    n_users, n_items = _USERS + users, _ITEMS + items
    taken = torch.rand(n_users, n_items, generator=rng) < 0.1
    taken[torch.arange(n_users), torch.arange(n_users)] = True
    user, item = taken.nonzero(as_tuple=True)
    raw = {
        m: Raw(torch.randn(n_items, width, generator=rng), torch.ones(n_items, dtype=torch.bool))
        for m, width in widths.items()
    }
    made = build(cfg.model, cfg.model_cfg, cfg.plugins, Context(n_users, n_items, user, item, None, raw), seed=0)
    return {name: value.shape for name, value in made.state_dict().items()}


def _same_model(run: Path, before: RunConfig, cfg: RunConfig) -> None:
    if before.label != cfg.label:
        raise PrismError(
            f"{run} is a run of {before.label}, and this would be one of {cfg.label}; a warm start keeps model and plug-ins."
        )


def _weights(run: Path) -> dict[str, Tensor]:
    """What a run had learnt at its best epoch."""
    checkpoints = Checkpoints(run / "checkpoint")
    if not checkpoints.exists():
        raise PrismError(
            f"{run} has nothing that was learnt: its model is built, not trained. Train without --warm-start."
        )
    return checkpoints.load()[2]


def _moved(before: IdMap, now: IdMap) -> Moved:
    place = now.find(before.external)
    old = np.flatnonzero(place >= 0)
    return Moved(torch.from_numpy(old), torch.from_numpy(place[old]), len(before), len(now))


def _known(run: Path, source: Mapping[str, Any], index: Index, dataset: Dataset, moved: Mapping[str, Moved]) -> Known:
    pairs, exact = _trained_on(run, source, index)
    held_out = dataset.interactions.part("valid", "test")
    user, item = (
        index.users.find(dataset.users.decode(held_out.user)),
        index.items.find(dataset.items.decode(held_out.item)),
    )
    both = (user >= 0) & (item >= 0)
    again = np.isin(user[both] * len(index.items) + item[both], pairs)
    return Known(moved["users"].counts, moved["items"].counts, int(again.sum()), len(held_out), exact)


def _trained_on(run: Path, source: Mapping[str, Any], index: Index) -> tuple[np.ndarray, bool]:
    """Pairs that a run was trained on, as user · I + item; all that it knew where its data set is not there any more."""
    n_items = len(index.items)
    try:
        before = read(data_of(run, source, None, ""))
        if before.fingerprint == source.get("fingerprint"):
            train = before.interactions.part("train")
            return train.user.astype(np.int64) * n_items + train.item, True
    except PrismError:
        pass
    seen: Csr = index.seen
    return (seen.row * n_items + seen.indices).numpy(), False
