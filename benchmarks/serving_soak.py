"""The service under load while exports are swapped, bad ones come, and workers are killed: no request may be lost.

    python -m benchmarks.serving_soak [--minutes 10] [--rate 300] [--workers 2] [--write]

A second process asks at a steady rate, each answer held against what the export of its version says. Meanwhile, over and over:
a new export is put in place by turning a link (every 3 s), a bad one in the same way (every fourth turn: bytes flipped, a
file cut short, one lost, a manifest that is none), and a worker is killed with SIGKILL (every 15 s). A request whose
connection broke is sent again, as clients do with requests that change nothing; it is lost when five tries bring no answer,
or one other than 200.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

from benchmarks.serving import RESULTS, ROOT, ours
from benchmarks.serving_index import drawn
from prismrec.export import Shelf
from prismrec.serve.catalogue import version_of

USERS, K, GOOD = 2000, 10, 4


def spoilt(folder: Path, how: int) -> None:
    """Break an export that nobody reads yet."""
    (tensors,) = folder.glob("tensors.*")
    content = bytearray(tensors.read_bytes())
    if how == 0:
        content[len(content) // 2] ^= 0x10
        tensors.write_bytes(content)
    elif how == 1:
        tensors.write_bytes(content[: len(content) // 3])
    elif how == 2:
        tensors.unlink()
    else:
        (folder / "manifest.json").write_text("[]")


def made(folder: Path) -> tuple[list[Path], list[Path], dict[str, dict[str, list[str]]]]:
    """Good exports, bad ones, and what each version of the good ones answers."""
    good, bad, expected = [], [], {}
    for seed in range(GOOD):
        good.append(folder / f"good-{seed}")
        drawn(USERS, 1000, 32, seed).save(good[-1])
        shelf = Shelf.load(good[-1])
        lists = shelf.lists(shelf.users.external, K)
        found = zip(shelf.users.external.to_list(), lists.rows(), strict=True)
        expected[version_of(good[-1])] = {user: [item for item, _ in row] for user, row in found}
        bad.append(folder / f"bad-{seed}")
        drawn(USERS, 1000, 32, 100 + seed).save(bad[-1])
        spoilt(bad[-1], seed)
    return good, bad, expected


def turn(link: Path, target: Path) -> None:
    """Point a link elsewhere in one step."""
    part = link.with_suffix(".part")
    part.unlink(missing_ok=True)
    part.symlink_to(target)
    part.replace(link)


def workers_of(process: int) -> list[int]:
    """Processes that serve under the one that was started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process and b"spawn_main" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def every(seconds: float, stop: threading.Event, work: Callable[[int], None]) -> threading.Thread:
    def run() -> None:
        number = 0
        while not stop.wait(seconds):
            work(number)
            number += 1

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def soak(folder: Path, minutes: float, rate: float, workers: int) -> dict[str, int | float]:
    good, bad, expected = made(folder)
    link, log = folder / "current", folder / "log"
    turn(link, good[0])
    done = {"good": 0, "bad": 0, "killed": 0}
    rng, stop = random.Random(1), threading.Event()
    with log.open("w") as out:
        command = [*ours(link), "--workers", str(workers), "--watch", "0.2"]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stderr=out, text=True, cwd=ROOT, env=env)
        while "http://" not in log.read_text() or log.read_text().count('"serving"') < workers:
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        port = int(log.read_text().split("http://127.0.0.1:")[1].split()[0])

        def swap(number: int) -> None:
            kind = "bad" if number % 4 == 3 else "good"
            turn(link, (bad if kind == "bad" else good)[(number + 1) % GOOD if kind == "good" else number // 4 % GOOD])
            done[kind] += 1

        def kill(_: int) -> None:
            alive = workers_of(process.pid)
            if len(alive) >= workers:
                os.kill(rng.choice(alive), signal.SIGKILL)
                done["killed"] += 1

        options = [
            "--rate",
            str(rate),
            "--seconds",
            str(60 * minutes),
            "--users",
            str(USERS),
            "--k",
            str(K),
            "--lines",
            "64",
        ]
        client = subprocess.Popen([sys.executable, "-m", "benchmarks.serving_load", str(port), *options, "--expected"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)  # fmt: skip
        threads = [every(3.0, stop, swap), every(15.0, stop, kill)]
        told, _ = client.communicate(json.dumps(expected))
        stop.set()
        for thread in threads:
            thread.join()
        process.send_signal(signal.SIGTERM)
        ended = process.wait(20)
    found = json.loads(told)
    events = [json.loads(line)["event"] for line in log.read_text().splitlines() if line.startswith("{")]
    return {
        "minutes": minutes,
        **{name: found[name] for name in ("requests", "lost", "wrong", "again")},
        "versions met": len(found["versions"]),
        "exports put in place": done["good"],
        "bad ones put in place": done["bad"],
        "swaps, by all workers": events.count("swap"),
        "swaps refused, by all workers": events.count("swap-refused"),
        "workers killed": done["killed"],
        "faults": events.count("fault"),
        **{f"{name}, ms": found[name] for name in ("p50", "p99", "max")},
        "status at the end": ended,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="keep the result, dated, in benchmarks/results")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), args.minutes, args.rate, args.workers)
    rows = [
        f"| {name} | {f'{value:,.1f}' if isinstance(value, float) else f'{value:,}'} |" for name, value in found.items()
    ]
    text = "\n".join(["| | |", "|---|---|", *rows])
    print(text)
    if args.write:
        today = date.today().isoformat()
        head = (
            "# The service under load, swaps and killed workers\n\n"
            f"`python -m benchmarks.serving_soak --minutes {args.minutes:g}`, {today}: {args.rate:g} requests/s due at random "
            f"times, {args.workers} workers. Lost: five tries without an answer, or one other than 200. Wrong: not what the "
            "export of that version says. Again: sent once more after its connection broke. Times count from when a request "
            "was due; the machine had other work too.\n\n"
        )
        (RESULTS / f"serving-soak-{today}.md").write_text(f"{head}{text}\n", encoding="utf-8")
    if found["lost"] or found["wrong"] or found["faults"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
