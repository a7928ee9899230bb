"""The explorer: a page, a style sheet and a script, read once when the service starts."""

from __future__ import annotations

from importlib import resources

from fastapi import APIRouter, Path, Response

from prismrec.figures.canvas import PALETTE
from prismrec.serve.gate import Refused

TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "html": "text/html; charset=utf-8"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page() -> APIRouter:
    """The routes of the page; they are no part of the API."""
    files = static()
    router = APIRouter(include_in_schema=False)
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}

    @router.get("/")
    async def explorer() -> Response:
        return Response(files["index.html"], media_type=TYPES["html"], headers=headers)

    @router.get("/static/{name}")
    async def file(name: str = Path(max_length=100)) -> Response:
        if name not in files:
            raise Refused(404, "There is no such file.", "file")
        return Response(files[name], media_type=TYPES[name.rpartition(".")[2]], headers=headers)

    return router


def static() -> dict[str, bytes]:
    """Name → content of the files of the page; ``base.css`` and ``theme.js`` are those of all pages of PrismRec."""
    folder = resources.files("prismrec.serve") / "static"
    files = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name.rpartition(".")[2] in TYPES}
    shared = resources.files("prismrec") / "templates"
    base = (shared / "style.css").read_text(encoding="utf-8")
    return {**files, "base.css": f"{PALETTE}\n{base}".encode(), "theme.js": (shared / "theme.js").read_bytes()}
