"""Live streams: server-sent events and WebSockets of one run, and server-sent events of all runs.

An event's id is its place, so a client that comes back with `Last-Event-ID` or `after` misses nothing. A finished
stream answers a reconnecting browser with 204, which ends its tries.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Annotated, cast

import msgspec
from fastapi import APIRouter, Depends, Query
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from tenuto.api.answers import Documented, gives_media
from tenuto.api.errors import Refused, document
from tenuto.api.following import QUIET, follow
from tenuto.api.params import EVENT_STREAM, engine_of, split_values
from tenuto.domain.runs.public import PublicEvent
from tenuto.domain.runs.state import ENDED
from tenuto.errors import Problem, TenutoError
from tenuto.runtime.services.history import Tailed
from tenuto.runtime.services.requests import ListEvents

router = APIRouter(tags=["streams"])
sockets = APIRouter()

log = logging.getLogger("tenuto.api")
KEEP_ALIVE_S = 15.0
_encode = msgspec.json.Encoder().encode
_SSE: Documented = {
    **gives_media(EVENT_STREAM, "Events as they are committed; `data` is JSON of the schema `Event`.",
                  schema={"type": "string", "x-data": "#/components/schemas/Event"}),
    204: {"description": "The run has ended and there is nothing after the event named."},
    410: {"description": "What follows the event named as the last one seen was deleted or pruned since."},
}
_MARKS = {"x-media": EVENT_STREAM}
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

After = Annotated[str, Query(max_length=4000, description="Go on after this event; `Last-Event-ID` does the same.")]


async def _filter(
    node: str | None = None,
    step: str | None = None,
    type: Annotated[list[str], Query(description="Public names, or prefixes that end with a dot.")] = [],  # noqa: B006
    errors: bool = False,
) -> ListEvents:
    return ListEvents(node=node, step=step, types=split_values(type), errors=errors)


Filter = Annotated[ListEvents, Depends(_filter)]


@router.get("/runs/{run_id}/stream", responses=_SSE, openapi_extra=_MARKS, summary="Follow one run")
async def stream_run(request: Request, run_id: str, where: Filter, after: After = "") -> Response:
    """Send every event of a run from the start or after a given one, then live ones until the run has ended."""
    last = request.headers.get("last-event-id", "") or after
    engine = engine_of(request)
    first = await engine.history.events(run_id, after=last, limit=1)
    if last and not first.items and (await engine.runs.get(run_id)).status in ENDED:
        return Response(status_code=204)
    source = engine.history.stream(run_id, after=last, where=where)
    return StreamingResponse(_run_lines(request, source), media_type=EVENT_STREAM, headers=HEADERS)


@router.get("/stream", responses=_SSE, openapi_extra=_MARKS, summary="Follow all runs")
async def stream_all(request: Request, after: After = "") -> Response:
    """Send the events of all runs as they are committed, from now on or after a given place.

    After a reconnection the last group may be sent again; a run's event ids tell.
    """
    last = request.headers.get("last-event-id", "") or after
    engine = engine_of(request)
    cursors = _cursors(last) if last else await engine.store.tail_heads()
    if last:
        await engine.history.check_place(cursors)
    source = engine.history.stream_all(cursors=cursors)
    return StreamingResponse(_all_lines(request, source, cursors), media_type=EVENT_STREAM, headers=HEADERS)


@sockets.websocket("/runs/{run_id}/ws")
async def socket_run(websocket: WebSocket, run_id: str, where: Filter, after: str = "") -> None:
    """Send the same events over a WebSocket, after a first message that says it is subscribed."""
    engine = engine_of(websocket)
    await engine.history.events(run_id, after=after, limit=1)
    await websocket.accept()
    websocket.scope["tenuto.accepted"] = True
    source = engine.history.stream(run_id, after=after, where=where)
    sending = asyncio.ensure_future(_send(websocket, run_id, source))
    listening = asyncio.ensure_future(_listen(websocket))
    try:
        await asyncio.wait({sending, listening}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
            await websocket.close(1012 if _stopping(websocket).is_set() else 1000)
    except WebSocketDisconnect:
        pass
    finally:
        for task in (sending, listening):
            task.cancel()
        await asyncio.gather(sending, listening, return_exceptions=True)


async def _send(websocket: WebSocket, run_id: str, source: AsyncIterator[PublicEvent]) -> None:
    await websocket.send_text(_encode({"type": "subscribed", "run": run_id}).decode())
    async for event in follow(source, _stopping(websocket), quiet_s=3600):
        if event is not QUIET:
            await websocket.send_text(_encode(event).decode())


async def _listen(websocket: WebSocket) -> None:
    """Read, and ignore, what the client says, until it leaves."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


async def _run_lines(request: Request, source: AsyncIterator[PublicEvent]) -> AsyncIterator[bytes]:
    yield b": stream of one run\n\n"
    try:
        async for event in follow(source, _stopping(request), quiet_s=_keep_alive(request)):
            if event is QUIET:
                yield b": keep-alive\n\n"
            else:
                yield _sse(event.id.encode(), event)
    except TenutoError as error:
        yield _broken(request, error)


async def _all_lines(
    request: Request, source: AsyncIterator[Tailed], cursors: dict[int, int]
) -> AsyncIterator[bytes]:
    """Give each event the place *before* its group, because a group cut in the middle must come again."""
    place = now = cursors
    yield b": stream of all runs\nid: %b\n\n" % _place(place)
    try:
        async for item in follow(source, _stopping(request), quiet_s=_keep_alive(request)):
            if item is QUIET:
                yield b": keep-alive\n\n"
                continue
            if item.cursors != now:
                place, now = now, item.cursors
            yield _sse(_place(place), item.event)
    except TenutoError as error:
        yield _broken(request, error)


def _sse(identity: bytes, event: PublicEvent) -> bytes:
    place = b"id: %b\n" % identity if identity else b""  # what has no place leaves the client's where it is
    return place + b"event: %b\ndata: %b\n\n" % (event.type.encode(), _encode(event))


def _broken(request: Request, error: TenutoError) -> bytes:
    """Tell a client whose stream cannot go on why; its status has long been sent."""
    log.warning("a stream broke: %s", error.message, extra={"fields": {"code": error.reason}})
    problem = document(error, request_id=request.scope["tenuto.request_id"], instance=request.url.path)
    return b"event: problem\ndata: %b\n\n" % msgspec.json.encode(problem, enc_hook=str)


def _place(cursors: dict[int, int]) -> bytes:
    return (",".join(f"{writer}:{n}" for writer, n in sorted(cursors.items())) or "-").encode()


def _cursors(text: str) -> dict[int, int]:
    try:
        pairs = (item.split(":") for item in text.split(",")) if text != "-" else ()
        return {int(writer): int(n) for writer, n in pairs}
    except ValueError:
        problem = Problem("Last-Event-ID", f"{text[:200]!r} is no place in this stream", code="request.cursor")
        raise Refused(422, "request.invalid", "the request is not valid", problems=[problem]) from None


def _stopping(connection: HTTPConnection) -> asyncio.Event:
    return cast("asyncio.Event", connection.app.state.stopping)


def _keep_alive(connection: HTTPConnection) -> float:
    return cast("float", connection.app.state.keep_alive_s)
