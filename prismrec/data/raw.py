"""Raw sources: from the files that people have to a data set, by one call, whatever the kind of the source."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from prismrec.data import prepare as preparation
from prismrec.data import (
    raw_amazon,
    raw_dump,
    raw_hm,
    raw_microlens,
    raw_movielens,
    raw_pictures,
    raw_tables,
)
from prismrec.data.dataset import Dataset
from prismrec.data.item_table import TEXT
from prismrec.data.raw_catalogue import Catalogue, Wanted
from prismrec.data.raw_lines import Reading
from prismrec.data.tables import ItemSide, Log, build
from prismrec.errors import PrismError, nearest


@dataclass(frozen=True)
class Kind:
    """A kind of raw source: its name, what it is, the files that ``read`` takes, in words."""

    name: str
    about: str
    files: str
    read: Callable[..., Catalogue]


KINDS: tuple[Kind, ...] = (
    Kind(
        "amazon",
        "Amazon reviews 2014, 2018, 2023",
        "REVIEWS [META] (either may be several), or FOLDER",
        raw_amazon.read,
    ),
    Kind("movielens", "MovieLens 100K, 1M and later", "FOLDER, or RATINGS [MOVIES]", raw_movielens.read),
    Kind("microlens", "MicroLens: micro-videos, titles, covers", "FOLDER, or PAIRS [TITLES]", raw_microlens.read),
    Kind("hm", "H&M: purchases, articles, pictures", "FOLDER, or TRANSACTIONS [ARTICLES]", raw_hm.read),
    Kind("dump", "ids, a split and arrays of features, as of TikTok", "FOLDER", raw_dump.read),
    Kind("tiktok", "the same", "FOLDER", raw_dump.read),
    Kind("tables", "a log and a table of products of your own", "LOG [ITEMS]", raw_tables.read),
)


@dataclass(frozen=True)
class Prepared:
    """A data set, and what was found on the way: sentences for people."""

    dataset: Dataset
    said: list[str]


def kind_named(name: str) -> Kind:
    """The kind of a name."""
    known = {kind.name: kind for kind in KINDS}
    if name not in known:
        raise PrismError(f"There is no kind of raw source {name!r}. {nearest(name, known)}")
    return known[name]


def prepare(
    kind: str,
    paths: Sequence[Path],
    reading: Reading,
    *,
    name: str | None = None,
    items: Path | None = None,
    item_id: str | None = None,
    images: Path | None = None,
    duplicates: preparation.Duplicates = "last",
    min_rating: float | None = None,
    k_core: tuple[int, int] | None = None,
    **options: Any,
) -> Prepared:
    """The raw files at ``paths``, read as ``kind``: duplicates and low ratings dropped, the k-core kept, items described.

    ``items``: a table with more about the items, whose ids stand in ``item_id``. ``images``: a folder of pictures; see
    ``raw_pictures``. ``k_core``: rows per user and item, None for what is usual. ``options`` are those of the kind's own
    reader. Nothing is drawn at random. Raises ``PrismError`` for whatever a person can mend.
    """
    source = kind_named(kind)
    if images is not None and not images.is_dir():
        raise PrismError(f"{images} is no folder; name the folder that holds the pictures with --images.")
    reading.folder.mkdir(parents=True, exist_ok=True)
    catalogue = source.read(list(paths), reading, **_taken(source, options, item_id, items))
    core = catalogue.k_core if k_core is None else k_core
    log, before = thinned(catalogue.log, core, reading)

    def described(wanted: Wanted) -> pl.DataFrame:
        more = raw_tables.described([items] if items else [], item_id, wanted, reading)
        return _fitting(_joined(catalogue.describe(wanted), more), log)

    roles = {column: column for column in log.collect_schema().names()}
    side = ItemSide(catalogue.path, None if core[1] else described(None), features=catalogue.features)
    step: dict[str, Any] = {"step": "read", "format": kind, "files": sorted({p.name for p in paths})}
    if catalogue.time_unit and "timestamp" in roles:
        step["timestamp_unit"] = catalogue.time_unit
    raw = build(Log(catalogue.path, log, roles, typed=True), side, name or catalogue.name, step, "missing", "refuse")
    dataset = preparation.prepare(raw, duplicates=duplicates, min_rating=min_rating, k_core=core)
    if core[1]:
        table = described(frozenset(map(str, dataset.items.external.to_list())))
        known = pl.DataFrame({"item": dataset.items.external})
        dataset = replace(dataset, item_table=known.join(table, on="item", how="left", maintain_order="left"))
    said = [f"in the log: {before['users']:,} users, {before['items']:,} items, {before['rows']:,} rows"]
    dataset, coverage = covered(dataset, images)
    found = {"before": before, "items": coverage, "found": reading.tally.as_dict()}
    steps = dataset.provenance["steps"]
    dataset = replace(dataset, provenance={**dataset.provenance, "steps": [steps[0] | found, *steps[1:]]})
    said = reading.tally.sentences() + said
    known_of = ", ".join(f"{n:,} {what}" for what, n in coverage.items()) or "nothing is known but their ids"
    said.append(f"of {dataset.n_items:,} items kept: {known_of}")
    return Prepared(dataset, said)


def _taken(kind: Kind, options: Mapping[str, Any], item_id: str | None, items: Path | None) -> dict[str, Any]:
    """The options that the kind's reader takes; another one is an error."""
    known = [name for name, p in inspect.signature(kind.read).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            flag = {"split": "split-column", "features": "feature"}.get(option, option.replace("_", "-"))
            raise PrismError(f"The kind {kind.name} takes no --{flag}: its files say it. Leave it out.")
    own = "item_id" in known and items is None
    return dict(options) | ({"item_id": item_id} if own else {})


def thinned(log: pl.LazyFrame, core: tuple[int, int], reading: Reading) -> tuple[pl.LazyFrame, dict[str, int]]:
    """``log`` without rows of users and items that have too few rows for the k-core, and what was there before.

    It drops nothing that the k-core would keep: dropping duplicates and low ratings only makes counts smaller. Counts are
    taken by a hash of the id, so that no table of texts stands in memory: of two ids with one hash both may stay, no more.
    """
    counts = {
        column: log.select(pl.col(column).hash().alias("key")).group_by("key").len().collect(engine="streaming")
        for column in ("user", "item")
    }
    before = {"users": len(counts["user"]), "items": len(counts["item"]), "rows": int(counts["user"]["len"].sum())}
    for (column, table), least in zip(counts.items(), core, strict=True):
        enough = table.filter(pl.col("len") >= least)["key"]
        if len(enough) < len(table):
            log = log.filter(pl.col(column).hash().is_in(enough.implode()))
    path = reading.folder / "thinned.parquet"
    log.sink_parquet(path)
    log = pl.scan_parquet(path)
    if not log.select(pl.len()).collect().item():
        raise PrismError(
            f"Nothing is left of the {before['rows']:,} interactions when each user must have {core[0]} and each item "
            f"{core[1]} of them; ask for a smaller k-core."
        )
    return log, before


def _joined(table: pl.DataFrame, more: pl.DataFrame) -> pl.DataFrame:
    """Both tables' items and columns; where both say something of an item, the second."""
    if more.is_empty():
        return table
    both = table.join(more, on="item", how="full", coalesce=True, suffix=" more", maintain_order="left_right")
    shared = [name for name in table.columns if name != "item" and name in more.columns]
    return both.with_columns(pl.coalesce(f"{name} more", name).alias(name) for name in shared).drop(
        f"{name} more" for name in shared
    )


def _fitting(table: pl.DataFrame, log: pl.LazyFrame) -> pl.DataFrame:
    """Ids of the type that the log's have; items whose id cannot be one of them are none of the log's."""
    dtype = log.collect_schema()["item"]
    return (
        table.with_columns(pl.col("item").cast(dtype, strict=False))
        .drop_nulls("item")
        .unique("item", keep="first", maintain_order=True)
    )


def covered(dataset: Dataset, images: Path | None) -> tuple[Dataset, dict[str, int]]:
    """With the paths of pictures, where there are some; and how many items have what."""
    table = dataset.item_table
    coverage: dict[str, int] = {}
    if "title" in table.columns:
        coverage["with a title"] = len(table) - table["title"].null_count()
    text = [name for name in TEXT if name in table.columns and table[name].dtype == pl.String]
    if text:
        coverage["without any text"] = int(table.select(pl.all_horizontal(pl.col(text).is_null())).to_series().sum())
    if images is not None:
        picture = pl.Series("picture", raw_pictures.found(table, images), pl.String)
        coverage["with a picture"] = len(picture) - picture.null_count()
        coverage["without a picture"] = picture.null_count()
        dataset = replace(dataset, item_table=table.with_columns(picture))
    return dataset, coverage
