"""``prismrec reproduce``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prismrec.cli import options
from prismrec.cli.pursue import pursue
from prismrec.cli.tables import show_whole, stdout
from prismrec.cli.watch import interrupted, say
from prismrec.errors import PrismError

if TYPE_CHECKING:
    from prismrec.studies.named import Named
    from prismrec.studies.named_beside import Beside, Best
    from prismrec.studies.named_data import Source
    from prismrec.studies.named_questions import Asked
    from prismrec.studies.study import Study

ASKED = "reproduce.yaml"


def reproduce(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="A study; without one, all are listed.", show_default=False)
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Planted data, few epochs: shows the machinery, not the claim.")
    ] = False,
    data: Annotated[
        list[str] | None, typer.Option("--data", help="NAME=PATH of a data set of the study; may be repeated.")
    ] = None,
    data_folder: Annotated[
        Path | None, typer.Option("--data-folder", help="Where folders baby, sports, clothing … lie.")
    ] = None,
    device: options.Device = None,
    threads: options.Threads = 1,
    jobs: options.Jobs = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the study (studies/NAME).")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Go on with a reproduction.")] = None,
    quiet: options.Quiet = False,
) -> None:
    """Do a table or figure of the papers again, and set ours beside what was published.

    Example: **prismrec reproduce clear-table-3 --quick**

    Example: **prismrec reproduce clear-table-3 --data baby=data/baby --out studies/clear-table-3**

    Example: **prismrec reproduce --resume studies/clear-table-3**
    """
    from prismrec.studies.named import named

    if name is None and resume is None:
        if given := options.given(context, "quiet"):
            raise PrismError(f"{', '.join(given)} is for a study; name one: prismrec reproduce lists them.")
        _list()
        return
    if resume is not None:
        if given := options.given(context, "resume", "jobs", "quiet"):
            raise PrismError(f"--resume goes on with what {resume / ASKED} asks; leave out {', '.join(given)}.")
        known = _known(resume)
        name, quick, device, threads = known["name"], known["quick"], known["device"], known["threads"]
        data, data_folder = [f"{key}={path}" for key, path in known["data"].items()], None
        out = resume
    assert name is not None
    study = named(name)
    out = out or Path("studies") / (f"{name}-quick" if quick else name)
    try:
        _run(name, study, quick, data or [], data_folder, device, threads, 1 if study.alone else jobs, out, quiet)
    except KeyboardInterrupt:  # not while runs are trained: that is seen to where they are
        interrupted(f"prismrec reproduce --resume {shlex.quote(str(out))}")
        raise typer.Exit(130) from None


def _run(
    name: str,
    study: Named,
    quick: bool,
    data: list[str],
    data_folder: Path | None,
    device: str | None,
    threads: int,
    jobs: int | None,
    out: Path,
    quiet: bool,
) -> None:
    from prismrec.studies.named_beside import QUICK
    from prismrec.studies.named_data import located, missing, planted, sources
    from prismrec.studies.named_questions import asked
    from prismrec.studies.question import check

    console, again = Console(stderr=True, quiet=quiet), f"prismrec reproduce --resume {shlex.quote(str(out))}"
    if quick and (data or data_folder):
        raise PrismError("--quick runs on planted data; leave out --data and --data-folder, or --quick.")
    paths = {} if quick else located(study, data, data_folder)
    tree = {"name": name, "quick": quick, "data": {key: str(path.resolve()) for key, path in paths.items()},
            "device": device, "threads": threads}  # fmt: skip
    _begin(out, tree)
    say(console, f"{study.paper}, {study.what}: {study.title}", "bold")
    say(console, study.shows, "dim")
    if quick:
        say(console, QUICK, "yellow")
    elif note := missing(study, paths):
        say(console, note, "yellow")
    found = planted(study, out / "data") if quick else sources(study, paths, out / "data")
    done = _Done(study, out)
    if not study.parts:
        for source in found:
            done.data_alone(source)
    questions = asked(study, found, out, quick, device, threads)
    for one in questions:
        check(one.question)
    for one in questions:
        pursue(one.question, one.folder, jobs, console, lambda study, one=one: done.part(one, study, quiet), again)  # type: ignore[misc]
    done.end(quick, again, quiet)


class _Done:
    """What has come of the parts so far."""

    def __init__(self, study: Named, out: Path) -> None:
        self.study, self.out = study, out
        self.rows: list[Beside] = []
        self.bests: list[Best] = []
        self.parts: list[dict[str, Any]] = []
        self.facts: list[tuple[str, str]] = []

    def _view(self) -> Any:
        from prismrec.diagnostics import View

        return View(k=self.study.k, part=self.study.judged)

    def data_alone(self, source: Source) -> None:
        """Count or measure data that nothing is trained on."""
        from prismrec.studies.named_beside import counted

        if not self.study.looks:
            self.rows += counted(self.study, source)
            return
        from prismrec.diagnostics import Subject, diagnose
        from prismrec.report import write_diagnosis

        diagnosis = diagnose(Subject.of_data(source.dataset, self._view()), self.study.looks)
        page = write_diagnosis(self.out / source.label, diagnosis)
        figures = [{"svg": svg, "title": f.title, "caption": ""} for f in diagnosis.findings for svg in f.figures]
        note = " ".join(finding.says for finding in diagnosis.findings)
        self._add(source.label, note, figures, page)

    def part(self, one: Asked, study: Study, quiet: bool) -> None:
        """Conclude a comparison, an ablation or a sweep: its own tables and page, then what is for the study's page."""
        from prismrec.cli.board import conclude, conclude_sweep
        from prismrec.config import value_at
        from prismrec.report import write_study
        from prismrec.report.looks import drawn, firsts, look_into
        from prismrec.report.study import sweep
        from prismrec.studies.board import Board
        from prismrec.studies.named_beside import beside, best

        configs = {name: arm.config for name, arm in one.question.arms.items()}
        figures: list[dict[str, Any]] = []
        notes = [f"{arm} came to nothing: {why}" for arm, why in study.failures.items()]
        if one.question.axes:
            conclude_sweep(study, quiet)
            self.bests += best(self.study, one.name, one.part, one.source, study.results(), configs)
            swept = sweep(one.question.model_dump(mode="json"), one.folder)
            if swept is not None and not self.study.looks:
                figures += swept["figures"]
                notes.append(swept["says"])
        else:
            conclude(study, quiet, self.study.metrics)
            self.rows += beside(self.study, one.name, one.part, one.source, Board.read(one.folder / "board.json"))
        if self.study.looks:
            lacking = look_into(study.runs(), self.study.looks, self._view(), one.folder)
            lacks = [f"{what} was not measured: {reason}" for what, reason in lacking.items()]
            for note in lacks:
                say(Console(stderr=True, quiet=quiet), note, "yellow")
            notes += lacks
            axes = one.question.axes
            points = {name: tuple(value_at(config, axis) for axis in axes) for name, config in configs.items()}
            figures += drawn(one.folder, self.study.draw, points, axes)
            figures += [] if one.question.axes else firsts(study.runs())
            write_study(one.folder)  # once more: with what was found of its runs
        self._add(one.label, " ".join(notes), figures, one.folder / "report.html")

    def _add(self, title: str, note: str, figures: list[dict[str, Any]], page: Path) -> None:
        where = page.relative_to(self.out).as_posix()
        self.parts.append({"title": title, "note": note, "figures": figures, "page": where})

    def end(self, quick: bool, again: str, quiet: bool) -> None:
        """Print ours beside published, and write all of it: reproduction.json and a page."""
        from prismrec.io import write_json
        from prismrec.report.reproduction import best_sheet, sheet, write_reproduction
        from prismrec.studies.named_beside import said

        console = stdout()
        says = said(self.rows, quick)
        for part in self.parts if not self.study.parts else []:
            console.print(Text(f"{part['title']}: {part['note']}"), soft_wrap=True)
        for made in [sheet(self.rows)] if self.rows else []:
            _print(console, made)
        for made in [best_sheet(self.bests)] if self.bests else []:
            _print(console, made)
        for sentence in says:
            console.print(Text(sentence, style="yellow" if quick else "bold"), soft_wrap=True)
        tree = {
            "paper": self.study.paper,
            "what": self.study.what,
            "quick": quick,
            "says": says,
            "beside": [row.model_dump() for row in self.rows],
            "best": [one.model_dump() for one in self.bests],
        }
        write_json(self.out / "reproduction.json", tree)
        facts = [("version", "quick, on planted data" if quick else "full"), ("parts", str(len(self.parts)))]
        page = write_reproduction(
            self.out / "report.html", self.study, says, again, self.rows, self.bests, self.parts, facts
        )
        if not quiet:
            say(Console(stderr=True), f"look at: {page}", "")


def _print(console: Console, made: dict[str, Any]) -> None:
    table = Table(box=box.SIMPLE_HEAD, title=made["title"], title_justify="left")
    for place, column in enumerate(made["columns"]):
        table.add_column(column, justify="left" if place < 3 else "right", no_wrap=True)
    for row in made["rows"]:
        table.add_row(*(Text(f"{cell['text']} {cell['aside']}".strip()) for cell in row))
    show_whole(console, table)
    console.print(Text(made["note"], style="dim"), soft_wrap=True)


def _list() -> None:
    from prismrec.studies.named import names, stated

    console = stdout()
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("study", "what it is", "data", "hours"):
        table.add_column(column, justify="right" if column == "hours" else "left", no_wrap=column == "study")
    for name in names():
        study = stated(name)
        table.add_row(name, study.title, ", ".join(study.data), f"{study.hours:g}")
    console.print(table)
    note = "hours: guessed, one machine with four cores and no GPU, all data named. --quick takes minutes at most."
    console.print(Text(note, style="dim"), soft_wrap=True)


def _begin(out: Path, tree: dict[str, Any]) -> None:
    """Write what is asked, or take up the same."""
    import yaml

    from prismrec.io import vacant, write_text

    if (out / ASKED).is_file():
        known = _known(out)
        if differing := [key for key in tree if known[key] != tree[key]]:
            raise PrismError(
                f"{out} holds a reproduction that differs in its {' and '.join(differing)}. Name another folder with --out."
            )
        return
    if not vacant(out):
        raise PrismError(f"{out} exists and holds no reproduction; it needs a folder of its own: name another one.")
    write_text(out / ASKED, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))


def _known(out: Path) -> dict[str, Any]:
    from prismrec.config import read_yaml

    if not (out / ASKED).is_file():
        raise PrismError(
            f"{out} is no reproduction: it has no {ASKED}. Name the folder that `prismrec reproduce` wrote."
        )
    known = read_yaml(out / ASKED)
    if set(known) != {"name", "quick", "data", "device", "threads"}:
        raise PrismError(f"{out / ASKED} was changed or cut short; begin again in another folder.")
    return known
