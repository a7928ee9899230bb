"""What a raw source is read into: a log as a lazy table over blocks on disk, and what is said of the items asked for."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from prismrec.data.raw_lines import Reading
from prismrec.errors import PrismError

BLOCK = 200_000
"""Rows that stand in memory as Python objects."""
TEXT = 20_000
"""Characters of the longest text that is kept of an item."""

_ARTICLE = {"item": "an"}

Wanted = Collection[str] | None
"""Ids of items as text; None for all that are known."""
Describe = Callable[[Wanted], pl.DataFrame]


@dataclass(frozen=True)
class Catalogue:
    """A raw source, read.

    ``log``: columns ``user``, ``item`` and where known ``rating``, ``timestamp``, ``weight``, ``split``, no nulls in any, rows
    in the order of the files. ``describe``: ids of items → a table of those that something is known of, one row each:
    ``item`` (text), then ``title`` and the like; it reads the files again, so that items that are dropped cost nothing.
    ``path``: for messages. ``features``: modality → ids and (n, r) values. ``time_unit``: "us" for microseconds since
    1970 (UTC), None where nobody knows. ``k_core``: what is usual for this source.
    """

    name: str
    path: Path
    log: pl.LazyFrame
    describe: Describe
    features: Mapping[str, tuple[pl.Series, np.ndarray]] = field(default_factory=dict)
    time_unit: str | None = "us"
    k_core: tuple[int, int] = (5, 5)


def spooled(rows: Iterable[Sequence[Any]], schema: Mapping[str, Any], reading: Reading, name: str) -> pl.LazyFrame:
    """Rows → a lazy table, through Parquet files of ``BLOCK`` rows, in their order.

    A value that does not fit its column becomes null; see ``complete``.
    """
    folder = reading.folder / name
    folder.mkdir(parents=True)
    source, number = iter(rows), 0
    while (block := list(islice(source, BLOCK))) or number == 0:
        columns = zip(*block, strict=True) if block else ((),) * len(schema)
        frame = pl.DataFrame(
            {key: pl.Series(key, list(column), dtype, strict=False)
             for (key, dtype), column in zip(schema.items(), columns, strict=True)}
        )  # fmt: skip
        frame.write_parquet(folder / f"{number:06}.parquet")
        number += 1
    return pl.scan_parquet(folder / "*.parquet")


def complete(log: pl.LazyFrame, path: Path, reading: Reading, optional: Collection[str] = ()) -> pl.LazyFrame:
    """Without columns of ``optional`` that are null throughout; without rows that lack a value, which are counted.

    Raises ``PrismError`` if nothing is left.
    """
    names = log.collect_schema().names()
    found = log.select(pl.len().alias("rows"), *(pl.col(c).count().alias(f"has {c}") for c in names)).collect(
        engine="streaming"
    )
    n = int(found["rows"][0])
    kept = [c for c in names if c not in optional or int(found[f"has {c}"][0])]
    for column in kept:
        if lacking := n - int(found[f"has {column}"][0]):
            reading.tally.add(path, f"without {_ARTICLE.get(column, 'a')} {column}", lacking)
    log = log.select(kept)
    if any(int(found[f"has {c}"][0]) < n for c in kept):
        log = log.drop_nulls()
        n = int(log.select(pl.len()).collect(engine="streaming").item())
    if not n:
        raise PrismError(f"{path} has no row with a user and an item; {'; '.join(reading.tally.sentences())}.")
    return log


def microseconds(log: pl.LazyFrame, column: str = "timestamp") -> pl.LazyFrame:
    """Times in seconds, milliseconds or microseconds since 1970, told apart by their size, as microseconds."""
    size = pl.col(column).abs()
    factor = pl.when(size < 10**11).then(10**6).when(size < 10**14).then(10**3).otherwise(1)
    return log.with_columns(pl.col(column) * factor)


_TAG = re.compile(r"<(?:/?[a-zA-Z][^<>]{0,500}|!--.{0,2000}?--)>", re.DOTALL)


def plain(value: Any) -> str | None:
    """Text as people read it: lists joined, entities and tags of HTML undone, blanks single; None where nothing is left.

    Half a surrogate pair, which no file can hold, becomes a question mark.
    """
    if isinstance(value, Mapping) or value is None:
        return None
    if isinstance(value, list | tuple):
        return plain(", ".join(text for one in value if (text := plain(one))))
    text = str(value)
    if "<" in text or "&" in text:
        text = html.unescape(_TAG.sub(" ", html.unescape(text)))
    text = " ".join(text.split())[:TEXT]
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text or None


def table(described: Mapping[str, Mapping[str, str | float | None]], columns: Mapping[str, Any]) -> pl.DataFrame:
    """Id → what is known of it, as a table of ``columns`` (name → type), those without any value left out."""
    frame = pl.DataFrame(
        {
            "item": pl.Series("item", list(described), pl.String),
            **{
                name: pl.Series(name, [one.get(name) for one in described.values()], dtype, strict=False)
                for name, dtype in columns.items()
            },
        }
    )
    return frame.select("item", *(name for name in columns if frame[name].null_count() < len(frame)))


def number(value: Any) -> float | None:
    """A finite number, or text of one with a currency before it; None for anything else."""
    if isinstance(value, str):
        value = value.strip().lstrip("$€£").replace(",", "")
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found) else None


def identity(value: Any) -> str | None:
    """An id as text, 7.0 as 7; None where there is none."""
    if isinstance(value, str):
        text = value.strip()
        return (text if text.isascii() else text.encode("utf-8", "replace").decode()) or None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
