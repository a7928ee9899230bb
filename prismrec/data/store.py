"""The one form of a data set on disk: a folder of Parquet and ``.npy`` files under a manifest that proves them.

::

    manifest.json           format, name, counts, types of ids, split, provenance, fingerprints, SHA-256 and size of each file
    interactions.parquet    user, item (internal ids, int32), and where known split, weight, timestamp, rating
    users.parquet           user: external ids in internal order
    items.parquet           item: external ids in internal order; then whatever is known of the items
    features/<m>.npy        features of modality m, one row per item
    features/<m>.present.npy    which items have that modality
    features/<m>.transform.safetensors  what its features went through, where they went through something
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from prismrec import io
from prismrec.data import columns
from prismrec.data.dataset import COLUMNS, PARTS, Dataset, Interactions, Modality
from prismrec.data.ids import IdMap
from prismrec.data.modalities import load_array
from prismrec.errors import PrismError, first_fault

MANIFEST = "manifest.json"
FORMAT = 1
SMALL = 64 * 2**20
"""Bytes up to which ``load`` verifies the checksum of a file; larger ones have only their size verified."""

_TRANSFORM = ".transform.safetensors"

Verify = Literal["small", "full"]


class File(BaseModel):
    """Size in bytes and SHA-256 of a file of the folder."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    size: int
    sha256: str


class Manifest(BaseModel):
    """What ``manifest.json`` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: int
    name: str
    users: int
    items: int
    interactions: int
    user_id_type: str
    item_id_type: str
    columns: list[str]
    split: dict[str, int] | None
    modalities: dict[str, dict[str, int | str]]
    provenance: dict[str, Any]
    fingerprint: str
    interactions_fingerprint: str
    files: dict[str, File]


def save(dataset: Dataset, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write ``dataset`` as the folder ``path``, whole or not at all, and return the path.

    Everything goes to a folder beside it, which then takes its name. With ``overwrite`` an earlier data set there is
    replaced; a folder that holds anything else is never touched. Raises ``PrismError`` if ``path`` is taken.
    """
    path = Path(path)
    refuse_taken(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        _write(dataset, part)
        if path.exists():
            path.rename(old)
        part.rename(path)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return path


def refuse_taken(path: str | Path, overwrite: bool) -> None:
    """Raise ``PrismError`` unless ``save`` may write to ``path``: to be called before long work."""
    path = Path(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not overwrite:
        raise PrismError(
            f"{path} exists already; name another folder, or replace it with overwrite=True (--overwrite)."
        )
    if not (path / MANIFEST).exists():
        raise PrismError(
            f"{path} is not a data set of PrismRec (no {MANIFEST}), so it is not replaced; name another folder."
        )


def _write(dataset: Dataset, folder: Path) -> None:
    rows = dataset.interactions
    (folder / "features").mkdir(parents=True)
    present = {name: getattr(rows, name) for name in COLUMNS if getattr(rows, name) is not None}
    pl.DataFrame(present).write_parquet(folder / "interactions.parquet")
    pl.DataFrame({"user": dataset.users.external}).write_parquet(folder / "users.parquet")
    item_table = dataset.item_table
    if not item_table.width:
        item_table = pl.DataFrame({"item": dataset.items.external})
    item_table.write_parquet(folder / "items.parquet")
    for name, modality in dataset.modalities.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise PrismError(f"Modality {name!r} cannot name a file; use letters, digits, '_' and '-'.")
        np.save(folder / "features" / f"{name}.npy", modality.values, allow_pickle=False)
        np.save(folder / "features" / f"{name}.present.npy", modality.present, allow_pickle=False)
        if modality.transform:
            io.save_arrays(folder / "features" / f"{name}{_TRANSFORM}", modality.transform)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    manifest = Manifest(
        format=FORMAT,
        name=dataset.name,
        users=dataset.n_users,
        items=dataset.n_items,
        interactions=len(rows),
        user_id_type=str(dataset.users.external.dtype),
        item_id_type=str(dataset.items.external.dtype),
        columns=list(present),
        split=None if rows.split is None else {part: int((rows.split == code).sum()) for part, code in PARTS.items()},
        modalities={
            name: {"width": m.width, "type": m.values.dtype.name, "missing": int((~m.present).sum())}
            for name, m in dataset.modalities.items()
        },
        provenance=dict(dataset.provenance),
        fingerprint=dataset.fingerprint,
        interactions_fingerprint=dataset.interactions_fingerprint,
        files={p.relative_to(folder).as_posix(): File(size=p.stat().st_size, sha256=io.sha256(p)) for p in files},
    )
    io.write_json(folder / MANIFEST, manifest.model_dump())


def load(path: str | Path, *, verify: Verify = "small", name: str | None = None) -> Dataset:
    """The data set in the folder ``path``; features are memory-mapped.

    Sizes of all files and checksums of those up to ``SMALL`` bytes are verified, all checksums and the fingerprint with
    ``verify="full"``. Raises ``PrismError`` for a folder of another kind or version, and for a file that is missing, cut
    short or changed.
    """
    folder = Path(path)
    manifest = _manifest(folder)
    for file, expected in manifest.files.items():
        _check(folder, file, expected, verify)
    frame = _parquet(folder / "interactions.parquet")
    items = _parquet(folder / "items.parquet")
    users = _parquet(folder / "users.parquet")
    dataset = Dataset(
        name=name or manifest.name,
        users=IdMap(users["user"], "user"),
        items=IdMap(items["item"], "item"),
        interactions=Interactions(
            **{column: frame[column].to_numpy().astype(COLUMNS[column], copy=False) for column in manifest.columns}
        ),
        modalities={
            m: Modality(
                load_array(folder / "features" / f"{m}.npy"),
                np.array(load_array(folder / "features" / f"{m}.present.npy")),
                io.load_arrays(folder / kept) if (kept := f"features/{m}{_TRANSFORM}") in manifest.files else {},
            )
            for m in manifest.modalities
        },
        item_table=items,
        provenance=manifest.provenance,
    )
    if verify == "full" and dataset.fingerprint != manifest.fingerprint:
        raise PrismError(
            f"The content of {folder} has the fingerprint {dataset.fingerprint}, but its manifest says "
            f"{manifest.fingerprint}; one of them was changed: import the data again."
        )
    return dataset


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not path.exists():
        raise PrismError(
            f"{folder} has no {MANIFEST}, so it is not a data set of PrismRec; import it with `prismrec data import`."
        )
    content = io.read_json(path)
    version = content.get("format") if isinstance(content, Mapping) else None
    if version != FORMAT:
        raise PrismError(
            f"{path} has format {version!r}, this version of PrismRec reads format {FORMAT}; import the data again."
        )
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        raise PrismError(f"{path} is not a valid manifest: {first_fault(error)}. Import the data again.") from error
    needed = {"interactions.parquet", "users.parquet", "items.parquet"}
    needed |= {f"features/{m}{end}" for m in manifest.modalities for end in (".npy", ".present.npy")}
    allowed = needed | {f"features/{m}{_TRANSFORM}" for m in manifest.modalities}
    if not needed <= set(manifest.files) <= allowed or not {"user", "item"} <= set(manifest.columns) <= set(COLUMNS):
        raise PrismError(f"{path} does not list the files and columns of a data set; import the data again.")
    return manifest


def _check(folder: Path, name: str, expected: File, verify: Verify) -> None:
    path = folder / name
    if not path.is_file():
        raise PrismError(f"{folder} lacks the file {name} that its manifest lists; copy the whole folder again.")
    size = path.stat().st_size
    if size != expected.size:
        raise PrismError(
            f"{path} has {size:,} bytes where its manifest says {expected.size:,}: it was cut short or changed. "
            "Copy it again, or import the data again."
        )
    if (size <= SMALL or verify == "full") and io.sha256(path) != expected.sha256:
        raise PrismError(
            f"{path} does not match the checksum in its manifest: it was changed. Copy it again, or import the data again."
        )


def _parquet(path: Path) -> pl.DataFrame:
    return columns.collect(pl.scan_parquet(path), path)
