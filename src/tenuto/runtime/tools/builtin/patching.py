"""`read_graph` and `propose_patch`: an agent sees the graph it is part of, and proposes to change it."""

from __future__ import annotations

from typing import Any

from tenuto.domain.runs.patches import CORRECTIONS
from tenuto.runtime.tools.builtin.kit import Kit, declare, text
from tenuto.runtime.tools.catalog import CallInfo, Tool
from tenuto.runtime.tools.tool import Serving

READ, PROPOSE = "read_graph", "propose_patch"
_OPERATIONS: dict[str, Any] = {
    "type": "array", "minItems": 1,
    "description": "JSON Patch operations (RFC 6902) on /nodes and /edges. /nodes/- and /edges/- add at the end; "
    "/nodes/ID/config/… changes the node ID, /edges/FROM->TO an edge. A new node needs an edge from a node that is "
    "not over yet, such as your own.",
    "items": {"type": "object", "required": ["op", "path"]},
}
_ONCE = "Mend it and propose it again, once."
_LEFT = "It is kept for a person to look at. Do not propose it again; go on without it."


async def _read(ctx: Serving, arguments: dict[str, Any], key: str | None) -> Any:
    return await ctx.graph(key=key)


async def _propose(ctx: Serving, arguments: dict[str, Any], key: str | None) -> Any:
    told = await ctx.propose_patch(
        arguments["operations"], reason=arguments["reason"], base=arguments.get("base_digest", ""), key=key
    )
    if told.get("status") != "invalid":
        return told
    return {**told, "next": _ONCE if told.get("refused", 0) <= CORRECTIONS else _LEFT}


async def _nobody(kit: Kit, info: CallInfo, **_: Any) -> Any:
    raise AssertionError("served by the run itself")


def _within(name: str, description: str, properties: dict[str, Any], serve: Any, *required: str) -> Any:
    plain = declare(_nobody, name, description, properties, required=required)

    def made(kit: Kit) -> Tool:
        tool: Tool = plain(kit)
        return tool.served_by(serve)

    return made


TOOLS = (
    _within(
        READ, "See the graph of the run you are part of: nodes, edges, which are still open, and what may be added.", {}, _read
    ),
    _within(
        PROPOSE,
        "Propose a change of the graph of the run you are part of. It is checked as a whole, a person may have to approve "
        "it, and once it is applied the run goes on by the new graph.",
        {
            "operations": _OPERATIONS,
            "reason": text("Why, for whoever looks at it.", minLength=1),
            "base_digest": text("Digest of the graph it is made for, as read_graph told it; default: the newest.", default=""),
        },
        _propose, "operations", "reason",
    ),
)
