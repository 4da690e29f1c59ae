"""Artifacts: content goes up and comes down in pieces; what is stored under a digest never changes."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tenuto.api.answers import gives, gives_page, json_answer, page_answer
from tenuto.api.errors import Refused
from tenuto.api.params import Cursor, Limit, engine_of
from tenuto.runtime.artifacts import ArtifactTooLarge
from tenuto.runtime.services.results import ArtifactView

router = APIRouter(prefix="/artifacts", tags=["artifacts"])
PATH = "/api/v1/artifacts"
_ANY = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_SHOWN = re.compile(r"(?:image/(?:png|jpeg|gif|webp|avif)|text/plain|application/(?:json|pdf)|(?:audio|video)/[\w.+-]+)(?:;.*)?")
"""Media types a browser may show: none of them can run anything."""


@router.get("", responses=gives_page(ArtifactView), summary="List artifacts")
async def list_recent(request: Request, limit: Limit = 100, cursor: Cursor = "") -> Response:
    """Return what was put, newest first; values of journals are listed with their runs."""
    return page_answer(await engine_of(request).artifacts.recent(after=cursor, limit=limit))


@router.post(
    "", responses=gives(ArtifactView, status=201, about="What is stored now."), status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": _ANY, "description": "The content, of any media type."}},
    summary="Put an artifact",
)  # fmt: skip
async def put_artifact(
    request: Request,
    digest: Annotated[str, Query(max_length=100, description="What the content must have; it is refused else.")] = "",
) -> Response:
    """Store content under its digest. Until a run names it, it is kept for a day; the same again changes nothing."""
    try:
        media_type = request.headers.get("content-type", "")
        found = await engine_of(request).artifacts.put(request.stream(), media_type=media_type, digest=digest)
    except ArtifactTooLarge as error:
        raise Refused(413, error.reason, error.message) from None
    return json_answer(found, 201, {"Location": f"{PATH}/{found.digest}"})


@router.head("/{digest}", include_in_schema=False)
@router.get(
    "/{digest}",
    responses={200: {"description": "The stored bytes.", "content": _ANY}, 206: {"description": "A part.", "content": _ANY}},
    openapi_extra={"x-media": "*/*"}, summary="Read an artifact or a stored value",
)  # fmt: skip
async def get_artifact(request: Request, digest: str) -> Response:
    """Return the bytes of a digest, or with `Range` a part of them; they never change."""
    stored = await engine_of(request).artifacts.look(digest)
    found = stored.view
    headers = {
        "Cache-Control": "private, max-age=31536000, immutable", "ETag": f'"{digest}"', "Accept-Ranges": "bytes",
        "Content-Security-Policy": "sandbox; default-src 'none'", "Content-Type": found.media_type,
    }
    if not _SHOWN.fullmatch(found.media_type):
        headers["Content-Disposition"] = "attachment"
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    start, stop, status = _part(request, found.size)
    headers["Content-Length"] = str(stop - start)
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{found.size}"
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(await stored.pieces(start, stop), status_code=status, headers=headers)


def _part(request: Request, size: int) -> tuple[int, int, int]:
    """Return the first byte, the one after the last, and the status.

    Raises:
        Refused: 416 when there is no such part. What is no range of bytes is not heeded.
    """
    asked = _RANGE.fullmatch(request.headers.get("range", ""))
    if asked is None or not any(asked.groups()) or request.headers.get("if-range"):
        return 0, size, 200
    first, last = asked.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= stop:
        message = f"there are {size:,} bytes; {asked[0]} is none of them"
        raise Refused(416, "request.range", message, headers={"Content-Range": f"bytes */{size}"})
    return start, stop, 206
