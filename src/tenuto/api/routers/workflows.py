"""Workflows: publish, validate, read, tag and retire versions."""

from __future__ import annotations

from typing import Annotated, Any, cast

import msgspec
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from tenuto.api.answers import gives, gives_page, json_answer, page_answer, takes
from tenuto.api.bodies import read_data, read_model
from tenuto.api.errors import Refused
from tenuto.api.params import Cursor, Limit, caller, engine_of
from tenuto.api.schemas import ReasonIn, RetireIn, TagIn, VersionPatchIn
from tenuto.runtime.services.results import MoveView, Page, Validation, WorkflowVersion, WorkflowView

router = APIRouter(prefix="/workflows", tags=["workflows"])
_DEFINITION = "A workflow's definition, as JSON or YAML; it may stand in a field `definition`."


class Retired(msgspec.Struct):
    """How many versions can no longer be started."""

    retired: int


@router.get("", responses=gives_page(WorkflowVersion), summary="List workflows, or the versions of one")
async def list_workflows(
    request: Request,
    name: Annotated[str | None, Query(description="All versions of this workflow.")] = None,
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Response:
    """Return the latest version of each workflow, or with `name` every version of one, newest first."""
    return page_answer(await engine_of(request).workflows.list(name, after=cursor, limit=limit))


@router.post(
    "", status_code=201, responses=gives(WorkflowVersion, status=201, about="The stored version."),
    openapi_extra=takes(None, yaml=True, about=_DEFINITION), summary="Publish a version",
)  # fmt: skip
async def publish_workflow(request: Request) -> Response:
    """Store a version under its digest and let `latest` point at it; a repeat changes nothing."""
    version = await engine_of(request).workflows.publish(await _definition(request), by=caller(request))
    return json_answer(version, 201, {"Location": f"/api/v1/workflows/{version.name}?version={version.version}"})


@router.post(
    "/validate", responses=gives(Validation, about="What was found; `valid` says whether it may be published."),
    openapi_extra=takes(None, yaml=True, about=_DEFINITION), summary="Check a definition",
)  # fmt: skip
async def validate_workflow(request: Request) -> Response:
    """Return every problem of a definition; nothing is stored or run."""
    return json_answer(await engine_of(request).workflows.validate(await _definition(request)))


@router.put(
    "/{name:path}/tags/{tag}", responses=gives(WorkflowVersion, about="The version the tag points at now."),
    openapi_extra=takes(TagIn, yaml=True), summary="Move a tag",
)  # fmt: skip
async def tag_workflow(request: Request, name: str, tag: str) -> Response:
    """Let a tag point at a version."""
    body = await read_model(request, TagIn, synonyms={"digest": "version"})
    return json_answer(await engine_of(request).workflows.tag(name, tag, body.version, by=caller(request)))


@router.post(
    "/{name:path}/retire", responses=gives(Retired, about="How many versions were retired."),
    openapi_extra=takes(RetireIn, required=False), summary="Retire versions",
)  # fmt: skip
async def retire_workflow(request: Request, name: str) -> Response:
    """Make a version, or all, impossible to start; runs that exist go on."""
    body = await read_model(request, RetireIn)
    return json_answer(Retired(await engine_of(request).workflows.retire(name, body.version)))


@router.post(
    "/{name:path}/patches", status_code=201, responses=gives(WorkflowVersion, status=201, about="The version that was made."),
    openapi_extra=takes(VersionPatchIn, yaml=True), summary="Patch a workflow",
)  # fmt: skip
async def patch_workflow(request: Request, name: str) -> Response:
    """Make a version of another by a patch, and let a tag point at it; running and older runs stay as they are.

    422 with every reason when it cannot be applied, 409 when the tag points elsewhere by now, or when a person has to approve
    such a patch: then it is to be proposed.
    """
    body = await read_model(request, VersionPatchIn)
    version = await engine_of(request).versions.patch(
        name, body.operations, base=body.base, tag=body.tag, reason=body.reason, by=caller(request), evidence=body.evidence
    )
    return json_answer(version, 201, {"Location": f"/api/v1/workflows/{version.name}?version={version.version}"})


@router.get("/{name:path}/moves", responses=gives_page(MoveView, about="All of them."), summary="Read where tags have been")
async def list_moves(
    request: Request,
    name: str,
    tag: Annotated[str | None, Query(description="Only this tag.")] = None,
) -> Response:
    """Return every move of a workflow's tags, oldest first: who, why, and the patch that made the version, if one did."""
    return page_answer(Page(items=await engine_of(request).versions.moves(name, tag)))


@router.post(
    "/{name:path}/tags/{tag}/undo", responses=gives(WorkflowVersion, about="The version the tag points at now."),
    openapi_extra=takes(ReasonIn, required=False), summary="Undo a move of a tag",
)  # fmt: skip
async def undo_tag(request: Request, name: str, tag: str) -> Response:
    """Let a tag point where it did before its last move; no version is lost."""
    body = await read_model(request, ReasonIn)
    return json_answer(await engine_of(request).versions.undo(name, tag=tag, by=caller(request), reason=body.reason))


@router.post(
    "/{name:path}/tags/{tag}/redo", responses=gives(WorkflowVersion, about="The version the tag points at now."),
    openapi_extra=takes(ReasonIn, required=False), summary="Redo a move of a tag",
)  # fmt: skip
async def redo_tag(request: Request, name: str, tag: str) -> Response:
    """Let a tag point where it did before its last undo, unless it was moved since."""
    body = await read_model(request, ReasonIn)
    return json_answer(await engine_of(request).versions.redo(name, tag=tag, by=caller(request), reason=body.reason))


@router.get("/{name:path}", responses=gives(WorkflowView), summary="Read a workflow")
async def get_workflow(
    request: Request,
    name: str,
    version: Annotated[str, Query(description="A tag or a full digest.")] = "latest",
) -> Response:
    """Return a version with its definition in canonical form and its shape."""
    return json_answer(await engine_of(request).workflows.get(name, version))


async def _definition(request: Request) -> dict[str, Any]:
    data = await read_data(request)
    if isinstance(data, dict):
        given = cast("dict[str, Any]", data)
        inner = given.get("definition")
        return cast("dict[str, Any]", inner) if isinstance(inner, dict) and len(given) == 1 else given
    raise Refused(422, "request.invalid", "a definition is an object with name, nodes and edges")
