"""Changes of a run's graph while it runs: propose, list, look at the difference, decide, take back."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tenuto.api.answers import command_answer, gives, gives_page, json_answer, page_answer, takes
from tenuto.api.bodies import read_model
from tenuto.api.params import Status, caller, engine_of, inbox_key, split_values
from tenuto.api.schemas import PatchDecisionIn, PatchIn, ReasonIn
from tenuto.runtime.services.patch_views import PatchableView, PatchView
from tenuto.runtime.services.results import Page

router = APIRouter(prefix="/runs/{run_id}/patches", tags=["patches"])
STATUSES = ("open", "invalid", "applied", "rejected")
_TAKEN = gives(PatchView, status=202, about="The patch; `sent` when its run has not looked at it yet.")


@router.post("", status_code=202, responses=_TAKEN, openapi_extra=takes(PatchIn, yaml=True), summary="Propose a patch")
async def propose_patch(request: Request, run_id: str) -> Response:
    """Propose a change of a run's graph; it is applied at once, or once a person has approved it.

    A patch that cannot be applied is refused with 422: `errors` holds every reason, and `patch` the id under which
    it is kept for a person to look at.
    """
    body = await read_model(request, PatchIn)
    made = await engine_of(request).patches.propose(
        run_id, body.operations, base=body.base_digest, reason=body.reason, by=caller(request),
        idempotency_key=inbox_key(request), evidence=body.evidence,
    )  # fmt: skip
    return command_answer(made, request, location=f"/api/v1/runs/{run_id}/patches/{made.id}")


@router.get("", responses=gives_page(PatchView, about="All of them."), summary="List the patches of a run")
async def list_patches(
    request: Request,
    run_id: str,
    status: Status = [],  # noqa: B006 (never changed)
) -> Response:
    """Return the patches of a run, oldest first, refused ones with their reasons; a run keeps a bounded number."""
    wanted = split_values(status, STATUSES)
    found = await engine_of(request).patches.list(run_id)
    return page_answer(Page(items=[patch for patch in found if not wanted or patch.status in wanted]))


@router.get("/graph", responses=gives(PatchableView), summary="Read what may be patched")
async def get_patchable(request: Request, run_id: str) -> Response:
    """Return what an author of patches has to see: the graph by its digest, what of it is fixed, what is left."""
    return json_answer(await engine_of(request).patches.graph(run_id))


@router.post("/undo", status_code=202, responses=_TAKEN, openapi_extra=takes(ReasonIn, required=False), summary="Undo")
async def undo_patch(request: Request, run_id: str) -> Response:
    """Take back the newest patch in force; 422 when the run has relied on it already."""
    body, patches = await read_model(request, ReasonIn), engine_of(request).patches
    made = await patches.undo(run_id, by=caller(request), reason=body.reason, idempotency_key=inbox_key(request))
    return command_answer(made, request)


@router.post("/redo", status_code=202, responses=_TAKEN, openapi_extra=takes(ReasonIn, required=False), summary="Redo")
async def redo_patch(request: Request, run_id: str) -> Response:
    """Bring back the patch taken back last, unless another was applied since."""
    body, patches = await read_model(request, ReasonIn), engine_of(request).patches
    made = await patches.redo(run_id, by=caller(request), reason=body.reason, idempotency_key=inbox_key(request))
    return command_answer(made, request)


@router.get("/{patch}", responses=gives(PatchView), summary="Read a patch")
async def get_patch(request: Request, run_id: str, patch: str) -> Response:
    """Return one patch with its operations and the difference it makes."""
    return json_answer(await engine_of(request).patches.get(run_id, patch))


@router.post(
    "/{patch}/decision", status_code=202,
    responses=gives(PatchView, status=202, about="The patch as it stands; `open` while its run has not heard of it yet."),
    openapi_extra=takes(PatchDecisionIn), summary="Decide a patch",
)  # fmt: skip
async def decide_patch(request: Request, run_id: str, patch: str) -> Response:
    """Approve a patch or turn it down; one that could not be applied is tried again on the graph as it is now.

    A second, different decision is refused with 409. An approved patch that the run has overtaken meanwhile is
    `rejected`, with the reason.
    """
    body = await read_model(request, PatchDecisionIn)
    decided = await engine_of(request).patches.decide(
        run_id, patch, body.decision, reason=body.reason, by=body.by or caller(request)
    )
    return command_answer(decided, request)
