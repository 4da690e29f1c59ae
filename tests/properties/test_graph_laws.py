"""Laws of graphs: a clean one compiles, has an order, and means the same however it is written."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tenuto.domain.graph.analysis import analyse
from tenuto.domain.graph.compile import compile_definition
from tenuto.domain.graph.digests import definition_to_json, digest_of_definition
from tenuto.domain.graph.order import longest_path, topological_order
from tenuto.domain.graph.parse import parse_definition, read_definition
from tenuto.domain.graph.plan import Plan
from tenuto.domain.graph.validate import check
from tenuto.errors import InvalidGraph

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def documents(draw: st.DrawFn, depth: int = 0, prefix: str = "n") -> dict[str, Any]:
    """Graphs of joins, maps and fallbacks with edges in all directions; about half of them are valid."""
    n = draw(st.integers(1, 6))
    names = [f"{prefix}{at}" for at in range(n)]
    nodes: list[dict[str, Any]] = []
    for at, name in enumerate(names):
        node: dict[str, Any] = {"id": name, "kind": "join"}
        if depth < 2 and draw(st.integers(0, 5)) == 0:
            body = draw(documents(depth=depth + 1, prefix=f"{name}x"))
            node = {"id": name, "kind": "map", "config": {"over": "${input.items}", "body": {
                "nodes": body["nodes"], "edges": body["edges"]}}}
        if at + 1 < n and draw(st.integers(0, 9)) == 0:
            node["on_error"] = {"fallback": names[draw(st.integers(at + 1, n - 1))]}
        if draw(st.integers(0, 5)) == 0:
            node["join"] = draw(st.sampled_from(["any", 1]))
        nodes.append(node)
    edges: list[dict[str, Any]] = []
    for a, b in draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=8, unique=True)):
        edge: dict[str, Any] = {"from": names[a], "to": names[b]}
        if a >= b:
            edge["max_iterations"] = draw(st.integers(1, 3))
            edge["when"] = "output.again"
        edges.append(edge)
    return {"name": "w", "nodes": nodes, "edges": edges}


def assert_consistent(plan: Plan) -> None:
    """Check that regions, counts and edges of a plan agree with each other."""
    assert sorted(topological_order(plan)) == sorted(plan.nodes)
    assert [edge.index for edge in plan.edges] == list(range(len(plan.edges)))
    inside: dict[int, list[str]] = {region.index: [] for region in plan.regions}
    for name, node in plan.nodes.items():
        inside[node.region].append(name)
        assert node.n_in == sum(edge.dst == name and not edge.back for edge in plan.edges)
        assert node.out == tuple(edge for edge in plan.edges if edge.src == name)
        assert (node.body is not None) == (node.node.kind == "map")
    for region in plan.regions:
        loops = sum(other.kind == "loop" and other.parent == region.index for other in plan.regions)
        loops -= region.index == 0 and region.kind == "loop"
        assert sorted(region.nodes) == sorted(inside[region.index])
        assert region.members == len(region.nodes) + loops
        assert region.members > 0 and region.entries
        assert region.index == 0 or region.parent < region.index
        if region.kind == "loop":
            assert region.entries == (region.owner,)
            assert any(edge.back and edge.dst == region.owner for edge in plan.edges)
    for edge in plan.edges:
        source, target = plan.region_path(plan.nodes[edge.src].region), plan.region_path(plan.nodes[edge.dst].region)
        entered = [region for region in target if region not in source]
        assert list(edge.leaves) == [region for region in source if region not in target]
        assert entered == ([] if edge.enters is None else [edge.enters])
        assert edge.enters is None or plan.regions[edge.enters].owner == edge.dst
        assert not edge.back or plan.regions[plan.nodes[edge.dst].region].owner == edge.dst


@given(documents())
@settings(max_examples=300, deadline=None)
def test_a_clean_graph_compiles_to_a_consistent_plan(document: dict[str, Any]) -> None:
    """No problem found means: an order exists, and regions, counts and edges agree."""
    definition = parse_definition(document)
    if not check(definition):
        plan = compile_definition(definition)
        assert_consistent(plan)
        path = longest_path(plan)
        assert all(any(e.src == a and e.dst == b for e in plan.edges) for a, b in pairwise(path))


@given(documents())
@settings(max_examples=150, deadline=None)
def test_whatever_may_be_published_can_be_analysed(document: dict[str, Any]) -> None:
    """Findings never fail, say the same each time, and stand at places that exist."""
    definition = parse_definition(document)
    if check(definition):
        return
    found = analyse(definition)
    assert found == analyse(definition)
    written = definition_to_json(definition)
    for one in found:
        spot: Any = written
        for key in one.place.split("/")[1:]:
            spot = spot[int(key) if isinstance(spot, list) else key.replace("~1", "/").replace("~0", "~")]


@given(documents())
@settings(max_examples=150, deadline=None)
def test_the_canonical_form_reads_as_itself(document: dict[str, Any]) -> None:
    """Reading, writing and reading again changes nothing."""
    definition = parse_definition(document)
    assert parse_definition(definition_to_json(definition)) == definition
    stored = msgspec.json.encode(definition)
    assert parse_definition(msgspec.json.decode(stored)) == definition
    assert msgspec.json.decode(stored, type=type(definition)) == definition


@given(documents(), st.randoms(use_true_random=False), st.dictionaries(st.text(max_size=5), JSON, max_size=4))
@settings(max_examples=100, deadline=None)
def test_the_digest_does_not_depend_on_the_order_of_keys(
    document: dict[str, Any], rnd: random.Random, metadata: dict[str, Any]
) -> None:
    """Order of lists counts, order of keys does not."""

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            keys = list(value)
            rnd.shuffle(keys)
            return {key: shuffled(value[key]) for key in keys}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    document["metadata"] = metadata
    definition = parse_definition(document)
    assert digest_of_definition(parse_definition(shuffled(document))) == digest_of_definition(definition)


@given(st.dictionaries(st.sampled_from(["name", "nodes", "edges", "budget", "graph", "metadata", "x"]), JSON))
@settings(max_examples=200, deadline=None)
def test_reading_never_fails_otherwise_than_with_problems(document: dict[str, Any]) -> None:
    """Whatever comes in, the answer is a definition or a list of problems."""
    reading = read_definition(document)
    assert reading.problems or reading.definition is not None
    if reading.definition is not None:
        check(reading.definition)


@given(st.lists(st.dictionaries(
    st.sampled_from(["id", "kind", "type", "config", "input", "retry", "on_error", "join", "agent", "depends_on", "cache",
                     "timeout_ms", "url", "body"]),
    JSON | st.sampled_from(["loop", "map", "http", "agent", "conditional", "hitl", "swarm", "function", "wait"]), max_size=6),
    max_size=4), st.lists(st.dictionaries(st.sampled_from(["from", "to", "when", "condition", "on", "max_iterations"]),
                                         JSON, max_size=4), max_size=3))
@settings(max_examples=300, deadline=None)
def test_odd_nodes_and_edges_are_problems_not_crashes(nodes: list[Any], edges: list[Any]) -> None:
    """Every field may hold anything."""
    reading = read_definition({"name": "w", "nodes": nodes, "edges": edges})
    assert reading.definition is not None
    check(reading.definition)
    try:
        parse_definition({"name": "w", "nodes": nodes, "edges": edges})
    except InvalidGraph as error:
        assert error.problems
