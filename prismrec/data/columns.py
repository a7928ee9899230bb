"""Columns of delimited and Parquet files: found by name, cast with care, refused in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from prismrec.errors import PrismError, nearest

PARQUET = {".parquet", ".pq"}
DELIMITED = {".csv", ".tsv", ".txt", ".inter", ".item", ".user"}
_SEPARATORS = ("\t", ",", ";", "|")


def suffix(path: Path) -> str:
    """The suffix that says how to read ``path``, lower case, looking through ``.gz`` and ``.zst``."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in {".gz", ".zst"}:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def typed(path: Path) -> bool:
    """Whether the columns of ``path`` have types of their own: true of Parquet, not of delimited text."""
    return suffix(path) in PARQUET


def scan(path: Path) -> pl.LazyFrame:
    """A lazy table of ``path``; columns of a delimited file are all text, so that no id loses its leading zeros."""
    kind = suffix(path)
    if kind in PARQUET:
        return pl.scan_parquet(path)
    if kind not in DELIMITED:
        raise PrismError(
            f"{path} has an unknown suffix; expected one of {', '.join(sorted(DELIMITED | PARQUET))} (or .gz of the first)."
        )
    return pl.scan_csv(path, separator=_separator(path), infer_schema=False, quote_char=None if kind != ".csv" else '"')


def collect(table: pl.LazyFrame, path: Path) -> pl.DataFrame:
    """Run a lazy query in the streaming engine; a damaged file becomes one sentence."""
    try:
        return table.collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(path, error) from error


def names(table: pl.LazyFrame, path: Path) -> list[str]:
    """Names of the columns; a damaged or empty file becomes one sentence."""
    try:
        return table.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> PrismError:
    if not path.exists():
        return PrismError(f"There is no file {path}.")
    detail = " ".join(str(error).split("\n\n")[0].split()).rstrip(".")[:200]
    return PrismError(
        f"{path} ({path.stat().st_size:,} bytes) cannot be read: {detail}. "
        "Check that it is whole, text in UTF-8, and that files read together have the same columns."
    )


def _separator(path: Path) -> str:
    """Tab for ``.tsv``; otherwise whichever usual separator is most frequent in the header."""
    if not path.exists():
        raise PrismError(f"There is no file {path}.")
    if suffix(path) == ".tsv":
        return "\t"
    if path.suffix.lower() in {".gz", ".zst"}:
        return "," if suffix(path) == ".csv" else "\t"
    with path.open(encoding="utf-8", errors="replace") as file:
        header = file.readline()
    return max(_SEPARATORS, key=header.count)


def pick(found: Sequence[str], wanted: str | None, usual: Iterable[str], role: str, path: Path) -> str | None:
    """The column that plays ``role``: ``wanted`` if given (an error if absent), else the first ``usual`` name found."""
    if wanted is not None:
        if wanted not in found:
            raise PrismError(
                f"{path} has no column {wanted!r} for the {role}; it has {_listed(found)}. {nearest(wanted, found)}"
            )
        return wanted
    lower = {name.lower(): name for name in reversed(found)}
    return next((lower[name.lower()] for name in usual if name.lower() in lower), None)


def need(column: str | None, found: Sequence[str], role: str, path: Path) -> str:
    """``column``, or an error that says which columns there are and how to name one."""
    if column is None:
        headless = any(name.replace(".", "").isdecimal() for name in found)
        raise PrismError(
            f"{path} has no column that is recognised as the {role}; it has {_listed(found)}. "
            + (
                "The first line must name the columns, and this one looks like data: add such a line. "
                if headless
                else ""
            )
            + f"Say which one it is: {role.replace('-', '_')}='…' in Python, --{role} on the command line."
        )
    return column


def _listed(found: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in found[:12])
    return shown + (f" and {len(found) - 12} more" if len(found) > 12 else "")


def integers(
    column: pl.Series, path: Path, *, low: int = 0, high: int = 2**31 - 2, expected: str | None = None
) -> np.ndarray:
    """Whole numbers in ``low..high`` as int64; anything else is an error that shows the first bad value and its row."""
    cast = column.cast(pl.Int64, strict=False)
    if column.dtype.is_float():
        cast = pl.select(pl.when(cast.cast(pl.Float64) == column).then(cast)).to_series()
    bad = ~cast.is_between(low, high).fill_null(False)
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise PrismError(
            f"Column {column.name!r} of {path} holds {column[row]!r} in data row {row + 1:,} "
            f"({int(bad.sum()):,} such rows); expected {expected or f'whole numbers from {low} to {high}'}."
        )
    return cast.to_numpy()


def numbers(column: pl.Series, path: Path) -> np.ndarray:
    """Finite numbers as float32; anything else is an error that shows the first bad value and its row."""
    cast = column.cast(pl.Float32, strict=False)
    bad = ~cast.is_finite().fill_null(False)
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise PrismError(
            f"Column {column.name!r} of {path} holds {column[row]!r} in data row {row + 1:,} "
            f"({int(bad.sum()):,} such rows); expected finite numbers."
        )
    return cast.to_numpy()


def weights(column: pl.Series, path: Path) -> np.ndarray:
    """Like ``numbers``, and above zero."""
    values = numbers(column, path)
    if (values <= 0).any():
        row = int((values <= 0).argmax())
        raise PrismError(
            f"Column {column.name!r} of {path} holds the weight {values[row]:g} in data row {row + 1:,} "
            f"({int((values <= 0).sum()):,} such rows); weights must be above 0: drop those rows first."
        )
    return values


def timestamps(column: pl.Series, path: Path) -> tuple[np.ndarray, str | None]:
    """Times as int64, and their unit where it is known.

    Integers stay as they are (unit unknown: None). Dates and times, ISO text, and numbers with a fraction (taken as
    seconds) become microseconds ("us"), since 1970-01-01 UTC.
    """
    if column.dtype == pl.String:
        column = _parsed(column, path)
    if column.dtype.is_temporal():
        return _moments(column.cast(pl.Datetime("us")).cast(pl.Int64), path), "us"
    fraction = column.dtype.is_float() and bool((column != column.round()).any())
    if fraction:
        column = (column * 1e6).round()
    return _moments(column, path), "us" if fraction else None


def _moments(column: pl.Series, path: Path) -> np.ndarray:
    return integers(column, path, low=-(2**62), high=2**62, expected="a time in every row")


def _parsed(column: pl.Series, path: Path) -> pl.Series:
    """Text as integers if all of it can be, else as numbers, else as dates and times."""
    for dtype in (pl.Int64, pl.Float64):
        number = column.cast(dtype, strict=False)
        if number.null_count() == column.null_count():
            return number
    try:
        dates = column.str.to_datetime(time_unit="us", strict=False)
    except pl.exceptions.ComputeError:  # no format fits any of them
        dates = pl.Series([None] * len(column), dtype=pl.Datetime("us"))
    bad = dates.is_null() & column.is_not_null()
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise PrismError(
            f"Column {column.name!r} of {path} holds {column[row]!r} in data row {row + 1:,} "
            f"({int(bad.sum()):,} such rows); expected times: numbers, or text such as 2024-05-31 or 2024-05-31T17:20:00."
        )
    return dates
