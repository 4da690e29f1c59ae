"""`read_file`, `write_file` and `list_files`: the workspace of the run, or of its project."""

from __future__ import annotations

from typing import Any

from tenuto.runtime.tools.builtin.kit import Kit, declare, text, whole
from tenuto.runtime.tools.catalog import CallInfo

_PATH = text("Path relative to the workspace, such as 'notes/today.txt'.")


def _read(kit: Kit, info: CallInfo, path: str, offset: int = 0) -> dict[str, Any]:
    return kit.workspaces.of(info).read(path, offset)


def _write(kit: Kit, info: CallInfo, path: str, content: str) -> dict[str, Any]:
    return kit.workspaces.of(info).write(path, content.encode("utf-8", "surrogatepass"), info.key)


def _list(kit: Kit, info: CallInfo, path: str = "", recursive: bool = False) -> dict[str, Any]:
    return kit.workspaces.of(info).list(path, recursive=recursive)


TOOLS = (
    declare(
        _read, "read_file",
        "Read a text file of the workspace, at most 50,000 bytes at a time; `truncated` says whether there is more.",
        {"path": _PATH, "offset": whole("Byte to start at.", 0, 2**53, default=0)}, required=("path",), is_async=False,
    ),
    declare(
        _write, "write_file", "Write a whole text file of the workspace; directories on the way are made.",
        {"path": _PATH, "content": text("The whole new content.")}, required=("path", "content"), is_async=False,
    ),
    declare(
        _list, "list_files", "List files and directories of the workspace.",
        {
            "path": text("Directory to list; the whole workspace when left out.", default=""),
            "recursive": {"type": "boolean", "description": "Whether to list what is below as well.", "default": False},
        },
        is_async=False,
    ),
)
