"""A data set with features of its pictures or texts: contents → encoder → transform → modality, remembered in provenance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from prismrec.data.dataset import PARTS, Dataset, Modality
from prismrec.data.prepare import with_step
from prismrec.encode import contents, transform
from prismrec.encode.base import Encoder, Kind
from prismrec.encode.cache import opened
from prismrec.encode.known import DEFAULT, PLAIN, Settings, load
from prismrec.encode.pipeline import Encoded, Watch, encode
from prismrec.errors import PrismError

FitOn = Literal["train", "all"]
"""The items that a transform is fitted to: those with a training row (all, before a split), or all."""

GATHER: Mapping[Kind, Callable[[Dataset, Path | None, Sequence[str]], contents.Gathered]] = {
    "image": contents.pictures,
    "text": contents.texts,
}


@dataclass(frozen=True)
class Made:
    """What ``add_features`` did: for the data card."""

    modality: str
    encoder: Encoder
    gathered: contents.Gathered
    encoded: Encoded
    parameters: Mapping[str, np.ndarray]
    fitted_to: int


def add_features(
    dataset: Dataset,
    kind: Kind,
    *,
    encoder: str = "",
    images: str | Path | None = None,
    columns: Sequence[str] = (),
    modality: str = "",
    chain: str | None = None,
    dtype: str = "float32",
    fit_on: FitOn = "train",
    batch: int = 0,
    workers: int = 1,
    remember: bool = True,
    settings: Settings = PLAIN,
    ray: str = "",
    watch: Watch | None = None,
) -> tuple[Dataset, Made]:
    """``dataset`` with one more modality (or with this one replaced), and what was found on the way.

    ``kind``: image or text. ``encoder``: a name of ``ENCODERS``, a folder or a hub name; empty for the default of the kind.
    ``images``: the folder of pictures. ``columns``: of the item table, see ``contents``. ``modality``: its name, else the
    kind. ``chain``: the transform (see ``transform.parse``), else what the encoder states. ``dtype``: float32 or float16, of
    the features. ``remember``: use the cache of this machine, without which a killed call starts anew. ``ray``: the address
    of a Ray cluster that encodes (see ``prismrec.encode.ray``); ``workers`` are then processes, else threads.

    Raises ``PrismError`` where nothing could be encoded, and for whatever a person can mend.
    """
    if dtype not in ("float32", "float16"):
        raise PrismError(f"Features of type {dtype!r} are not kept; take float32 or float16.")
    images = None if images is None else Path(images)
    gathered = GATHER[kind](dataset, images, columns)
    name = encoder or DEFAULT[kind]
    made = load(name, kind, settings)
    steps = transform.parse(made.transform if chain is None else chain)
    with opened(made.key, made.width, wanted=remember) as cache:
        if ray:
            from prismrec.encode.ray import encode as on_ray

            recipe = (name, kind, settings.device, settings.precision)
            encoded = on_ray(
                made, recipe, gathered.contents, address=ray, cache=cache, batch=batch, workers=workers, watch=watch
            )
        else:
            encoded = encode(made, gathered.contents, cache=cache, batch=batch, workers=workers, watch=watch)
    if not encoded.present.any():
        raise PrismError(f"None of {dataset.n_items:,} items gave features of {kind}: {counted(encoded.reasons)}.")
    rows = np.flatnonzero(encoded.present & _fitting(dataset, fit_on))
    parameters = transform.fit(encoded.values, rows, steps)
    values = transform.transformed(encoded.values, parameters, dtype)
    values[~encoded.present] = 0
    said: dict[str, Any] = {
        "step": "encode",
        "modality": modality or kind,
        "kind": kind,
        "encoder": made.name,
        "key": made.key,
        "columns": list(gathered.columns),
        "transform": transform.written(parameters),
        "fitted to": len(rows) if steps else 0,
        "missing": int((~encoded.present).sum()),
    }
    more = {**dataset.modalities, modality or kind: Modality(values, encoded.present, parameters)}
    new = replace(dataset, modalities=more, provenance=with_step(dataset, said))
    return new, Made(modality or kind, made, gathered, encoded, parameters, len(rows) if steps else 0)


def features_like(
    dataset: Dataset,
    modality: str,
    given: Sequence[contents.Content],
    *,
    workers: int = 1,
    remember: bool = True,
    settings: Settings = PLAIN,
) -> Modality:
    """Features of new contents (files, pictures as bytes, texts as UTF-8, or None), as those of ``dataset`` were made.

    The encoder and the fitted transform are those that ``add_features`` used, so that the new rows (n, r) may stand beside
    the old ones: of items that are new, say. Raises ``PrismError`` where the modality was not made by ``add_features``, or
    where the encoder or its libraries are others now.
    """
    steps = [s for s in dataset.provenance.get("steps", []) if s.get("step") == "encode" and s["modality"] == modality]
    if not steps or modality not in dataset.modalities:
        made = sorted({s["modality"] for s in dataset.provenance.get("steps", []) if s.get("step") == "encode"})
        raise PrismError(
            f"The features of {modality!r} in {dataset.name} were not made by PrismRec, so others cannot be made like them; "
            f"made by it were: {', '.join(made) or 'none'}."
        )
    said = steps[-1]
    encoder = load(said["encoder"], said["kind"], settings)
    if encoder.key != said["key"]:
        raise PrismError(
            f"The encoder {said['encoder']} is not the one that made {modality!r} of {dataset.name}: its weights, its "
            "precision or the versions of its libraries are others. Encode the whole catalogue again: `prismrec data encode`."
        )
    old = dataset.modalities[modality]
    with opened(encoder.key, encoder.width, wanted=remember) as cache:
        found = encode(encoder, given, cache=cache, workers=workers)
    values = transform.transformed(found.values, old.transform, old.values.dtype.name)
    values[~found.present] = 0
    return Modality(values, found.present, old.transform)


def counted(reasons: Mapping[int, str]) -> str:
    """``3 no file, 1 empty file``: the most frequent first."""
    names, counts = np.unique(list(reasons.values()), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return ", ".join(f"{counts[i]:,} {names[i]}" for i in order)


def _fitting(dataset: Dataset, fit_on: FitOn) -> np.ndarray:
    """Which items (n,) a transform may look at."""
    rows = dataset.interactions
    if fit_on == "all" or rows.split is None:
        return np.ones(dataset.n_items, dtype=bool)
    return np.bincount(rows.item[rows.split == PARTS["train"]], minlength=dataset.n_items) > 0
