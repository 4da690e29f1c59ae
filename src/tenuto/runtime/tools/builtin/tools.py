"""All built-in tools, by their stable names."""

from __future__ import annotations

from tenuto.runtime.tools.builtin import (
    artifacts,
    files,
    knowledge,
    local,
    messages,
    patching,
    python,
    transform,
    uploads,
)
from tenuto.runtime.tools.builtin.kit import Kit
from tenuto.runtime.tools.catalog import Tool

_DECLARED = (
    *files.TOOLS, *knowledge.TOOLS, *transform.TOOLS, *messages.TOOLS, *uploads.TOOLS, *local.TOOLS, *python.TOOLS,
    *patching.TOOLS, *artifacts.TOOLS,
)


def builtin_tools(kit: Kit | None = None) -> dict[str, Tool]:
    """Return every built-in tool by name; one without its settings says so when it is called."""
    made = [declared(kit or Kit()) for declared in _DECLARED]
    return {tool.name: tool for tool in made}
