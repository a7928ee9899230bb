"""A service in this process: asked without a network, or over loopback."""

from __future__ import annotations

import asyncio
import io
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from prismrec.serve.app import application
from prismrec.serve.desk import Desk
from prismrec.serve.forgotten import Forgotten
from prismrec.serve.log import Log
from prismrec.serve.metrics import Metrics
from prismrec.serve.settings import Settings


def alone(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """What a coroutine returns, run in a thread: a browser that tests drive keeps an event loop in the main one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


@contextmanager
def opened(
    exports: dict[str, Path], state: Path, out: io.StringIO | None = None, **settings: Any
) -> Iterator[TestClient]:
    """A client of a service; ``client.desk`` is its inside."""
    cfg = Settings.model_validate({"exports": exports, "log": out is not None, **settings})
    log = Log(out or io.StringIO())
    desk = Desk(cfg, Forgotten(state / "forgotten"), log, Metrics())
    desk.exports.load()
    with TestClient(application(desk), base_url="http://localhost", raise_server_exceptions=False) as client:
        client.desk = desk  # type: ignore[attr-defined]
        yield client
    log.close()


@contextmanager
def running(exports: dict[str, Path], state: Path, **settings: Any) -> Iterator[str]:
    """The address of a service that runs in a thread."""
    import uvicorn

    cfg = Settings.model_validate({"exports": exports, "log": False, **settings})
    log = Log(io.StringIO())
    desk = Desk(cfg, Forgotten(state / "forgotten"), log, Metrics())
    desk.exports.load()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(application(desk), log_level="error", ws="none", lifespan="on"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        until = time.monotonic() + 20
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)
    log.close()
