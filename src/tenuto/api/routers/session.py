"""Signing a browser in and out, and tokens for clients of streams that cannot send headers."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from tenuto.api.answers import gives, json_answer, takes
from tenuto.api.auth import ALL_RUNS, CODE_TTL_S, SESSION_TTL_S, STREAM_TTL_S, Auth
from tenuto.api.bodies import read_model
from tenuto.api.errors import Refused
from tenuto.api.names import cookie_name
from tenuto.api.params import caller, engine_of
from tenuto.api.schemas import SessionIn

router = APIRouter(tags=["session"])


class SessionView(msgspec.Struct):
    """Who the server takes the caller for: `token`, `browser`, or `local` where no token is required."""

    by: str
    version: str


class LinkView(msgspec.Struct):
    """A link that signs one browser in, once."""

    url: str
    code: str
    expires_in_s: int = CODE_TTL_S


class StreamTokenView(msgspec.Struct):
    """A token for `?token=` of a stream."""

    token: str
    expires_in_s: int = STREAM_TTL_S


def _auth(connection: HTTPConnection) -> Auth:
    return connection.app.state.auth


def _is_tls(request: Request) -> bool:
    """Return whether the browser's side is encrypted; a proxy's word is good enough to be stricter by it."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))


@router.get("/session", responses=gives(SessionView), summary="Who am I")
async def get_session(request: Request) -> Response:
    """Return how the caller showed who it is."""
    return json_answer(SessionView(caller(request), request.app.version))


@router.post("/session", responses=gives(SessionView), openapi_extra=takes(SessionIn), summary="Sign a browser in")
async def open_session(request: Request) -> Response:
    """Exchange a one-time code, or the token itself, for a cookie that scripts cannot read."""
    auth, body = _auth(request), await read_model(request, SessionIn)
    if auth.required and not (auth.is_bearer(body.token) if body.token else auth.spend_code(body.code)):
        message = "the token is not this server's" if body.token else "the code is not valid, was used, or has expired"
        raise Refused(
            401, "auth.code", f"{message}; a restart of the server prints a new link",
            headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip
    answer = json_answer(SessionView("browser" if auth.required else "local", request.app.version))
    if auth.required:
        answer.set_cookie(
            cookie_name(request.headers), auth.new_session(), max_age=SESSION_TTL_S, path="/", httponly=True,
            samesite="strict", secure=_is_tls(request),
        )  # fmt: skip
    return answer


@router.delete("/session", status_code=204, summary="Sign out", responses={204: {"description": "Signed out."}})
async def close_session(request: Request) -> Response:
    """Take the cookie back."""
    answer = Response(status_code=204)
    answer.delete_cookie(cookie_name(request.headers), path="/", httponly=True, samesite="strict")
    return answer


@router.post("/session/link", status_code=201, responses=gives(LinkView, status=201), summary="Make a sign-in link")
async def new_link(request: Request) -> Response:
    """Return a link that signs one browser in within ten minutes."""
    code = _auth(request).new_code()
    return json_answer(LinkView(f"{request.base_url}#code={code}", code), 201)


@router.post(
    "/runs/{run_id}/stream-token", status_code=201, responses=gives(StreamTokenView, status=201),
    summary="Make a token for one run's streams", tags=["streams"],
)  # fmt: skip
async def new_stream_token(request: Request, run_id: str) -> Response:
    """Return a token that opens this run's streams, and nothing else, for 60 s."""
    await engine_of(request).runs.get(run_id)
    return json_answer(StreamTokenView(_auth(request).new_stream_token(run_id)), 201)


@router.post(
    "/stream-token", status_code=201, responses=gives(StreamTokenView, status=201),
    summary="Make a token for the stream of all runs", tags=["streams"],
)  # fmt: skip
async def new_all_stream_token(request: Request) -> Response:
    """Return a token that opens the stream of all runs, and nothing else, for 60 s."""
    return json_answer(StreamTokenView(_auth(request).new_stream_token(ALL_RUNS)), 201)
