"""Options of the data commands that several of them share, and how their text is read."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from prismrec.data.dataset import Dataset
from prismrec.errors import PrismError

_READING = "Reading (tables; weight, name and NaN: all layouts)"


class Nan(StrEnum):
    """What to do with feature rows that hold NaN or Inf."""

    REFUSE = "refuse"
    MISSING = "missing"


class NullIds(StrEnum):
    """What to do with rows without user or item."""

    REFUSE = "refuse"
    DROP = "drop"


def _option(flag: str, text: str) -> Any:
    return typer.Option(flag, help=text, rich_help_panel=_READING)


Data = Annotated[Path, typer.Argument(help="A folder or a file of any layout that PrismRec reads.", show_default=False)]
Out = Annotated[Path, typer.Option("-o", "--output", help="Folder to write.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a data set that is already there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
User = Annotated[str | None, _option("--user", "Column of users.")]
Item = Annotated[str | None, _option("--item", "Column of items.")]
Rating = Annotated[str | None, _option("--rating", "Column of ratings (kept apart from weights).")]
Timestamp = Annotated[str | None, _option("--timestamp", "Column of times.")]
Weight = Annotated[str | None, _option("--weight", "Column to use as weights, for example the ratings.")]
SplitColumn = Annotated[str | None, _option("--split-column", "Column with train, valid, test (or 0, 1, 2).")]
Items = Annotated[Path | None, _option("--items", "Table of items: CSV, TSV or Parquet.")]
ItemId = Annotated[str | None, _option("--item-id", "Column of ids in the table of items.")]
Feature = Annotated[
    list[str] | None,
    _option(
        "--feature", "MODALITY=FILE: .npy with a row per row of --items, or Parquet with ids and lists. Repeatable."
    ),
]
Name = Annotated[str | None, _option("--name", "Name of the data set.")]
NanOption = Annotated[Nan | None, _option("--nan", "Feature rows with NaN or Inf: refuse them, or mark them missing.")]
NullIdsOption = Annotated[
    NullIds | None, _option("--null-ids", "Rows without user or item: refuse them, or drop them.")
]


def reading(
    *, split_column: str | None = None, feature: list[str] | None = None, **options: str | Path | None
) -> dict[str, Any]:
    """The options of ``prismrec.data.sources.read`` that were given."""
    features = dict(_feature(text) for text in feature or [])
    given = {**options, "split": split_column, "features": features or None}
    return {
        name: value.value if isinstance(value, StrEnum) else value for name, value in given.items() if value is not None
    }


def _feature(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise PrismError(
            f"--feature {text!r} does not say which modality it is; expected MODALITY=FILE, such as image=image.npy."
        )
    return name, path


def ratio(text: str) -> tuple[int, int, int]:
    """``8:1:1`` → (8, 1, 1)."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
        raise PrismError(f"--ratio {text!r} is not understood; expected three whole numbers such as 8:1:1.")
    train, valid, test = map(int, parts)
    return train, valid, test


def k_core(text: str) -> tuple[int, int]:
    """``5`` → (5, 5); ``5,3`` → 5 rows per user, 3 per item."""
    parts = text.split(",")
    if len(parts) > 2 or not all(part.strip().isdecimal() for part in parts):
        raise PrismError(
            f"--k-core {text!r} is not understood; expected a whole number such as 5, or 5,3 for users and items."
        )
    return int(parts[0]), int(parts[-1])


def quantiles(text: str) -> tuple[float, float]:
    """``0.8,0.9`` → (0.8, 0.9)."""
    return _two(text, "--quantiles", "0.8,0.9")


def shares(text: str) -> tuple[float, float]:
    """``0.1,0.1`` → (0.1, 0.1)."""
    return _two(text, "--cold", "0.1,0.1")


def _two(text: str, option: str, example: str) -> tuple[float, float]:
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise PrismError(f"{option} {text!r} is not understood; expected two numbers such as {example}.") from None
    return first, second


def cuts(text: str, dataset: Dataset) -> tuple[int, int]:
    """Two times in the data's own unit; dates such as 2024-05-31 (UTC) where that unit is known."""
    parts = text.split(",")
    if len(parts) != 2:
        raise PrismError(f"--at {text!r} is not understood; expected two times, the starts of validation and of test.")
    first, second = (_time(part.strip(), dataset) for part in parts)
    return first, second


def _time(text: str, dataset: Dataset) -> int:
    if text.removeprefix("-").isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise PrismError(
            f"--at holds {text!r}; expected a number in the data's own unit, or a date such as 2024-05-31."
        ) from None
    units = [step.get("timestamp_unit") for step in dataset.provenance.get("steps", [])]
    if "us" not in units:
        raise PrismError(
            f"--at holds the date {text!r}, but times in {dataset.name!r} are numbers of an unknown unit; give numbers."
        )
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1_000_000)
