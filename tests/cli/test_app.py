"""The doors of the program, and how errors leave it."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from program import call
from safetensors import SafetensorError

import prismrec
from prismrec.cli import app
from prismrec.errors import PrismError
from prismrec.models import MODELS
from prismrec.pairing import plugins_on
from prismrec.plugins import PLUGINS
from prismrec.recipes import RECIPES


def test_version_and_help() -> None:
    assert call("--version").out == f"prismrec {prismrec.__version__}\n"
    said = call("--help")
    assert said.status == 0 and said.err == ""
    for command in ("demo", "data", "train", "evaluate", "recommend", "models", "plugins"):
        assert f"│ {command} " in said.out


@pytest.mark.parametrize("command", ["demo", "train", "evaluate", "recommend", "models", "plugins", "data split"])
def test_every_help_shows_an_example(command: str) -> None:
    said = call(*command.split(), "--help")
    assert said.status == 0 and f"Example: prismrec {command}" in " ".join(said.out.split())


def test_help_does_not_wait_for_torch() -> None:
    """The slow libraries are loaded by the commands that use them."""
    slow = {"torch", "matplotlib", "scipy", "sklearn", "optuna"}
    code = f"import sys, prismrec.cli.app; print(sorted({slow} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert said.stdout.strip() == "[]", said.stderr


def test_the_module_is_the_program() -> None:
    start = time.monotonic()
    said = subprocess.run([sys.executable, "-m", "prismrec", "--version"], capture_output=True, text=True, timeout=120)
    assert said.stdout == f"prismrec {prismrec.__version__}\n" and said.returncode == 0 and said.stderr == ""
    assert time.monotonic() - start < 60


@pytest.mark.parametrize(("command", "kinds"), [("models", MODELS), ("plugins", PLUGINS)])
def test_lists_for_people_and_for_scripts(command: str, kinds: tuple[Any, ...]) -> None:
    rows = json.loads(call(command, "--format", "json").out)
    recipes = [row for row in rows if "recipe" in row]
    assert [row["name"] for row in recipes] == ([recipe.name for recipe in RECIPES] if command == "models" else [])
    assert [row["recipe"][1:] for row in recipes] == [list(r.plugins) for r in RECIPES[: len(recipes)]]
    rows = rows[: len(rows) - len(recipes)]
    assert [row["name"] for row in rows] == [kind.name for kind in kinds]
    for row, kind in zip(rows, kinds, strict=True):
        assert row["year"] == kind.paper.year and row["title"] == kind.paper.title and row["authors"] and row["venue"]
        assert set(row["settings"]) == set(kind.Config.model_fields)
        if command == "models":
            assert row["kind"] == ("multimodal" if kind.needs else "collaborative") and row["modalities"] == kind.needs
            assert row["plugins"] == plugins_on(kind) and row["compared"] == kind.compared
    table = call(command).out
    assert max(map(len, table.splitlines())) <= 80
    for kind in kinds:
        assert kind.name in table and str(kind.paper.year) in table
    assert call(command, "--format", "xml").status == 2


def leaving(monkeypatch: pytest.MonkeyPatch, error: BaseException, *arguments: str) -> Any:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(app, "app", fail)
    return call(*arguments)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (
            PrismError("A sentence with [brackets] and 'a value'."),
            2,
            "Error: A sentence with [brackets] and 'a value'.",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "x/y"), 2, "The disk is full: x/y could not be written"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 2, "The disk is full: a file could not be written"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), 2, "The disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "x/y"), 2, "Error: Permission denied: x/y."),
        (MemoryError(), 2, "There is not enough memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), 2, "There is not enough memory"),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
            2,
            "Take a smaller model.dim or train.batch_size",
        ),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero. This is a fault of prismrec"),
    ],
)
def test_errors_leave_in_a_sentence_and_with_a_status(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, said: str
) -> None:
    answer = leaving(monkeypatch, error)
    assert answer.status == status and said in answer.sentence
    assert answer.out == "" and "Traceback" not in answer.err and len(answer.err.splitlines()) == 1


@pytest.mark.parametrize("error", [PrismError("bad"), OSError(28, "No space"), ZeroDivisionError("x")])
@pytest.mark.parametrize("arguments", [["--debug"], ["models", "--debug"]])
def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch, error: Exception, arguments: list[str]) -> None:
    with pytest.raises(type(error)):
        leaving(monkeypatch, error, *arguments)


def test_a_real_traceback_on_stderr_with_debug_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prismrec", "data", "inspect", str(tmp_path / "none")]
    plain, debug = (
        subprocess.run([*command, *extra], capture_output=True, text=True, timeout=120) for extra in ([], ["--debug"])
    )
    assert plain.returncode == 2 and "Traceback" not in plain.stderr and "There is no" in plain.stderr
    assert debug.returncode == 1 and "Traceback" in debug.stderr and "PrismError" in debug.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_reader_that_leaves_early_is_no_error() -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "prismrec", "train", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert program.stdout is not None and program.stderr is not None
    program.stdout.close()
    assert program.wait(120) in (0, 1) and b"Traceback" not in program.stderr.read()
    program.stderr.close()


@pytest.mark.parametrize(
    "arguments", [["trian"], ["train", "--modle", "bpr"], ["recommend"], ["evaluate", "x", "--part", "all"]]
)
def test_misuse_says_how_to_use_it(arguments: list[str]) -> None:
    said = call(*arguments)
    assert said.status == 2 and "Usage: prismrec" in said.err and "Traceback" not in said.err
