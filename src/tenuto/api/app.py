"""The web application: routers under `/api/v1`, one shape for every refusal, the guard around all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenuto import __version__
from tenuto.api import errors, openapi, page
from tenuto.api.answers import json_answer
from tenuto.api.auth import Auth, kept_token
from tenuto.api.bodies import refused
from tenuto.api.guard import Guard
from tenuto.api.links import links_of
from tenuto.api.openapi import PREFIX, Operations
from tenuto.api.params import Common
from tenuto.api.routers import (
    artifacts,
    budgets,
    cache,
    commands,
    decide,
    findings,
    health,
    history,
    knowledge,
    notifications,
    optimizers,
    patches,
    proposals,
    readers,
    runs,
    session,
    streams,
    tickets,
    usage,
    workflows,
)
from tenuto.errors import Problem, TenutoError
from tenuto.runtime.services.engine import Engine
from tenuto.settings import Settings


def create_app(engine: Engine, settings: Settings, *, auth: Auth | None = None) -> FastAPI:
    """Return the application over an engine that the caller opens and closes.

    Args:
        engine: Open for as long as the application answers.
        settings: Checked by `settings.load`.
        auth: `None` takes the token from the settings, or the one kept in the data directory, made if need be.
    """
    app = FastAPI(
        title="Tenuto", version=__version__, docs_url=None, redoc_url=None, openapi_url="/openapi.json",
        redirect_slashes=False,
    )  # fmt: skip
    app.state.engine = engine
    app.state.settings = settings
    app.state.auth = auth = auth or auth_of(settings)
    app.state.stopping = asyncio.Event()
    app.state.keep_alive_s = streams.KEEP_ALIVE_S
    app.state.assets = page.Assets()
    app.state.links = links_of(settings)
    # One level and the busiest first: the framework tries routers in order, and nested ones cost twice.
    routers = (
        runs, commands, history, streams, session, tickets, patches, proposals, optimizers, workflows, budgets, readers,
        artifacts, knowledge, findings, usage, notifications, cache,
    )  # fmt: skip
    for module in routers:
        app.include_router(module.router, prefix=PREFIX, dependencies=Common)
    app.include_router(health.router)
    app.include_router(page.router)
    app.include_router(decide.router)
    app.include_router(streams.sockets, prefix=PREFIX)
    app.add_api_websocket_route("/ws/{run_id}", streams.socket_run)
    app.include_router(page.legacy)
    app.add_api_route(f"{PREFIX}/openapi.json", _document, include_in_schema=False)
    app.add_exception_handler(TenutoError, _known)
    app.add_exception_handler(RequestValidationError, _unfit)
    app.add_exception_handler(HTTPException, _framework)
    app.add_middleware(cast("Callable[..., Any]", Guard), auth=auth, settings=settings)
    openapi.install(app)
    app.state.operations = Operations(app)
    return app


def auth_of(settings: Settings) -> Auth:
    """Return the credentials the settings ask for."""
    if settings.no_auth:
        return Auth("", required=False)
    return Auth(settings.token or kept_token(settings.data_dir))


async def _document(request: Request) -> Response:
    return json_answer(request.app.openapi())


async def _known(request: Request, error: Exception) -> Response:
    return errors.response(cast("TenutoError", error), request)


async def _unfit(request: Request, error: Exception) -> Response:
    """Return faults of parameters in the one shape."""
    faults = cast("RequestValidationError", error).errors()
    stripped = [{**fault, "loc": fault["loc"][1:]} for fault in faults]
    return errors.response(refused(stripped, root="query"), request)


async def _framework(request: Request, error: Exception) -> Response:
    """Return what the framework refused in the one shape; an unknown address comes with the nearest one."""
    found = cast("HTTPException", error)
    if found.status_code not in (404, 405):
        headers = dict(found.headers or {})
        return errors.response(errors.plain_status(found.status_code, str(found.detail), headers), request)
    path: str = request.scope["path"]
    operations = cast("Operations", request.app.state.operations)
    methods = operations.methods(path)
    if methods or found.status_code == 405:
        allowed = ", ".join(methods or ["GET"])
        message = f"{request.method} is not possible here; use {allowed}"
        return errors.response(errors.plain_status(405, message, {"Allow": allowed}), request)
    near = get_close_matches(path, operations.paths(), n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else "see /openapi.json for all addresses"
    problem = Problem(path, "is no address of this server", hint=hint, code="route.unknown")
    refusal = errors.Refused(404, "route.unknown", f"there is nothing at {path!r}", problems=[problem])
    return errors.response(refusal, request)
