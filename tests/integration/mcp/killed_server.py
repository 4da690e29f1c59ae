"""An MCP server of ours in a process of its own, to be killed: `python killed_server.py LEDGER [PORT]`, stdio without a port.

The ledger gets a line for each call that came in: tool, argument, key, process. `hold` answers nobody before there is a file
`LEDGER.go`.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

LEDGER = Path(sys.argv[1])
server = MCPServer("killed")


def note(tool: str, n: int, ctx: Context) -> None:
    meta: Any = ctx.request_context.meta or {}
    with LEDGER.open("a") as file:
        file.write(f"{tool} {n} {meta.get('tenuto/idempotency-key', '-')} {os.getpid()}\n")


@server.tool()
def add(n: int, ctx: Context) -> int:
    """Add one."""
    note("add", n, ctx)
    return n + 1


@server.tool()
async def hold(n: int, ctx: Context) -> int:
    """Answer when it may."""
    note("hold", n, ctx)
    while not Path(f"{LEDGER}.go").exists():
        await anyio.sleep(0.01)
    return n


class _Quiet(uvicorn.Server):
    def capture_signals(self) -> Any:
        """Leave signals to their default."""
        return nullcontext()


if len(sys.argv) > 2:
    _Quiet(uvicorn.Config(
        server.streamable_http_app(), host="127.0.0.1", port=int(sys.argv[2]), log_level="critical"
    )).run()  # fmt: skip
else:
    server.run("stdio")
