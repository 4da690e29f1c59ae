"""The public contract: every promised address exists, is described whole, and the page keeps to it."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Match

from tenuto.domain.runs.public import NAMES, PROVISIONAL

# The surface promised for the durable core; `{x}` stands for any name.
PROMISED = [
    "GET /healthz",
    "GET /readyz",
    "GET /api/v1/workflows",
    "POST /api/v1/workflows",
    "GET /api/v1/workflows/{x}",
    "POST /api/v1/workflows/validate",
    "PUT /api/v1/workflows/{x}/tags/{x}",
    "POST /api/v1/runs",
    "GET /api/v1/runs",
    "GET /api/v1/runs/{x}",
    "POST /api/v1/runs/{x}/cancel",
    "POST /api/v1/runs/{x}/pause",
    "POST /api/v1/runs/{x}/resume",
    "POST /api/v1/runs/{x}/replay",
    "GET /api/v1/runs/{x}/events",
    "GET /api/v1/runs/{x}/steps",
    "GET /api/v1/runs/{x}/state",
    "GET /api/v1/runs/{x}/graph",
    "GET /api/v1/runs/{x}/stream",
    "POST /api/v1/runs/{x}/stream-token",
    "GET /api/v1/stream",
    "POST /api/v1/runs/{x}/signals/{x}",
    "POST /api/v1/runs/{x}/steps/{x}/retry",
    "GET /api/v1/runs/{x}/why",
    "GET /api/v1/runs/{x}/audit",
    "GET /api/v1/runs/{x}/diff",
    "DELETE /api/v1/runs/{x}",
    "GET /api/v1/tickets",
    "POST /api/v1/tickets/{x}/decision",
    "GET /api/v1/approvals",
    "POST /api/v1/approvals/{x}/decision",
    "POST /api/v1/runs/{x}/patches",
    "GET /api/v1/runs/{x}/patches",
    "GET /api/v1/runs/{x}/patches/{x}",
    "GET /api/v1/runs/{x}/patches/graph",
    "POST /api/v1/runs/{x}/patches/{x}/decision",
    "POST /api/v1/runs/{x}/patches/undo",
    "POST /api/v1/runs/{x}/patches/redo",
    "GET /api/v1/dead-letters",
    "POST /api/v1/dead-letters/{x}/redrive",
    "GET /api/v1/artifacts",
    "POST /api/v1/artifacts",
    "GET /api/v1/artifacts/{x}",
    "GET /api/v1/usage",
    "GET /api/v1/usage/calls",
    "GET /api/v1/usage/daily",
    "GET /api/v1/usage/projects",
    "DELETE /api/v1/cache",
    "GET /api/v1/cache/stats",
    "GET /api/v1/services",
    "GET /api/v1/steps",
    "GET /api/v1/workers",
]
LATER = ["/patches/p", "/policies", "/locks", "/projects", "/admin/users"]


def _operations(doc: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {re.sub(r'{[^}]*}', '{x}', path)}": operation
        for path, item in doc["paths"].items() for method, operation in item.items()
    }  # fmt: skip


def test_every_promised_operation_exists_and_is_described(app: FastAPI) -> None:
    """Each has a summary, a success, problems, credentials; bodies and answers have schemas."""
    operations = _operations(app.openapi())
    assert set(PROMISED) <= set(operations)
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(set(ids)) == len(ids)
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation["description"], name
        success = {status: reply for status, reply in operation["responses"].items() if status < "400"}
        assert success, name
        assert all("content" in reply for status, reply in success.items() if status != "204"), name
        problem = operation["responses"]["422"]["content"]
        assert problem == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        is_open = name.endswith(("/healthz", "/readyz")) or name in ("POST /api/v1/session", "DELETE /api/v1/session")
        assert (operation["security"] == []) is is_open, name


def test_the_document_is_closed(app: FastAPI) -> None:
    """Every reference leads somewhere, and every public event has a schema."""
    doc = app.openapi()
    schemas = doc["components"]["schemas"]
    referred = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(doc)))
    assert referred <= set(schemas)
    assert set(schemas["Event"]["discriminator"]["mapping"]) == {*NAMES, *PROVISIONAL}
    assert doc["openapi"].startswith("3.1")
    assert "x-view" not in json.dumps(doc)


def test_the_socket_is_there_under_both_addresses(app: FastAPI) -> None:
    """WebSockets are not part of OpenAPI, so they are looked for themselves."""
    for path in ("/api/v1/runs/r1/ws", "/ws/r1"):
        scope = {"type": "websocket", "path": path, "root_path": "", "headers": []}
        assert any(route.matches(scope)[0] is Match.FULL for route in app.router.routes), path


@pytest.mark.parametrize("path", LATER)
async def test_what_is_not_built_yet_is_absent(client: httpx.AsyncClient, path: str) -> None:
    """Nothing pretends."""
    assert (await client.get(f"/api/v1{path}")).status_code == 404


def test_the_page_is_plain_and_safe() -> None:
    """No inline code, no other origin, no markup made from data; what it names exists."""
    folder = files("tenuto.api").joinpath("static")
    html, script, docs = (folder.joinpath(name).read_text() for name in ("index.html", "page.js", "docs.js"))
    for text in (html, script, docs, folder.joinpath("docs.html").read_text()):
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
        assert not re.search(r"innerHTML|insertAdjacent|document\.write|\bon\w+=\"|<script>|style=|\beval\b", text)
    assert set(re.findall(r'\$\("([\w-]+)"\)', script)) <= set(re.findall(r'id="([\w-]+)"', html))
    used = set(re.findall(r'"((?:run|step|call|ticket)\.\w+)"', script))
    assert used <= set(NAMES)


async def test_the_page_knows_every_event(anyone: httpx.AsyncClient) -> None:
    """The names are put in when it is served; files have tags."""
    page = await anyone.get("/")
    assert " ".join(NAMES) in page.text
    again = await anyone.get("/", headers={"If-None-Match": page.headers["etag"]})
    assert again.status_code == 304
    assert (await anyone.get("/static/../app.py")).status_code in (401, 404)
    assert (await anyone.get("/static/secret")).status_code == 404
