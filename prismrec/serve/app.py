"""The application: routes behind the gate, and what runs beside them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from prismrec import __version__
from prismrec.errors import PrismError
from prismrec.serve import forms
from prismrec.serve.api import api, said
from prismrec.serve.desk import Desk
from prismrec.serve.express import Express
from prismrec.serve.gate import Gate, Refused
from prismrec.serve.page import page

_ABOUT = "Recommendations from an export of PrismRec. Ids are text. Every answer says which version of the export it is from."


def application(desk: Desk) -> Gate:
    """An ASGI application over exports that have been loaded; ``desk`` is closed when it ends."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(desk.exports.watch())
        try:
            yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            desk.close()

    app = FastAPI(
        title="PrismRec", version=__version__, description=_ABOUT, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.include_router(api(desk))
    app.include_router(service(desk))
    if desk.settings.page:
        app.include_router(page())
    _errors(app)
    return Gate(Express(app, desk), desk.settings, desk.log, desk.metrics)


def service(desk: Desk) -> APIRouter:
    """How the service is."""
    router = APIRouter(tags=["service"])

    @router.get("/health", summary="Whether the process lives")
    async def health() -> Response:
        return said({"status": "ok"})

    @router.get("/ready", response_model=forms.Ready, summary="Whether it can answer",
                responses={503: {"model": forms.Ready}})  # fmt: skip
    async def ready() -> Response:
        served = {catalogue.name: catalogue.version for catalogue in desk.exports.all()}
        whole = set(served) == set(desk.settings.exports)
        body = {"ready": whole, "exports": served, "refused": desk.exports.faults}
        return said(body, 200 if whole else 503)

    @router.get("/metrics", response_class=Response, summary="For Prometheus",
                responses={200: {"content": {"text/plain": {}}}})  # fmt: skip
    async def metrics() -> Response:
        text, kind = desk.metrics.text()
        return Response(text, headers={"Content-Type": kind})

    return router


def _errors(app: FastAPI) -> None:
    """Every refusal has the same form."""
    handlers: dict[type[Exception], Callable[[Any], tuple[int, str]]] = {
        Refused: lambda error: (error.status, error.sentence),
        PrismError: lambda error: (422, str(error)),
        HTTPException: lambda error: (error.status_code, str(error.detail)),
        RequestValidationError: lambda error: (422, "; ".join(map(_fault, error.errors()[:5]))),
        Exception: lambda error: (500, "A fault of the service; its log says more."),
    }
    for kind, read in handlers.items():

        async def handle(_: Request, error: Exception, read: Callable[[Any], tuple[int, str]] = read) -> Response:
            status, sentence = read(error)
            headers = dict(getattr(error, "headers", None) or {})
            return Response(orjson.dumps({"detail": sentence}), status, headers, "application/json")

        app.add_exception_handler(kind, handle)


def _fault(error: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"] if part not in ("body", "query", "path"))
    return f"{where}: {error['msg']}" if where else str(error["msg"])
