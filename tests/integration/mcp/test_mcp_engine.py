"""MCP tools in workflows: beside built-in ones, on the same path, budgets and rules; a dead server stops nobody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tenuto import App
from tenuto.errors import InvalidGraph
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.requests import StartRun
from tenuto.runtime.tools.servers import ServerInvalid
from tests.integration.mcp.server import Ledger, serving


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}/mcp"

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def ran(engine: Engine, workflow: str, given: Any = None) -> Any:
    started = await engine.runs.start(workflow, given or {})
    return await engine.runs.result(started.id, timeout_s=60)


def fault(view: Any, step: str) -> Any:
    return next(item.error for item in view.steps if item.id == step)


async def test_servers_from_packages_work_beside_a_dead_one(tmp_path: Path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    app = App("t")
    app.mcp("time", [sys.executable, "-m", "mcp_server_time", "--local-timezone", "UTC"], connect_s=90, trust_hints=True)
    app.mcp("git", [sys.executable, "-m", "mcp_server_git"], connect_s=90, tools=["git_status"])
    app.mcp("gone", ["/no/such/program"])
    (
        app.workflow("w")
        .tool("time.convert_time", id="hour", args={
            "source_timezone": "UTC", "time": "12:30", "target_timezone": "Asia/Tokyo",
        })
        .tool("git.git_status", id="status", args={"repo_path": str(tmp_path)})
    )
    app.workflow("gone").tool("gone.anything", id="a", args={})
    async with app.engine("memory:") as engine:
        view = await ran(engine, "gone")
        assert view.status == "failed"
        assert fault(view, "a").code == "tool.unavailable"
        assert "there is no program '/no/such/program'" in fault(view, "a").message
        assert fault(view, "a").retryable
        view = await ran(engine, "w")
        assert view.status == "completed"
        assert "branch" in str(view.output["status"])
        catalog = engine.context.catalog
        assert catalog is not None
        assert catalog.tool("git.git_commit") is None
        hour = catalog.tool("time.convert_time")
        assert hour is not None
        assert (hour.effect, hour.on_unknown) == ("idempotent", "retry")


async def test_a_call_to_an_mcp_server_counts_like_any_other_and_a_refused_one_never_reaches_it():
    ledger, app = Ledger(), App("t")

    @app.tool(effect="idempotent")
    async def local() -> str:
        return "here"

    async with serving(ledger) as port:
        app.mcp("ours", url=url(port))
        (
            app.workflow("w").budget(tool_calls=10, per_tool={"ours.add": 2})
            .tool(local, id="l", args={})
            .tool("ours.add", id="a", args={"a": 1, "b": 1}, after="l")
            .tool("ours.add", id="b", args={"a": 2, "b": 2}, after="a")
            .tool("ours.add", id="c", args={"a": 3, "b": 3}, after="b")
        )
        async with app.engine("memory:") as engine:
            view = await ran(engine, "w")
    assert view.status == "budget_exceeded"
    assert ledger.lines == ["add 1 1", "add 2 2"]
    assert view.budget.spent["tool_calls"] == 3


async def test_arguments_that_do_not_fit_never_reach_the_server():
    ledger, app = Ledger(), App("t")
    async with serving(ledger) as port:
        app.mcp("ours", url=url(port))
        app.workflow("w").tool("ours.add", id="a", args={"a": "one"})
        async with app.engine("memory:") as engine:
            view = await ran(engine, "w")
    assert fault(view, "a").code == "tool.arguments"
    assert "'b'" in fault(view, "a").message
    assert ledger.lines == []


async def test_a_payment_whose_answer_was_lost_is_asked_about_and_a_read_is_made_again():
    ledger, app = Ledger(), App("t")
    async with serving(ledger) as port:
        app.mcp("ours", url=url(port), timeout_s=0.3)
        app.workflow("w").tool("ours.hang", id="h", args={})
        async with app.engine("memory:") as engine:
            started = await engine.runs.start("w", {})
            await ledger.wait_for("hang was stopped")
            async for _ in engine.history.stream(started.id):
                tickets = (await engine.tickets.list(state="open")).items
                if tickets:
                    break
            assert [ticket.kind for ticket in tickets] == ["unknown_outcome"]
            assert ledger.lines.count("hang") == 1


async def test_an_effect_carries_the_key_of_its_call():
    ledger, app = Ledger(), App("t")
    async with serving(ledger) as port:
        app.mcp("ours", url=url(port), prefix="bank")
        app.workflow("w").tool("bank.pay", id="p", args={"cents": 5}).tool("bank.keyed", id="k", args={"text": "a"}, after="p")
        async with app.engine("memory:") as engine:
            view = await ran(engine, "w")
            schema = engine.context.catalog.tool("bank.keyed").schema  # type: ignore[union-attr]
    assert view.status == "completed"
    assert view.id in ledger.lines[0]
    assert view.id in str(view.output)
    assert list(schema["properties"]) == ["text"]


async def test_a_call_goes_on_in_the_trace_of_its_run():
    ledger, app = Ledger(), App("t")
    async with serving(ledger) as port:
        app.mcp("ours", url=url(port))
        app.workflow("w").tool("ours.traced", id="t", args={})
        async with app.engine("memory:") as engine:
            started = await engine.runs.submit(StartRun(workflow="w", input={}, traceparent=CALLER))
            view = await engine.runs.result(started.id, timeout_s=10)
            events = (await engine.history.events(started.id, limit=100)).items
    assert CALLER.split("-")[1] in view.output["t"]
    (called,) = (event for event in events if event.type == "call.completed")
    assert called.data["meta"] == {"tool": "ours.traced", "mcp": True}


async def test_a_name_is_checked_once_its_server_is_known():
    app = App("t")
    async with serving(Ledger()) as port:
        app.mcp("ours", url=url(port))
        app.workflow("w").tool("ours.ad", id="a", args={})
        app.catalog()  # not listed yet, so that nobody can tell
        async with app.engine("memory:") as engine:
            catalog = engine.context.catalog
            assert catalog is not None
            await catalog.toolsets[0].source.settled()
            definition = {"name": "v", "nodes": [{"id": "a", "kind": "function", "config": {"tool": "ours.ad", "args": {}}}]}
            with pytest.raises(InvalidGraph, match=r"no tool 'ours\.ad'.*'ours\.add'"):
                await engine.workflows.publish(definition)
            view = await ran(engine, "w")
            assert fault(view, "a").code == "tool.unknown"
            assert "did you mean 'ours.add'?" in fault(view, "a").message


async def test_declarations_that_cannot_work_are_refused():
    app = App("t")
    with pytest.raises(ServerInvalid, match="not both"):
        app.mcp("a", ["x"], url="http://localhost/mcp")
    with pytest.raises(ServerInvalid, match="credentials do not belong"):
        app.mcp("a", url="http://user:pass@localhost/mcp")
    app.mcp("a")
    with pytest.raises(InvalidGraph, match="already has a server"):
        app.mcp("b", ["x"], prefix="a")
    with pytest.raises(ServerInvalid, match=r"\[mcp\.a\]"):
        async with app.engine("memory:"):
            pass
