"""Processes: one that serves, or several that share a socket under one that keeps them alive."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from prismrec.errors import PrismError
from prismrec.serve.metrics import SHARED
from prismrec.serve.settings import Settings

_BACKLOG = 2048
_GRACE = 10.0  # seconds that requests have to end in when the service is told to stop
_AGAIN = 0.5  # seconds before a worker that died at once is started again
_LIBRARIES = ("fastapi", "uvicorn", "orjson", "prometheus_client")

Say = Callable[[str], None]


def serve(settings: Settings, say: Say) -> None:
    """Serve until told to stop (SIGINT, SIGTERM). ``say`` is given what a person at the terminal wants to read."""
    _need_libraries()
    with _socket(settings) as listening, _ledger(settings) as forgotten:
        address = listening.getsockname()
        settings = settings.model_copy(update={"forgotten": forgotten, "port": address[1]})
        if settings.workers == 1:
            work(settings, listening, say)
        else:
            _supervise(settings, listening, say)


def work(settings: Settings, listening: socket.socket, say: Say | None = None) -> None:
    """Serve in this process. Without ``say`` as one of several: it waits for an export that can be read, as others go on."""
    import uvicorn
    from threadpoolctl import threadpool_limits

    from prismrec.serve.app import application
    from prismrec.serve.desk import Desk
    from prismrec.serve.forgotten import Forgotten
    from prismrec.serve.log import Log
    from prismrec.serve.metrics import Metrics

    threadpool_limits(1)  # the products of a few users are over before a second thread has woken up
    log, metrics = Log(), Metrics()
    assert settings.forgotten is not None
    desk = Desk(settings, Forgotten(settings.forgotten), log, metrics)
    try:
        while True:
            try:
                desk.exports.load()
                break
            except PrismError as error:
                if say is not None:
                    raise
                log.say("waiting-for-export", reason=str(error))
                time.sleep(1)
        for catalogue in desk.exports.all():
            log.say("serving", export=catalogue.name, version=catalogue.version, pid=os.getpid())
        config = uvicorn.Config(
            application(desk), http="httptools" if _has("httptools") else "auto", loop="uvloop" if _has("uvloop") else "auto",
            log_level="warning", access_log=False, server_header=False, date_header=False, ws="none",
            proxy_headers=settings.proxy is not None, forwarded_allow_ips=settings.proxy, timeout_keep_alive=75,
            timeout_graceful_shutdown=int(_GRACE), backlog=_BACKLOG, lifespan="on",
        )  # fmt: skip
        server = uvicorn.Server(config)
        gc.collect()
        gc.freeze()  # what is here stays: looking through it again and again would hold up requests for tens of milliseconds
        if say is not None:
            say(_address(listening))
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, lambda *_: desk.exports.ask())
        server.run(sockets=[listening])
    finally:
        log.close()


def _supervise(settings: Settings, listening: socket.socket, say: Say) -> None:
    """Keep workers alive: one that dies, however it dies, is replaced, while the others go on taking requests."""
    from prismrec.serve.catalogue import Catalogue

    for name, folder in settings.exports.items():
        Catalogue.load(name, folder)  # what is bad is told once, here
    say(_address(listening))
    context = multiprocessing.get_context("spawn")
    stop = threading.Event()
    workers: list[BaseProcess] = []

    def pass_on(number: int, _: Any) -> None:
        for worker in workers:
            if worker.pid and worker.is_alive():
                os.kill(worker.pid, number)

    def end(*_: Any) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, pass_on)
    with tempfile.TemporaryDirectory(prefix="prismrec-metrics-") as shared:
        os.environ[SHARED] = shared  # inherited: the workers count together

        def started() -> BaseProcess:
            worker = context.Process(target=_worker, args=(settings, listening), daemon=False)
            worker.start()
            return worker

        workers += [started() for _ in range(settings.workers)]
        while not stop.wait(0.1):
            for place, worker in enumerate(workers):
                if not worker.is_alive():
                    say(f"worker {worker.pid} ended ({worker.exitcode}); another takes its place")
                    _mark_dead(worker.pid)
                    stop.wait(_AGAIN)
                    if not stop.is_set():
                        workers[place] = started()
        pass_on(signal.SIGTERM, None)
        until = time.monotonic() + _GRACE + 2
        for worker in workers:
            worker.join(max(0.0, until - time.monotonic()))
            if worker.is_alive():
                worker.kill()
                worker.join()


def _worker(settings: Settings, listening: socket.socket) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: whoever started us says when to end
    threading.Thread(target=_follow_parent, daemon=True).start()
    work(settings, listening)


def _follow_parent() -> None:
    """A worker whose supervisor was killed would serve for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _mark_dead(pid: int | None) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    if pid is not None:
        mark_process_dead(pid)  # type: ignore[no-untyped-call]


def _need_libraries() -> None:
    missing = [name for name in _LIBRARIES if not _has(name)]
    if missing:
        raise PrismError(
            f"The service needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed; get it with: "
            "pip install 'prismrec[serve]'"
        )


def _has(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def _socket(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            listening.bind((settings.host, settings.port))
            listening.listen(_BACKLOG)
        except OSError as error:
            raise PrismError(
                f"{settings.host}:{settings.port} cannot be listened on ({error.strerror}); name another --port, or 0 for any."
            ) from None
        listening.set_inheritable(True)
        yield listening
    finally:
        listening.close()


@contextlib.contextmanager
def _ledger(settings: Settings) -> Iterator[Path]:
    """The file of those forgotten: the one named, or one that goes when the service does."""
    if settings.forgotten is not None:
        yield settings.forgotten
        return
    with tempfile.TemporaryDirectory(prefix="prismrec-forgotten-") as folder:
        yield Path(folder) / "forgotten"
