"""Reading definitions: one canonical form whatever the spelling, every fault at once with its place."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest

from tenuto.domain.graph.digests import digest_of_definition
from tenuto.domain.graph.model import Edge, Fallback, Node, OnError, Retry
from tenuto.domain.graph.parse import parse_definition
from tenuto.errors import InvalidGraph


def faults(document: Any) -> dict[str, str]:
    """Return message and hint of each problem by place."""
    with pytest.raises(InvalidGraph) as caught:
        parse_definition(document)
    return {problem.place: f"{problem.message} {problem.hint}" for problem in caught.value.problems}


def one_node(**fields: Any) -> Node:
    """Return a definition's only node as read."""
    return parse_definition({"name": "w", "nodes": [{"id": "a", **fields}]}).nodes[0]


def test_the_references_spellings_give_the_same_digest_as_the_canonical_form() -> None:
    """Aliases of fields, kinds and units leave no trace."""
    canonical = parse_definition({
        "name": "w",
        "nodes": [
            {"id": "a", "kind": "function", "config": {"handler": "h"}, "timeout_s": 0.5,
             "retry": {"attempts": 3, "backoff_s": 0.1, "multiplier": 3}},
            {"id": "b", "kind": "approval", "config": {"message": "?", "timeout_s": 7200, "on_timeout": "approve"}},
        ],
        "edges": [{"from": "a", "to": "b", "when": "output.x > 1"}],
        "budget": {"tool_calls": 3, "wall_clock_s": 5, "cost_usd_micros": 1_500_000, "per_tool": {"s": 1}},
    })
    spelled = parse_definition({
        "name": "w",
        "nodes": [
            {"type": "function", "id": "a", "handler": "h", "timeout_ms": 500,
             "retry": {"max_attempts": 3, "backoff_ms": 100, "backoff_multiplier": 3}},
            {"id": "b", "type": "hitl",
             "config": {"message": "?", "timeout_hours": 2,
                        "escalation_policy": {"auto_approve_after_timeout": True}}},
        ],
        "edges": [{"to": "b", "from": "a", "condition": {"type": "cel", "expression": "output.x > 1"}}],
        "budgets": {"tools": 3, "wallClockSec": 5, "cost_usd": 1.5, "perTool": {"s": 1}},
    })
    assert digest_of_definition(spelled) == digest_of_definition(canonical)


@pytest.mark.parametrize("written", ["pipeline", "supervisor", "swarm"])
def test_agent_patterns_are_kinds(written: str) -> None:
    """A pattern may stand where the kind does, or in the field `agent`."""
    for fields in ({"kind": written}, {"agent": written}):
        node = one_node(**fields, llm="m", tools=["t"])
        assert (node.kind, node.config) == ("agent", {"pattern": written, "model": "m", "tools": ["t"]})


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("skip", OnError(action="skip")),
        ({"fallback": {"value": None}}, OnError(action="fallback", fallback=Fallback(value=None))),
        ({"fallback": "b"}, OnError(action="fallback", fallback=Fallback(node="b"))),
    ],
)
def test_on_error_spellings(written: Any, read: OnError) -> None:
    """A policy is a word or an object; a null fallback value is a value."""
    assert one_node(kind="join", on_error=written).on_error == read


@pytest.mark.parametrize(("written", "read"), [("any", "any"), ({"quorum": 2}, 2), (3, 3)])
def test_join_spellings(written: Any, read: Any) -> None:
    """A quorum is a number, alone or named."""
    assert one_node(kind="join", join=written).join == read


def test_a_number_is_a_retry_policy() -> None:
    """`retry: 3` means three attempts."""
    assert one_node(kind="join", retry=3).retry == Retry(attempts=3)


def test_name_and_graph_may_be_wrapped() -> None:
    """The name may be in the metadata, the graph in an object of its own, nodes in a mapping."""
    definition = parse_definition({
        "metadata": {"name": "w", "tags": ["x"]},
        "graph": {"nodes": {"a": {"kind": "join"}, "b": {"kind": "join", "dependsOn": ["a"]}}},
    })
    assert definition.name == "w"
    assert [node.id for node in definition.nodes] == ["a", "b"]
    assert definition.edges == (Edge(from_="a", to="b"),)


def test_the_yaml_key_on_and_dates_are_read_as_text() -> None:
    """YAML 1.1 turns `on` into true and dates into objects; neither reaches the definition."""
    definition = parse_definition({
        "name": "w",
        "nodes": [{"id": "a", "kind": "join", "input": {"day": datetime.date(2026, 1, 31)}}],
        "edges": [{"from": "a", "to": "a", True: "error"}],
    })
    assert definition.nodes[0].input == {"day": "2026-01-31"}
    assert definition.edges[0].on == "error"


def test_a_loop_node_becomes_edges() -> None:
    """Back edge, way out and way at the limit are edges; the node only routes."""
    definition = parse_definition({
        "name": "w",
        "nodes": [
            {"id": "a", "kind": "join"},
            {"id": "l", "type": "loop", "config": {
                "max_iterations": 3, "loop_back_to": "a", "condition": "output.again", "break_path": ["done"],
                "timeout_path": ["late"]}},
            {"id": "done", "kind": "join"},
            {"id": "late", "kind": "join"},
        ],
        "edges": [{"from": "a", "to": "l"}, {"from": "l", "to": "done"}],
    })
    assert definition.nodes[1] == Node(id="l", kind="switch", input="${nodes.a.output}")
    assert definition.edges == (
        Edge(from_="a", to="l"),
        Edge(from_="l", to="a", when="output.again", max_iterations=3),
        Edge(from_="l", to="done"),
        Edge(from_="l", to="late", on="limit"),
    )


def test_a_loop_without_condition_leaves_by_its_break_path_at_the_limit() -> None:
    """Such a loop just repeats, so the limit is its ordinary end."""
    definition = parse_definition({
        "name": "w",
        "nodes": [
            {"id": "l", "type": "loop", "config": {"max_iterations": 3, "loop_back_to": "l", "break_path": "b"}},
            {"id": "b", "kind": "join"},
        ],
    })
    assert Edge(from_="l", to="b", on="limit") in definition.edges


def test_the_faults_of_a_loop_node_are_in_its_config() -> None:
    """Each setting is judged where it is written."""
    config = {"max_iterations": 0, "loop_back_to": "b", "break_path": ["c"], "timeoutpath": []}
    found = faults({"name": "w", "nodes": [{"id": "bb", "type": "loop", "config": config}]})
    place = "/nodes/0/config"
    assert set(found) == {
        f"{place}/max_iterations", f"{place}/loop_back_to", f"{place}/break_path/0", f"{place}/timeoutpath",
    }
    assert "did you mean 'timeout_path'?" in found[f"{place}/timeoutpath"]


def test_the_unconditional_edge_of_a_conditional_is_its_default() -> None:
    """A conditional takes the first true edge, and reads its predecessor's output."""
    definition = parse_definition({
        "name": "w",
        "nodes": [{"id": name, "kind": kind} for name, kind in
                  [("p", "join"), ("c", "conditional"), ("x", "join"), ("y", "join")]],
        "edges": [{"from": "p", "to": "c"}, {"from": "c", "to": "x"},
                  {"from": "c", "to": "y", "condition": "$.score > 1"}],
    })
    assert (definition.nodes[1].route, definition.nodes[1].input) == ("first", "${nodes.p.output}")
    assert [edge.on for edge in definition.edges] == ["success", "default", "success"]


def test_a_map_body_is_canonical_inside() -> None:
    """A single node becomes a graph with an id of its own; aliases inside are read too."""
    node = one_node(kind="map", over="${input.x}", body={"type": "function", "handler": "h", "timeout_ms": 10})
    inner = {"id": "a_item", "kind": "function", "config": {"handler": "h"}, "timeout_s": 0.01}
    assert node.config["body"] == {"nodes": [inner]}


def test_every_fault_is_reported_with_its_place_and_the_nearest_match() -> None:
    """Types, unknown names and missing fields in nodes, bodies and edges come together."""
    found = faults({
        "nodess": 1,
        "nodes": [
            {"id": "a", "kind": "agnt", "retri": 2},
            {"id": 1, "kind": "join", "join": "al", "retry": {"attempts": "x"}, "timeout_s": "1"},
            4,
            {"id": "m", "kind": "map", "config": {"body": {"nodes": [{"kind": "join"}], "egdes": []}}},
        ],
        "edges": [{"from": "a"}, {"from": "a", "to": "b", "on": "sucess", "max_iterations": "x"}, 7],
        "budget": {"token": 1},
        "input_schema": [],
    })
    assert set(found) == {
        "", "/nodess", "/nodes/0/kind", "/nodes/0/retri", "/nodes/1/id", "/nodes/1/join",
        "/nodes/1/retry/attempts", "/nodes/1/timeout_s", "/nodes/2", "/nodes/3/config/body/egdes",
        "/nodes/3/config/body/nodes/0", "/edges/0", "/edges/1/on", "/edges/1/max_iterations", "/edges/2",
        "/budget/token", "/input_schema",
    }
    assert "did you mean 'agent'?" in found["/nodes/0/kind"]
    assert "did you mean 'success'?" in found["/edges/1/on"]
    assert "allowed: 'all', 'any', a whole number" in found["/nodes/1/join"]


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ([], ""),
        ({"name": "w"}, ""),
        ({"name": 3, "nodes": []}, "/name"),
        ({"name": "w", "nodes": "a"}, "/nodes"),
        ({"name": "w", "nodes": [], "edges": {}}, "/edges"),
        ({"name": "w", "nodes": [], "metadata": {"x": float("nan")}}, "/metadata/x"),
        ({"name": "w", "nodes": [], "metadata": {"x": object()}}, "/metadata/x"),
        ({"name": "w", "nodes": [], "metadata": {"a~b/c": {1: 2}}}, "/metadata/a~0b~1c"),
        ({"name": "w", "nodes": [{"id": "a", "kind": "join", "type": "join"}]}, "/nodes/0/type"),
        ({"name": "w", "nodes": [{"id": "a", "kind": "http", "url": "u", "config": {"url": "v"}}]}, "/nodes/0/url"),
        ({"name": "w", "nodes": [{"id": "a", "kind": "join", "timeout_ms": "1s"}]}, "/nodes/0/timeout_ms"),
        ({"name": "w", "nodes": [{"id": "a", "kind": "join", "depends_on": "b"}]}, "/nodes/0/depends_on"),
        ({"name": "w", "nodes": [{"id": "a", "kind": "join", "depends_on": ["b"]}]}, "/nodes/0/depends_on/0"),
    ],
)
def test_each_fault_names_its_place(document: Any, place: str) -> None:
    """Places are JSON pointers into what was written."""
    assert place in faults(document)


def test_deep_nesting_is_refused() -> None:
    """A hostile document cannot exhaust the stack."""
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert any("nested deeper" in message for message in faults({"name": "w", "nodes": [], "metadata": {"x": deep}}).values())


def test_the_callers_document_is_neither_changed_nor_shared() -> None:
    """A definition stays what it was, whatever happens to the document."""
    document: dict[str, Any] = {"name": "w", "nodes": [{"id": "a", "type": "function", "config": {"handler": "h"}}]}
    before = msgspec.json.encode(document)
    definition = parse_definition(document)
    assert msgspec.json.encode(document) == before
    document["nodes"][0]["config"]["handler"] = "other"
    assert definition.nodes[0].config == {"handler": "h"}
