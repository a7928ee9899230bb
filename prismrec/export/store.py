"""Exports on disk: a Shelf to a folder and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from prismrec.data.ids import IdMap
from prismrec.errors import PrismError
from prismrec.export import ann, form, tensors
from prismrec.export.explain import FUSED
from prismrec.export.tables import Dense, Seen, Side, Table, check_rows, stored_table

if TYPE_CHECKING:
    from prismrec.export.shelf import Shelf


def save(shelf: Shelf, folder: Path) -> None:
    """Write an export; an earlier one in the folder is replaced in one step."""
    names, tables = _named(shelf)
    arrays = {"seen.indptr": shelf.seen.indptr, "seen.indices": shelf.seen.indices, "popularity": shelf.popularity}
    arrays |= {f"{modality}.axes": axes for modality, axes in shelf.axes.items()}
    for name, table in tables.items():
        arrays |= table.tensors(name)
    known = [column for column in shelf.item_table.columns if column != "item"]
    items = pl.DataFrame({"item": shelf.items.external}).with_columns([shelf.item_table[column] for column in known])
    users = pl.DataFrame({"user": shelf.users.external})
    near = shelf.near
    index: dict[str, tuple[str, form.Writer]] = {}
    if near is not None:
        index["near"] = ("bin", lambda part: ann.KINDS[near.kind].save(near.index, part))
    form.write(
        folder,
        {
            "users": len(shelf.users),
            "items": len(shelf.items),
            "dtype": shelf.dtype,
            "sides": {
                name: form.SideForm(user=names[id(side.user)], item=names[id(side.item)])
                for name, side in shelf.sides.items()
            },
            "contents": {modality: names[id(table)] for modality, table in shelf.contents.items()},
            "axes": {modality: len(axes) for modality, axes in shelf.axes.items()},
            "tables": {
                name: form.TableForm(kind=table.kind, rows=len(table), width=table.width)
                for name, table in tables.items()
            },
            "near": None
            if near is None
            else form.NearForm(kind=near.kind, n=near.n, effort=near.effort, info=dict(near.info)),
            "pictures": None if shelf.pictures is None else _relative(shelf.pictures, folder),
            "info": dict(shelf.info),
            "measured": None if shelf.measured is None else dict(shelf.measured),
        },
        {
            "tensors": ("safetensors", lambda part: tensors.save(part, arrays)),
            "users": ("parquet", users.write_parquet),
            "items": ("parquet", items.write_parquet),
            **index,
        },
    )


def _relative(pictures: str, folder: Path) -> str:
    """Pictures as seen from the export, so that both can be moved together."""
    try:
        return Path(os.path.relpath(pictures, folder.resolve())).as_posix()
    except ValueError:  # on another drive
        return pictures


def _named(shelf: Shelf) -> tuple[dict[int, str], dict[str, Table]]:
    """Each distinct table by a name, and the name of each by its identity: sides often share one."""
    found = [
        (f"{name}.{what}", table)
        for name, side in shelf.sides.items()
        for what, table in (("user", side.user), ("item", side.item))
    ]
    found += [(f"{modality}.content", table) for modality, table in shelf.contents.items()]
    names: dict[int, str] = {}
    tables: dict[str, Table] = {}
    for name, table in found:
        if id(table) not in names:
            names[id(table)] = name
            tables[name] = table
    return names, tables


def load(folder: Path, verify: bool = True, approximate: bool = True) -> Shelf:
    """Read an export, memory-mapped; see ``Shelf.load``."""
    manifest = form.read_manifest(folder)
    path = form.file_of(folder, manifest, "tensors", verify)
    users = form.read_parquet(form.file_of(folder, manifest, "users", verify), "user")
    items = form.read_parquet(form.file_of(folder, manifest, "items", verify), "item")
    for what, frame, expected in (("users", users, manifest.users), ("items", items, manifest.items)):
        if len(frame) != expected:
            raise PrismError(
                f"{folder} lists {len(frame):,} {what} where its manifest says {expected:,}; export again."
            )
    try:
        shelf = _shelf(manifest, tensors.load(path), users, items)
        pictures = None if manifest.pictures is None else str((folder / manifest.pictures).resolve())
        return replace(shelf, pictures=pictures, near=_near(folder, manifest, verify) if approximate else None)
    except PrismError as error:
        raise PrismError(f"{folder} is not a whole export. {error}") from None


def _near(folder: Path, manifest: form.Manifest, verify: bool) -> ann.Near | None:
    near = manifest.near
    if near is None:
        return None
    items = manifest.tables[manifest.sides[FUSED].item]
    if near.n > items.rows or items.kind == "sparse":
        raise PrismError(f"Its approximate index holds {near.n:,} dense items, which is not what the manifest lists.")
    path = form.file_of(folder, manifest, "near", verify)
    return ann.load(path, near.kind, (near.n, items.width), near.effort, near.info)


def _shelf(
    manifest: form.Manifest, arrays: Mapping[str, np.ndarray], users: pl.DataFrame, items: pl.DataFrame
) -> Shelf:
    from prismrec.export.shelf import Shelf  # late: a Shelf saves and loads itself

    tables = {
        name: stored_table(name, table.kind, (table.rows, table.width), arrays)
        for name, table in manifest.tables.items()
    }

    def table(name: str, rows: int) -> Table:
        if name not in tables or len(tables[name]) != rows:
            found = f"{len(tables[name]):,} rows" if name in tables else "absent"
            raise PrismError(f"The table {name!r} is {found}; it should have {rows:,} rows.")
        return tables[name]

    sides = {}
    for name, side in manifest.sides.items():
        pair = Side(table(side.user, len(users)), table(side.item, len(items)))
        if pair.user.width != pair.item.width:
            raise PrismError(f"Users of {name!r} have {pair.user.width} columns and items {pair.item.width}.")
        sides[name] = pair
    if FUSED not in sides:
        raise PrismError(f"The manifest names no {FUSED!r} side.")
    contents = {}
    for modality, name in manifest.contents.items():
        content = table(name, len(items))
        if not isinstance(content, Dense):
            raise PrismError(f"The content of {modality!r} is sparse; it should be dense.")
        contents[modality] = content
    axes = {}
    for modality, rows in manifest.axes.items():
        if modality not in contents:
            raise PrismError(f"The manifest names axes of {modality!r}, but no content.")
        axes[modality] = _array(arrays, f"{modality}.axes", "float32", (rows, contents[modality].width))
    seen = Seen(
        _array(arrays, "seen.indptr", "int64", (len(users) + 1,)), _array(arrays, "seen.indices", "int32", None)
    )
    check_rows("seen", seen.indptr, seen.indices, len(items))
    popularity = _array(arrays, "popularity", "int64", (len(items),))
    return Shelf(
        users=IdMap(users["user"], "user"),
        items=IdMap(items["item"], "item"),
        sides=sides,
        seen=seen,
        popularity=popularity,
        item_table=items,
        contents=contents,
        axes=axes,
        info=manifest.info,
        measured=manifest.measured,
    )


def _array(arrays: Mapping[str, np.ndarray], name: str, dtype: str, shape: tuple[int, ...] | None) -> Any:
    """A tensor of a known shape, or a list of any length where ``shape`` is None."""
    found = arrays.get(name)
    if found is None or found.dtype.name != dtype or (found.ndim != 1 if shape is None else found.shape != shape):
        have = "absent" if found is None else f"{found.dtype.name} of shape {found.shape}"
        raise PrismError(f"The tensor {name!r} is {have}; it should be {dtype} of shape {shape or '(any,)'}.")
    return found
