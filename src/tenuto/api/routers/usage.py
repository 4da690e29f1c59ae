"""What was used: sums over calls by day, model, project and more, single calls, and one run's own ledger."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from tenuto.api.answers import gives, gives_page, json_answer, page_answer
from tenuto.api.params import Cursor, Limit, engine_of, instant_param
from tenuto.ports.usage import DAY_MS, UsageKey, UsageState
from tenuto.runtime.services.requests import ListUsage
from tenuto.runtime.services.results import RunUsage, UsageCall, UsageView

router = APIRouter(tags=["usage"])
DAYS = 30
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_LAST = 253_402_300_799_999

From = Annotated[
    str | None,
    Query(alias="from", description="The first moment that counts: an instant, or a date in UTC such as `2030-01-31`."),
]
To = Annotated[
    str | None, Query(alias="to", description="Where to stop: the first instant not counted, or the last date that is.")
]
Only = Annotated[str | None, Query(max_length=500, description="Only calls with exactly this; empty: with none.")]


def _where(
    since: From = None, until: To = None, run: Only = None, workflow: Only = None, project: Only = None,
    provider: Only = None, model: Only = None, agent: Only = None, purpose: Only = None, tool: Only = None,
    kind: Only = None, state: UsageState | None = None,
) -> ListUsage:  # fmt: skip
    """Read the filters that all of these have in common.

    Raises:
        Refused: A moment is none.
    """
    return ListUsage(
        since=_moment("from", since), until=_moment("to", until, days=1), run=run, workflow=workflow, project=project,
        provider=provider, model=model, agent=agent, purpose=purpose, tool=tool, kind=kind, state=state,
    )


def _moment(name: str, value: str | None, days: int = 0) -> int:
    """Return an instant as it was given, or the begin of a date so many days later, as milliseconds.

    Raises:
        Refused: It is neither.
    """
    if value is not None and _DATE.fullmatch(value):
        return min(instant_param(name, f"{value}T00:00:00Z") + days * DAY_MS, _LAST)
    return instant_param(name, value)


Where = Annotated[ListUsage, Depends(_where)]
Groups = Annotated[int, Query(ge=1, le=1000, description="At most this many groups; the totals count all.")]


@router.get("/usage", responses=gives(UsageView), summary="Read what was used")
async def get_usage(request: Request, where: Where, group_by: UsageKey | None = None, limit: Groups = 1000) -> Response:
    """Return tokens and costs of all calls that match, and of each group of them; `lag` says what is still missing."""
    return json_answer(await engine_of(request).usage.totals(where, by=group_by, limit=limit))


@router.get("/usage/daily", responses=gives(UsageView), summary="Read what was used each day")
async def get_daily_usage(request: Request, where: Where, limit: Groups = 1000) -> Response:
    """Return tokens and costs by day in UTC, newest first; of the last 30 days unless `from` or `to` says otherwise."""
    engine = engine_of(request)
    if not where.since and not where.until:
        today = await engine.store.now() // DAY_MS
        where.since = (today - DAYS + 1) * DAY_MS
    return json_answer(await engine.usage.totals(where, by="day", limit=limit))


@router.get("/usage/projects", responses=gives(UsageView), summary="Read what each project used")
async def get_project_usage(request: Request, where: Where, limit: Groups = 1000) -> Response:
    """Return tokens and costs by the label `project` of runs, the most expensive first; runs without one are `""`."""
    return json_answer(await engine_of(request).usage.totals(where, by="project", limit=limit))


@router.get("/usage/calls", responses=gives_page(UsageCall), summary="List calls with what they cost")
async def list_usage_calls(request: Request, where: Where, limit: Limit = 100, cursor: Cursor = "") -> Response:
    """Return single calls, newest first."""
    return page_answer(await engine_of(request).usage.calls(where, after=cursor, limit=limit))


@router.get("/runs/{run_id}/usage", responses=gives(RunUsage), summary="Read what one run used")
async def get_run_usage(request: Request, run_id: str) -> Response:
    """Return one run's ledger, current to its last record."""
    return json_answer(await engine_of(request).usage.run(run_id))
