"""Knowledge bases: index texts, list what is there, search. No path of the server's disk can be named here."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from tenuto.api.answers import gives, gives_page, json_answer, page_answer, takes
from tenuto.api.bodies import read_model
from tenuto.api.params import Cursor, Limit, engine_of
from tenuto.api.schemas import KnowledgeIndexIn, KnowledgeSearchIn
from tenuto.ports.knowledge import Base, Document, Hit, Indexed, Source, Text
from tenuto.runtime.services.results import Page

router = APIRouter(prefix="/knowledge", tags=["knowledge"])


class Deleted(msgspec.Struct):
    """How many documents were removed."""

    documents: int


class Hits(msgspec.Struct):
    """What was found, best first."""

    hits: list[Hit]


@router.get("", responses=gives_page(Base), summary="List knowledge bases")
async def list_knowledge(request: Request) -> Response:
    """Return every base with its model and its size."""
    return page_answer(Page(items=await engine_of(request).knowledge.list()))


@router.post(
    "/search", responses=gives(Hits, about="Pieces of documents."), openapi_extra=takes(KnowledgeSearchIn),
    summary="Search knowledge",
)  # fmt: skip
async def search_knowledge(request: Request) -> Response:
    """Search by meaning, or by words with `mode` `words` or `exact`, in one base or in all."""
    body = await read_model(request, KnowledgeSearchIn)
    bases = engine_of(request).knowledge
    if body.mode == "meaning":
        return json_answer(Hits(await bases.search(body.query, body.database, limit=body.limit)))
    hits = await bases.lookup(body.query, body.database, exact=body.mode == "exact", limit=body.limit)
    return json_answer(Hits(hits))


@router.post(
    "/{base}/index", responses=gives(Indexed, about="What was done, and which texts are still needed."),
    openapi_extra=takes(KnowledgeIndexIn), summary="Index documents",
)  # fmt: skip
async def index_knowledge(request: Request, base: str) -> Response:
    """Bring documents of a source up to date; a document given without its text is only asked for if it is needed."""
    body = await read_model(request, KnowledgeIndexIn)
    texts = [Text(path=item.path, digest=item.digest, text=item.text) for item in body.documents]
    return json_answer(await engine_of(request).knowledge.index(base, body.source, texts, prune=body.prune))


@router.get("/{base}/sources", responses=gives_page(Source), summary="List the sources of a base")
async def list_sources(request: Request, base: str) -> Response:
    """Return where the documents of a base come from."""
    return page_answer(Page(items=await engine_of(request).knowledge.sources(base)))


@router.get("/{base}/documents", responses=gives_page(Document), summary="List the documents of a base")
async def list_documents(
    request: Request,
    base: str,
    source: Annotated[str, Query(description="Only this source's.")] = "",
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Response:
    """Return documents by source and path."""
    found = await engine_of(request).knowledge.documents(base, source, after=cursor, limit=limit)
    return page_answer(found)


@router.delete("/{base}", responses=gives(Deleted, about="What was removed."), summary="Delete a base or a source")
async def delete_knowledge(
    request: Request, base: str, source: Annotated[str, Query(description="Only this source.")] = ""
) -> Response:
    """Remove a source, or the base with all of them."""
    return json_answer(Deleted(await engine_of(request).knowledge.delete(base, source)))
