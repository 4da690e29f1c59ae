"""The tools of Tenuto's MCP server. Each is one request to the HTTP API, under the caller's token."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any, cast

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import ToolAnnotations
from pydantic import Field

from tenuto import __version__
from tenuto.mcp_server.api import Api

INSTRUCTIONS = (
    "Durable workflows. Find one with list_workflows, read what it takes with get_workflow, start it with start_run, "
    "wait with wait_run, and ask why when it does not end. A run that waits for a person has a ticket: list_tickets, "
    "decide_ticket."
)
LONGEST_WAIT_S = 30.0
_READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
_WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_ENDS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)

Caller = Context[Any, Any]
Run = Annotated[str, Field(description="A run's id.")]
Limit = Annotated[int, Field(description="Most entries of the page.", ge=1, le=1000)]
Cursor = Annotated[str, Field(description="Where another page ended; empty for the first.")]
Key = Annotated[str, Field(description="Same key, same effect, once; give one to be able to repeat safely.")]


def make_server(url: str, token: str = "") -> MCPServer:
    """Return a server of tools over the API at an address.

    Args:
        token: Of the one caller there is over stdio. Over HTTP each request brings its own, and this one is not used.
    """
    api = Api(url)

    @asynccontextmanager
    async def alive(_: MCPServer) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await api.close()

    server = MCPServer("tenuto", version=__version__, instructions=INSTRUCTIONS, lifespan=alive, subscriptions=False)

    async def ask(ctx: Caller, method: str, *path: str, **more: Any) -> Any:
        return await api.call(_token(ctx, token), method, *path, **more)

    _add_workflows(server, ask)
    _add_runs(server, ask)
    _add_commands(server, ask)
    _add_tickets(server, ask)
    return server


def serve_stdio(url: str, token: str) -> None:
    """Serve one caller over standard input and output until it leaves."""
    make_server(url, token).run()


def serve_http(url: str, host: str, port: int) -> None:
    """Serve over streamable HTTP at `/mcp` until stopped; each caller brings a token of its own."""
    make_server(url).run(transport="streamable-http", host=host, port=port)


def _token(ctx: Caller, own: str) -> str:
    """Return the caller's token: over HTTP the one in the request, never the server's."""
    request: Any = ctx.request_context.request
    if request is None:
        return own
    kind, _, token = str(request.headers.get("authorization", "")).partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _add_workflows(server: MCPServer, ask: Any) -> None:
    @server.tool(annotations=_READS)
    async def list_workflows(ctx: Caller, limit: Limit = 100, cursor: Cursor = "") -> dict[str, Any]:
        """List the workflows that can be started."""
        return await ask(ctx, "GET", "workflows", query={"limit": limit, "cursor": cursor})

    @server.tool(annotations=_READS)
    async def get_workflow(
        ctx: Caller, name: str, version: Annotated[str, Field(description="A tag or digest; empty for the latest.")] = "",
    ) -> dict[str, Any]:
        """Read a workflow: what it takes (`definition.input_schema`), its nodes and edges."""
        return await ask(ctx, "GET", "workflows", name, query={"version": version})


def _add_runs(server: MCPServer, ask: Any) -> None:
    @server.tool(annotations=_WRITES)
    async def start_run(
        ctx: Caller, workflow: str, input: Any = None, labels: dict[str, str] | None = None, goal: str = "",
        budget: Annotated[dict[str, Any] | None, Field(description="Caps, such as {\"tool_calls\": 20}.")] = None,
        idempotency_key: Key = "",
    ) -> dict[str, Any]:
        """Start a run of a workflow; answers at once with its id."""
        body = {"workflow": workflow, "input": input, "labels": labels, "goal": goal, "budget": budget}
        given = {name: value for name, value in body.items() if value not in (None, "")}
        return await ask(ctx, "POST", "runs", body=given, key=idempotency_key or secrets.token_urlsafe(16))

    @server.tool(annotations=_READS)
    async def get_run(ctx: Caller, run: Run) -> dict[str, Any]:
        """Read a run: status, output, error, steps, what it spent."""
        return await ask(ctx, "GET", "runs", run)

    @server.tool(annotations=_READS)
    async def wait_run(
        ctx: Caller, run: Run, seconds: Annotated[float, Field(ge=0, le=LONGEST_WAIT_S)] = LONGEST_WAIT_S
    ) -> dict[str, Any]:
        """Wait for a run's end, at most some seconds; answers with the run as it is then."""
        return await ask(ctx, "GET", "runs", run, query={"wait": seconds})

    @server.tool(annotations=_READS)
    async def list_runs(
        ctx: Caller, workflow: str = "", limit: Limit = 20, cursor: Cursor = "",
        status: Annotated[str, Field(description="Such as running, waiting, completed, failed.")] = "",
    ) -> dict[str, Any]:
        """List runs, newest first."""
        query = {"workflow": workflow, "status": status, "limit": limit, "cursor": cursor}
        return await ask(ctx, "GET", "runs", query=query)

    @server.tool(annotations=_READS)
    async def run_events(
        ctx: Caller, run: Run, after: Annotated[str, Field(description="Id of an event; later ones are read.")] = "",
        limit: Limit = 100,
    ) -> dict[str, Any]:
        """Read what happened in a run, in order."""
        return await ask(ctx, "GET", "runs", run, "events", query={"after": after, "limit": limit})

    @server.tool(annotations=_READS)
    async def why(ctx: Caller, run: Run) -> dict[str, Any]:
        """Say what a run waits for, since when, and who can move it."""
        return await ask(ctx, "GET", "runs", run, "why")


def _add_commands(server: MCPServer, ask: Any) -> None:
    @server.tool(annotations=_ENDS)
    async def cancel_run(ctx: Caller, run: Run, reason: str = "") -> dict[str, Any]:
        """Stop a run, work in flight included."""
        return await ask(ctx, "POST", "runs", run, "cancel", body={"reason": reason})

    @server.tool(annotations=_WRITES)
    async def signal_run(
        ctx: Caller, run: Run, name: Annotated[str, Field(description="The signal the run waits for.")],
        data: Any = None, idempotency_key: Key = "",
    ) -> dict[str, Any]:
        """Send a named signal to a run."""
        return await ask(
            ctx, "POST", "runs", run, "signals", name, body=data, key=idempotency_key or secrets.token_urlsafe(16)
        )


def _add_tickets(server: MCPServer, ask: Any) -> None:
    @server.tool(annotations=_READS)
    async def list_tickets(
        ctx: Caller, state: Annotated[str, Field(description="open, decided or closed.")] = "open",
        kind: Annotated[str, Field(description="Such as approval; empty for all.")] = "", limit: Limit = 50,
        cursor: Cursor = "",
    ) -> dict[str, Any]:
        """List questions to people, each with the choices it takes."""
        return await ask(ctx, "GET", "tickets", query={"state": state, "kind": kind, "limit": limit, "cursor": cursor})

    @server.tool(annotations=_WRITES)
    async def decide_ticket(
        ctx: Caller, ticket: Annotated[str, Field(description="A ticket's id.")],
        decision: Annotated[str, Field(description="approve, reject, or one of the ticket's choices.")],
        reason: str = "", data: Any = None,
    ) -> dict[str, Any]:
        """Decide a ticket, as the person whose token is used."""
        body = {"decision": decision, "reason": reason, "data": data}
        return cast("dict[str, Any]", await ask(ctx, "POST", "tickets", ticket, "decision", body=body))
