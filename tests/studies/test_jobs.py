"""Processes that do tasks: outcomes, failures, and what is left of them when the parent is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from inline import refuse

from prismrec.errors import PrismError
from prismrec.studies.jobs import Outcome, Task, work


def test_outcomes_of_many_tasks_in_few_processes() -> None:
    found = list(work([Task(str(n), pow, (n, 2)) for n in range(12)], jobs=2))
    assert {o.task.name: o.value for o in found} == {str(n): n * n for n in range(12)}
    assert not any(o.error for o in found)
    pids = {o.value for o in work([Task("who", os.getpid) for _ in range(6)], jobs=1)}
    assert len(pids) == 1 and os.getpid() not in pids


def test_a_fresh_task_has_a_process_of_its_own() -> None:
    tasks = [Task("a", os.getpid), Task("b", os.getpid, fresh=True), Task("c", os.getpid, fresh=True)]
    assert len({o.value for o in work(tasks, jobs=1)}) == 3


def test_a_failing_task_is_an_outcome_and_the_others_go_on() -> None:
    tasks = [
        Task("bad", int, ("x",)),
        Task("killed", os.kill, ()),
        Task("gone", os._exit, (3,)),
        Task("good", abs, (-1,)),
    ]
    found = {o.task.name: o for o in work(tasks, jobs=2)}
    assert found["bad"].error.startswith("ValueError: invalid literal") and "Traceback" in found["bad"].trace
    assert found["gone"].error == "Its process ended by status 3." and found["gone"].value is None
    assert "TypeError" in found["killed"].error
    assert found["good"].value == 1 and not found["good"].error


def test_bad_input_is_a_sentence_without_a_trace() -> None:
    (found,) = work([Task("x", refuse, ("There is no model 'freedon'.",))], jobs=1)
    assert found.error == "There is no model 'freedon'." and not found.trace


def test_a_killed_process_says_so() -> None:
    (found,) = work([Task("x", signal.raise_signal, (signal.SIGKILL,))], jobs=1)
    assert "SIGKILL" in found.error and "memory" in found.error


def test_the_next_task_hangs_on_the_outcomes_before() -> None:
    """As a search does: a task is asked for only when a process is free and earlier outcomes were seen."""
    seen: list[int] = []

    def asked() -> Iterator[Task]:
        value = 1
        for _ in range(5):
            yield Task("next", pow, (value, 1))
            value = seen[-1] + 1

    for outcome in work(asked(), jobs=1):
        seen.append(outcome.value)
    assert seen == [1, 2, 3, 4, 5]


def test_none_waits_for_an_outcome_and_a_deadlock_is_an_error() -> None:
    seen: list[Outcome] = []

    def asked() -> Iterator[Task | None]:
        yield Task("first", abs, (-1,))
        while not seen:
            yield None
        yield Task("second", abs, (-2,))

    for outcome in work(asked(), jobs=3):
        seen.append(outcome)
    assert [o.task.name for o in seen] == ["first", "second"]
    with pytest.raises(PrismError, match="waits for the outcome of a task"):
        list(work([None, Task("never", abs, (1,))], jobs=1))


SLEEPERS = """
import signal, sys, time
from pathlib import Path
from prismrec.studies.jobs import Task, work

def note(folder, n):
    import os
    Path(folder, f"{n}.pid").write_text(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts us in the background has it ignored
    list(work([Task(str(n), note, (sys.argv[1], n)) for n in range(2)], jobs=2))
"""


def start(folder: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """A program whose two processes sleep, and their process ids."""
    (folder / "sleepers.py").write_text(SLEEPERS)
    parent = subprocess.Popen(
        [sys.executable, str(folder / "sleepers.py"), str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        notes = [path.read_text() for path in folder.glob("*.pid")]
        if len(notes) == 2 and all(notes):
            return parent, [int(pid) for pid in notes]
        time.sleep(0.05)
    raise AssertionError("the processes did not start")


def gone(pids: list[int], seconds: float = 30) -> bool:
    """Whether all of them end: they sleep for a minute, unless they are told to leave."""
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # it went while it was looked at
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_ctrl_c_ends_all_processes(tmp_path: Path) -> None:
    parent, pids = start(tmp_path)
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: everybody hears it
    assert gone(pids)
    _, said = parent.communicate(timeout=60)
    assert said.count("KeyboardInterrupt") == 1, said  # the parent alone speaks of it


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_processes_leave_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent, pids = start(tmp_path)
    parent.kill()
    parent.communicate(timeout=60)
    assert gone(pids)
