"""Optimizers: asking them about workflows and runs, what runs took, what changes saved, and adding more."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from tenuto.api.answers import gives, gives_page, json_answer, page_answer, takes
from tenuto.api.bodies import read_model
from tenuto.api.errors import Refused
from tenuto.api.params import caller, engine_of
from tenuto.api.schemas import OptimizeIn, OptimizeRunIn
from tenuto.runtime.services.gain_views import GainView, StatisticsView
from tenuto.runtime.services.optimizer_views import OptimizedView, OptimizerView
from tenuto.runtime.services.plugins import PluginTooLarge
from tenuto.runtime.services.requests import Optimize
from tenuto.runtime.services.results import Page

router = APIRouter(tags=["optimizers"])
_SAID = gives(OptimizedView, about="Who was asked, what they suggest, and what became of it.")
_ANY = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
_MODULE = {"requestBody": {"required": True, "content": _ANY, "description": "The module, whatever type it is said to have."}}


@router.post(
    "/workflows/{name:path}/optimize", responses=_SAID, openapi_extra=takes(OptimizeIn, required=False),
    summary="Ask optimizers about a workflow",
)  # fmt: skip
async def optimize_workflow(request: Request, name: str) -> Response:
    """Ask optimizers, and propose what they suggest for the runs to come; with `dry_run` it is only shown.

    Policy says what is applied at once and what waits for a person. An optimizer that was stopped, or that suggested
    what cannot be applied, is named with the reason; the others go on, and `faults` counts them.
    """
    body = await read_model(request, OptimizeIn)
    asked = Optimize(tag=body.tag, dry_run=body.dry_run, optimizers=tuple(body.optimizers))
    return json_answer(await engine_of(request).optimizers.optimize(name, asked))


@router.post(
    "/runs/{run_id}/optimize", responses=_SAID, openapi_extra=takes(OptimizeRunIn, required=False),
    summary="Ask optimizers about a run",
)  # fmt: skip
async def optimize_run(request: Request, run_id: str) -> Response:
    """Ask optimizers about what a run has not begun; what they suggest takes the way of every patch of a run."""
    body = await read_model(request, OptimizeRunIn)
    asked = Optimize(dry_run=body.dry_run, optimizers=tuple(body.optimizers))
    return json_answer(await engine_of(request).optimizers.optimize_run(run_id, asked))


@router.get("/workflows/{name:path}/statistics", responses=gives(StatisticsView), summary="Read what runs took")
async def get_statistics(
    request: Request,
    name: str,
    version: Annotated[str, Query(description="A tag or a full digest.")] = "latest",
) -> Response:
    """Return what the newest ended runs of a version took, by node; replays do not count."""
    return json_answer(await engine_of(request).gains.statistics(name, version))


@router.get(
    "/workflows/{name:path}/gains", responses=gives_page(GainView, about="All of them."), summary="Read what changes saved"
)
async def list_gains(
    request: Request,
    name: str,
    tag: Annotated[str | None, Query(description="Only changes of this tag.")] = None,
) -> Response:
    """Return what each applied change of an optimizer was expected to save and what it does, the newest first."""
    return page_answer(Page(items=await engine_of(request).gains.all(name, tag)))


@router.get("/optimizers", responses=gives_page(OptimizerView, about="All of them."), summary="List optimizers")
async def list_optimizers(request: Request) -> Response:
    """Return all optimizers, those that come with Tenuto first."""
    return page_answer(Page(items=await engine_of(request).plugins.list()))


@router.get("/optimizers/{name}", responses=gives(OptimizerView), summary="Read an optimizer")
async def get_optimizer(request: Request, name: str) -> Response:
    """Return one optimizer with its failures."""
    return json_answer(await engine_of(request).plugins.get(name))


@router.put(
    "/optimizers/{name}", responses=gives(OptimizerView, about="What is kept now."), openapi_extra=_MODULE,
    summary="Add an optimizer",
)  # fmt: skip
async def put_optimizer(request: Request, name: str) -> Response:
    """Keep a WebAssembly module as an optimizer; every process asks it from now on. Another module replaces the former.

    422 when it can be no optimizer: broken, wanting imports, or exporting too little.
    """
    try:
        return json_answer(await engine_of(request).plugins.add(name, request.stream(), by=caller(request)))
    except PluginTooLarge as error:
        raise Refused(413, error.reason, error.message) from None


@router.delete("/optimizers/{name}", status_code=204, summary="Remove an optimizer")
async def remove_optimizer(request: Request, name: str) -> Response:
    """Forget an optimizer that was added; what it has proposed stays."""
    await engine_of(request).plugins.remove(name)
    return Response(status_code=204)


@router.post(
    "/optimizers/{name}/{action}", responses=gives(OptimizerView, about="The optimizer as it is now."),
    summary="Enable or disable an optimizer",
)
async def enable_optimizer(request: Request, name: str, action: Literal["enable", "disable"]) -> Response:
    """Let an added optimizer be asked again, its failures forgotten and its quarantine over; or let it be asked no more."""
    return json_answer(await engine_of(request).plugins.enable(name, enabled=action == "enable"))
