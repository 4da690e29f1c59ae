"""Changes of workflows for the runs to come that somebody decides: propose, list, look at the difference, decide."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from tenuto.api.answers import REPLAYED, gives, gives_page, json_answer, page_answer, takes
from tenuto.api.bodies import read_model
from tenuto.api.params import Cursor, Limit, Status, caller, engine_of, split_values
from tenuto.api.schemas import ProposalDecisionIn, ProposalIn
from tenuto.runtime.services.proposal_views import ProposalView
from tenuto.runtime.services.proposals import STATES
from tenuto.runtime.services.requests import ProposePatch

router = APIRouter(tags=["proposals"])
Tag = Annotated[str | None, Query(description="Only those that would move this tag.")]


@router.post(
    "/workflows/{name:path}/proposals", status_code=201,
    responses=gives(ProposalView, status=201, about="The proposal; `applied` where nobody has to approve it."),
    openapi_extra=takes(ProposalIn, yaml=True), summary="Propose a change of a workflow",
)  # fmt: skip
async def propose_change(request: Request, name: str) -> Response:
    """Propose a change for the runs to come; policy says whether it is applied at once or waits for a person.

    422 with every reason when it cannot be applied, and nothing is kept. The same change of the same version waits once.
    """
    body = await read_model(request, ProposalIn)
    made = await engine_of(request).proposals.propose(name, ProposePatch(
        operations=body.operations, base=body.base, tag=body.tag, author=body.author, by=caller(request), title=body.title,
        reason=body.reason, evidence=body.evidence,
    ))  # fmt: skip
    headers = {"Location": f"/api/v1/proposals/{made.id}"} | ({REPLAYED: "true"} if made.replayed else {})
    return json_answer(made, 201, headers)


@router.get("/workflows/{name:path}/proposals", responses=gives_page(ProposalView), summary="List proposals of a workflow")
async def list_proposals_of(
    request: Request,
    name: str,
    status: Status = [],  # noqa: B006 (never changed)
    tag: Tag = None,
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Response:
    """Return the proposals of a workflow, newest first."""
    wanted = split_values(status, STATES)
    return page_answer(await engine_of(request).proposals.list(name, states=wanted, tag=tag, after=cursor, limit=limit))


@router.get("/proposals", responses=gives_page(ProposalView), summary="List proposals")
async def list_proposals(
    request: Request,
    status: Status = [],  # noqa: B006 (never changed)
    tag: Tag = None,
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Response:
    """Return the proposals of all workflows, newest first."""
    wanted = split_values(status, STATES)
    return page_answer(await engine_of(request).proposals.list(states=wanted, tag=tag, after=cursor, limit=limit))


@router.get("/proposals/{proposal}", responses=gives(ProposalView), summary="Read a proposal")
async def get_proposal(request: Request, proposal: str) -> Response:
    """Return one proposal with its operations and the difference it makes."""
    return json_answer(await engine_of(request).proposals.get(proposal))


@router.post(
    "/proposals/{proposal}/{decision}", responses=gives(ProposalView, about="The proposal as it was decided."),
    openapi_extra=takes(ProposalDecisionIn, required=False), summary="Decide a proposal",
)  # fmt: skip
async def decide_proposal(request: Request, proposal: str, decision: Literal["approve", "reject"]) -> Response:
    """Approve a proposal, and its tag moves; or turn it down. Runs that exist stay as they are.

    A second, different decision is refused with 409, and so is one on a proposal that is stale or leads elsewhere than
    was shown; 422 when it can no longer be applied.
    """
    body = await read_model(request, ProposalDecisionIn)
    decided = await engine_of(request).proposals.decide(
        proposal, decision, reason=body.reason, by=body.by or caller(request), digest=body.digest or ""
    )
    return json_answer(decided, headers={REPLAYED: "true"} if decided.replayed else None)
