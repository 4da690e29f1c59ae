"""The HTTP API as its MCP tools call it: JSON in, JSON out, refusals as texts a model can act on."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import quote

import httpx
import msgspec
from mcp.server.mcpserver.exceptions import ToolError

PREFIX = "/api/v1"
TIMEOUT_S = 60.0


class Api:
    """One server, called with the token of whoever calls; it holds no right of its own."""

    def __init__(self, url: str) -> None:
        """Talk to the server at an address."""
        self.url = url.rstrip("/")
        self._client = httpx.AsyncClient(base_url=self.url + PREFIX, timeout=TIMEOUT_S, trust_env=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def call(
        self, token: str, method: str, *path: str, query: dict[str, Any] | None = None, body: Any = None, key: str = "",
    ) -> Any:
        """Make one request and return its JSON.

        Args:
            path: Segments, each quoted.
            key: Idempotency key; a repeat under it does nothing twice.

        Raises:
            ToolError: The server refused, or cannot be reached.
        """
        headers = {"authorization": f"Bearer {token}"} if token else {}
        if key:
            headers["idempotency-key"] = key
        content = None
        if body is not None:
            content, headers["content-type"] = msgspec.json.encode(body), "application/json"
        given = {name: value for name, value in (query or {}).items() if value not in (None, "", [])}
        try:
            answer = await self._client.request(
                method, "/" + "/".join(quote(part, safe="") for part in path), params=given, headers=headers,
                content=content,
            )
        except httpx.HTTPError as exc:
            said = str(exc) or type(exc).__name__
            raise ToolError(f"the Tenuto server at {self.url} does not answer: {said}; start it with: tenuto serve") from exc
        try:
            found = msgspec.json.decode(answer.content) if answer.content else None
        except msgspec.DecodeError as exc:
            raise ToolError(f"the answer of {self.url} is not JSON; is it a Tenuto server?") from exc
        if answer.status_code >= 400:
            raise ToolError(refusal(answer.status_code, found))
        return found


def refusal(status: int, problem: Any) -> str:
    """Return a refusal as text: what was wrong, each fault with its place and hint."""
    told = cast("dict[str, Any]", problem) if isinstance(problem, dict) else {}
    text = str(told.get("detail") or told.get("title") or f"the server answered {status}")
    if status == 401:
        text += "; give the token in TENUTO_TOKEN, or over HTTP in the Authorization header"
    lines = [text]
    for fault in cast("list[Any]", told.get("problems") or told.get("errors") or []):
        if isinstance(fault, dict):
            item = cast("dict[str, Any]", fault)
            hint = f" ({item['hint']})" if item.get("hint") else ""
            lines.append(f"- {item.get('place') or '/'}: {item.get('message', '')}{hint}")
    return "\n".join(lines)
