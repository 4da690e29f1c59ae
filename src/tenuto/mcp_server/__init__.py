"""Tenuto offered as an MCP server: workflows, runs and tickets as tools, with the caller's own rights."""

from tenuto.mcp_server.server import make_server, serve_http, serve_stdio

__all__ = ["make_server", "serve_http", "serve_stdio"]
