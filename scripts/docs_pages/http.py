"""The HTTP API, from the OpenAPI document the server gives."""

from __future__ import annotations

import json
from typing import Any, cast

from scripts.docs_pages.markdown import code, opening, table
from tenuto.api.app import create_app
from tenuto.api.auth import Auth
from tenuto.runtime.services.engine import Engine
from tenuto.settings import Settings

TITLES = {
    "runs": "Runs", "workflows": "Workflows", "tickets": "Tickets", "approvals": "Tickets", "dead-letters": "Dead letters",
    "artifacts": "Values", "stream": "Streams", "session": "Signing in",
}  # fmt: skip


def document() -> dict[str, Any]:
    """Return the OpenAPI document; no engine is needed to describe it."""
    app = create_app(cast("Engine", None), Settings(), auth=Auth("", required=False))
    return app.openapi()


def document_text() -> str:
    """Return the document as a file."""
    return json.dumps(document(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def page() -> str:
    """Return the page."""
    text = opening(
        "HTTP API", "the OpenAPI document of the server",
        "Everything is under `/api/v1` but health, JSON in and out, and asks for `Authorization: Bearer TOKEN`.",
        "Refusals are problem details (RFC 9457) with a [code](errors.md).",
        "Lists have `items` and `next`; give `next` back as `after`.",
        "A POST with an `Idempotency-Key` may be repeated: the same body gets the first answer, another body gets 409.",
        "The whole document, with schemas of every shape and event, is served at `/openapi.json` and kept here as [openapi.json](openapi.json).",
    )  # fmt: skip
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for path, methods in document()["paths"].items():
        parts = path.removeprefix("/api/v1/").strip("/").split("/")
        title = TITLES.get(parts[0], "Operation")
        for method, operation in methods.items():
            row = (
                code(method.upper()),
                code(path),
                str(operation.get("summary") or operation.get("description", "")).split("\n")[0],
            )
            groups.setdefault(title, []).append(row)
    for title, rows in groups.items():
        text += f"\n## {title}\n\n" + table(["method", "path", "what it does"], rows)
    return text
