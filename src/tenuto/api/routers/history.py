"""A run's past: events, steps, state and graph at any record, and its audit trail."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tenuto.api.answers import gives, gives_media, gives_page, json_answer, page_answer
from tenuto.api.params import At, Cursor, Limit, Status, engine_of, instant_param, split_values
from tenuto.domain.runs.public import PublicEvent
from tenuto.domain.runs.views import GraphView, StepView
from tenuto.runtime.services.requests import ListEvents, ListSteps
from tenuto.runtime.services.results import ArtifactView, AuditTrail, StateView, StepRowView, Verification

router = APIRouter(tags=["history"])

After = Annotated[str, Query(max_length=64, description="An event's id, `seq.i`; events after it are returned.")]
Node = Annotated[str | None, Query(description="Only events of this node's steps.")]
Types = Annotated[list[str], Query(description="Public names, or prefixes that end with a dot such as `step.`.")]
Errors = Annotated[bool, Query(description="Only facts that say something went wrong.")]


@router.get("/runs/{run_id}/events", responses=gives_page(PublicEvent), summary="Read events")
async def list_events(
    request: Request,
    run_id: str,
    after: After = "",
    node: Node = None,
    step: str | None = None,
    type: Types = [],  # noqa: B006 (the parameter's public name; never changed)
    errors: Errors = False,
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Response:
    """Return events in order; a page's cursor is an event's id, so it may be given as `after` too."""
    where = ListEvents(node=node, step=step, types=split_values(type), errors=errors)
    return page_answer(
        await engine_of(request).history.events(run_id, after=cursor or after, limit=limit, where=where)
    )


@router.get("/runs/{run_id}/steps", responses=gives_page(StepView), summary="Read all steps of a run")
async def list_run_steps(
    request: Request,
    run_id: str,
    node: Node = None,
    status: Status = [],  # noqa: B006 (never changed)
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Response:
    """Return a run's steps in the order they began, items of maps included."""
    history = engine_of(request).history
    return page_answer(
        await history.steps(run_id, after=cursor, limit=limit, node=node, status=split_values(status))
    )


@router.get("/steps", responses=gives_page(StepRowView), summary="Find steps across runs")
async def list_steps(
    request: Request,
    run: str | None = None,
    node: str | None = None,
    kind: str | None = None,
    status: Status = [],  # noqa: B006 (never changed)
    after: Annotated[str | None, Query(description="Started after: RFC 3339 text, or milliseconds.")] = None,
    before: str | None = None,
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Response:
    """Return steps of all runs, newest first; the list may lag behind the journals a little."""
    where = ListSteps(
        run=run, node=node, kind=kind, status=split_values(status),
        after=instant_param("after", after), before=instant_param("before", before),
    )  # fmt: skip
    return page_answer(await engine_of(request).steps.list(where, after=cursor, limit=limit))


@router.get("/runs/{run_id}/state", responses=gives(StateView), summary="Read the state at a record")
async def get_state(request: Request, run_id: str, at: At = None) -> Response:
    """Return the state a run had after a record, folded from its journal."""
    return json_answer(await engine_of(request).history.state(run_id, at=at))


@router.get("/runs/{run_id}/graph", responses=gives(GraphView), summary="Read the graph at a record")
async def get_graph(request: Request, run_id: str, at: At = None) -> Response:
    """Return a run's graph with the states of its steps laid over it."""
    return json_answer(await engine_of(request).history.graph(run_id, at=at))


@router.get("/runs/{run_id}/artifacts", responses=gives(list[ArtifactView]), summary="List a run's artifacts")
async def list_artifacts(request: Request, run_id: str) -> Response:
    """Return the stored values a run refers to."""
    return json_answer(await engine_of(request).artifacts.list(run_id))


@router.get("/runs/{run_id}/audit", responses=gives(AuditTrail), summary="Read the audit trail", tags=["audit"])
async def get_audit(
    request: Request, run_id: str, after: After = "", limit: Limit = 1000, cursor: Cursor = ""
) -> Response:
    """Return every transition with its proof, claims and takeovers included, and whether the chain holds."""
    return json_answer(await engine_of(request).audit.trail(run_id, after=cursor or after, limit=limit))


@router.get("/audit/verify", responses=gives(Verification), summary="Verify journals", tags=["audit"])
async def verify_audit(request: Request, run: str | None = None) -> Response:
    """Check the chain and the invariants of one run, or of all."""
    return json_answer(await engine_of(request).audit.verify(run))


@router.get(
    "/audit/export", responses=gives_media("application/x-ndjson", "One record a line."), tags=["audit"],
    openapi_extra={"x-media": "application/x-ndjson"}, summary="Export journals",
)  # fmt: skip
async def export_audit(request: Request, run: str | None = None) -> Response:
    """Return journals as JSON lines that can be verified without this server."""
    engine = engine_of(request)
    if run is not None:
        await engine.runs.get(run)
    return StreamingResponse(engine.audit.export(run), media_type="application/x-ndjson")
