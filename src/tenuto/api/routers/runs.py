"""Runs: start, list, read, compare and delete them."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from tenuto.api.answers import command_answer, gives, gives_page, json_answer, page_answer, takes
from tenuto.api.bodies import check, idempotency_key, read_data, read_model, renamed
from tenuto.api.params import (
    Cursor,
    Limit,
    Status,
    before_stop,
    caller,
    engine_of,
    instant_param,
    labels_param,
    pace_of,
    split_values,
)
from tenuto.api.schemas import REPLAY_SYNONYMS, RUN_SYNONYMS, PruneIn, ReplayIn, RunIn
from tenuto.domain.runs.diff import RunDiff
from tenuto.domain.runs.explain import Explanation
from tenuto.domain.runs.state import ENDED
from tenuto.domain.runs.views import RunSummary, RunView
from tenuto.runtime.services.requests import ListRuns
from tenuto.runtime.services.results import DeletedView, Started

router = APIRouter(prefix="/runs", tags=["runs"])
MAX_WAIT_S = 60.0
STATUSES = ("queued", "running", "waiting", "paused", *sorted(ENDED))


@router.post(
    "", status_code=202, responses=gives(Started, status=202, about="The run is durable and queued."),
    openapi_extra=takes(RunIn, yaml=True), summary="Start a run",
)  # fmt: skip
async def start_run(request: Request) -> Response:
    """Start a run of a registered workflow, an inline definition or a plain step list.

    The same `Idempotency-Key` with the same body answers with the same run, with another body 409. A
    `business_key` decides by itself which run answers, so beside it the header is not looked at.
    """
    body = check(RunIn, _source(await read_data(request)))
    engine = engine_of(request)
    key = None if body.business_key else idempotency_key(request)
    wanted = body.to_request(key=key, by=caller(request))
    wanted.pace = pace_of(request)
    wanted.traceparent = request.headers.get("traceparent", "")
    started = await engine.runs.submit(wanted)
    return command_answer(started, request, location=f"/api/v1/runs/{started.id}")


def _source(data: Any) -> Any:
    """Return a start request in our own words: `graph` by name or whole, or a bare definition."""
    if not isinstance(data, dict):
        return cast("object", data)
    given = cast("dict[str, Any]", data)
    if "nodes" in given and "definition" not in given:
        return {"definition": given}
    is_whole = isinstance(given.get("graph"), dict)
    return renamed(given, {"graph": "definition" if is_whole else "workflow", **RUN_SYNONYMS})


@router.get("", responses=gives_page(RunSummary), summary="List runs")
async def list_runs(
    request: Request,
    status: Status = [],  # noqa: B006 (never changed)
    workflow: str | None = None,
    version: Annotated[str | None, Query(description="A definition's digest.")] = None,
    label: Annotated[list[str], Query(description="`key=value`; all must match.")] = [],  # noqa: B006 (never changed)
    replay_of: str | None = None,
    parent: str | None = None,
    q: Annotated[str, Query(max_length=200, description="Searches goal and id.")] = "",
    created_after: Annotated[str | None, Query(description="RFC 3339 text, or milliseconds.")] = None,
    created_before: str | None = None,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> Response:
    """Return runs, newest first; filters must all match."""
    where = ListRuns(
        status=split_values(status, STATUSES),
        workflow=workflow,
        version=version,
        labels=labels_param(label),
        replay_of=replay_of,
        parent=parent,
        text=q,
        created_after=instant_param("created_after", created_after),
        created_before=instant_param("created_before", created_before),
    )
    return page_answer(await engine_of(request).runs.list(where, after=cursor, limit=limit))


@router.post(
    "/prune", responses=gives(DeletedView, about="How many runs were deleted; repeat until it is 0."),
    openapi_extra=takes(PruneIn), summary="Delete old runs",
)  # fmt: skip
async def prune_runs(request: Request) -> Response:
    """Delete ended runs that finished before an instant, at most 1,000 a call."""
    body = await read_model(request, PruneIn)
    return json_answer(await engine_of(request).runs.prune(before=cast("int", body.before)))


@router.get("/{run_id}", responses=gives(RunView), summary="Read a run")
async def get_run(
    request: Request,
    run_id: str,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait for the run's end.")] = 0,
) -> Response:
    """Return a run, current to its last record; with `wait` after its end, or as it is when the time is over."""
    engine = engine_of(request)
    view = await before_stop(request, engine.runs.get(run_id, wait_s=wait)) if wait else None
    return json_answer(view or await engine.runs.get(run_id))


@router.delete("/{run_id}", responses=gives(DeletedView), summary="Delete a run")
async def delete_run(request: Request, run_id: str) -> Response:
    """Delete an ended run with everything it owns."""
    return json_answer(await engine_of(request).runs.delete(run_id))


@router.post(
    "/{run_id}/replay", status_code=202, responses=gives(Started, status=202, about="The new run."),
    openapi_extra=takes(ReplayIn, required=False, yaml=True), summary="Replay a run",
)  # fmt: skip
async def replay_run(request: Request, run_id: str) -> Response:
    """Start a new run that takes over the first part of an old one; the old run is never changed."""
    body = await read_model(request, ReplayIn, synonyms=REPLAY_SYNONYMS)
    wanted = body.to_request(key=idempotency_key(request), by=caller(request))
    wanted.pace = pace_of(request)
    started = await engine_of(request).runs.replay(run_id, wanted)
    return command_answer(started, request, location=f"/api/v1/runs/{started.id}")


@router.get("/{run_id}/why", responses=gives(Explanation), summary="Why a run does not move")
async def explain_run(request: Request, run_id: str) -> Response:
    """Return what a run waits for, since when, and who can move it."""
    return json_answer(await engine_of(request).runs.why(run_id))


@router.get("/{run_id}/diff", responses=gives(RunDiff), summary="Compare two runs")
async def diff_runs(
    request: Request, run_id: str, other: Annotated[str, Query(alias="with", description="The other run.")]
) -> Response:
    """Return where two runs differ, step by step."""
    return json_answer(await engine_of(request).runs.diff(run_id, other))
