"""An MCP server of ours over HTTP, in a test's own process: tools that work, fail, hang, grow, and answer too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import anyio
import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations


def make(note: Callable[[str], None]) -> MCPServer:
    """Return a new server that tells `note` of each call."""
    server = MCPServer("ours")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        note(f"add {a} {b}")
        return a + b

    @server.tool()
    def pay(cents: int, ctx: Context) -> dict[str, Any]:
        """Pay."""
        meta: Any = ctx.request_context.meta or {}
        key = meta.get("tenuto/idempotency-key", "")
        note(f"pay {cents} {key}")
        return {"paid": cents, "key": key}

    @server.tool()
    def traced(ctx: Context) -> str:
        """Say in which trace it was called."""
        meta: Any = ctx.request_context.meta or {}
        return str(meta.get("traceparent", ""))

    @server.tool()
    def keyed(text: str, idempotency_key: str = "") -> str:
        """Say what key came."""
        return f"{text} {idempotency_key}"

    @server.tool()
    def fail(why: str) -> str:
        """Fail."""
        raise ToolError(why)

    @server.tool()
    def big(size: int) -> str:
        """Answer with much."""
        return "x" * size

    @server.tool()
    async def hang() -> str:
        """Never answer."""
        note("hang")
        try:
            await anyio.sleep_forever()
        finally:
            note("hang was stopped")
        return ""

    @server.tool()
    async def grow(name: str, ctx: Context) -> str:
        """Offer one more tool."""

        def more() -> str:
            """Be new."""
            return f"I am {name}"

        server.add_tool(more, name=name)
        await ctx.session.send_tool_list_changed()
        return "grown"

    return server


class Ledger:
    """What came in, and a way to wait for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.changed = asyncio.Event()

    def note(self, line: str) -> None:
        self.lines.append(line)
        self.changed.set()

    async def wait_for(self, begin: str) -> None:
        while not any(line.startswith(begin) for line in self.lines):
            self.changed.clear()
            await self.changed.wait()


class _Quiet(uvicorn.Server):
    def capture_signals(self) -> Any:
        """Leave signals to the tests."""
        return nullcontext()


@asynccontextmanager
async def listening(app: Any, port: int = 0) -> AsyncIterator[int]:
    """Serve a web application on loopback and yield its port; connections are cut at the end."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", timeout_graceful_shutdown=0)
    server = _Quiet(config)
    task = asyncio.create_task(server.serve())
    while not server.started and not task.done():
        await asyncio.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def serving(ledger: Ledger, port: int = 0) -> AsyncIterator[int]:
    """Serve a new server of ours, which tells the ledger of each call, and yield its port."""
    async with listening(make(ledger.note).streamable_http_app(), port) as found:
        yield found
