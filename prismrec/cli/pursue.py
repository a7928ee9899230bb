"""What a person sees of a study while it is worked on: what ends, how fast, how long it still takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from prismrec.cli import options
from prismrec.cli.watch import clock, interrupted, pace, say
from prismrec.errors import PrismError

if TYPE_CHECKING:
    from prismrec.studies.question import Question
    from prismrec.studies.study import Event, Study


def taken_up(folder: Path, kind: str, context: typer.Context) -> Question:
    """The question that stands in a folder, for ``--resume``; options that say it again are refused."""
    from prismrec.studies.question import STUDY, read_question

    if named := options.given(context, "resume", "jobs", "quiet"):
        raise PrismError(f"--resume goes on with what {folder / STUDY} asks; leave out {', '.join(named)}.")
    question = read_question(folder)
    if question.kind != kind:
        raise PrismError(f"{folder} is of another command. Go on with it: prismrec {question.kind} --resume {folder}")
    return question


def pursue(
    question: Question,
    folder: Path,
    jobs: int | None,
    console: Console,
    conclude: Callable[[Study], None],
    again: str = "",
) -> None:
    """Work on a study to its end and ``conclude`` it; Ctrl-C stops it and says how to go on (``again``, if that is given).

    ``jobs``: runs at a time; None: as many as the machine takes.
    """
    from prismrec.config import resolve
    from prismrec.io import locked, remove_parts
    from prismrec.machine import at_once, pick_device
    from prismrec.studies.question import begin
    from prismrec.studies.study import Study

    run = resolve(next(iter(question.arms.values())).config).run  # all arms have the same device and threads
    pick_device(run.device)  # refused before a folder is written
    question = begin(question, folder)
    with locked(folder):
        remove_parts(folder)
        study = Study(question, folder, jobs or at_once(run.device, run.threads))
        arms = len(question.arms)
        say(
            console,
            f"{question.kind}: {arms} arms on {question.data.name}, {study.total:,} trials and runs, {study.jobs} at a time; "
            f"{study.done:,} are done · study folder: {folder}",
            "bold",
        )
        try:
            _work(study, console)
        except KeyboardInterrupt:
            interrupted(again or f"prismrec {question.kind} --resume {folder}")
            raise typer.Exit(130) from None
        for arm, why in study.failures.items():
            say(console, f"{arm} came to nothing: {why}", "red")
        conclude(study)


def _work(study: Study, console: Console) -> None:
    start, before = time.monotonic(), study.done
    status = console.status("") if console.is_terminal and not console.quiet else None
    if status is not None:
        status.start()
    try:
        for event in study.work():
            ended, elapsed = study.done - before, time.monotonic() - start
            left = clock((study.total - study.done) * elapsed / ended)
            told = f"{study.done:,} of {study.total:,}, {pace(ended, elapsed)}, left {left}"
            say(console, f"{_line(event)}  {told}")
            if status is not None:
                status.update(told)
    finally:
        if status is not None:
            status.stop()


def _line(event: Event) -> str:
    if event.error:
        return f"{event.arm}  {event.what}  failed: {event.error}"
    value = "" if event.value is None else f"  {event.value:.4f}"
    took = "" if event.seconds is None else f"  {clock(event.seconds)}"
    return f"{event.arm}  {event.what}{value}{took}"
