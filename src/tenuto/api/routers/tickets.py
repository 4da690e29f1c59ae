"""Questions to people, their answers, and steps that failed for good."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from tenuto.api.answers import REPLAYED, command_answer, gives, gives_page, json_answer, page_answer, takes
from tenuto.api.bodies import idempotency_key, read_model
from tenuto.api.params import Cursor, Limit, caller, engine_of, inbox_key, split_values
from tenuto.api.schemas import DecisionIn, RetryIn
from tenuto.runtime.services.results import Accepted, DeadLetterView, TicketView

router = APIRouter(tags=["tickets"])
STATES = ("open", "decided", "closed")
State = Annotated[str | None, Query(description="`open`, `decided` or `closed`.")]


@router.get("/tickets", responses=gives_page(TicketView), summary="List tickets")
async def list_tickets(
    request: Request,
    kind: str | None = None,
    state: State = None,
    run: str | None = None,
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Response:
    """Return questions to people, newest first."""
    return await _list(request, kind, state, run, limit, cursor)


@router.get("/approvals", responses=gives_page(TicketView), summary="List approvals")
async def list_approvals(
    request: Request, state: State = None, run: str | None = None, limit: Limit = 100, cursor: Cursor = ""
) -> Response:
    """Return the tickets of kind `approval`, newest first."""
    return await _list(request, "approval", state, run, limit, cursor)


@router.get("/tickets/{ticket}", responses=gives(TicketView), summary="Read a ticket")
@router.get("/approvals/{ticket}", responses=gives(TicketView), summary="Read an approval")
async def get_ticket(request: Request, ticket: str) -> Response:
    """Return one ticket."""
    return json_answer(await engine_of(request).tickets.get(ticket))


_DECIDED = gives(TicketView, about="The ticket with its answer; an identical repeat changes nothing.")


@router.post("/tickets/{ticket}/decision", responses=_DECIDED, openapi_extra=takes(DecisionIn), summary="Decide")
@router.post("/approvals/{ticket}/decision", responses=_DECIDED, openapi_extra=takes(DecisionIn), summary="Decide")
async def decide_ticket(request: Request, ticket: str) -> Response:
    """Answer a ticket; its run goes on. A second, different answer is refused with 409."""
    tickets, body = engine_of(request).tickets, await read_model(request, DecisionIn)
    # The answer itself is what makes a repeat one: whoever decides a ticket as it was decided repeats that decision.
    repeats = idempotency_key(request) is not None and (await tickets.get(ticket)).state == "decided"
    decided = await tickets.decide(
        ticket, body.decision, reason=body.reason, data=body.data, by=body.by or caller(request), digest=body.digest or "",
        to=body.to or "",
    )
    return json_answer(decided, headers={REPLAYED: "true"} if repeats else None)


@router.get("/dead-letters", responses=gives_page(DeadLetterView), summary="List dead letters")
async def list_dead_letters(
    request: Request, state: State = "open", run: str | None = None, limit: Limit = 100, cursor: Cursor = ""
) -> Response:
    """Return steps that failed for good and that nothing handled, newest first."""
    wanted = _state(state, (*STATES, "all"))
    letters = engine_of(request).dead_letters
    return page_answer(
        await letters.list(state=None if wanted == "all" else wanted, run=run, after=cursor, limit=limit)
    )


@router.post(
    "/dead-letters/{letter}/redrive", status_code=202,
    responses=gives(Accepted, status=202, about="The step goes round again."),
    openapi_extra=takes(RetryIn, required=False), summary="Redrive a dead letter",
)  # fmt: skip
async def redrive(request: Request, letter: str) -> Response:
    """Send the step of a dead letter round again; a run it had stopped is reopened."""
    body = await read_model(request, RetryIn)
    taken = await engine_of(request).dead_letters.redrive(
        letter, fresh=body.fresh, guidance=body.guidance, config=body.config, reason=body.reason,
        by=caller(request), key=inbox_key(request),
    )  # fmt: skip
    return command_answer(taken, request)


async def _list(
    request: Request, kind: str | None, state: str | None, run: str | None, limit: int, cursor: str
) -> Response:
    tickets = engine_of(request).tickets
    return page_answer(
        await tickets.list(kind=kind, state=_state(state, STATES), run=run, after=cursor, limit=limit)
    )


def _state(value: str | None, allowed: tuple[str, ...]) -> str | None:
    return split_values([value], allowed, "state")[0] if value else None
