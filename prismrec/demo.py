"""The demonstration: a catalogue whose truth is known, nine models, a leaderboard beside the best achievable score."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prismrec.data.dataset import Dataset
from prismrec.data.store import MANIFEST, save
from prismrec.data.synthetic import Planted, draw
from prismrec.errors import PrismError
from prismrec.evaluate import Evaluator
from prismrec.experiment import Result, configure, run
from prismrec.panels import duration, lists_of_users
from prismrec.report import leaderboard_rows, write_leaderboard, write_run_report
from prismrec.runs import Run

PAGE = "index.html"

_TRAIN = {"train.every": 2, "train.patience": 6}
_FREEDOM = {
    "model.weights": {"image": 0.5, "text": 0.5},
    "model.prune": 0.2,
    "model.reg": 0.1,
    "train.lr": 0.01,
    "train.epochs": 60,
}
_VBPR = {"model.reg": 0.3, "train.lr": 0.005, "train.epochs": 40}

ABOUT = (
    "Drawn, so that the truth is known. What kind of thing an item is stands in image and text alike (redundant), its colour "
    "in the image alone, its other adjective in the text alone (unique); whether the two are matching or contrasting shows "
    "only in their combination (synergy). Users take what suits their tastes for these and for what no feature shows."
)

ENTRIES: Sequence[tuple[str, tuple[str, ...], Mapping[str, Any]]] = (
    ("mostpop", (), {}),
    ("itemknn", (), {}),
    ("ease", (), {}),
    ("bpr", (), {"model.reg": 0.1, "train.lr": 0.005, "train.epochs": 50}),
    ("lightgcn", (), {"model.reg": 0.01, "train.lr": 0.01, "train.epochs": 60}),
    ("vbpr", (), _VBPR),
    ("vbpr", ("clear",), {**_VBPR, "clear.strength": 0.3}),
    ("freedom", (), _FREEDOM),
    ("freedom", ("clear",), {**_FREEDOM, "clear.strength": 0.9}),
)
"""Model, plug-ins, settings: a small grid each, chosen by validation on the catalogue of seed 0; the demo draws another."""


def run_demo(out: str | Path, seed: int = 1, quick: bool = False, console: Console | None = None) -> Path:
    """Draw a catalogue, train, print a leaderboard and a list, write a report; returns the report's page.

    ``out`` gets the page, ``data/`` and a folder for each run under ``runs/``; an earlier demonstration there is replaced
    once this one is done, anything else is refused. ``quick``: a small catalogue, three models, a few epochs.
    """
    console = console or _console()
    out, start = Path(out), time.perf_counter()
    planted = draw(300, 200, interactions=15, seed=seed) if quick else draw(seed=seed)
    dataset = planted.dataset
    console.print(
        f"[bold]A catalogue with planted truth[/]: {dataset.n_users:,} users, {dataset.n_items:,} items, "
        f"{len(dataset.interactions):,} interactions, features {', '.join(dataset.modalities)}, seed {seed}.",
        soft_wrap=True,
    )
    with _in_place(out) as folder:
        save(dataset, folder / "data")
        entries = [e for e in ENTRIES if not quick or e[:2] in (("mostpop", ()), ("bpr", ()), ("vbpr", ("clear",)))]
        runs = []
        for number, (model, plugins, settings) in enumerate(entries, 1):
            place = folder / "runs" / "-".join([model, *plugins])
            few = {"train.epochs": 4} if quick else {}
            _train(console, f"{number}/{len(entries)}", dataset, place, out / "data", model, plugins,
                   {**_TRAIN, **settings, **few}, seed)  # fmt: skip
            runs.append(place)
        for place in runs:
            write_run_report(place, dataset)
        metrics = list(Run.read(runs[0]).test.mean)
        oracle = Evaluator.of(dataset, "test", metrics=metrics).evaluate(planted.oracle())
        write_leaderboard(
            folder,
            runs,
            dataset,
            title="A catalogue with planted truth",
            about=ABOUT,
            oracle=oracle,
            truth=planted.oracle(),
        )
    read = sorted((Run.read(out / "runs" / place.name) for place in runs), key=lambda r: -r.test.mean["recall@20"])
    _print_board(
        console, leaderboard_rows(read, [r.label for r in read], ["recall@20", "ndcg@20"], oracle), len(oracle.per_user)
    )
    user = _print_list(console, read[0], planted)
    _print_next(console, out, read[0].folder, user, time.perf_counter() - start)
    return out / PAGE


def _console() -> Console:
    """The terminal, or where there is none lines wide enough for the table."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=110)


@contextmanager
def _in_place(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that takes its place when all is done; what was there stays until then."""
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]) and not _is_demo(out):
        raise PrismError(
            f"{out} exists and holds something else than an earlier demonstration, which it would replace; name another "
            "folder with --out."
        )
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        yield part
        if out.exists():
            shutil.rmtree(out)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _is_demo(out: Path) -> bool:
    """Whether a folder holds what a demonstration writes and nothing that anybody added."""
    if {entry.name for entry in out.iterdir()} != {PAGE, "data", "runs"}:
        return False
    runs = {"-".join([model, *plugins]) for model, plugins, _ in ENTRIES}
    return (out / "data" / MANIFEST).is_file() and {entry.name for entry in (out / "runs").iterdir()} <= runs


def _train(
    console: Console,
    number: str,
    dataset: Dataset,
    place: Path,
    data: Path,
    model: str,
    plugins: tuple[str, ...],
    settings: Mapping[str, Any],
    seed: int,
) -> Result:
    # tables this small fit in one core's cache: more threads would wait for each other
    cfg, _ = configure(dataset, model, plugins, settings=settings, seed=seed, threads=1)
    name, start = " + ".join([model, *plugins]), time.perf_counter()
    watcher = _Line(console, f"{number} {name}")
    with watcher:
        result = run(cfg, dataset, place, watcher, str(data))
    epochs = (
        f"{result.progress.epoch} epochs, best {result.progress.best_epoch}" if result.progress.epoch else "no training"
    )
    console.print(
        f"  {number} {name:<16} validation recall@20 {result.valid['recall@20']:.4f}   "
        f"{duration(time.perf_counter() - start):>7}   [dim]{epochs}[/]",
        soft_wrap=True,
    )
    return result


class _Line:
    """A Watcher that shows the epoch on one live line, in a terminal only."""

    def __init__(self, console: Console, name: str) -> None:
        self.name = name
        self.status = console.status(f"{name} …") if console.is_terminal else None

    def __enter__(self) -> None:
        if self.status is not None:
            self.status.start()

    def __exit__(self, *_: object) -> None:
        if self.status is not None:
            self.status.stop()

    def step(self, epoch: int, done: int, of: int) -> None:
        """Nothing: an epoch is short."""

    def epoch(self, record: dict[str, Any], progress: Any) -> None:
        """Show how far training is."""
        if self.status is not None:
            self.status.update(f"{self.name}: epoch {record['epoch']}, best {progress.best:.4f}")


def _print_board(console: Console, rows: Sequence[Mapping[str, Any]], n_users: int) -> None:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("model", no_wrap=True)
    for name in ("recall@20", "95 % interval", "ndcg@20", "95 % interval", "oracle %", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        if row["oracle"]:
            table.add_section()
        cells = [text for cell in row["cells"] for text in (_marked(cell), f"[dim]{cell['interval']}[/]")]
        table.add_row(row["label"], *cells, row["share"], row["seconds"])
    console.print("\n[bold]Leaderboard, test split[/]")
    console.print(table)
    console.print(
        f"Means over {n_users:,} users, one seed; intervals by bootstrap over users. Bold: best;\n"
        "≈: these users do not tell it from the best. The oracle ranks by the utilities from which\n"
        "the data was drawn: the best achievable. Between it and the models lie tastes that few\n"
        "interactions reveal, the synergy of image and text, and noise in the features.",
        soft_wrap=True,
    )


def _marked(cell: Mapping[str, Any]) -> str:
    text = f"[bold]{cell['value']}[/]" if cell["best"] else str(cell["value"])
    return f"{text} ≈" if cell["tied"] else text


def _print_list(console: Console, best: Run, planted: Planted) -> Any:
    """The list of a user with a hit among the first ten, if there is one; returns the user's id."""
    people = lists_of_users(planted.dataset, {"list": best.reps}, best.result["protocol"], 40)
    user = next((p for p in people if any(row["hit"] for row in p["lists"][0]["rows"])), people[0])
    share = float((best.test.values("recall@10") > 0).mean())
    console.print()
    console.print(f"[bold]What {best.label} recommends to user {user['id']}[/]", soft_wrap=True)
    console.print(f"took: {escape(' · '.join(user['history'][:8]))} …", soft_wrap=True)
    for rank, row in enumerate(user["lists"][0]["rows"], 1):
        hit = "  [green]✓ held out, and taken[/]" if row["hit"] else ""
        console.print(f"  {rank:>2}  {escape(row['title'])}{hit}", soft_wrap=True)
    console.print(f"[dim]Picked because it has a hit; {share:.0%} of users have one among their first ten.[/]")
    return user["id"]


def _print_next(console: Console, out: Path, best: Path, user: Any, seconds: float) -> None:
    console.print()
    console.print(
        f"[bold]The report[/]: {(out / PAGE).resolve().as_uri()}   ({duration(seconds)} in all)", soft_wrap=True
    )
    console.print("[bold]Try next[/]", soft_wrap=True)
    prismrec = _command()
    for command in (
        f"{prismrec} recommend {best} --user {user} --top 10",
        f"{prismrec} train {out / 'data'} --model freedom --plugin clear --set clear.strength=0.5",
        f"{prismrec} data import --help",
        f"{prismrec} models",
    ):
        console.print(f"  {escape(command)}", soft_wrap=True)


def _command() -> str:
    """How a person calls this installation from where he stands."""
    own = Path(sys.executable).with_name("prismrec")
    found = shutil.which("prismrec")
    if found is not None and Path(found).resolve() == own.resolve():
        return "prismrec"
    if not own.is_file():
        return f"{sys.executable} -m prismrec"
    return str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)
