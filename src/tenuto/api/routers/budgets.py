"""Caps that many runs share: reading, setting, and settling what was lost sight of."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from tenuto.api.answers import gives, json_answer, takes
from tenuto.api.bodies import read_model
from tenuto.api.params import Limit, caller, engine_of
from tenuto.api.schemas import CapIn, SettledIn
from tenuto.runtime.services.budgets import SetCap
from tenuto.runtime.services.results import HoldsView, SharedCapsView

router = APIRouter(tags=["budgets"])
Scope = Annotated[str, Query(description="Empty for all runs, else `project:NAME`.")]
Period = Annotated[Literal["day", "month", "total"], Query(description="In UTC.")]
_CAPS = gives(SharedCapsView, about="All caps as they are now.")


@router.get("/budgets", responses=_CAPS, summary="Read shared caps")
async def read_budgets(request: Request) -> Response:
    """Return every cap with what counts under it now, current, and the calls that wait for room."""
    return json_answer(await engine_of(request).budgets.read())


@router.put("/budgets", responses=_CAPS, openapi_extra=takes(CapIn), summary="Set a shared cap")
async def set_budget(request: Request) -> Response:
    """Set a cap; calls that wait for room under it ask again within a second."""
    body = await read_model(request, CapIn)
    return json_answer(await engine_of(request).budgets.put(SetCap(**body.model_dump())))


@router.delete("/budgets", responses=_CAPS, summary="Remove a shared cap")
async def drop_budget(request: Request, period: Period, scope: Scope = "") -> Response:
    """Remove a cap."""
    return json_answer(await engine_of(request).budgets.drop(scope, period))


@router.get("/budgets/holds", responses=gives(HoldsView), summary="List what is held")
async def list_holds(
    request: Request,
    run: str | None = None,
    lost: Annotated[bool | None, Query(description="Only calls whose outcome was lost, or only others.")] = None,
    limit: Limit = 1000,
) -> Response:
    """Return what is held for calls without a known outcome, oldest first."""
    return json_answer(HoldsView(await engine_of(request).budgets.holds(run_id=run, lost=lost, limit=limit)))


@router.post(
    "/budgets/holds/{run_id}/{n}/settle", responses=gives(HoldsView, about="What the run still holds."),
    openapi_extra=takes(SettledIn), summary="Settle a lost call",
)
async def settle_hold(request: Request, run_id: str, n: int) -> Response:
    """Say what a call with a lost outcome did cost; what was held for it gives way to that."""
    body, budgets = await read_model(request, SettledIn), engine_of(request).budgets
    await budgets.settle(run_id, n, body.cost_usd_micros, by=caller(request))
    return json_answer(HoldsView(await budgets.holds(run_id=run_id)))
