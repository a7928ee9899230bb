"""MovieLens as published: 100K (``u.data``, ``u.item``), 1M and 10M (``ratings.dat``), 20M and later (``ratings.csv``).

Source: Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015. Titles and genres are in it;
plots and posters come from elsewhere (``--items``, ``--images``). The files of 100K and 1M are Latin-1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from prismrec.data.raw_catalogue import Catalogue, Wanted, complete, microseconds, plain, spooled, table
from prismrec.data.raw_files import pick
from prismrec.data.raw_lines import Reading, decoded, lines, rows, selected

_SCHEMA = {"user": pl.Int64, "item": pl.Int64, "rating": pl.Float32, "timestamp": pl.Int64}
_COLUMNS = {"title": pl.String, "year": pl.Int32, "genres": pl.String}
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
"""The flags of ``u.item``, in their order, as ``u.genre`` has them."""
_RATINGS = ("u.data", "ratings.dat", "ratings.csv")
_MOVIES = ("u.item", "movies.dat", "movies.csv")


def read(paths: Sequence[Path], reading: Reading) -> Catalogue:
    """A folder of one release, or its file of ratings and, where there is one, of movies."""
    ratings = pick(paths, _RATINGS, "ratings")
    movies = pick(paths, _MOVIES, None)
    assert ratings is not None
    log = complete(spooled(_ratings(ratings, reading), _SCHEMA, reading, "log"), ratings, reading)
    folder = ratings.resolve().parent.name
    return Catalogue(folder, ratings, microseconds(log), lambda wanted: _described(movies, wanted, reading))


def _ratings(path: Path, reading: Reading) -> Iterator[tuple[Any, ...]]:
    if path.name.endswith(".csv"):
        yield from selected(path, reading, ",", [("userId",), ("movieId",), ("rating",), ("timestamp",)])
        return
    for _, fields in rows(path, reading, "::" if path.name.endswith(".dat") else "\t", width=4):
        yield tuple(fields)


def _described(path: Path | None, wanted: Wanted, reading: Reading) -> pl.DataFrame:
    described: dict[str, Mapping[str, str | float | None]] = {}
    for item, title, genres in _movies(path, reading) if path else ():
        if not item.isdecimal():
            reading.tally.add(path, "without an item") if path else None
        elif (wanted is None or item in wanted) and item not in described:
            year = re.search(r"\((\d{4})\)\s*$", title)
            described[item] = {"title": plain(title), "year": int(year[1]) if year else None, "genres": plain(genres)}
    return table(described, _COLUMNS)


def _movies(path: Path, reading: Reading) -> Iterator[tuple[str, str, list[str]]]:
    """Id, title, genres."""
    if path.name.endswith(".csv"):
        for item, title, genres in selected(path, reading, ",", [("movieId",), ("title",), ("genres",)]):
            yield item or "", title or "", [g for g in (genres or "").split("|") if not g.startswith("(no genres")]
    elif path.name.endswith(".dat"):
        for _, fields in rows(path, reading, "::", width=3):
            yield fields[0], fields[1], fields[2].split("|")
    else:
        genres_file = path.with_name("u.genre")
        names = _genres(genres_file) if genres_file.is_file() else list(_GENRES)
        for _, fields in rows(path, reading, "|", width=5 + len(names)):
            flags = fields[5:]
            yield fields[0], fields[1], [name for name, flag in zip(names, flags, strict=True) if flag.strip() == "1"]


def _genres(path: Path) -> list[str]:
    """``Action|1`` … in the order of their numbers."""
    pairs = [decoded(line).split("|") for _, line in lines(path, Reading(path.parent))]
    numbered = sorted(
        (int(fields[1]), fields[0]) for fields in pairs if len(fields) == 2 and fields[1].strip().isdecimal()
    )
    return [name for _, name in numbered] or list(_GENRES)
