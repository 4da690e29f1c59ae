"""What agents found out: list it, and delete what later agents shall not be told."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from tenuto.api.answers import gives, gives_page, json_answer, page_answer
from tenuto.api.params import Cursor, Limit, caller, engine_of
from tenuto.runtime.services.requests import FindingState, ListFindings
from tenuto.runtime.services.results import FindingView

router = APIRouter(prefix="/findings", tags=["findings"])
Only = Annotated[str | None, Query(max_length=500)]


@router.get("", responses=gives_page(FindingView), summary="List findings")
async def list_findings(
    request: Request,
    run: Annotated[str | None, Query(description="Only this run's, in the order they were found.")] = None,
    workflow: Only = None,
    node: Annotated[str | None, Query(max_length=500, description="Only what this agent found.")] = None,
    category: Only = None,
    text: Annotated[str, Query(max_length=500, description="Words they hold, whatever their case.")] = "",
    state: Annotated[FindingState, Query(description="`kept`, `deleted` or `all`.")] = "kept",
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Response:
    """Return what agents found out, newest steps first; a part may be short, or empty, and go on all the same."""
    where = ListFindings(run=run, workflow=workflow, node=node, category=category, text=text, state=state)
    return page_answer(await engine_of(request).findings.list(where, after=cursor, limit=limit))


@router.delete(
    "/{finding}", responses=gives(FindingView, about="The finding as it now stands."), summary="Delete a finding"
)
async def delete_finding(
    request: Request, finding: str, reason: Annotated[str, Query(max_length=2000, description="Why.")] = ""
) -> Response:
    """Let later prompts of its run, and of replays of it, leave a finding out; outputs and journals stay as they are."""
    return json_answer(await engine_of(request).findings.delete(finding, by=caller(request), reason=reason))
