"""A shop's own tables: a log and a table of products; CSV or TSV with a line of names, JSON lines (packed or not) or Parquet.

Unlike ``sources_table``, which refuses what it cannot read, this leaves out bad rows and counts them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from prismrec.data import columns
from prismrec.data.item_table import PICTURE
from prismrec.data.raw_catalogue import Catalogue, Wanted, complete, identity, plain, spooled
from prismrec.data.raw_lines import Reading, first_line, records, rows
from prismrec.data.sources_table import USUAL
from prismrec.errors import PrismError

_OPTIONAL = ("rating", "timestamp", "weight", "split")
_SEPARATORS = ("\t", ",", ";", "|")
_PEEK = 1000


def read(
    paths: Sequence[Path],
    reading: Reading,
    *,
    user: str | None = None,
    item: str | None = None,
    rating: str | None = None,
    timestamp: str | None = None,
    weight: str | None = None,
    split: str | None = None,
    item_id: str | None = None,
) -> Catalogue:
    """The log, then the table of items where there is one; columns are named or known by ``sources_table.USUAL``."""
    if len(paths) > 2:
        raise PrismError(
            f"{len(paths)} tables were named; expected the log and, where there is one, the table of items."
        )
    path = paths[0]
    wanted = {"user": user, "item": item, "rating": rating, "timestamp": timestamp, "weight": weight, "split": split}
    found = header(path)
    roles = {role: columns.pick(found, name, USUAL[role], role, path) for role, name in wanted.items()}
    for role in ("user", "item"):
        roles[role] = columns.need(roles[role], found, role, path)
    chosen = {role: name for role, name in roles.items() if name is not None}
    table = _table(path, chosen, reading)
    log, unit = _clean(table, columns.typed(path))
    log = complete(log, path, reading, optional=_OPTIONAL)
    return Catalogue(
        path.name.split(".")[0], path, log, lambda ids: described(paths[1:2], item_id, ids, reading), time_unit=unit
    )


def header(path: Path) -> list[str]:
    """The names of the columns of a table; of JSON lines the keys of the first ones. Raises ``PrismError`` for none."""
    if columns.typed(path):
        return columns.names(columns.scan(path), path)
    if path.is_dir():
        raise PrismError(f"{path} is a folder; name the file of the log and, where there is one, that of the items.")
    aside = Reading(path.parent)
    if _json(path):
        return list(dict.fromkeys(key for _, found in islice(records(path, aside), _PEEK) for key in found))
    found = next(rows(path, aside, _separator(path), header=True), (0, []))[1]
    if not found:
        raise PrismError(f"{path} is empty; expected a line with the names of the columns, then a line per row.")
    return found


def _json(path: Path) -> bool:
    return first_line(path).startswith("{")


def _separator(path: Path) -> str:
    if columns.suffix(path) == ".tsv":
        return "\t"
    line = first_line(path)
    return max(_SEPARATORS, key=line.count)


def _fields(path: Path, reading: Reading, names: Sequence[str]) -> Iterator[Sequence[Any]]:
    """The values of each row, in the order of ``names``."""
    if columns.typed(path):
        yield from columns.collect(columns.scan(path), path).select(names).iter_rows()
    elif _json(path):
        for _, found in records(path, reading):
            yield [found.get(name) for name in names]
    else:
        at = [header(path).index(name) for name in names]
        for _, fields in islice(rows(path, reading, _separator(path), header=True), 1, None):
            yield [fields[place] for place in at]


def _table(path: Path, chosen: dict[str, str], reading: Reading) -> pl.LazyFrame:
    """The columns of ``chosen`` (role → name), called by their roles; of what is no Parquet all text."""
    if columns.typed(path):
        return columns.scan(path).select(pl.col(name).alias(role) for role, name in chosen.items())
    source = _fields(path, reading, list(chosen.values()))
    picked = ([None if value is None else str(value).strip() or None for value in fields] for fields in source)
    return spooled(picked, dict.fromkeys(chosen, pl.String), reading, "log")


def _clean(table: pl.LazyFrame, typed: bool) -> tuple[pl.LazyFrame, str | None]:
    """Ids, numbers and times of their types, null where a value is none of it; and the unit of the times."""
    schema = table.collect_schema()
    unit = None
    for role in ("user", "item"):
        ids = pl.col(role)
        if not typed:
            whole = ids.cast(pl.Int64, strict=False)
            if (
                table.select((whole.cast(pl.String) == ids).fill_null(ids.is_null()).all())
                .collect(engine="streaming")
                .item()
            ):
                table = table.with_columns(whole)
        elif schema[role].is_float():
            table = table.with_columns(pl.when(ids == ids.floor()).then(ids.cast(pl.Int64, strict=False)))
        elif schema[role] == pl.String:
            table = table.with_columns(pl.when(ids.str.strip_chars() != "").then(ids))
        elif not schema[role].is_integer():
            table = table.with_columns(ids.cast(pl.String))
    for role in ("rating", "weight"):
        if role in schema:
            value = pl.col(role).cast(pl.Float32, strict=False)
            table = table.with_columns(pl.when(value.is_finite() & ((value > 0) | (role == "rating"))).then(value))
    if "timestamp" in schema:
        time, unit = _time(table, schema["timestamp"])
        table = table.with_columns(time)
    return table, unit


def _time(table: pl.LazyFrame, dtype: Any) -> tuple[pl.Expr, str | None]:
    """The times as integers, read as what most of the first ones are: whole numbers, numbers, or dates."""
    time = pl.col("timestamp")
    if dtype.is_temporal():
        return time.cast(pl.Datetime("us")).cast(pl.Int64), "us"
    ways: list[tuple[pl.Expr, str | None]] = [
        (time.cast(pl.Int64, strict=False), None),
        ((time.cast(pl.Float64, strict=False) * 1e6).round().cast(pl.Int64, strict=False), "us"),
    ]
    if dtype == pl.String:
        ways.append((time.str.to_datetime(time_unit="us", strict=False, ambiguous="earliest").cast(pl.Int64), "us"))
    peek = table.select(time).head(_PEEK).collect()
    counts = []
    for expression, _ in ways:
        try:
            counts.append(int(peek.select(expression.count()).item()))
        except pl.exceptions.ComputeError:  # no format of dates fits any of them
            counts.append(0)
    best = max(range(len(ways)), key=lambda way: (counts[way], -way))
    return ways[best]


def described(paths: Sequence[Path], item_id: str | None, wanted: Wanted, reading: Reading) -> pl.DataFrame:
    """The wanted rows of a table of items, the first of each id; texts as people read them, numbers as numbers."""
    if not paths:
        return pl.DataFrame({"item": pl.Series("item", [], pl.String)})
    path = paths[0]
    names = header(path)
    key = columns.need(columns.pick(names, item_id, USUAL["item"], "item-id", path), names, "item-id", path)
    at = names.index(key)
    kept: dict[str, Sequence[Any]] = {}
    for fields in _fields(path, reading, names):
        item = identity(fields[at])
        if item is None:
            reading.tally.add(path, "without an item")
        elif item in kept:
            reading.tally.add(path, "of an item that stands there already (the first counts)")
        elif wanted is None or item in wanted:
            kept[item] = fields
    rest = [(place, name) for place, name in enumerate(names) if place != at]
    return pl.DataFrame(
        {"item": pl.Series("item", list(kept), pl.String)}
        | {
            ("item_" if name == "item" else name): _column(name, [fields[place] for fields in kept.values()])
            for place, name in rest
        }
    )


def _column(name: str, values: list[Any]) -> pl.Series:
    if name in PICTURE:
        return pl.Series(name, [None if value is None else os.fspath(str(value)).strip() or None for value in values])
    if any(isinstance(value, str | list | dict) for value in values):
        values = [plain(value) for value in values]
        text = pl.Series(name, values, pl.String)
        for dtype in (pl.Int64, pl.Float64):
            number = text.cast(dtype, strict=False)
            zeros = (text.str.contains(r"^-?0\d")).any()
            if number.null_count() == text.null_count() < len(text) and not zeros:
                return number
        return text
    return pl.Series(name, values, strict=False)
