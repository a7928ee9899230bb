"""The written form of an export: a folder whose ``manifest.json`` names its files with sizes and checksums.

::

    manifest.json           what it holds, the shapes of its tables, where it came from, what was measured, its files
    tensors.N.safetensors   representations, seen items, popularity
    users.N.parquet         user: external ids in internal order
    items.N.parquet         item: external ids in internal order; then whatever is known of the items
    near.N.bin              an approximate index, where one was built

Another writing has another N, and the manifest is replaced last, in one step: whoever reads finds either the old export or
the new one, and what was opened stays readable.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prismrec import io
from prismrec.errors import PrismError, first_fault

MANIFEST = "manifest.json"
KIND = "prismrec.export"
FORMAT = 1
Writer = Callable[[Path], None]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class File(_Record):
    """A file of the folder."""

    name: str
    size: int = Field(ge=0)
    sha256: str


class TableForm(_Record):
    """``kind``: float32, float16, int8 or sparse; ``rows`` and ``width``: its shape."""

    kind: str
    rows: int = Field(ge=0)
    width: int = Field(ge=0)


class SideForm(_Record):
    """Names of two tables."""

    user: str
    item: str


class NearForm(_Record):
    """An approximate index of the first ``n`` items; see ``ann.Near``."""

    kind: str
    n: int = Field(ge=1)
    effort: int = Field(ge=1)
    info: dict[str, Any]


class Manifest(_Record):
    """What ``manifest.json`` holds."""

    kind: str
    format: int
    generation: int = Field(ge=1)
    users: int = Field(ge=0)
    items: int = Field(ge=1)
    dtype: str
    sides: dict[str, SideForm]
    contents: dict[str, str]
    axes: dict[str, int]
    tables: dict[str, TableForm]
    near: NearForm | None
    pictures: str | None
    info: dict[str, Any]
    measured: dict[str, Any] | None
    files: dict[str, File]
    sha256: str = ""

    def digest(self) -> str:
        """SHA-256 of everything else in it."""
        rest = self.model_dump(exclude={"sha256"})
        return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an export; anything else is a ``PrismError``."""
    path = folder / MANIFEST
    if not path.is_file():
        raise PrismError(f"{folder} holds no export (no {MANIFEST}); write one with `prismrec export RUN -o {folder}`.")
    content = io.read_json(path)
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise PrismError(f"{path} is not the manifest of an export; write one with `prismrec export RUN -o FOLDER`.")
    if content.get("format") != FORMAT:
        raise PrismError(
            f"{path} has format {content.get('format')!r}, this version of PrismRec reads format {FORMAT}; export again."
        )
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        raise PrismError(f"{path} is not a valid manifest: {first_fault(error)}. Export again.") from None
    if manifest.sha256 != manifest.digest():
        raise PrismError(
            f"{path} does not match the checksum in it: it was changed after it was written. Copy it again, or export again."
        )
    return manifest


def file_of(folder: Path, manifest: Manifest, kind: str, verify: bool = True) -> Path:
    """The path of a file, after its name, its size and (with ``verify``) its checksum were found to be right."""
    known = manifest.files.get(kind)
    if known is None or Path(known.name).name != known.name or known.name in ("", ".", ".."):
        raise PrismError(f"{folder / MANIFEST} names no file for {kind!r} in its folder; export again.")
    path = folder / known.name
    if not path.is_file():
        raise PrismError(f"{folder} lacks the file {known.name} that its manifest lists; copy the whole folder again.")
    size = path.stat().st_size
    if size != known.size:
        raise PrismError(
            f"{path} has {size:,} bytes where the manifest says {known.size:,}: it was cut short or changed. "
            "Copy it again, or export again."
        )
    if verify and io.sha256(path) != known.sha256:
        raise PrismError(
            f"{path} does not match its checksum: it was changed after it was written. Copy it again, or export again."
        )
    return path


def read_parquet(path: Path, first: str) -> pl.DataFrame:
    """A Parquet file whose first column is called ``first`` and holds distinct ids; anything else is a ``PrismError``."""
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise PrismError(f"{path} is no Parquet file that can be read ({error}); restore it from a copy.") from None
    if frame.columns[:1] != [first]:
        raise PrismError(f"{path} begins with the columns {frame.columns[:3]}; the first must be {first!r}.")
    ids = frame[first]
    if ids.null_count() or ids.n_unique() != len(ids):
        raise PrismError(f"{path} names a {first} twice or not at all; ids must be distinct. Export again.")
    return frame


def write(folder: Path, manifest: Mapping[str, Any], writers: Mapping[str, tuple[str, Writer]]) -> Manifest:
    """Write files (kind → ending, writer) and then the manifest that makes them count; those of an earlier one go."""
    folder.mkdir(parents=True, exist_ok=True)
    old = earlier(folder)
    generation = old.generation + 1 if old else 1
    files: dict[str, File] = {}
    for kind, (ending, writer) in writers.items():
        name = f"{kind}.{generation}.{ending}"
        with io.atomic(folder / name) as part:
            writer(part)
            files[kind] = File(name=name, size=part.stat().st_size, sha256=io.sha256(part))
    new = Manifest(kind=KIND, format=FORMAT, generation=generation, files=files, **manifest)
    io.write_json(folder / MANIFEST, {**new.model_dump(), "sha256": new.digest()})
    kept = {file.name for file in files.values()}
    for file in old.files.values() if old else ():
        if file.name not in kept and Path(file.name).name == file.name:
            (folder / file.name).unlink(missing_ok=True)
    return new


def earlier(folder: Path) -> Manifest | None:
    """The export that a folder holds already, or None in one that is free. A folder of anything else is refused."""
    if (folder / MANIFEST).is_file():
        return read_manifest(folder)
    if not io.vacant(folder):
        raise PrismError(f"{folder} exists and holds no export; name another folder with -o.")
    return None
