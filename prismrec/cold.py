"""Items that were not there in training: what a trained model says of them from their features.

The model is made again for a wider catalogue: what it learnt stays as it is, new rows of ID tables are zero, and graphs keep
the rows that they have (``Context.n_new``). A new item has a row of its own in the item graph, made of the nearest known
items. What ``forward`` then says of the new rows is their side. So the side of an item does not depend on what else is added,
and nothing that was known moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prismrec.assembly import Assembly, build
from prismrec.data.dataset import Dataset
from prismrec.data.sources import read
from prismrec.data.splits import is_warm
from prismrec.errors import PrismError, nearest
from prismrec.experiment import context
from prismrec.index import FUSED
from prismrec.models.base import Context
from prismrec.nn import Projector, Raw
from prismrec.ranking import rows_of
from prismrec.run_folder import saved_config
from prismrec.runs import data_of, restore
from prismrec.sides import own, stacked
from prismrec.types import Reps, Rows

Features = Mapping[str, np.ndarray | Sequence[Sequence[float]]]
"""Modality → raw features (n, r) of new items."""


@dataclass(frozen=True)
class Trained:
    """A trained model with its plug-ins, and the context that it was made for: all that new items need."""

    assembly: Assembly
    ctx: Context

    @staticmethod
    def of(assembly: Assembly, dataset: Dataset) -> Trained:
        """A model in memory and the data that it was trained on, whose test rows are not read."""
        tensors = [*assembly.parameters(), *assembly.buffers()]
        device = tensors[0].device if tensors else torch.device("cpu")
        rows = replace(dataset.development(), modalities={})  # the assembly holds the features
        return Trained(assembly, replace(context(rows, device), raw=assembly.raw))

    @staticmethod
    def of_run(folder: str | Path, data: Dataset | str | Path | None = None) -> Trained:
        """A finished run: its weights, and the data that it was trained on, by default from where it was read then.

        Raises ``PrismError`` for an unfinished run, for data that is not there any more, and for other data than its own.
        """
        folder = Path(folder)
        _, known = saved_config(folder)
        if not isinstance(data, Dataset):
            data = read(data_of(folder, known, data, "add_items(…, data=DATA)"))
        return Trained.of(restore(folder, data), data)

    @property
    def widths(self) -> dict[str, int]:
        """Modality → width of the raw features that it was trained with."""
        return {m: raw.width for m, raw in self.ctx.raw.items()}

    def check(self) -> None:
        """Raise ``PrismError`` where this model cannot say anything of an item that it was not trained on."""
        model = self.assembly.model
        if reason := model.without_new():
            raise PrismError(
                f"{model.name} says nothing of an item that it was not trained on: {reason}. Train again with the new "
                "items, or choose a model whose items come from features (docs/cold.md lists them)."
            )

    def grown(self, more: Mapping[str, Raw]) -> Assembly:
        """The same model for its items and ``more``: modality → raw features of n new items (n, r) and who has them."""
        self.check()
        known = self.ctx
        n = len(next(iter(more.values())).values)
        raw = {m: _joined(known.raw[m], more[m]) for m in known.raw}
        wide = replace(known, n_items=known.n_items + n, raw=raw, n_new=known.n_new + n)
        old = self.assembly
        made = build(type(old.model), old.model.cfg, [(type(p), p.cfg) for p in old.chain], wide, seed=0)
        kept = {f"{place}.table" for place, part in made.named_modules() if isinstance(part, Projector)}
        learnt, start = old.state_dict(), made.state_dict()
        made.load_state_dict({name: _filled(learnt[name], start[name], name in kept) for name in start})
        return made.eval()

    def sides(self, more: Mapping[str, Raw]) -> dict[str, Tensor]:
        """Item sides of new items by name, ``"fused"`` and each modality that has its own → (n, d) on the CPU."""
        reps = self.grown(more).represent()
        first = self.ctx.n_items
        rows = torch.arange(first, len(reps.item.values), device=reps.user.device)
        found = {FUSED: reps.item.values} | {m: item.values for m, (_, item) in reps.modal.items()}
        return {name: own(rows_of(side, rows)) for name, side in found.items()}


def _joined(known: Raw, more: Raw) -> Raw:
    values = more.values.to(known.values.device, known.values.dtype)
    return replace(
        known,
        values=torch.cat([known.values, values]),
        present=torch.cat([known.present, more.present.to(known.present.device)]),
    )


def _filled(value: Tensor, start: Tensor, keep: bool) -> Tensor:
    """What was learnt, in a tensor as long as ``start``: rows beyond it are zero, or as they start where ``keep`` says so."""
    if value.shape == start.shape:
        return value
    rest = start[len(value) :] if keep else torch.zeros_like(start[len(value) :])
    return torch.cat([value, rest.to(value.dtype)])


def raw_features(features: Features, ids: Sequence[object], widths: Mapping[str, int]) -> dict[str, Raw]:
    """Features of new items as tensors, checked: a row for each of ``ids``, as wide as the model's own (``widths``).

    A modality that is left out, or a row of NaN alone, says that the item lacks it. Raises ``PrismError`` for features of
    another shape, numbers that are not finite, and items that have nothing at all.
    """
    if not widths:
        raise PrismError(
            "The model was trained on data without features, so that new items cannot be told apart by any."
        )
    for m in features:
        if m not in widths:
            hint = nearest(m, widths)
            raise PrismError(f"The new items have features for {m!r}, which this model was not trained with. {hint}")
    found = {}
    for m, width in widths.items():
        if m not in features:
            found[m] = Raw(torch.zeros(len(ids), width), torch.zeros(len(ids), dtype=torch.bool))
            continue
        values = np.asarray(features[m], dtype=np.float32)
        if values.shape != (len(ids), width):
            raise PrismError(
                f"The features {m!r} of the new items have shape {values.shape}; expected {(len(ids), width)}: a row for "
                "each item, made by the encoder that made those of the known items."
            )
        present = np.asarray(~np.isnan(values).all(axis=1))
        if not np.isfinite(values[present]).all():
            bad = int(np.flatnonzero(present & ~np.isfinite(values).all(axis=1))[0])
            raise PrismError(
                f"The features {m!r} of item {ids[bad]!r} hold NaN or infinite numbers; give finite ones, or a row of "
                "NaN alone for an item that lacks the modality."
            )
        found[m] = Raw(torch.from_numpy(np.where(present[:, None], values, 0.0)), torch.from_numpy(present))
    lacking = ~torch.stack([raw.present for raw in found.values()]).any(0)
    if lacking.any():
        first = ids[int(lacking.nonzero()[0])]
        raise PrismError(
            f"Item {first!r} has no features at all ({int(lacking.sum()):,} such), so nothing is known of it; give it at "
            f"least one of {', '.join(widths)}."
        )
    return found


def widened(trained: Trained, dataset: Dataset) -> Reps:
    """Representations for all items of ``dataset``, of a model that was trained on its warm part (``splits.warm_part``).

    Warm items have those that training gave them, cold ones those of their features. On the CPU.
    """
    warm = torch.from_numpy(is_warm(dataset))
    cold = (~warm).numpy()
    more = {
        m: Raw(torch.from_numpy(np.array(modality.values[cold])), torch.from_numpy(modality.present[cold]))
        for m, modality in dataset.modalities.items()
    }
    sides, reps = trained.sides(more), trained.assembly.represent()
    place = torch.where(warm, warm.cumsum(0) - 1, int(warm.sum()) + (~warm).cumsum(0) - 1)

    def whole(item: Rows, name: str) -> Rows:
        return Rows(rows_of(stacked(own(item.values), sides[name]), place))

    modal = {m: (own(user), whole(item, m)) for m, (user, item) in reps.modal.items()}
    return Reps(own(reps.user), whole(reps.item, FUSED), modal=modal)
