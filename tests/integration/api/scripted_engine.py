"""An engine that says what it is told to, so that the edge can be tested without a store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from tenuto.domain.runs.public import PublicEvent
from tenuto.domain.runs.views import RunSummary, RunView
from tenuto.errors import Problem, RunMissing, WorkflowMissing
from tenuto.runtime.services.history import Tailed
from tenuto.runtime.services.requests import Replay, StartRun
from tenuto.runtime.services.results import Page, Started

TOKEN = "the-token-of-these-tests"
AT = datetime(2030, 1, 1, tzinfo=UTC)


class ScriptedStore:
    """A store of which only the health is asked."""

    url = "memory://"

    def __init__(self) -> None:
        self.wrong = ""

    def health(self) -> str:
        return self.wrong

    async def tail_heads(self) -> dict[int, int]:
        return {1: 4}


class ScriptedRuns:
    """Knows the run `r1`; remembers what it was asked."""

    def __init__(self) -> None:
        self.status = "running"
        self.asked: list[Any] = []
        self.ended = asyncio.Event()

    async def get(self, run_id: str, *, wait_s: float = 0) -> RunView:
        if run_id != "r1":
            problem = Problem("run", f"{run_id!r} does not exist", "did you mean 'r1'?")
            raise RunMissing(f"there is no run {run_id!r}", problems=(problem,), nearest="r1")
        if wait_s:
            await asyncio.wait_for(self.ended.wait(), wait_s)
        return RunView(
            id="r1", workflow="w", version="sha256:0", graph="sha256:0", status=self.status, created_at=AT,
        )

    async def list(self, where: Any = None, *, after: str = "", limit: int = 50) -> Page[RunSummary]:
        self.asked.append(where)
        return Page(items=[RunSummary(id="r1", workflow="w", version="v", status="running")], next="c1")

    async def submit(self, request: StartRun) -> Started:
        self.asked.append(request)
        if request.workflow == "boom":
            raise RuntimeError("the secret inside")
        if request.workflow == "none":
            raise WorkflowMissing("there is no workflow 'none'")
        return Started(id="r1", status="queued", replayed=len(self.asked) > 1)

    async def replay(self, run_id: str, request: Replay | None = None) -> Started:
        self.asked.append(request)
        return Started(id="r2", status="queued", replay_of=run_id)

    async def signal(self, run_id: str, name: str, payload: Any = None, *, by: str = "", key: str = "") -> Started:
        self.asked.append((run_id, name, payload, by, key))
        return Started(id=run_id, status="running")


class ScriptedHistory:
    """A run of three records; `more` feeds what comes live."""

    def __init__(self) -> None:
        self.stored = [PublicEvent(id=f"{n}.0", run="r1", type="step.completed", at=AT, step="s") for n in (1, 2, 3)]
        self.more: asyncio.Queue[PublicEvent | None] = asyncio.Queue()
        self.closed = False

    async def events(self, run_id: str, *, after: str = "", limit: int = 100, where: Any = None) -> Page[PublicEvent]:
        if run_id != "r1":
            raise RunMissing(f"there is no run {run_id!r}")
        return Page(items=[item for item in self.stored if item.id > after][:limit])

    async def stream(self, run_id: str, *, after: str = "", where: Any = None) -> AsyncIterator[PublicEvent]:
        try:
            for item in self.stored:
                if item.id > after:
                    yield item
            while (item := await self.more.get()) is not None:
                yield item
        finally:
            self.closed = True

    async def check_place(self, cursors: dict[int, int]) -> None:
        """Every place is known."""

    async def stream_all(self, *, cursors: dict[int, int] | None = None) -> AsyncIterator[Tailed]:
        for n, item in enumerate(self.stored, 5):
            yield Tailed(event=item, cursors={1: n})


class ScriptedEngine:
    """What the application sees of an engine."""

    def __init__(self) -> None:
        self.store = ScriptedStore()
        self.runs = ScriptedRuns()
        self.history = ScriptedHistory()
