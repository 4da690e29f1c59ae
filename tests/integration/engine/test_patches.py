"""Graphs patched while their runs go on, through the engine: agents propose, people decide, restarts change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tenuto import App, Context
from tenuto.adapters.models.scripted import ScriptedModel
from tenuto.domain.overlays.terms import Terms
from tenuto.errors import Conflict, InvalidPatch, PatchMissing, RunTerminal
from tenuto.ports.model import ModelReply, ModelRequest, ToolCall
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.requests import Replay
from tenuto.runtime.worker.options import WorkerOptions

APPROVED = WorkerOptions(terms=Terms(approval=("all",)), lease_ms=2000, idle_s=0.05)
LONG_S = 20


def node(name: str, handler: str = "work") -> dict[str, Any]:
    return {"id": name, "kind": "function", "config": {"handler": handler}}


def behind(src: str, name: str, handler: str = "work") -> list[dict[str, Any]]:
    return [
        {"op": "add", "path": "/nodes/-", "value": node(name, handler)},
        {"op": "add", "path": "/edges/-", "value": {"from": src, "to": name}},
    ]


class Gate:
    """An app whose first step waits until it is let go."""

    def __init__(self) -> None:
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        self.app = App("t")
        self.ran: list[str] = []

        @self.app.step
        async def first(value: Any) -> str:
            self.reached.set()
            await self.go.wait()
            return "first"

        @self.app.step
        async def work(ctx: Context, value: Any) -> str:
            self.ran.append(ctx.node)
            return ctx.node

        self.app.workflow("w").step("first").step("work", id="last", after="first")

    async def started(self, engine: Engine) -> str:
        run = (await engine.runs.start("w", None)).id
        await asyncio.wait_for(self.reached.wait(), LONG_S)
        return run


@pytest.fixture
def gate() -> Gate:
    return Gate()


async def base(engine: Engine, run: str) -> str:
    return (await engine.patches.graph(run)).digest


async def test_a_person_adds_a_node_to_a_run_that_is_under_way(gate: Gate, url: str) -> None:
    """Proposed over the public service while a step runs: the new node runs in the same run; the version stays told."""
    async with gate.app.engine(url) as engine:
        run = await gate.started(engine)
        patch = await engine.patches.propose(run, behind("first", "extra"), base=await base(engine, run), by="ada", reason="more")
        assert (patch.status, patch.number, patch.changed.nodes_added) == ("applied", "1.1", ("extra",))
        gate.go.set()
        view = await engine.runs.result(run, timeout_s=LONG_S)
        assert view.status == "completed", view.error
        assert sorted(gate.ran) == ["extra", "last"]
        (only,) = (await engine.workflows.list("w")).items
        assert view.version == only.version != patch.digest == view.graph
        graph = await engine.history.graph(run)
        assert {item.id for item in graph.nodes} == {"first", "last", "extra"}
        before = await engine.history.graph(run, at=1)
        assert {item.id for item in before.nodes} == {"first", "last"}
        assert (await engine.audit.verify(run)).ok
        stored = await engine.workflows.get("w", patch.digest)
        assert [item["id"] for item in stored.definition["nodes"]] == ["first", "last", "extra"]


async def test_what_is_refused_is_kept_with_its_reasons(gate: Gate) -> None:
    """The error names every problem and the patch; the list shows it; the run goes on untouched."""
    async with gate.app.engine("memory:") as engine:
        run = await gate.started(engine)
        ops = [*behind("first", "x", "nothing_of_that_name"), {"op": "remove", "path": "/nodes/first"}]
        with pytest.raises(InvalidPatch) as caught:
            await engine.patches.propose(run, ops, base=await base(engine, run), by="ada")
        codes = {problem.code for problem in caught.value.problems}
        assert {"graph.unknown_handler", "graph.unknown_node"} <= codes
        (kept,) = await engine.patches.list(run)
        assert (kept.status, kept.id) == ("invalid", caught.value.details["patch"])
        assert {finding.code for finding in kept.findings} == codes
        gate.go.set()
        assert (await engine.runs.result(run, timeout_s=LONG_S)).status == "completed"
        with pytest.raises(RunTerminal):
            await engine.patches.propose(run, behind("last", "y"), base="x")
        with pytest.raises(PatchMissing):
            await engine.patches.get(run, "pt-nothing")


async def test_undo_and_redo_until_the_run_has_relied_on_it(gate: Gate) -> None:
    """A patch is taken back and brought back while nothing has come of it; afterwards it stands."""
    async with gate.app.engine("memory:") as engine:
        run = await gate.started(engine)
        first = await base(engine, run)
        with pytest.raises(Conflict):
            await engine.patches.undo(run)
        done = await engine.patches.propose(run, behind("first", "extra"), base=first)
        assert (await engine.patches.undo(run, by="ada")).status == "applied"
        assert await base(engine, run) == first
        assert (await engine.patches.redo(run, by="ada")).status == "applied"
        assert await base(engine, run) == done.digest
        gate.go.set()
        await engine.runs.result(run, timeout_s=LONG_S)
        assert "extra" in gate.ran


async def test_a_repeat_under_one_key_makes_one_patch(gate: Gate) -> None:
    """A client that asks twice, because it did not hear the answer, has proposed once."""
    async with gate.app.engine("memory:") as engine:
        run = await gate.started(engine)
        digest = await base(engine, run)
        made = [
            await engine.patches.propose(run, behind("first", "extra"), base=digest, idempotency_key="k") for _ in range(2)
        ]
        assert made[0].id == made[1].id
        assert len(await engine.patches.list(run)) == 1
        gate.go.set()


# --- agents --------------------------------------------------------------------------------------------------------


def agent_app(script: Callable[[ModelRequest], ModelReply]) -> tuple[App, ScriptedModel, list[str]]:
    app, model, ran = App("t"), ScriptedModel(script), list[str]()
    app.model("m:x", model)

    @app.step
    async def work(ctx: Context, value: Any) -> str:
        ran.append(ctx.node)
        return ctx.node

    (
        app.workflow("w")
        .agent("think", "loop", model="m:x", prompt="Improve this.", tools=["propose_patch"])
        .step("work", id="last", after="think")
    )
    return app, model, ran


def propose(ops: list[dict[str, Any]]) -> ModelReply:
    call = ToolCall("c1", "propose_patch", {"operations": ops, "reason": "needed"})
    return ModelReply(content="", tool_calls=(call,), stop="tools")


def answers(request: ModelRequest) -> list[str]:
    return [message.content for message in request.messages if message.role == "tool"]


@pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
async def test_an_agent_proposes_a_person_approves_and_the_next_step_runs_on_the_new_graph(url: str) -> None:
    """The model sees the graph, calls the tool, parks; another process approves; the new node runs right after it."""

    def script(request: ModelRequest) -> ModelReply:
        return propose(behind("think", "extra")) if not answers(request) else ModelReply(content="done")

    app, model, ran = agent_app(script)
    async with app.engine(url, options=APPROVED) as engine:
        run = (await engine.runs.start("w", None)).id
        ticket = await opened(engine, run)
        (patch,) = await engine.patches.list(run, status="open")
        assert (patch.author, patch.step, patch.ticket) == ("agent", "think", ticket)
        shown = await engine.patches.get(run, patch.id)
        assert shown.difference is not None
        assert shown.difference.nodes_added == ("extra",)
        assert '"left":{"agents":4' in model.requests[0].messages[-1].content
    async with app.engine(url, options=APPROVED) as engine:
        decided = await engine.patches.decide(run, patch.id, "approve", by="grace")
        assert decided.status == "applied"
        view = await engine.runs.result(run, timeout_s=LONG_S)
        assert view.status == "completed", view.error
        assert sorted(ran) == ["extra", "last"]
        assert '"status":"applied"' in answers(model.requests[-1])[0]
        happened = [event.type for event in (await engine.history.events(run, limit=1000)).items]
        assert happened.index("patch.proposed") < happened.index("ticket.opened") < happened.index("patch.applied")
        again = await engine.runs.replay(run, Replay(mode="freeze"))
        frozen = await engine.runs.result(again.id, timeout_s=LONG_S)
        assert (frozen.status, frozen.output) == ("completed", view.output)


async def opened(engine: Engine, run: str) -> str:
    """Return the ticket a run opens, once it has."""
    stream: AsyncIterator[Any] = engine.history.stream(run)
    async for event in stream:
        if event.type == "ticket.opened":
            return event.data["ticket"]
    raise AssertionError("no ticket was opened")


async def test_an_agent_mends_a_patch_once_and_is_then_told_to_go_on() -> None:
    """The problems and an example go back to the model; what it does not get right is left to a person."""
    bad = [{"op": "add", "path": "/nodes/-", "value": node("alone")}]
    told: list[str] = []

    def script(request: ModelRequest) -> ModelReply:
        told[:] = answers(request)
        return propose(bad) if len(told) < 2 else ModelReply(content="went on")

    app, _, ran = agent_app(script)
    async with app.engine("memory:") as engine:
        view = await engine.runs.result((await engine.runs.start("w", None)).id, timeout_s=LONG_S)
        assert view.status == "completed", view.error
        assert [patch.status for patch in await engine.patches.list(view.id)] == ["rejected", "rejected"]
    assert "patch.orphan" in told[0]
    assert '"example":[{' in told[0]
    assert "once" in told[0]
    assert "go on without it" in told[1]
    assert ran == ["last"]


async def test_a_handler_proposes_from_its_own_code(gate: Gate) -> None:
    """`ctx.propose_patch` is for functions, too; what comes of it is recorded once."""

    @gate.app.step
    async def plan(ctx: Context, value: Any) -> Any:
        graph = await ctx.graph()
        assert graph["begun"] == ["plan"]
        return await ctx.propose_patch(behind("plan", "extra"), reason="found more to do")

    gate.app.workflow("p").step("plan").step("work", id="last", after="plan")
    async with gate.app.engine("memory:") as engine:
        view = await engine.runs.result((await engine.runs.start("p", None)).id, timeout_s=LONG_S)
        assert view.status == "completed", view.error
        assert set(view.output) == {"last", "extra"}
        assert sorted(gate.ran) == ["extra", "last"]
