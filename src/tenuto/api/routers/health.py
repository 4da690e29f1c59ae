"""Probes at the root, for everybody: whether the process lives, and whether it can take work."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tenuto.api.answers import gives, json_answer
from tenuto.api.errors import Refused
from tenuto.api.params import engine_of

router = APIRouter(tags=["health"])


class Health(msgspec.Struct):
    """The process answers."""

    status: str
    version: str


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", responses=gives(Health), summary="Is it alive")
async def healthz(request: Request) -> Response:
    """Return 200 as long as the process answers."""
    return json_answer(Health("ok", request.app.version))


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Return what the worker of this process has counted, and how many runs there are, for Prometheus."""
    read = engine_of(request).metrics
    if read is None:
        raise Refused(404, "metrics.off", "this process counts nothing, for telemetry.metrics is off")
    text, kind = await read()
    return Response(text, media_type=kind)


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses=gives(Health), summary="Can it take work")
async def readyz(request: Request) -> Response:
    """Return 200 while the store answers and the server is not stopping, else 503 with the reason."""
    if request.app.state.stopping.is_set():
        raise Refused(503, "server.stopping", "the server is stopping")
    if wrong := engine_of(request).store.health():
        raise Refused(503, "store.unavailable", f"the store does not answer: {wrong}")
    return json_answer(Health("ready", request.app.version))
