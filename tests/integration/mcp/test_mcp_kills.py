"""A run goes on over the death of its tools' servers: SIGKILL between calls and in the middle of one, over stdio and HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tenuto import App, Retry
from tenuto.adapters.models.scripted import ScriptedModel
from tenuto.ports.model import ModelReply, ModelRequest
from tenuto.runtime.services.engine import Engine
from tests.acceptance.features.harness import Gate, events, seen
from tests.integration.agents.test_loop import calls, served

SERVER = Path(__file__).with_name("killed_server.py")
PATIENT = Retry(attempts=100, backoff_s=0.05, multiplier=1, jitter=0)
TOGETHER = 15


class Servers:
    """A server over stdio, which its client starts, and one over HTTP, which we start; both write down what they are asked."""

    def __init__(self, place: Path) -> None:
        self.near, self.far = place / "near", place / "far"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.process: asyncio.subprocess.Process | None = None

    def declare(self, app: App) -> None:
        patience: dict[str, Any] = {"connect_s": 15, "timeout_s": 15, "read_only": ["add", "hold"]}
        app.mcp("near", [sys.executable, str(SERVER), str(self.near)], **patience)
        app.mcp("far", url=f"http://127.0.0.1:{self.port}/mcp", **patience)

    async def start_far(self) -> None:
        """Start it and wait until it listens."""
        self.process = await asyncio.create_subprocess_exec(sys.executable, str(SERVER), str(self.far), str(self.port))
        # A process of somebody else says nothing when it listens.
        async with asyncio.timeout(TOGETHER):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    def lines(self, which: Path) -> list[list[str]]:
        """Return the calls that came in: tool, argument, key, process."""
        return [line.split() for line in which.read_text().splitlines()] if which.exists() else []

    async def until(self, which: Path, told: Callable[[list[list[str]]], bool]) -> None:
        # A file that another process writes tells nobody that it grew.
        async with asyncio.timeout(TOGETHER):
            while not told(self.lines(which)):
                await asyncio.sleep(0.02)

    async def kill_far(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    def kill_near(self) -> int:
        """Kill the process that was asked last, and return which it was."""
        pid = int(self.lines(self.near)[-1][3])
        os.kill(pid, signal.SIGKILL)
        return pid

    def let_go(self) -> None:
        """Let what holds answer, in every process from now on; to be called when what must not answer is dead."""
        for which in (self.near, self.far):
            Path(f"{which}.go").touch()


@asynccontextmanager
async def alive(place: Path) -> AsyncIterator[Servers]:
    servers = Servers(place)
    await servers.start_far()
    try:
        yield servers
    finally:
        await servers.kill_far()


async def ended(engine: Engine, run: str) -> Any:
    return await engine.runs.result(run, timeout_s=TOGETHER)


async def test_a_run_goes_on_when_its_servers_are_killed_between_calls_and_started_again(tmp_path: Path) -> None:
    """The one over stdio is started anew by us, the one over HTTP by somebody else, after a call met nobody; no call is made twice."""
    gate, app = Gate(), App("t")

    @app.step(name="stop")
    async def stop() -> None:
        await gate()

    async with alive(tmp_path) as servers:
        servers.declare(app)
        (
            app.workflow("w")
            .tool("near.add", id="n1", args={"n": 1})
            .tool("far.add", id="f1", args={"n": 10}, after="n1")
            .step(stop, id="s", after="f1")
            .tool("near.add", id="n2", args={"n": 2}, after="s", retry=PATIENT)
            .tool("far.add", id="f2", args={"n": 20}, after="s", retry=PATIENT)
        )
        async with app.engine(f"sqlite:///{tmp_path}/t.db") as engine:
            run = (await engine.runs.start("w", {})).id
            await gate.wait()
            first = servers.kill_near()
            await servers.kill_far()
            gate.open.set()
            await seen(engine, run, lambda event: event.type == "step.retrying" and event.node == "f2")
            await servers.start_far()
            view = await ended(engine, run)
            happened = await events(engine, run)
    assert view.status == "completed"
    assert view.output == {"n2": 3, "f2": 21}
    assert [(tool, n) for tool, n, _, _ in servers.lines(servers.near)] == [("add", "1"), ("add", "2")]
    assert [(tool, n) for tool, n, _, _ in servers.lines(servers.far)] == [("add", "10"), ("add", "20")]
    assert int(servers.lines(servers.near)[1][3]) != first, "another process answers now"
    codes = {event.data["error"]["code"] for event in happened if event.type == "step.retrying"}
    assert codes <= {"tool.unavailable", "tool.outcome_unknown"}, "away, or gone under the request"


async def test_a_call_whose_server_is_killed_is_made_again_under_its_key_when_the_server_is_back(tmp_path: Path) -> None:
    """Both die with a call under way: each is asked twice in all, with one key, and the run has the second answer."""
    app = App("t")
    async with alive(tmp_path) as servers:
        servers.declare(app)
        app.workflow("w").tool("near.hold", id="n", args={"n": 1}, retry=PATIENT).tool(
            "far.hold", id="f", args={"n": 2}, after=(), retry=PATIENT
        )
        async with app.engine(f"sqlite:///{tmp_path}/t.db") as engine:
            run = (await engine.runs.start("w", {})).id
            for which in (servers.near, servers.far):
                await servers.until(which, lambda lines: len(lines) == 1)
            servers.kill_near()
            await servers.kill_far()
            servers.let_go()
            await servers.start_far()
            view = await ended(engine, run)
            happened = await events(engine, run)
    assert (view.status, view.output) == ("completed", {"n": 1, "f": 2})
    for which in (servers.near, servers.far):
        (_, _, first, one), (_, _, second, other) = servers.lines(which)
        assert first == second, "the same call: the same key"
        assert one != other
    lost = Counter(event.type for event in happened if event.type == "call.unknown")
    assert lost == {"call.unknown": 2}, "that nobody knows what became of the first tries is in the journal"


async def test_an_agent_goes_on_when_the_servers_of_its_tools_are_killed(tmp_path: Path) -> None:
    """Ten rounds with tools of both; each dies with a call under way, which alone is made again, under its key."""
    tools = ["near.add", "far.add"] * 2 + ["near.hold", "far.hold"] + ["near.add", "far.add"] * 2

    def script(request: ModelRequest) -> ModelReply | str:
        n = served(request)
        return calls((tools[n], {"n": n})) if n < len(tools) else "done"

    app, model = App("t"), ScriptedModel(script)
    app.model("m:x", model)
    async with alive(tmp_path) as servers:
        servers.declare(app)
        app.workflow("w").agent(
            "p", "loop", model="m:x", prompt="count", tools=sorted(set(tools)), max_rounds=20, retry=PATIENT
        )
        async with app.engine(f"sqlite:///{tmp_path}/t.db") as engine:
            run = (await engine.runs.start("w", {})).id
            await servers.until(servers.near, lambda lines: lines[-1:] != [] and lines[-1][0] == "hold")
            servers.kill_near()
            Path(f"{servers.near}.go").touch()
            await servers.until(servers.far, lambda lines: lines[-1:] != [] and lines[-1][0] == "hold")
            await servers.kill_far()
            servers.let_go()
            await servers.start_far()
            view = await ended(engine, run)
            happened = [event.type for event in await events(engine, run)]
    assert (view.status, view.output["p"]["content"]) == ("completed", "done")
    assert "step.retrying" not in happened, "the loop itself waited for the servers"
    made = [(f"{which.name}.{tool}", int(n), key) for which in (servers.near, servers.far) for tool, n, key, _ in servers.lines(which)]
    assert sorted({n for _, n, _ in made}) == list(range(10))
    assert all(tools[n] == name for name, n, _ in made)
    counts = Counter(made)
    assert {name for (name, _, _), count in counts.items() if count > 1} == {"near.hold", "far.hold"}
    assert max(counts.values()) == 2, "what was cut is made again once, under its key"
    assert len(model.requests) == 11, "no request to the model was made again"
