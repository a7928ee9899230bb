"""``prismrec serve``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prismrec.errors import PrismError, first_fault

KEY = "PRISMREC_API_KEY"


def serve(
    exports: Annotated[
        list[str],
        typer.Argument(help="Folders of `prismrec export`, or NAME=FOLDER; the first answers who names none."),
    ],
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = 8000,
    workers: Annotated[int, typer.Option("--workers", help="Processes that share the port.", min=1)] = 1,
    threads: Annotated[int, typer.Option("--threads", help="Threads that rank a batch together.", min=1)] = 1,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", help=f"File with the key that requests must bring (or ${KEY}).")
    ] = None,
    max_k: Annotated[int, typer.Option("--max-k", help="Items of a list, at most.", min=1)] = 100,
    max_batch: Annotated[int, typer.Option("--max-batch", help="Users of a batch, at most.", min=1)] = 1000,
    max_body: Annotated[int, typer.Option("--max-body", help="Bytes of a request's body, at most.", min=1024)] = 1
    << 20,
    max_waiting: Annotated[
        int, typer.Option("--max-waiting", help="Requests at a time in a process, at most.", min=1)
    ] = 512,
    rate: Annotated[float, typer.Option("--rate", help="Requests a second of one client; 0: no limit.", min=0)] = 0.0,
    burst: Annotated[int, typer.Option("--burst", help="Requests of one client at once; 0: a second's.", min=0)] = 0,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds that an answer may take.", min=0.001)] = 10.0,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="A name that the Host header may have; may be repeated.")
    ] = None,
    proxy: Annotated[
        str | None, typer.Option("--proxy", help="Address of a proxy whose X-Forwarded-For is believed.")
    ] = None,
    forgotten: Annotated[
        Path | None, typer.Option("--forgotten", help="File that keeps the digests of forgotten users.")
    ] = None,
    watch: Annotated[float, typer.Option("--watch", help="Seconds between looks for a new export.", min=0.01)] = 1.0,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Serve the explorer at /.")] = True,
    log: Annotated[bool, typer.Option("--log/--no-log", help="A line of JSON for each request, on stderr.")] = True,
) -> None:
    """Serve recommendations over HTTP, and a page to explore them with. Loopback only, unless --host says otherwise.

    A new export written to the same folder is taken up without losing a request; SIGHUP takes a look at once.

    Example: **prismrec serve model/**

    Example: **prismrec serve old=model-1/ new=model-2/ --port 8080 --no-log**

    Example: **prismrec serve model/ --host 0.0.0.0 --workers 4 --api-key-file key.txt --rate 50 --forgotten state/forgotten**
    """
    from pydantic import ValidationError

    from prismrec.serve.run import serve as run
    from prismrec.serve.settings import LOOPBACK, Settings

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    key = _key(api_key_file)
    try:
        settings = Settings.model_validate({
            "exports": _named(exports), "host": host, "port": port, "workers": workers, "threads": threads, "api_key": key,
            "max_k": max_k, "max_batch": max_batch, "max_body": max_body, "max_waiting": max_waiting, "rate": rate,
            "burst": burst, "timeout": timeout, "hosts": tuple(allow_host or ()), "proxy": proxy, "forgotten": forgotten,
            "watch": watch, "page": page, "log": log,
        })  # fmt: skip
    except ValidationError as error:
        raise PrismError(f"{first_fault(error)}.") from None
    if host not in LOOPBACK and key is None:
        console.print("Note: everybody who reaches this address may ask; --api-key-file sets a key.")
    run(settings, lambda sentence: console.print(sentence, markup=False))


def _named(given: list[str]) -> dict[str, Path]:
    """Name → folder: as given, or the folder's own name."""
    found: dict[str, Path] = {}
    for one in given:
        name, _, folder = one.rpartition("=")
        path = Path(folder)
        name = name or path.resolve().name or "export"
        if name in found:
            raise PrismError(
                f"Two exports are called {name!r}; name them apart: prismrec serve old={found[name]} new={folder}"
            )
        found[name] = path
    return found


def _key(file: Path | None) -> str | None:
    if file is None:
        key, where = os.environ.get(KEY, ""), f"${KEY}"
        if not key:
            return None
    else:
        try:
            key, where = file.read_text(encoding="utf-8").strip(), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise PrismError(
                f"{file} holds no key that can be read ({error}); put the key there, as its only line."
            ) from None
    if len(key) < 16:
        raise PrismError(
            f"The key in {where} has {len(key)} characters; take at least 16, such as from: openssl rand -hex 24"
        )
    return key
