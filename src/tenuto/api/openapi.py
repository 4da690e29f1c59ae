"""The OpenAPI 3.1 document: routes from the framework, bodies and answers from the very types the code uses."""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.requests import Request

from tenuto.api.answers import MODELS, VIEWS
from tenuto.api.guard import PUBLIC, SIGN_IN
from tenuto.api.openapi_events import event_schemas

PREFIX = "/api/v1"
REF = "#/components/schemas/{name}"
PROBLEM_MEDIA = "application/problem+json"
ABOUT = (
    "Durable, replayable, governed multi-agent workflows. Every refusal is a problem document (RFC 9457) whose "
    "`code` is stable and whose `errors` name every fault with its place. Lists are paged by cursor. Every POST that "
    "creates takes an `Idempotency-Key`."
)
_PROBLEMS = {
    400: "The request cannot be read.",
    401: "No valid credential was shown.",
    402: "A budget does not allow it.",
    403: "The caller may not do this.",
    404: "What was named does not exist; the nearest match is told.",
    405: "The resource has no such method.",
    406: "The caller cannot read what would be answered.",
    409: "It contradicts something already decided.",
    410: "The history asked for was pruned.",
    413: "The body is too large.",
    415: "The body's media type is not understood.",
    421: "The server does not go by the name that was called.",
    422: "The request is not valid; `errors` holds every reason.",
    429: "A limit was reached.",
    500: "The server met an error of its own.",
    503: "The store does not answer, or the server is stopping.",
}
PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "type": "object",
    "required": ["type", "title", "status", "code", "errors"],
    "properties": {
        "type": {"type": "string", "description": "`urn:tenuto:problem:` and the code."},
        "title": {"type": "string", "description": "What is wrong, for a person."},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable reason, such as `run.unknown`."},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "request_id": {"type": "string", "description": "The same id is in `X-Request-Id` and in the server's log."},
        "retryable": {"type": "boolean", "description": "Whether the same request may succeed later."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["place", "message", "hint", "code"],
                "properties": {
                    "place": {"type": "string", "description": "JSON pointer into the body, or a parameter's name."},
                    "message": {"type": "string"},
                    "hint": {"type": "string"},
                    "code": {"type": "string"},
                },
            },
        },
    },
}


def install(app: FastAPI) -> None:
    """Let the application describe itself; the document is made once, when it is first asked for."""
    made: dict[str, Any] = {}

    def document() -> dict[str, Any]:
        if not made:
            made.update(build(app))
        return made

    app.openapi = document


class Operations:
    """Knows from the document which operations there are, by address, and what parameters each takes."""

    def __init__(self, app: FastAPI) -> None:
        """Read the document at the first question."""
        self._app = app
        self._known: dict[tuple[str, str], frozenset[str]] = {}

    def parameters(self, request: Request) -> frozenset[str]:
        """Return the names of the query parameters the operation behind a request takes."""
        route: str = getattr(request.scope.get("route"), "path_format", "")
        known, method = self._all(), request.method.lower()
        # Some versions of the framework leave the prefix out of a nested route's path.
        return known.get((method, PREFIX + route), known.get((method, route), frozenset()))

    def methods(self, path: str) -> list[str]:
        """Return the methods an address has, sorted; none when there is nothing there."""
        found: dict[str, str] = {}
        for method, template in self._all():
            pattern = re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(template))
            if re.fullmatch(pattern, path):
                found[method.upper()] = template
        return sorted(found)

    def paths(self) -> list[str]:
        """Return all addresses, as templates."""
        return sorted({path for _, path in self._all()})

    def _all(self) -> dict[tuple[str, str], frozenset[str]]:
        if not self._known:
            for path, item in self._app.openapi()["paths"].items():
                for method, operation in item.items():
                    names = {str(one["name"]) for one in operation.get("parameters", ()) if one["in"] == "query"}
                    if any("stream" in way for way in operation["security"]):
                        names.add("token")
                    self._known[(method, path)] = frozenset(names)
        return self._known


def build(app: FastAPI) -> dict[str, Any]:
    """Return the document."""
    doc = get_openapi(
        title="Tenuto", version=app.version, openapi_version="3.1.0", description=ABOUT, routes=app.routes
    )
    components = doc.setdefault("components", {})
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"},
        "browser": {"type": "apiKey", "in": "cookie", "name": "tenuto_session"},
        "stream": {"type": "apiKey", "in": "query", "name": "token"},
    }
    names = list(VIEWS)
    refs, schemas = msgspec.json.schema_components([VIEWS[name] for name in names], ref_template=REF)
    _resolve(doc, dict(zip(names, refs, strict=True)))
    schemas = event_schemas(REF) | _whole(schemas) | _model_schemas() | {"Problem": PROBLEM_SCHEMA}
    components["schemas"] = dict(sorted(schemas.items()))
    for path, item in doc["paths"].items():
        for method, operation in item.items():
            _finish(path, method, operation)
    return doc


def _resolve(node: Any, refs: dict[str, dict[str, Any]]) -> None:
    """Replace the marks of answers by references to their schemas."""
    if isinstance(node, dict):
        found = cast("dict[str, Any]", node)
        if "x-view" in found:
            found.update(refs[found.pop("x-view")])
        for value in found.values():
            _resolve(value, refs)
    elif isinstance(node, list):
        for value in cast("list[Any]", node):
            _resolve(value, refs)


def _whole(schemas: dict[str, Any]) -> dict[str, Any]:
    """Make every field of every view required, because views are always written whole."""
    for schema in schemas.values():
        properties = schema.get("properties")
        if properties:
            schema["required"] = sorted(properties)
            for field in properties.values():
                field.pop("default", None)
    return schemas


def _model_schemas() -> dict[str, Any]:
    pairs = [(model, "validation") for model in MODELS.values()]
    _, top = models_json_schema(pairs, ref_template=REF.replace("{name}", "{model}"))  # pyright: ignore[reportArgumentType]
    return dict(top.get("$defs", {}))


def _finish(path: str, method: str, operation: dict[str, Any]) -> None:
    """Add to an operation what all have in common: credentials, refusals, the idempotency key."""
    operation.pop("x-media", None)
    operation["operationId"] = _operation_id(path, method)
    responses = operation["responses"]
    responses.pop("422", None)
    for status, about in _PROBLEMS.items():
        content = {PROBLEM_MEDIA: {"schema": {"$ref": REF.format(name="Problem")}}}
        responses.setdefault(str(status), {"description": about, "content": content})
    if path in PUBLIC or (path == SIGN_IN and method in ("post", "delete")):
        operation["security"] = []
        return
    ways = ("token", "browser", "stream") if path.endswith("/stream") else ("token", "browser")
    operation["security"] = [{way: []} for way in ways]
    if method == "post":
        key = {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "A repeat with the same key and body is answered like the first; another body is refused.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        }
        operation["parameters"] = [*operation.get("parameters", ()), key]


def _operation_id(path: str, method: str) -> str:
    words = [part.strip("{}").replace(":path", "") for part in path.removeprefix(PREFIX).split("/") if part]
    return "_".join([method, *(word.replace("-", "_") for word in words)])
