"""What operations have in common: the engine, paging, who calls, and what is refused before any of them runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Query
from starlette.requests import HTTPConnection, Request

from tenuto.api.bodies import idempotency_key
from tenuto.api.errors import Refused
from tenuto.api.schemas import instant_ms
from tenuto.domain.graph.reading import nearest
from tenuto.errors import Problem
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.requests import Pace
from tenuto.settings import Settings

T = TypeVar("T")
EVENT_STREAM = "text/event-stream"


def engine_of(connection: HTTPConnection) -> Engine:
    """Return the engine the application serves."""
    return cast("Engine", connection.app.state.engine)


def caller(connection: HTTPConnection) -> str:
    """Return how the caller showed who it is."""
    return cast("str", connection.scope.get("tenuto.by", ""))


def pace_of(request: Request) -> Pace:
    """Return how often the caller may start runs."""
    rates = cast("Settings", request.app.state.settings).start_rates
    return Pace(caller(request), simple=rates.simple, standard=rates.standard, heavy=rates.heavy)


def inbox_key(request: Request) -> str:
    """Return the key that makes a repeat of this command one message; empty without an `Idempotency-Key`.

    The use cases keep the keys of different commands, signals and steps apart.
    """
    return idempotency_key(request) or ""


async def before_stop(connection: HTTPConnection, work: Awaitable[T]) -> T | None:
    """Return what `work` gives, or `None` when the server stops first."""
    task = asyncio.ensure_future(work)
    stop = asyncio.ensure_future(cast("asyncio.Event", connection.app.state.stopping).wait())
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        stop.cancel()
        task.cancel()


def instant_param(name: str, value: str | None) -> int:
    """Return an instant given in a query as milliseconds; 0 when it was not given.

    Raises:
        Refused: 422 when it is none.
    """
    if not value:
        return 0
    try:
        return instant_ms(int(value) if value.isdigit() else value) or 0
    except ValueError as error:
        problem = Problem(name, f"{value!r} {error}", code="request.instant")
        raise Refused(422, "request.invalid", "the request is not valid", problems=[problem]) from None


def labels_param(values: list[str]) -> dict[str, str]:
    """Return labels given as `key=value` or `key:value`.

    Raises:
        Refused: 422 when one is neither.
    """
    labels: dict[str, str] = {}
    for value in values:
        mark = next((mark for mark in "=:" if mark in value), None)
        if mark is None:
            problem = Problem("label", f"{value!r} does not read key=value", code="request.label")
            raise Refused(422, "request.invalid", "the request is not valid", problems=[problem])
        key, _, labels_value = value.partition(mark)
        labels[key] = labels_value
    return labels


def _check_parameters(request: Request) -> None:
    """Refuse parameters an operation does not have, so that a misspelt filter is never silently no filter."""
    allowed = cast("frozenset[str]", request.app.state.operations.parameters(request))
    problems: list[Problem] = []
    for name, value in request.query_params.multi_items():
        if name not in allowed:
            hint = nearest(name, allowed) or (f"parameters are {', '.join(sorted(allowed))}" if allowed else "")
            problems.append(Problem(name, f"there is no parameter {name!r} here", hint, "request.parameter"))
        elif "\x00" in value:
            problems.append(Problem(name, "holds a NUL character", code="request.parameter"))
    path = request.path_params
    problems += [
        Problem(name, "holds a NUL character", code="request.parameter")
        for name, value in path.items() if "\x00" in str(value)
    ]  # fmt: skip
    if problems:
        raise Refused(422, "request.invalid", "the request is not valid", problems=problems)


def _check_accept(request: Request) -> None:
    """Refuse callers that cannot read what the operation answers."""
    accept = request.headers.get("accept", "")
    route = request.scope.get("route")
    media = str(cast("dict[str, Any]", getattr(route, "openapi_extra", None) or {}).get("x-media", "application/json"))
    if not accept or _accepts(accept, media):
        return
    raise Refused(406, "request.accept", f"the answer is {media}, which 'Accept: {accept[:200]}' excludes", allowed=media)


def _accepts(accept: str, media: str) -> bool:
    main = media.partition("/")[0]
    for item in accept.split(","):
        name, *rest = (part.strip().lower() for part in item.split(";"))
        if (media == "*/*" or name in (media, f"{main}/*", "*/*")) and not any(part in ("q=0", "q=0.0") for part in rest):
            return True
    return False


async def _fits(request: Request) -> None:
    """Refuse what no operation takes. A coroutine although it never waits: a plain function costs a thread hop."""
    _check_parameters(request)
    _check_accept(request)


Common = [Depends(_fits)]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most this many items.")]
Cursor = Annotated[str, Query(max_length=500, description="`next_cursor` of the page before.")]
Status = Annotated[list[str], Query(description="Repeat it, or separate by commas, for several.")]
At = Annotated[int | None, Query(ge=1, le=2**53, description="A record's number; the last one when left out.")]


def split_values(values: list[str], allowed: tuple[str, ...] = (), name: str = "status") -> tuple[str, ...]:
    """Return the values of a parameter that may be repeated or hold several.

    Raises:
        Refused: 422 when one is not allowed.
    """
    found = tuple(part.strip() for value in values for part in value.split(",") if part.strip())
    wrong = [value for value in found if allowed and value not in allowed]
    if wrong:
        problems = [
            Problem(name, f"{value!r} is none of {', '.join(allowed)}", nearest(value, allowed), "request.choice")
            for value in wrong
        ]
        raise Refused(422, "request.invalid", "the request is not valid", problems=problems)
    return found
