"""Amazon reviews and product metadata of 2014, 2018 and 2023, as published: one record a line, packed or not.

=====  ==========================================================  ================================================
year   reviews                                                     products
=====  ==========================================================  ================================================
2014   ``reviewerID``, ``asin``, ``overall``, ``unixReviewTime``   ``asin``, ``title``, ``description``, ``brand``,
                                                                   ``categories``, ``price``, ``imUrl``; as Python
                                                                   literals, not JSON
2018   the same                                                    lists in ``description``, ``category``,
                                                                   ``imageURLHighRes``, ``imageURL``
2023   ``user_id``, ``parent_asin``, ``rating``, ``timestamp``     ``parent_asin``, ``store``, ``categories``,
       (milliseconds)                                              ``features``, ``images``
=====  ==========================================================  ================================================

The files of ratings alone are read too: CSV without a header (2014: user, item, rating, time; 2018: item, user, rating, time)
or with one (2023). Sources: McAuley et al., "Image-based Recommendations on Styles and Substitutes", SIGIR 2015; Ni et al.,
"Justifying Recommendations using Distantly-Labeled Reviews and Fine-Grained Aspects", EMNLP 2019; Hou et al., "Bridging
Language and Items for Retrieval and Recommendation", 2024, arXiv:2403.03952.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from prismrec.data.raw_catalogue import (
    Catalogue,
    Wanted,
    complete,
    identity,
    microseconds,
    number,
    plain,
    spooled,
    table,
)
from prismrec.data.raw_files import spread
from prismrec.data.raw_lines import Reading, decoded, first_line, lines, places, records, rows
from prismrec.errors import PrismError

_SCHEMA = {"user": pl.String, "item": pl.String, "rating": pl.Float32, "timestamp": pl.Int64}
_COLUMNS = {
    "title": pl.String, "brand": pl.String, "category": pl.String, "description": pl.String, "price": pl.Float64,
    "picture_url": pl.String,
}  # fmt: skip
_ASIN = re.compile(r"B[0-9A-Z]{9}|[0-9]{9}[0-9X]")
_SCRIPT = "getTime"  # where the scrape of 2018 took a script for the title


def read(paths: Sequence[Path], reading: Reading) -> Catalogue:
    """Reviews (or ratings) and metadata, files or a folder of them, in any order: a file is known by its first record.

    Where there are reviews, ratings alone are not read.
    """
    found: dict[str, list[Path]] = {"reviews": [], "ratings": [], "products": []}
    for path in spread(paths):
        found[_kind(path)].append(path)
    logs = found["reviews"] or found["ratings"]
    if not logs:
        raise PrismError(
            f"None of {', '.join(map(str, paths))} holds reviews or ratings of Amazon; expected records with reviewerID and "
            "asin, or user_id and parent_asin."
        )
    stream = _reviews if found["reviews"] else _ratings
    log = spooled((row for path in logs for row in stream(path, reading)), _SCHEMA, reading, "log")
    log = complete(log, logs[0], reading, optional=("rating", "timestamp"))
    if "timestamp" in log.collect_schema().names():
        log = microseconds(log)
    return Catalogue(_name(logs[0]), logs[0], log, lambda wanted: _products(found["products"], wanted, reading))


def _kind(path: Path) -> str:
    """What a file holds, from its first records."""
    head = first_line(path)
    if head and not head.startswith("{"):
        return "ratings"
    for _, line in lines(path, Reading(path.parent)):
        keys = set(re.findall(r"""['"](reviewerID|user_id|asin|parent_asin)['"]\s*:""", decoded(line)))
        if keys:
            return "reviews" if keys & {"reviewerID", "user_id"} else "products"
    raise PrismError(f"{path} is empty or no file of Amazon reviews: it starts with {head[:60]!r}.")


def _name(path: Path) -> str:
    """``reviews_Baby_5.json.gz`` → baby."""
    stem = path.name.split(".")[0]
    return re.sub(r"^(reviews|ratings)_|_5$", "", stem).lower() or stem


def _reviews(path: Path, reading: Reading) -> Iterator[tuple[Any, ...]]:
    for _, found in records(path, reading):
        get = found.get
        user, item = get("reviewerID") or get("user_id"), get("parent_asin") or get("asin")
        rating, time = get("overall", get("rating")), get("unixReviewTime", get("timestamp"))
        yield identity(user), identity(item), number(rating), _whole(time)


def _ratings(path: Path, reading: Reading) -> Iterator[tuple[Any, ...]]:
    head = first_line(path).split(",")
    order = places(head, [("user_id",), ("parent_asin", "asin"), ("rating",), ("timestamp",)])
    named = order[0] is not None
    if not named:  # a product's id has ten characters; the files of 2018 have it first
        order = [1, 0, 2, 3] if _ASIN.fullmatch(head[0]) and not _ASIN.fullmatch(head[1]) else [0, 1, 2, 3]
    if len(head) < 4 or None in order:
        raise PrismError(
            f"{path} starts with {','.join(head)[:80]!r}; expected columns of user, item, rating and time."
        )
    user, item, rating, time = (int(place or 0) for place in order)
    source = rows(path, reading, ",", header=named)
    for _, fields in islice(source, int(named), None):
        yield identity(fields[user]), identity(fields[item]), number(fields[rating]), _whole(fields[time])


def _whole(value: Any) -> int | None:
    found = number(value)
    return int(found) if found is not None and abs(found) < 2**62 else None


def _products(paths: Sequence[Path], wanted: Wanted, reading: Reading) -> pl.DataFrame:
    described: dict[str, Mapping[str, str | float | None]] = {}
    for path in paths:
        for _, found in records(path, reading):
            item = identity(found.get("parent_asin") or found.get("asin"))
            if item is None:
                reading.tally.add(path, "without an item")
            elif wanted is not None and item not in wanted:
                reading.tally.add(path, "of other items")
            elif item in described:
                reading.tally.add(path, "of an item that stands there already (the first counts)")
            else:
                described[item] = _product(found)
    return table(described, _COLUMNS)


def _product(found: Mapping[str, Any]) -> dict[str, str | float | None]:
    title = plain(found.get("title"))
    return {
        "title": None if title and _SCRIPT in title else title,
        "brand": plain(found.get("brand") or found.get("store")),
        "category": _category(found),
        # of 2023, many a product has a list of features where its description would be
        "description": plain(found.get("description")) or plain(found.get("features") or found.get("feature")),
        "price": number(found.get("price")),
        "picture_url": _picture(found),
    }


def _category(found: Mapping[str, Any]) -> str | None:
    """All names on the paths to the product, each once, as the benchmarks' texts have them."""
    value = found.get("categories") or found.get("category") or found.get("main_category") or found.get("main_cat")
    names = (
        [name for path in value for name in (path if isinstance(path, list) else [path])]
        if isinstance(value, list)
        else [value]
    )
    return plain(list(dict.fromkeys(text for name in names if (text := plain(name)))))


def _picture(found: Mapping[str, Any]) -> str | None:
    """The address of the first picture, the largest that is offered."""
    images = found.get("images")
    if isinstance(images, list):
        main = [one for one in images if isinstance(one, Mapping)]
        main.sort(key=lambda one: one.get("variant") != "MAIN")
        offered = [one.get(size) for one in main[:1] for size in ("hi_res", "large", "thumb")]
    elif isinstance(images, Mapping):  # columns instead of records
        offered = [next(iter(images.get(size) or []), None) for size in ("hi_res", "large", "thumb")]
    else:
        lists = [found.get(key) for key in ("imageURLHighRes", "imageURL", "imUrl")]
        offered = [one[0] if isinstance(one, list) and one else one for one in lists]
    return next((url for url in offered if isinstance(url, str) and re.fullmatch(r"https?://[^\s\"\\]+", url)), None)
