"""The page at `/`: a few files from the package, held in memory, fetched from nowhere else."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tenuto.api.errors import Refused
from tenuto.domain.runs.public import NAMES, PROVISIONAL

TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
router = APIRouter(include_in_schema=False)


class Assets:
    """The page's files by name, each with a tag that changes when it does."""

    def __init__(self) -> None:
        """Read them all."""
        folder = files("tenuto.api").joinpath("static")
        found = {item.name: item.read_bytes() for item in folder.iterdir() if item.name.rpartition(".")[2] in TYPES}
        found["index.html"] = found["index.html"].replace(b"EVENT-NAMES", " ".join((*NAMES, *PROVISIONAL)).encode())
        self._files = {name: (body, f'"{sha256(body).hexdigest()[:16]}"') for name, body in found.items()}

    def answer(self, name: str, request: Request) -> Response:
        """Return a file, or 304 when the browser has it.

        Raises:
            Refused: 404 for any other name.
        """
        if name not in self._files:
            raise Refused(404, "page.unknown", f"the page has no file {name!r}")
        body, tag = self._files[name]
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=TYPES[name.rpartition(".")[2]], headers=headers)


@router.get("/")
async def index(request: Request) -> Response:
    """Return the page."""
    return request.app.state.assets.answer("index.html", request)


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Return the page that lists every operation."""
    return request.app.state.assets.answer("docs.html", request)


@router.get("/favicon.ico")
async def favicon(request: Request) -> Response:
    """Return the picture of the browser's tab."""
    return request.app.state.assets.answer("icon.svg", request)


@router.get("/static/{name}")
async def static(request: Request, name: str) -> Response:
    """Return one of the page's files."""
    return request.app.state.assets.answer(name, request)


# --- addresses the reference systems used -----------------------------------------------------------------------
_METHODS = ["GET", "POST", "PUT", "DELETE"]
legacy = APIRouter(include_in_schema=False)


@legacy.api_route("/runs", methods=_METHODS)
@legacy.api_route("/runs/{rest:path}", methods=_METHODS)
@legacy.api_route("/workflows", methods=_METHODS)
@legacy.api_route("/workflows/{rest:path}", methods=_METHODS)
@legacy.api_route("/approvals", methods=_METHODS)
@legacy.api_route("/approvals/{rest:path}", methods=_METHODS)
async def moved(request: Request) -> Response:
    """Send callers of the short addresses to the same place under `/api/v1`, method and body kept."""
    return _to(request, "/api/v1" + request.scope["path"])


@legacy.get("/graphs")
@legacy.get("/graphs/{rest:path}")
async def graphs(request: Request) -> Response:
    """Send callers of `/graphs` to the workflows."""
    return _to(request, request.scope["path"].replace("/graphs", "/api/v1/workflows", 1))


@legacy.get("/health")
async def health(request: Request) -> Response:
    """Send callers of `/health` to the probe."""
    return _to(request, "/healthz")


def _to(request: Request, path: str) -> Response:
    return RedirectResponse(str(request.url.replace(scheme="", netloc="", path=path)), status_code=308)
