"""Commands to a run. Each is taken (202) and answered by the run itself; with an `Idempotency-Key` at most once."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tenuto.api.answers import command_answer, gives, takes
from tenuto.api.bodies import read_data, read_model
from tenuto.api.params import caller, engine_of, inbox_key
from tenuto.api.schemas import ReasonIn, ResumeIn, RetryIn
from tenuto.runtime.services.results import Accepted

router = APIRouter(prefix="/runs/{run_id}", tags=["commands"])
TAKEN = gives(Accepted, status=202, about="The command was taken.")


@router.post("/cancel", status_code=202, responses=TAKEN, openapi_extra=takes(ReasonIn, required=False))
async def cancel_run(request: Request, run_id: str) -> Response:
    """End a run; work in flight is stopped."""
    body = await read_model(request, ReasonIn)
    runs, key = engine_of(request).runs, inbox_key(request)
    return command_answer(await runs.cancel(run_id, reason=body.reason, by=caller(request), key=key), request)


@router.post("/pause", status_code=202, responses=TAKEN, openapi_extra=takes(ReasonIn, required=False))
async def pause_run(request: Request, run_id: str) -> Response:
    """Start nothing new in a run; what runs, finishes."""
    body = await read_model(request, ReasonIn)
    runs, key = engine_of(request).runs, inbox_key(request)
    return command_answer(await runs.pause(run_id, reason=body.reason, by=caller(request), key=key), request)


@router.post("/resume", status_code=202, responses=TAKEN, openapi_extra=takes(ResumeIn, required=False))
async def resume_run(request: Request, run_id: str) -> Response:
    """End a pause, or reopen a failed run or one that ran out of budget, with raised caps if given."""
    body = await read_model(request, ResumeIn)
    runs, key = engine_of(request).runs, inbox_key(request)
    budget = body.budget.to_domain() if body.budget else None
    return command_answer(await runs.resume(run_id, budget=budget, by=caller(request), key=key), request)


@router.post(
    "/signals/{name}", status_code=202, responses=TAKEN,
    openapi_extra=takes(None, required=False, about="The payload: any JSON value."), summary="Send a signal",
)  # fmt: skip
async def signal_run(request: Request, run_id: str, name: str) -> Response:
    """Deliver a payload to whoever waits, or will wait, for a signal of this name."""
    payload = await read_data(request) if await request.body() else None
    runs, key = engine_of(request).runs, inbox_key(request)
    return command_answer(await runs.signal(run_id, name, payload, by=caller(request), key=key), request)


@router.post("/steps/{step}/retry", status_code=202, responses=TAKEN, openapi_extra=takes(RetryIn, required=False))
async def retry_step(request: Request, run_id: str, step: str) -> Response:
    """Send a failed step round again; a run it had stopped is reopened."""
    body = await read_model(request, RetryIn)
    taken = await engine_of(request).runs.retry(
        run_id, step, fresh=body.fresh, guidance=body.guidance, config=body.config, reason=body.reason,
        by=caller(request), key=inbox_key(request),
    )  # fmt: skip
    return command_answer(taken, request)
