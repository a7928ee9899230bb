"""Processes: what starts, what dies, what takes its place; and what the command line says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from program import call
from shelves import planted

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Program:
    """A service that runs, where it answers, and the file of what it says."""

    process: subprocess.Popen[bytes]
    url: str
    said: Path

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of a name that its log has by now. A line that is still being written is left."""
        lines = self.said.read_text().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
        return [event for event in found if event["event"] == name]


@contextmanager
def started(folder: Path, *options: str) -> Iterator[Program]:
    """The program, when it has said its address."""
    code = "import sys; sys.modules['torch'] = None; from prismrec.cli.app import program; program()"  # torch cannot be loaded
    command = [sys.executable, "-c", code, "serve", str(folder), "--port", "0", "--watch", "0.05", *options]
    said = folder.parent / "said.txt"  # not a pipe: one that is not read fills up
    with said.open("wb") as errors, subprocess.Popen(command, stderr=errors, cwd=ROOT) as process:
        try:
            soon(lambda: re.search(r"http://\S+\n", said.read_text()) or process.poll() is not None)
            url = re.search(r"http://\S+", said.read_text())
            assert url is not None, said.read_text()
            yield Program(process, url[0], said)
        finally:
            process.kill()


def soon(reached: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a state that is sure to come. The limit is for a failure alone, and generous: machines can be slow."""
    until = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.05)


def got(url: str, tries: int = 400) -> Any:
    """An answer, asked for again where a process has gone: what any client of an idempotent request does."""
    for left in reversed(range(tries)):
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except OSError:
            if not left:
                raise
            time.sleep(0.05)
    return None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers in /proc")
def test_workers_share_a_port_are_replaced_when_they_die_and_forget_together(tmp_path: Path) -> None:
    planted().save(tmp_path / "model")
    with started(tmp_path / "model", "--workers", "2") as program:
        process, url = program.process, program.url

        def serving() -> set[int]:
            return {event["pid"] for event in program.events("serving")}

        assert got(f"{url}/recommend?user=u00001&k=3")["basis"] == "user"
        soon(lambda: len(serving()) == 2)
        first = serving()
        assert first == set(children(process.pid))
        killed = min(first)
        os.kill(killed, signal.SIGKILL)
        answers = [got(f"{url}/recommend?user=u00001&k=3") for _ in range(30)]
        assert {answer["basis"] for answer in answers} == {"user"}
        soon(lambda: len(serving()) == 3)
        assert set(children(process.pid)) == serving() - {killed}
        forget = urllib.request.Request(f"{url}/users/u00001", method="DELETE")
        with urllib.request.urlopen(forget, timeout=10) as answer:
            assert json.load(answer)["forgotten"] is True
        assert {got(f"{url}/recommend?user=u00001&k={k}")["basis"] for k in range(1, 21)} == {"popular"}
        planted(seed=7).save(tmp_path / "model")
        before = answers[0]["version"]
        soon(lambda: len({event["pid"] for event in program.events("swap")}) == 2)
        assert before not in {got(f"{url}/ready")["exports"]["model"] for _ in range(8)}
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        counted = re.search(r'prismrec_lists_total{kind="popular"} (\S+)', text)
        assert counted is not None and float(counted[1]) == 20  # of all workers together
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert "another takes its place" in program.said.read_text()
        assert program.events("request") and program.events("forgotten")


def children(of: int) -> list[int]:
    """Processes that serve under another."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == of and b"spawn_main" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:  # gone meanwhile
            continue
    return sorted(found)


def test_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    planted().save(tmp_path / "model")
    with started(tmp_path / "model", "--no-log") as program:
        assert got(f"{program.url}/health") == {"status": "ok"}
        program.process.send_signal(signal.SIGINT)
        assert program.process.wait(8) in (0, 130, -2)  # requests under way would have 10 seconds


def refused(words: str, *arguments: object) -> None:
    free = (
        [] if "--port" in arguments else ["--port", 0]
    )  # whoever else serves on this machine is none of this test's business
    said = call("serve", *arguments, *free)
    assert said.status == 2 and words in said.sentence, said


def test_what_cannot_be_served_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused("holds no export", tmp_path)
    refused("holds no export", tmp_path, "--workers", 2)
    refused("Two exports are called 'x'", "x=a", "x=b")
    (tmp_path / "key").write_text("short\n")
    refused("at least 16", tmp_path, "--api-key-file", tmp_path / "key")
    refused("no key that can be read", tmp_path, "--api-key-file", tmp_path / "none")
    monkeypatch.setenv("PRISMREC_API_KEY", "short too")
    refused("The key in $PRISMREC_API_KEY has 9", tmp_path)
    monkeypatch.delenv("PRISMREC_API_KEY")
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused("cannot be listened on", tmp_path, "--port", taken.getsockname()[1])
    from prismrec.serve import run

    monkeypatch.setattr(run, "_LIBRARIES", ("fastapi", "no_such_library"))
    refused("pip install 'prismrec[serve]'", tmp_path)
