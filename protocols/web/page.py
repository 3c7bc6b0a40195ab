"""The page's files, from the package, held in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import resources
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["PageFile", "page_files", "page_routes"]

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class PageFile:
    """One file.

    Attributes
    ----------
    digest : str
        SHA-256, so that others can compare what two parties serve.
    """

    content: bytes
    kind: str
    digest: str


def page_files() -> dict[str, PageFile]:
    """Read the files, by name."""
    files = {}
    folder = resources.files("protocols.web").joinpath("static")
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        kind = _TYPES.get("." + item.name.rpartition(".")[2])
        if kind is not None:
            content = item.read_bytes()
            files[item.name] = PageFile(content, kind, hashlib.sha256(content).hexdigest())
    return files


def page_routes(files: dict[str, PageFile]) -> list[Route]:
    """Return a route for each file; index.html is at `/`."""
    return [Route("/" if name == "index.html" else f"/{name}", _serve(file)) for name, file in files.items()]


def _serve(file: PageFile) -> Callable[[Request], Awaitable[Response]]:
    tag = f'"{file.digest}"'

    async def serve(request: Request) -> Response:
        if tag in request.headers.get("if-none-match", ""):  # the browser has it
            return Response(status_code=304, headers={"ETag": tag})
        return Response(file.content, headers={"Content-Type": file.kind, "ETag": tag})

    return serve
