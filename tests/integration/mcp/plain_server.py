"""An MCP server over stdio without any library, by the protocol of 2025: `python plain_server.py LEDGER`.

The ledger gets a line for the start and for each call that came in.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

LEDGER = sys.argv[1]
TOOLS: dict[str, dict[str, Any]] = {
    "add": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]},
    "secret": {"type": "object", "properties": {}},
    "die": {"type": "object", "properties": {}},
}


def note(line: str) -> None:
    with open(LEDGER, "a") as file:
        file.write(line + "\n")


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    note(name)
    if name == "die":
        os._exit(3)
    if name == "secret":
        text = os.environ.get("OURS_TOKEN", "none") + " " + os.environ.get("TENUTO_TEST_CANARY", "unseen")
        return {"content": [{"type": "text", "text": text}]}
    total = arguments["a"] + arguments["b"]
    return {"content": [{"type": "text", "text": str(total)}], "structuredContent": {"result": total}}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    if method == "initialize":
        info = {"name": "plain", "version": "1"}
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        return {"tools": [{"name": name, "inputSchema": schema} for name, schema in TOOLS.items()]}
    if method == "tools/call":
        return call(params["name"], params.get("arguments") or {})
    return None


note("start")
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    result = answer(asked["method"], asked.get("params") or {})
    reply: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"]}
    if result is None:
        reply["error"] = {"code": -32601, "message": "Method not found"}
    else:
        reply["result"] = result
    print(json.dumps(reply), flush=True)
