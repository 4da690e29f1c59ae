"""Workflows written in Python are the same as those written in files, and are checked as a whole."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tenuto.domain.graph.compile import compile_definition
from tenuto.domain.graph.digests import digest_of_definition
from tenuto.domain.graph.model import OnError, Retry
from tenuto.domain.graph.validate import load_definition
from tenuto.errors import InvalidGraph
from tenuto.sdk.app import App


class Ask(msgspec.Struct):
    """An input."""

    topic: str


def test_the_builder_gives_the_same_definition_as_a_file() -> None:
    """Every convenience method writes what the canonical form says."""
    app = App()

    @app.step
    def fetch(topic: str) -> list[str]:
        return [topic]

    @app.step(effect="pure", retry=2)
    def score(item: str) -> int:
        return len(item)

    @app.tool
    def wire(amount: int) -> None: ...

    @app.predicate
    def big(output: Any) -> bool:
        return bool(output)

    flow = (
        app.workflow("all", description="Everything.")
        .step(fetch, input={"topic": "${input.topic}"}, retry=Retry(attempts=3))
        .map("scores", over="${nodes.fetch.output}", body=score, concurrency=4, on_failure={"tolerate": 1}, after="fetch")
        .agent("boss", "supervisor", model="m", tools=[wire], choices=["route"], after=["scores"])
        .switch("route", after="boss")
        .approval("ok", "Sure?", approvers=["ann"], timeout_s=60, on_timeout="reject")
        .edge("route", "ok", when=big)
        .http("get", "https://example.com", query={"q": "x"}, on_error=OnError(action="skip"))
        .edge("route", "get", on="default")
        .tool(wire, args={"amount": 3}, after="ok")
        .wait_signal("paid.now", timeout_s=5, after="wire")
        .sleep("nap", 2, after="paid_now")
        .transform("shape", template={"a": "${nodes.get.output}"}, after="get")
        .filter("keep", "nodes.scores.output", "item > 1", after="shape")
        .aggregate("total", "${nodes.keep.output}", "sum", after="keep")
        .join("both", "any", after=["nap", "total"])
        .subflow("sub", "other", tag="prod", budget={"tokens": 5}, after="both")
        .then(fetch, id="again", timeout_s=2)
        .edge("again", "both", when="output.more", max_iterations=3)
        .budget(tokens=100, cost_usd=0.5, per_tool={"wire": 1})
        .input_schema(Ask)
        .metadata(team="x")
    )
    written = {
        "name": "all", "description": "Everything.", "metadata": {"team": "x"},
        "input_schema": {"title": "Ask", "description": "An input.", "type": "object",
                         "properties": {"topic": {"type": "string"}}, "required": ["topic"]},
        "budget": {"tokens": 100, "cost_usd": 0.5, "per_tool": {"wire": 1}},
        "nodes": [
            {"id": "fetch", "kind": "function", "handler": "fetch", "input": {"topic": "${input.topic}"}, "retry": 3},
            {"id": "scores", "kind": "map", "over": "${nodes.fetch.output}", "concurrency": 4,
             "on_failure": {"tolerate": 1}, "body": {"kind": "function", "handler": "score", "effect": "pure",
                                                    "deterministic": True, "retry": 2}},
            {"id": "boss", "kind": "supervisor", "model": "m", "tools": ["wire"], "choices": ["route"]},
            {"id": "route", "kind": "switch", "route": "first"},
            {"id": "ok", "kind": "approval", "config": {
                "message": "Sure?", "approvers": ["ann"], "timeout_s": 60, "on_timeout": "reject"}},
            {"id": "get", "kind": "http", "url": "https://example.com", "method": "GET", "query": {"q": "x"},
             "on_error": "skip"},
            {"id": "wire", "kind": "function", "tool": "wire", "args": {"amount": 3}},
            {"id": "paid_now", "kind": "wait", "config": {"signal": "paid.now", "timeout_s": 5}},
            {"id": "nap", "kind": "wait", "seconds": 2},
            {"id": "shape", "kind": "transform", "template": {"a": "${nodes.get.output}"}},
            {"id": "keep", "kind": "filter", "over": "nodes.scores.output", "when": "item > 1"},
            {"id": "total", "kind": "aggregate", "over": "${nodes.keep.output}", "op": "sum"},
            {"id": "both", "kind": "join", "join": "any"},
            {"id": "sub", "kind": "subflow", "workflow": "other", "tag": "prod", "config": {"budget": {"tokens": 5}}},
            {"id": "again", "kind": "function", "handler": "fetch", "timeout_s": 2},
        ],
        "edges": [
            {"from": "fetch", "to": "scores"}, {"from": "scores", "to": "boss"}, {"from": "boss", "to": "route"},
            {"from": "route", "to": "ok", "when": "py:big"}, {"from": "route", "to": "get", "on": "default"},
            {"from": "ok", "to": "wire"}, {"from": "wire", "to": "paid_now"}, {"from": "paid_now", "to": "nap"},
            {"from": "get", "to": "shape"}, {"from": "shape", "to": "keep"}, {"from": "keep", "to": "total"},
            {"from": "nap", "to": "both"}, {"from": "total", "to": "both"}, {"from": "both", "to": "sub"},
            {"from": "sub", "to": "again"}, {"from": "again", "to": "both", "when": "output.more", "max_iterations": 3},
        ],
    }
    built, read = flow.build(), load_definition(written)
    assert built == read
    assert digest_of_definition(built) == digest_of_definition(read)


def test_then_chains_new_and_existing_nodes() -> None:
    """The chain goes on from wherever it last was; functions register themselves."""
    app = App()

    def one() -> int:
        return 1

    def two(one: int) -> int:
        return one

    flow = app.workflow("w").step(one).then(two, when="output > 0").join("end").then("one", on="error")
    with pytest.raises(InvalidGraph, match="unbounded cycle"):
        flow.then("end").build()
    app = App()
    flow = app.workflow("v").join("end").step(one).then(two).then("end")
    assert [(edge.from_, edge.to) for edge in flow.build().edges] == [("one", "two"), ("two", "end")]
    assert set(app.catalog().handlers) == {"one", "two"}


def test_a_body_may_be_a_graph() -> None:
    """The body of a map is built like a workflow."""
    app = App()

    def work(item: int) -> int:
        return item

    body = app.body().step(work).then("check", id="check")
    app.step(name="check")(lambda: None)
    definition = app.workflow("w").map("m", "${input.items}", body).build()
    assert [node["id"] for node in definition.nodes[0].config["body"]["nodes"]] == ["work", "check"]


def test_node_takes_any_kind_and_sorts_its_fields() -> None:
    """Fields of a node and of its config need not be told apart."""
    app = App()
    definition = (
        app.workflow("w").node("a", "http", url="https://x.test", timeout_s=3).node("b", "swarm", n=2, after="a").build()
    )
    assert definition.nodes[0].config == {"url": "https://x.test"}
    assert definition.nodes[0].timeout_s == 3
    assert definition.nodes[1].config == {"pattern": "swarm", "n": 2}


def test_an_agent_takes_settings_of_its_provider() -> None:
    """They stand in its config beside what Tenuto knows, and a node's own options are not mistaken for them."""
    definition = App().workflow("w").agent("a", options={"temperature": 0}, limits={"rounds": 2}, timeout_s=3).build()
    (node,) = definition.nodes
    assert node.config == {"pattern": "pipeline", "options": {"temperature": 0}, "limits": {"rounds": 2}}
    assert node.timeout_s == 3


def test_what_handlers_declare_becomes_part_of_the_definition() -> None:
    """A node's own word wins; a declared effect makes it cacheable, or not."""
    app = App()
    app.step(name="clean", effect="pure", timeout_s=3, retry=4)(lambda: None)
    definition = app.workflow("w").step("clean", cache="read_through", retry=2).build()
    (node,) = definition.nodes
    assert (node.effect, node.timeout_s, node.retry, node.deterministic) == ("pure", 3, Retry(attempts=2), True)


def test_registering_reports_every_problem() -> None:
    """Documents and definitions are checked against what the app knows."""
    app = App()
    document = {"name": "w", "nodes": [{"id": "a", "kind": "function", "handler": "nope"}, {"id": "a", "kind": "jon"}]}
    with pytest.raises(InvalidGraph) as caught:
        app.register(document)
    assert {problem.place for problem in caught.value.problems} == {
        "/nodes/0/config/handler", "/nodes/1/kind",
    }
    app.step(name="nope")(lambda: None)
    good = app.register({"nodes": document["nodes"][:1]}, name="w")
    assert app.catalog().workflows == (good,)
    with pytest.raises(InvalidGraph, match="already has a workflow"):
        app.register(good)
    with pytest.raises(InvalidGraph, match="already has a workflow"):
        app.workflow("w")


def test_the_catalog_names_the_workflow_of_each_problem() -> None:
    """All workflows are checked when the catalog is made."""
    app = App()
    app.workflow("a").step("nope")
    app.workflow("b").join("x").edge("x", "y")
    with pytest.raises(InvalidGraph) as caught:
        app.catalog()
    assert [problem.place for problem in caught.value.problems] == ["a:/nodes/0/config/handler", "b:/edges/0/to"]


def test_a_catalog_says_what_it_cannot_serve() -> None:
    """Handlers of a prefix serve every name that has it."""
    app = App()
    app.step(name="tool_call.*")(lambda: None)
    app.tool(name="search")(lambda q: None)
    app.model("m:x", object())
    catalog = app.catalog()
    plan = compile_definition(load_definition({
        "name": "w",
        "nodes": [{"id": "a", "kind": "function", "handler": "tool_call.x"},
                  {"id": "b", "kind": "function", "handler": "gone"},
                  {"id": "c", "kind": "pipeline", "tools": ["search", "lost"]}],
        "edges": [{"from": "a", "to": "b", "when": "py:maybe"}],
    }))
    assert catalog.missing(plan) == ("gone", "lost", "py:maybe")
    assert set(catalog.models) == {"m:x"}
