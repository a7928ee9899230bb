"""Raw files of a known kind → a data set, for people: what is read, how long it takes, what was found, what is encoded."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from prismrec.cli.data_job import Job
from prismrec.cli.watch import clock, interrupted, say
from prismrec.data.dataset import Dataset
from prismrec.errors import PrismError

if TYPE_CHECKING:
    from prismrec.encode import Kind

_PAUSE = 2.0  # seconds between lines on progress


def kind_and_paths(sources: Sequence[str]) -> tuple[str | None, list[Path]]:
    """``amazon a b`` → the kind and its paths; one path alone is data of any layout, without a kind."""
    from prismrec.data.raw import KINDS, kind_named

    first, *rest = sources
    if rest:
        return kind_named(first).name, [Path(path) for path in rest]
    known = {kind.name: kind for kind in KINDS}
    if first in known and not Path(first).exists():
        raise PrismError(
            f"prismrec data prepare {first} takes files: {known[first].files}. For example: "
            f"prismrec data prepare {first} data/raw/{first} -o data/{first}"
        )
    return None, [Path(first)]


def read(job: Job, kind: str, paths: Sequence[Path], output: Path, options: dict[str, Any]) -> Dataset:
    """The data set of raw files; what was found in them is said. Interrupted, it leaves nothing behind."""
    from prismrec.data.raw import prepare
    from prismrec.data.raw_lines import Reading

    with _blocks(output) as folder, _leaving(job):
        prepared = prepare(kind, paths, Reading(folder, watch=_Shown(job.console)), **options)
    for line in prepared.said:
        say(job.console, line)
    return prepared.dataset


@contextmanager
def _leaving(job: Job) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        interrupted(shlex.join(["prismrec", *sys.argv[1:]]))
        raise typer.Exit(130) from None


@contextmanager
def _blocks(output: Path) -> Iterator[Path]:
    """A folder beside the result for blocks of a log that no memory need hold; what a killed call left there goes first."""
    from prismrec.io import LOCK, locked

    folder = output.with_name(f".{output.name}.raw")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder):
            for path in folder.iterdir():
                if path.name != LOCK:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Shown:
    """How far a file is read: its rate and the time that is left, every two seconds."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.path: Path | None = None
        self.start = self.last = time.monotonic()

    def __call__(self, path: Path, done: int, of: int) -> None:
        now = time.monotonic()
        if path != self.path:
            self.path, self.start, self.last = path, now, now
        if now - self.last >= _PAUSE and done:
            self.last = now
            rate = done / (now - self.start)
            left = f", left {clock((of - done) / rate)}" if done < of else ""
            say(
                self.console,
                f"{path.name}: {done / 2**20:,.0f} of {of / 2**20:,.0f} MiB, {rate / 2**20:.1f} MiB/s{left}",
            )


def list_pictures(dataset: Dataset, path: Path) -> int:
    """Write the addresses of pictures that items lack as a configuration of curl, one file called like each item; how many.

    Items whose id cannot be a file name are left out, and so are addresses that are none.
    """
    import re

    import polars as pl

    from prismrec.io import write_text

    table = dataset.item_table
    if "picture_url" not in table.columns:
        raise PrismError(f"{dataset.name!r} knows no addresses of pictures, so there is nothing for --list-pictures.")
    if "picture" in table.columns:
        table = table.filter(pl.col("picture").is_null())
    lines = []
    for item, url in table.select(pl.col("item").cast(pl.String), "picture_url").drop_nulls().iter_rows():
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", item) and re.fullmatch(r"https?://[^\s\"\\]+", url):
            suffix = re.search(r"\.(jpe?g|png|webp|gif)$", url.lower())
            lines.append(f'url = "{url}"\noutput = "{item}.{suffix[1] if suffix else "jpg"}"\n')
    write_text(path, "".join(lines))
    return len(lines)


def encoders_at_hand() -> None:
    """Raise ``PrismError`` now, and not after an hour of reading, where the default encoders cannot be loaded."""
    from prismrec.encode import DEFAULT, load

    for kind, name in DEFAULT.items():
        try:
            load(name, kind)
        except PrismError as error:
            raise PrismError(f"{error} Or leave features for later: --no-encode.") from None


def encoded(job: Job, images: Path | None) -> list[Any]:
    """The job's data set with features of what it has, pictures and texts, by the default encoders; what was made."""
    from prismrec.cli.encode import Screen
    from prismrec.data.item_table import TEXT
    from prismrec.encode import add_features
    from prismrec.machine import available_cores

    assert job.dataset is not None
    table = job.dataset.item_table
    wanted: dict[Kind, Path | None] = {} if images is None else {"image": images}
    if any(table[name].null_count() < len(table) for name in TEXT if name in table.columns):
        wanted["text"] = None
    if not wanted:
        job.console.print("Nothing was encoded: there are neither texts nor pictures (--images).", soft_wrap=True)
    made = []
    for kind, folder in wanted.items():
        with _leaving(job), Screen(job.console, kind) as screen:
            job.dataset, one = add_features(
                job.dataset, kind, images=folder, workers=available_cores(), watch=screen.show
            )
        made.append(one)
    return made


def write_cards(job: Job, made: Sequence[Any], output: Path) -> None:
    """A data card for each modality that was encoded."""
    from prismrec.encode.card import card_of
    from prismrec.report.encoding import write_card

    assert job.dataset is not None
    for one in made:
        card = card_of(job.dataset, one)
        for line in card.sentences():
            say(job.console, line)
        say(job.console, f"Data card: {write_card(output, card, shlex.join(['prismrec', *sys.argv[1:]]))}")
