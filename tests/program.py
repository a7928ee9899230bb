"""The command line as tests call it: in this process, or in one that can be killed."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # what a run takes that asks for no number: tests share the cores

from prismrec.data import store
from prismrec.data.dataset import Dataset, Interactions
from prismrec.data.synthetic import draw


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What stderr says, on one line."""
        return " ".join(self.err.split())


def call(*arguments: object) -> Said:
    """``prismrec`` with these arguments, in this process."""
    from prismrec.cli.app import main

    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["prismrec", *map(str, arguments)]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main()
                status = 0
            except SystemExit as leaving:
                status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    finally:
        sys.argv = before
    return Said(status, out.getvalue(), err.getvalue())


def planted(path: Path, **sizes: Any) -> Path:
    """A small planted data set, saved."""
    store.save(dataset(**sizes), path)
    return path


def dataset(**sizes: Any) -> Dataset:
    return draw(**{"n_users": 60, "n_items": 40, "interactions": 8.0, "seed": 5, **sizes}).dataset


def with_rows(data: Dataset, rows: Interactions) -> Dataset:
    return replace(data, interactions=rows)


def snapshot(folder: Path) -> dict[str, str]:
    """Every file below a folder → SHA-256 of its content. The lock file is no content."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def doomed(arguments: Sequence[object], plan: Callable[..., None] | None = None, *details: Any) -> int:
    """Run the command line in a process of its own, after ``plan(*details)`` has prepared its death; its exit status."""
    context = multiprocessing.get_context("forkserver")  # a process that has imported everything and run nothing
    context.set_forkserver_preload(["program", "prismrec.cli.app", "prismrec.experiment", "prismrec.external",
                                    "prismrec.cli.watch", "torch._dynamo"])  # fmt: skip
    process = context.Process(target=_run, args=([str(a) for a in arguments], plan, details))
    process.start()
    process.join(120)
    assert process.exitcode is not None, "the process hangs"
    return process.exitcode


def _run(arguments: list[str], plan: Callable[..., None] | None, details: Sequence[Any]) -> None:
    if plan is not None:
        plan(*details)
    said = call(*arguments)
    if said.status:
        sys.__stderr__.write(said.err)
    raise SystemExit(said.status)


def die_at_event(folder: str, which: int) -> None:
    """SIGKILL before the ``which``-th opening, renaming or removal of a file below ``folder``, as seen from Python."""
    count = 0

    def hook(event: str, given: Any) -> None:
        nonlocal count
        if event in ("open", "os.rename", "os.remove") and str(given[0]).startswith(folder):
            count += 1
            if count == which:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def die_writing_tensors(which: int, share: float) -> None:
    """SIGKILL in the middle of the ``which``-th file of tensors, with a ``share`` of its bytes written."""
    import safetensors.torch

    whole, count = safetensors.torch.save_file, 0

    def half(tensors: Mapping[str, Any], path: Path) -> None:
        nonlocal count
        count += 1
        whole(dict(tensors), path)
        if count == which:
            os.truncate(path, int(path.stat().st_size * share))
            os.kill(os.getpid(), signal.SIGKILL)

    safetensors.torch.save_file = half
