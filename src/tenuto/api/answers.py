"""How answers are written: views as JSON, pages with a cursor, and what OpenAPI says of each."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from tenuto.runtime.services.results import Page

JSON = "application/json"
REPLAYED = "Idempotent-Replayed"
_encode = msgspec.json.Encoder().encode

Documented = dict[int | str, dict[str, Any]]


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a view, or plain data, as a JSON answer."""
    return Response(_encode(value), status_code=status, headers=headers, media_type=JSON)


def page_answer(page: Page[Any]) -> Response:
    """Return a part of a list; `next_cursor` is null at its end."""
    return json_answer({"items": page.items, "next_cursor": page.next})


def command_answer(value: Any, request: Request, *, location: str = "") -> Response:
    """Return 202 for a command that was taken; a repeat of an earlier one is marked as such."""
    headers: dict[str, str] = {}
    if location:
        headers["Location"] = location
    if getattr(value, "replayed", False):
        headers[REPLAYED] = "true"
    return json_answer(value, 202, headers)


# --- what OpenAPI says ------------------------------------------------------------------------------------------
# The framework cannot carry types through its document, so schemas hold marks; `openapi` resolves them.

VIEWS: dict[str, Any] = {}
MODELS: dict[str, type[BaseModel]] = {}


def _mark(view: Any) -> dict[str, Any]:
    name = repr(view)
    VIEWS[name] = view
    return {"x-view": name}


def gives(view: Any, *, status: int = 200, about: str = "The resource.") -> Documented:
    """Document an answer that is one view."""
    return {status: {"description": about, "content": {JSON: {"schema": _mark(view)}}}}


def gives_page(view: Any, *, about: str = "A part of the list.") -> Documented:
    """Document an answer that is a page of views."""
    cursor = {"type": ["string", "null"], "description": "Give it back as `cursor`; null at the end."}
    schema = {
        "type": "object",
        "required": ["items", "next_cursor"],
        "properties": {"items": {"type": "array", "items": _mark(view)}, "next_cursor": cursor},
    }
    return {200: {"description": about, "content": {JSON: {"schema": schema}}}}


def gives_media(media: str, about: str, *, status: int = 200, schema: dict[str, Any] | None = None) -> Documented:
    """Document an answer that is not JSON."""
    return {status: {"description": about, "content": {media: {"schema": schema or {"type": "string"}}}}}


def takes(model: type[BaseModel] | None, *, required: bool = True, yaml: bool = False, about: str = "") -> dict[str, Any]:
    """Document a request's body; pass the result as `openapi_extra`."""
    schema: dict[str, Any] = {}
    if model is not None:
        MODELS[model.__name__] = model
        schema["$ref"] = f"#/components/schemas/{model.__name__}"
    content = {media: {"schema": schema} for media in (JSON, *(("application/yaml",) if yaml else ()))}
    body: dict[str, Any] = {"required": required, "content": content}
    if about:
        body["description"] = about
    return {"requestBody": body}
