"""Kept results: what they saved, and letting them be forgotten."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from tenuto.api.answers import gives, json_answer
from tenuto.api.params import engine_of
from tenuto.runtime.services.cache import CacheStats, Invalidated

router = APIRouter(prefix="/cache", tags=["cache"])
Workflow = Annotated[str, Query(max_length=200, description="Only of this workflow.")]
Node = Annotated[str, Query(max_length=200, description="Only of this node.")]


@router.get("/stats", responses=gives(CacheStats), summary="Read what the cache saved")
async def read_stats(request: Request, workflow: Workflow = "", node: Node = "") -> Response:
    """Return hits, misses and what was saved, by node, of the runs that are kept; and what is kept now."""
    return json_answer(await engine_of(request).cache.stats(workflow=workflow, node=node))


@router.delete("", responses=gives(Invalidated), summary="Forget kept results")
async def invalidate(
    request: Request, workflow: Workflow = "", node: Node = "",
    key: Annotated[str, Query(max_length=100, description="What the result is kept under, as the journal says.")] = "",
    all: Annotated[bool, Query(description="Everything; needed where nothing else is given.")] = False,
) -> Response:  # fmt: skip
    """Forget results; what is being computed now is not kept either, and is computed again when it is wanted next."""
    found = await engine_of(request).cache.invalidate(key=key, workflow=workflow, node=node, everything=all)
    return json_answer(found)
