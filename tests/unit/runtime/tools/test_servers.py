"""Tools of servers under their operator's terms, and schemas that others wrote."""

from __future__ import annotations

from typing import Any

import pytest

from tenuto.domain.graph.schema import validate
from tenuto.errors import InvalidSettings
from tenuto.ports.tools import OfferedTool
from tenuto.runtime.tools.schemas import understood
from tenuto.runtime.tools.servers import McpServer, ServerInvalid, Toolset, merged
from tenuto.sdk.configured import mcp_servers
from tenuto.settings import load


class Listed:
    """A source that only lists."""

    def __init__(self, *offered: OfferedTool) -> None:
        self.offered = offered


def effects(offered: list[OfferedTool], **terms: Any) -> dict[str, tuple[str, str]]:
    source: Any = Listed(*offered)
    tools = Toolset(McpServer(name="s", command=("x",), **terms), source).tools()
    return {name: (tool.effect, tool.on_unknown) for name, tool in tools.items()}


def test_nothing_is_presumed_about_a_tool_but_what_its_operator_says():
    offered = [OfferedTool(name="read", reads_only=True), OfferedTool(name="write")]
    ask, again = ("effect", "ask"), ("idempotent", "retry")
    assert effects(offered) == {"s.read": ask, "s.write": ask}
    assert effects(offered, read_only=("write",)) == {"s.read": ask, "s.write": again}
    assert effects(offered, trust_hints=True) == {"s.read": again, "s.write": ask}
    assert effects(offered, effect="idempotent") == {"s.read": again, "s.write": again}
    assert effects(offered, unknown="status", prefix="p") == {"p.read": ("effect", "status"), "p.write": ("effect", "status")}
    assert effects(offered, tools=("write",)) == {"s.write": ask}


def test_a_schema_from_elsewhere_is_checked_as_far_as_it_is_understood():
    schema = understood({
        "$schema": "x", "x-vendor": 1, "properties": {"n": {"$ref": "#/definitions/N", "x-more": 2}},
        "definitions": {"N": {"type": "integer", "if": {}}}, "required": ["n"],
    })  # fmt: skip
    assert not validate(schema, {"n": 1})
    assert validate(schema, {"n": "one"})
    assert validate(schema, {})
    assert understood({"properties": {"n": {"$ref": "#/nowhere"}}}) == {"type": "object"}
    assert understood("nonsense") == {"type": "object"}


def test_settings_say_where_a_server_is_that_an_app_only_names():
    settings = load(environ={"TENUTO_MCP": '{"hub": {"url": "https://hub.example/mcp", "bearer_env": "HUB_TOKEN"}}'})
    (placed,) = mcp_servers(settings)
    assert merged((McpServer(name="hub"),), (placed,)) == (placed,)
    assert (placed.url, placed.bearer_env, placed.effect) == ("https://hub.example/mcp", "HUB_TOKEN", "effect")
    with pytest.raises(ServerInvalid, match="both have the prefix"):
        merged((McpServer(name="a", command=("x",)),), (McpServer(name="b", command=("x",), prefix="a"),))
    with pytest.raises(InvalidSettings, match="names no environment variable"):
        load(environ={"TENUTO_MCP": '{"hub": {"url": "https://x.example", "headers_from": {"X-Key": "se cret!"}}}'})
