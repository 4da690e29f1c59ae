"""The app of workers that are killed in the middle of an upload."""

from __future__ import annotations

from tenuto import App

BODY = "x" * 3_000_000

app = App("uploads")
app.workflow("new").tool("s3_upload", id="up", args={"destination": "ops", "path": "out/new.txt", "text": BODY})
app.workflow("over").tool(
    "s3_upload", id="up", args={"destination": "ops", "path": "out/over.txt", "text": BODY, "overwrite": True}
)
