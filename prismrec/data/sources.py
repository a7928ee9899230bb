"""``read``: one door for all layouts of data that PrismRec knows."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prismrec.data import columns
from prismrec.data.dataset import Dataset
from prismrec.data.sources_mmrec import read_mmrec
from prismrec.data.sources_recbole import is_recbole, read_recbole
from prismrec.data.sources_table import read_table
from prismrec.data.store import MANIFEST, load
from prismrec.errors import PrismError, nearest

LAYOUTS = (
    "a folder that PrismRec wrote (manifest.json), a folder with one *.inter file (MMRec, or RecBole with typed headers), "
    "a folder with interactions.parquet (or several interactions.*.parquet), .csv or .tsv, a folder of Parquet files, or one "
    "such file"
)


def read(path: str | Path, **options: Any) -> Dataset:
    """The data at ``path``, whatever its layout; see ``LAYOUTS``.

    Options go to the reader of the layout: ``load``, ``read_mmrec``, ``read_recbole``, ``read_table``. ``name`` is taken by
    all, and is otherwise that of the ``.inter`` file, the file or the folder. Raises ``PrismError`` for what nobody reads.
    """
    path = Path(path)
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, siblings, n=1, cutoff=0.5)
        hint = f"Did you mean {close[0]!r}?" if close else "Name a data folder or a file of interactions."
        raise PrismError(f"There is no {path}. {hint}")
    return _folder(path, options) if path.is_dir() else _file(path, options)


def _file(path: Path, options: dict[str, Any]) -> Dataset:
    if path.name == MANIFEST:
        return _call(load, path.parent, options)
    if path.suffix == ".inter":
        return _inter([path], options)
    return _call(read_table, [path], options)


def _folder(path: Path, options: dict[str, Any]) -> Dataset:
    if (path / MANIFEST).exists():
        return _call(load, path, options)
    if (path / "users.parquet").exists() and (path / "interactions.parquet").exists():
        # a table reader would take its internal ids for external ones
        raise PrismError(f"{path} is a data set of PrismRec without its {MANIFEST}; copy the whole folder again.")
    inters = sorted(path.glob("*.inter"))
    if inters:
        return _inter(inters, options)
    kinds = columns.PARQUET | {".csv", ".tsv"}
    tables = sorted(p for p in path.iterdir() if p.is_file() and columns.suffix(p) in kinds)
    interactions = [p for p in tables if p.name.split(".")[0] == "interactions"]
    if len(interactions) == 1 or (interactions and all(columns.typed(p) for p in interactions)):
        return _call(read_table, interactions, _beside(path, tables) | {"name": _name(path)} | options)
    if tables and all(columns.typed(p) for p in tables):
        return _call(read_table, tables, {"name": _name(path)} | options)
    held = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
    raise PrismError(f"{path} holds {held}: no layout that PrismRec knows. Expected {LAYOUTS}.")


def _inter(inters: list[Path], options: dict[str, Any]) -> Dataset:
    if is_recbole(inters[0]):
        return _call(read_recbole, inters, options)
    if len(inters) > 1:
        raise PrismError(
            f"{inters[0].parent} holds {len(inters)} .inter files ({', '.join(p.name for p in inters)}); "
            "expected one: give the path of the file itself."
        )
    return _call(read_mmrec, inters[0], options)


def _beside(path: Path, tables: list[Path]) -> dict[str, Any]:
    """Item table and features that lie beside ``interactions.*``."""
    items = [p for p in tables if p.name.split(".")[0] == "items"]
    features = {p.name.removesuffix("_feat.npy"): p for p in sorted(path.glob("*_feat.npy"))}
    return ({"items": items[0]} if items else {}) | ({"features": features} if features else {})


def _name(path: Path) -> str:
    return path.resolve().name


def _call(reader: Callable[..., Dataset], source: Any, options: dict[str, Any]) -> Dataset:
    """``reader(source, **options)``; an option that it does not take is an error with the nearest one."""
    known = [name for name, p in inspect.signature(reader).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            place = source[0] if isinstance(source, list) else source
            layout = reader.__name__.removeprefix("read_").replace("load", "PrismRec's own")
            raise PrismError(
                f"{place} is read as {layout} layout, which has no option {option!r}. {nearest(option, known)}"
            )
    return reader(source, **options)
