"""MicroLens as published: pairs of users and micro-videos with times, titles, and covers called like the video's id.

``MicroLens-*_pairs.csv`` (user, item, timestamp in milliseconds) or ``*_pairs.tsv`` (a user, a tab, the videos in the order in
which they were watched), ``*_titles.csv`` (item, title), ``*_likes_and_views.txt`` (item, likes, views). Source: Ni et al.,
"A Content-Driven Micro-Video Recommendation Dataset at Scale", 2023, arXiv:2309.15379.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from prismrec.data.raw_catalogue import Catalogue, Wanted, complete, microseconds, number, plain, spooled, table
from prismrec.data.raw_files import pick
from prismrec.data.raw_lines import Reading, decoded, first_line, lines, rows
from prismrec.errors import PrismError

_SCHEMA = {"user": pl.Int64, "item": pl.Int64, "timestamp": pl.Int64}
_COLUMNS = {"title": pl.String, "likes": pl.Int64, "views": pl.Int64}


def read(paths: Sequence[Path], reading: Reading) -> Catalogue:
    """A folder of one release, or its files of pairs, titles, likes and views; the CSV of pairs where both are there."""
    pairs = pick(paths, ("*pairs*.csv", "*pairs*.tsv"), "pairs")
    titles = pick(paths, ("*title*.csv",), None)
    likes = pick(paths, ("*likes*views*.txt",), None)
    timed = pairs.name.lower().split("pairs")[1].startswith(".csv")
    log = spooled((_pairs if timed else _sequences)(pairs, reading), _SCHEMA, reading, "log")
    log = complete(log, pairs, reading, optional=("timestamp",))
    if timed and "timestamp" in log.collect_schema().names():
        log = microseconds(log)
    name = pairs.name.lower().split("_pairs")[0]
    return Catalogue(
        name, pairs, log, lambda wanted: _described(titles, likes, wanted, reading), time_unit="us" if timed else None
    )


def _pairs(path: Path, reading: Reading) -> Iterator[tuple[Any, ...]]:
    named = not first_line(path).split(",")[0].strip().isdecimal()
    for count, (_, fields) in enumerate(rows(path, reading, ",", header=named)):
        if count == 0 and len(fields) < 2:
            raise PrismError(f"{path} starts with {fields[0]!r}; expected columns of user, item and timestamp.")
        if count or not named:
            yield fields[0], fields[1], fields[2] if len(fields) > 2 else None


def _sequences(path: Path, reading: Reading) -> Iterator[tuple[Any, ...]]:
    """The place of a video in its user's line stands for the time."""
    for _, (user, videos) in rows(path, reading, "\t", width=2):
        for place, item in enumerate(videos.split()):
            yield user, item, place


def _described(titles: Path | None, likes: Path | None, wanted: Wanted, reading: Reading) -> pl.DataFrame:
    described: dict[str, dict[str, Any]] = {}

    def about(item: str) -> dict[str, Any]:
        known = item.isdecimal() and (wanted is None or item in wanted)
        return described.setdefault(item, {}) if known else {}

    for line in _split(titles, reading, ",", 2):
        about(line[0].strip()).setdefault("title", plain(line[1].strip('"').replace('""', '"')))
    for line in _split(likes, reading, "\t", 3):
        about(line[0].strip()).update(likes=number(line[1]), views=number(line[2]))
    return table(described, _COLUMNS)


def _split(path: Path | None, reading: Reading, delimiter: str, width: int) -> Iterator[list[str]]:
    """Cut at the first delimiters only: a title may hold commas, with quotes around it or without."""
    for number_, line in lines(path, reading) if path else ():
        fields = decoded(line).removeprefix("\ufeff").split(delimiter, width - 1)
        if len(fields) == width:
            yield fields
        elif path:
            reading.tally.bad(path, number_, f"not of {width} fields", delimiter.join(fields))
