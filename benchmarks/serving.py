"""The service over loopback: requests a second, latencies at half load, start-up, memory.

    python -m benchmarks.serving [--seconds 5] [--rounds 3] [--cores 2,3] [--write]

20,000 users × 7,000 items × 64, lists of 20, one process on two cores; the load comes from a second process on the others. In
each round three services take turns, all on uvicorn, uvloop and httptools:

- **ours**, as ``prismrec serve`` starts it, with its log lines going to a file;
- **a fixed answer** of the same size by a bare ASGI function: what the HTTP server takes, so nothing can be below it;
- **FastAPI**, the same fixed answer from a route with two checked parameters: what the framework takes without any list.

After that, requests are due at random times, half of what is hoped for (``--rate``). Microseconds of processor time a request
say what one core could do were it left alone; requests a second what it did do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.serving_index import drawn

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]
FLOOR = """
import sys, asyncio, socket, uvicorn, orjson
cards = [{"item": f"{n:04d}", "title": f"item {n:04d}", "picture": False, "score": n / 7} for n in range(20)]
body = orjson.dumps({"user": "0", "basis": "user", "export": "model", "version": "0" * 12, "items": cards})
async def bare(scope, receive, send):
    head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})
def framework():
    from typing import Annotated
    from fastapi import FastAPI, Query, Response
    app = FastAPI()
    @app.get("/recommend")
    async def recommend(user: Annotated[str, Query(max_length=500)], k: Annotated[int, Query(ge=1, le=100)] = 20) -> Response:
        return Response(body, media_type="application/json")
    return app
app = framework() if sys.argv[1] == "fastapi" else bare
with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
    config = uvicorn.Config(app, http="httptools", loop="uvloop", log_level="error", access_log=False,
                            lifespan="off", ws="none", server_header=False, date_header=False)
    uvicorn.Server(config).run(sockets=[listening])
"""


@dataclass(frozen=True)
class Service:
    """A process, its port, and how long it took until it answered."""

    process: subprocess.Popen[str]
    port: int
    started: float

    @property
    def processor(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory(self) -> int:
        """Bytes resident, private or shared."""
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("Rss:")))


@contextmanager
def service(command: list[str], cores: set[int], log: Path) -> Iterator[Service]:
    """A service on these cores, once it answers."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    begin = time.perf_counter()
    with log.open("w+") as out:
        process = subprocess.Popen(command, stderr=out, text=True, env=env, cwd=ROOT)
        os.sched_setaffinity(process.pid, cores)
        try:
            while "http://" not in (said := log.read_text()):
                assert process.poll() is None, said
                time.sleep(0.005)
            port = int(said.split("http://127.0.0.1:")[1].split()[0])
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/recommend?user=0&k=20", timeout=5).read()
                    break
                except OSError:
                    time.sleep(0.005)
            yield Service(process, port, time.perf_counter() - begin)
        finally:
            process.terminate()
            process.wait(15)


def load(port: int, cores: set[int], **how: Any) -> dict[str, Any]:
    """What ``serving_load`` tells, from a process on other cores."""
    options = [part for name, value in how.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmarks.serving_load", str(port), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        os.sched_setaffinity(process.pid, cores)
        out, _ = process.communicate()
    found: dict[str, Any] = json.loads(out)
    assert not found["lost"] and found["personal"] == found["requests"], found
    return found


def ours(folder: Path) -> list[str]:
    code = "from prismrec.cli.app import program; program()"
    return [sys.executable, "-c", code, "serve", str(folder), "--port", "0"]


def measure(args: argparse.Namespace, folder: Path, small: Path, logs: Path) -> dict[str, Any]:
    cores = {int(core) for core in args.cores.split(",")}
    others = os.sched_getaffinity(0) - cores or cores
    commands = {"ours": ours(folder), **{name: [sys.executable, "-c", FLOOR, name] for name in ("bare", "fastapi")}}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    half: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    starts, memory, base = [], [], []

    def asked(one: Service, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        load(one.port, others, seconds=1, lines=args.lines, **how)  # warm
        before = one.processor
        full = load(one.port, others, seconds=args.seconds, lines=args.lines, **how)
        full["micro"] = 1e6 * (one.processor - before) / full["requests"]
        return full, load(one.port, others, seconds=args.seconds, lines=256, rate=args.rate, **how)

    for number in range(args.rounds):
        for name, command in commands.items():
            with service(command, cores, logs / f"{name}-{number}.log") as one:
                full, calm = asked(one)
                rows[name].append(full)
                half[name].append(calm)
                if name == "ours":
                    starts.append(one.started)
                    memory.append(one.memory)
            print(f"{number} {name:8}{full['per_second']:8.0f}/s {full['micro']:6.0f} µs  p99 {full['p99']:.1f} ms"
                  f"  at {args.rate:.0f}/s p50 {calm['p50']:.1f}, p99 {calm['p99']:.1f} ms", flush=True)  # fmt: skip
    with service(ours(small), cores, logs / "small.log") as one:
        asked(one, users=40)
        base.append(one.memory)
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {"rows": rows, "half": half, "starts": starts, "memory": memory, "base": base[0], "size": size}


def page(found: dict[str, Any], rate: float) -> str:
    names = {"ours": "`prismrec serve`", "bare": "a fixed answer, bare ASGI", "fastapi": "a fixed answer, FastAPI"}
    heads = ["one process, two cores", "requests/s, best", "median", "processor µs a request, least", "median",
             f"at {rate:,.0f}/s: p50 ms, best round", "p99 ms, best", "p99 ms, median"]  # fmt: skip
    table = [heads, ["---"] * len(heads)]
    for name, rows in found["rows"].items():
        rates, micro = [row["per_second"] for row in rows], [row["micro"] for row in rows]
        p50, p99 = ([row[key] for row in found["half"][name]] for key in ("p50", "p99"))
        middle = statistics.median
        table.append([names[name], f"{max(rates):,.0f}", f"{middle(rates):,.0f}", f"{min(micro):.0f}", f"{middle(micro):.0f}",
                      f"{min(p50):.1f}", f"{min(p99):.1f}", f"{middle(p99):.1f}"])  # fmt: skip
    extra, size, base = statistics.median(found["memory"]) - found["base"], found["size"], found["base"]
    starts = found["starts"]
    said = [
        f"From nothing to the first answer: {min(starts):.2f} s at best, {statistics.median(starts):.2f} s in the median.",
        f"Memory: the export has {size / 2**20:.1f} MiB. The process holds {extra / 2**20:.1f} MiB more than one that under "
        f"the same load serves an export of 40 users and 60 items ({base / 2**20:.0f} MiB: the interpreter, its libraries, "
        f"connections), {extra / size:.2f} times the export.",
    ]
    lines = [f"| {' | '.join(row)} |" for row in table]
    return "\n\n".join(["\n".join(lines), *said])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lines", type=int, default=32, help="connections at full load")
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second at half load")
    parser.add_argument("--cores", default="2,3", help="of the service; the load takes the others")
    parser.add_argument("--write", action="store_true", help="keep the result, dated, in benchmarks/results")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        big, small = Path(folder) / "model", Path(folder) / "small"
        drawn(20_000, 7_000, 64).save(big)
        drawn(40, 60, 64).save(small)
        found = measure(args, big, small, Path(folder))
    text = page(found, args.rate)
    print(f"\n{text}")
    if args.write:
        today = date.today().isoformat()
        head = (
            f"# The service\n\n`python -m benchmarks.serving`, {today}: 20,000 users × 7,000 items × 64, lists of 20; "
            f"{args.rounds} rounds of {args.seconds:g} s, {args.lines} connections. {os.cpu_count()} cores, which other "
            f"programs wanted too (load average {os.getloadavg()[0]:.1f} at the end): a machine left alone does better.\n\n"
        )
        (RESULTS / f"serving-{today}.md").write_text(f"{head}{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
