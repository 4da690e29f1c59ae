"""The app of workers that are killed while an image is made: `python -m … STORE SERVER WORKSPACES`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tenuto import App, WorkerOptions
from tenuto.runtime.tools.builtin.kit import ImageServer, Kit
from tenuto.runtime.tools.workspace import Workspaces

app = App("images")
app.workflow("w").tool("generate_image", id="n", args={"prompt": "a harbour"})


def kit(server: str, root: Path) -> Kit:
    """Return a kit that looks often."""
    images = ImageServer(url=server, checkpoint="sd.safetensors", poll_s=0.02)
    return Kit(images=images, workspaces=Workspaces(root=root))


async def main(url: str, server: str, root: str) -> None:
    """Work until killed."""
    async with app.engine(url, kit=kit(server, Path(root)), options=WorkerOptions(lease_ms=60_000)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
