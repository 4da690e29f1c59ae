"""The app of workers that compute the same: the one step that does tells the test, and waits for its answer."""

from __future__ import annotations

from typing import Any

from tenuto import App
from tests.integration.takeover.worker_app import visit

app = App("cached")


@app.step(effect="pure", cache="read_through")
async def work(n: int) -> dict[str, Any]:
    return {"n": n, "answer": await visit("work")}


app.workflow("same").step(work, id="work")
