"""`save_artifact` and `load_artifact`: a file of the workspace as bytes that outlive it, and back again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from mimetypes import guess_type
from typing import Any

from tenuto.runtime.artifacts import Shelf
from tenuto.runtime.tools.builtin.kit import Kit, ToolNotSetUp, declare, text
from tenuto.runtime.tools.catalog import CallInfo
from tenuto.runtime.tools.workspace import WorkspaceFull


async def _save(kit: Kit, info: CallInfo, path: str, media_type: str = "") -> dict[str, Any]:
    shelf = _shelf(kit)
    content = await asyncio.to_thread(kit.workspaces.of(info).read_bytes, path, shelf.max_bytes)
    kind = media_type or guess_type(path)[0] or ""
    found = await shelf.put(info.ns, _once(content), media_type=kind)
    return {
        "artifact": found.digest, "size": found.size, "media_type": found.media_type, "name": path.rpartition("/")[2],
    }


async def _load(kit: Kit, info: CallInfo, artifact: str, path: str) -> dict[str, Any]:
    found, pieces = await _shelf(kit).open(info.ns, artifact)
    if found.size > kit.workspaces.max_write:
        raise WorkspaceFull(f"{artifact} has {found.size:,} bytes; a file may have {kit.workspaces.max_write:,}")
    content = b"".join([piece async for piece in pieces])
    return await asyncio.to_thread(kit.workspaces.of(info).write, path, content, info.key)


def _shelf(kit: Kit) -> Shelf:
    if kit.shelf is None:
        raise ToolNotSetUp("this process was started without a place for artifacts")
    return kit.shelf


async def _once(content: bytes) -> AsyncGenerator[bytes]:
    yield content


TOOLS = (
    declare(
        _save, "save_artifact",
        "Keep a file of the workspace under the digest of its content; give the digest to whoever is to have it.",
        {
            "path": text("Path of the file, such as 'out/report.pdf'."),
            "media_type": text("Media type, such as 'application/pdf'; by the ending of the path when left out.", default=""),
        },
        required=("path",),
    ),
    declare(
        _load, "load_artifact", "Put an artifact into the workspace as a file.",
        {
            "artifact": text("Its digest, 'sha256:' and 64 digits.", pattern=r"^sha256:[0-9a-f]{64}$"),
            "path": text("Path of the file, such as 'in/report.pdf'."),
        },
        required=("artifact", "path"),
    ),
)
