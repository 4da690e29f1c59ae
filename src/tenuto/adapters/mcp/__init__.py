"""MCP servers as sources of tools, by the official SDK: over stdio and over streamable HTTP."""

from tenuto.adapters.mcp.source import McpSource

__all__ = ["McpSource"]
