"""A graph that the built-in passes have patched comes to the same: random graphs of requests and computations, run for real."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, target
from hypothesis import strategies as st
from tests.integration.optimizers.loopback import Api, api
from tests.unit.optimizers.passes import patched, suggestions

from tenuto import App
from tenuto.adapters.optimizers.sandbox import WasmSandbox
from tenuto.wiring import Runtime, running

FUSING = ("fuse_http",)
ALL = ("fuse_http", "prune", "parallelise")


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    """Chains and diamonds of requests, computations and code; a node reads what comes before it, by name or as its input."""
    names = [f"n{at}" for at in range(draw(st.integers(2, 7)))]
    shape = draw(st.sampled_from(["chain", "layers", "any"]))
    layers = [draw(st.integers(0, 2)) for _ in names]
    nodes: list[dict[str, Any]] = []
    edges: list[dict[str, Any]] = []
    requests = draw(st.integers(2, 9))
    for at, name in enumerate(names):
        if shape == "chain":
            sources = names[at - 1 : at] if at else []
        elif shape == "layers":
            sources = [other for n, other in enumerate(names) if layers[n] == layers[at] - 1]
        else:
            sources = draw(st.lists(st.sampled_from(names[:at]), unique=True, max_size=2)) if at else []
        edges += [{"from": source, "to": name} for source in sources]
        nodes.append({"id": name, "kind": draw(st.sampled_from(["http"] * requests + ["transform", "transform", "function"]))})
    kinds = {node["id"]: node["kind"] for node in nodes}
    for node in nodes:
        _fill(draw, node, sorted(_upstream(node["id"], edges)), kinds)
    for edge in edges:
        if draw(st.integers(0, 11)) == 0 and sum(other["from"] == edge["from"] for other in edges) > 1:
            edge["when"] = draw(st.sampled_from(["true", "input.yes", "!input.yes"]))
    # As often as its retries allow, a request fails before it is answered.
    fails = {f"/{node['id']}": draw(st.integers(0, 2)) for node in nodes if "retry" in node}
    return {"name": "w", "nodes": nodes, "edges": edges, "metadata": {"fails": fails}}


def _upstream(name: str, edges: list[dict[str, Any]]) -> set[str]:
    found: set[str] = set()
    todo = [name]
    while todo:
        here = todo.pop()
        for edge in edges:
            if edge["to"] == here and edge["from"] not in found:
                found.add(edge["from"])
                todo.append(edge["from"])
    return found


def _fill(draw: st.DrawFn, node: dict[str, Any], upstream: list[str], kinds: dict[str, str]) -> None:
    kind, names = node["kind"], draw(st.lists(st.sampled_from(upstream), unique=True, max_size=2)) if upstream else []
    read = ["${nodes." + name + ".output" + (".body.n}" if kinds[name] == "http" else ".n}") for name in names]
    if kind == "http":
        path = "/".join(["", node["id"], *read])
        node["config"] = {"url": "BASE" + path, "query": {"q": draw(st.integers(0, 1))}}
        if draw(st.integers(0, 3)) == 0:
            node["effect"] = "pure"
        if draw(st.integers(0, 3)) == 0:
            node["timeout_s"] = 10
        if draw(st.integers(0, 3)) == 0:
            node["retry"] = {"attempts": 3, "backoff_s": 0.001}
    elif kind == "transform":
        node["config"] = {"template": {"n": node["id"], "read": read}}
    else:
        node["config"] = {"handler": "echo"}
        if draw(st.booleans()):
            node["input"] = {"read": read}


def settled(value: Any) -> Any:
    """Return an output without what no two runs have in common."""
    if isinstance(value, dict):
        return {key: settled(inner) for key, inner in value.items() if key not in ("duration_ms", "date")}
    return [settled(inner) for inner in value] if isinstance(value, list) else value


class Bench:
    """An engine, an API and a sandbox that live as long as the test."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.sandbox = WasmSandbox()
        self.server: Api
        self.runtime: Runtime

    async def open(self) -> None:
        app = App("t")

        @app.step
        async def echo(value: Any) -> Any:
            return {"n": "echo", "given": value}

        self.server = await self.stack.enter_async_context(api())
        self.runtime = await self.stack.enter_async_context(running("memory:", app.catalog(), http_allow=["127.0.0.1"]))

    async def close(self) -> None:
        await self.stack.aclose()
        self.sandbox.close()

    async def outcome(self, document: dict[str, Any]) -> tuple[str, Any, Counter[str], int]:
        """Return how a run ends, what it comes to, what it asked for, and how many steps it took."""
        engine = self.runtime.engine
        self.server.asked.clear()
        self.server.failing = Counter(document["metadata"]["fails"])
        await engine.workflows.publish(document)
        run = await engine.runs.start("w", {"yes": True})
        view = await engine.runs.result(run.id, timeout_s=15)
        events = (await engine.history.events(run.id, limit=1000)).items
        return view.status, settled(view.output), self.server.count(), sum(event.type == "step.completed" for event in events)

    async def compared(self, document: dict[str, Any], passes: tuple[str, ...]) -> None:
        """Apply everything the passes suggest, each pass until it has nothing more to say, and compare the runs."""
        fields = {"url": lambda url: url.replace("BASE", self.server.url)}
        for node in document["nodes"]:
            node["config"] = {key: fields.get(key, lambda same: same)(value) for key, value in node["config"].items()}
        after, applied = document, 0
        for name in passes:
            for _ in range(len(document["nodes"])):
                found = await suggestions(self.sandbox, name, after)
                if not found:
                    break
                after, applied = patched(after, found[0]), applied + 1
            assert await suggestions(self.sandbox, name, after) == ()
        target(float(applied))
        if not applied:
            return
        was, now = await self.outcome(document), await self.outcome(after)
        assert was[0] == now[0]
        if was[0] != "completed":  # a node reads what a condition has left out
            return
        assert was[1] == now[1]
        if passes == FUSING:
            assert now[2] == was[2]
            taken = not any("when" in edge for edge in document["edges"])
            assert now[3] < was[3] if taken else now[3] <= was[3]
        else:  # a pure request whose answer nobody reads is not made any more
            assert now[2] <= was[2]
            assert now[3] <= was[3]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    made.runner.run(made.open())
    yield made
    made.runner.run(made.close())
    made.runner.close()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(document=graphs())
def test_fused_requests_come_to_the_same_with_the_same_requests_in_fewer_steps(bench: Bench, document: dict[str, Any]) -> None:
    bench.runner.run(bench.compared(document, FUSING))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(document=graphs())
def test_all_passes_one_after_the_other_change_no_output_and_ask_for_nothing_more(bench: Bench, document: dict[str, Any]) -> None:
    bench.runner.run(bench.compared(document, ALL))
