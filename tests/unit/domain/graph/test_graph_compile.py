"""Plans: regions, counts and edges as routing needs them."""

from __future__ import annotations

from typing import Any

import pytest

from tenuto.domain.graph.compile import compile_cached, compile_definition
from tenuto.domain.graph.diff import Change, diff_definitions
from tenuto.domain.graph.order import longest_path, topological_order
from tenuto.domain.graph.plan import Plan
from tenuto.domain.graph.validate import load_definition


def plan_of(nodes: dict[str, Any], *edges: Any) -> Plan:
    """Compile a graph of nodes by id and edges as tuples `(from, to, fields)`."""
    document = {
        "name": "w",
        "nodes": {name: {"kind": "join"} | fields for name, fields in nodes.items()},
        "edges": [{"from": edge[0], "to": edge[1], **(edge[2] if len(edge) > 2 else {})} for edge in edges],
    }
    return compile_definition(load_definition(document))


def joins(names: str) -> dict[str, Any]:
    """Return pass-through nodes, one a letter."""
    return {name: {} for name in names}


def test_a_plain_graph_has_one_region() -> None:
    """Entries, counts and plainness of a diamond."""
    plan = plan_of(joins("abcd"), ("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"))
    root = plan.regions[0]
    assert (root.kind, root.parent, root.entries, root.members, root.nodes) == ("root", 0, ("a",), 4, tuple("abcd"))
    assert [plan.nodes[name].n_in for name in "abcd"] == [0, 1, 1, 2]
    assert all(node.plain for node in plan.nodes.values())
    assert [edge.index for edge in plan.edges] == [0, 1, 2, 3]


@pytest.mark.parametrize(("join", "need"), [("all", 0), ("any", 1), (2, 2)])
def test_need_says_how_many_edges_fire_a_node(join: Any, need: int) -> None:
    """All, any and a quorum differ in one number."""
    plan = plan_of({**joins("abc"), "d": {"join": join}}, ("a", "d"), ("b", "d"), ("c", "d"))
    assert plan.nodes["d"].need == need


def test_conditions_routes_and_outcomes_are_not_plain() -> None:
    """Only success edges without a choice need no decision."""
    plan = plan_of(
        {**joins("abcdxy"), "r": {"route": "first"}},
        ("a", "x", {"when": "output.ok"}), ("b", "x", {"on": "error"}), ("c", "x"), ("d", "x"), ("d", "y"),
        ("r", "x", {"when": "output.a"}), ("r", "y", {"on": "default"}),
    )
    assert {name for name, node in plan.nodes.items() if not node.plain} == {"a", "b", "r"}


def test_a_loop_is_a_region_with_its_header_as_entry() -> None:
    """Back edges are no inputs; edges in and out know what they cross."""
    plan = plan_of(
        joins("ahbxl"),
        ("a", "h"), ("h", "b"), ("b", "h", {"when": "output.again", "max_iterations": 3}), ("b", "x"),
        ("b", "l", {"on": "limit"}),
    )
    root, loop = plan.regions
    assert (loop.kind, loop.owner, loop.parent, loop.entries, loop.members) == ("loop", "h", 0, ("h",), 2)
    assert root.members == 4
    into, inside, back, out, limit = plan.edges
    assert into.enters == 1 and inside.enters is None
    assert (back.back, back.limit, back.leaves) == (True, 3, ())
    assert out.leaves == limit.leaves == (1,)
    assert [plan.nodes[name].n_in for name in "ahbxl"] == [0, 1, 1, 1, 1]


def test_an_entry_that_heads_a_loop_is_an_entry_of_the_run() -> None:
    """A run can begin inside a loop, even in one of a single node."""
    plan = plan_of(joins("ab"), ("a", "a", {"max_iterations": 2}), ("a", "b"))
    assert plan.regions[0].entries == ("a",)
    assert plan.regions[0].members == 2
    assert plan.regions[1].nodes == ("a",)


def test_nested_loops_nest_and_may_share_their_end() -> None:
    """A back edge to the outer header leaves the inner loop."""
    plan = plan_of(
        joins("ahibx"),
        ("a", "h"), ("h", "i"), ("i", "b"), ("b", "i", {"max_iterations": 2, "when": "output.p"}),
        ("b", "h", {"max_iterations": 3, "when": "output.q"}), ("b", "x"),
    )
    outer, inner = plan.regions[1], plan.regions[2]
    assert (outer.owner, outer.parent, outer.members, outer.nodes) == ("h", 0, 2, ("h",))
    assert (inner.owner, inner.parent, inner.members) == ("i", 1, 2)
    assert plan.edges[4].leaves == (2,) and plan.edges[4].back
    assert plan.edges[5].leaves == (2, 1)
    assert plan.region_path(plan.nodes["b"].region) == [2, 1]


def test_an_edge_from_loop_to_loop_leaves_one_and_enters_the_other() -> None:
    """Siblings are disjoint regions."""
    again = {"max_iterations": 2}
    plan = plan_of(joins("ab"), ("a", "a", again), ("b", "b", again), ("a", "b"))
    assert plan.edges[2].leaves == (plan.nodes["a"].region,)
    assert plan.edges[2].enters == plan.nodes["b"].region


def test_map_bodies_are_regions_of_their_own() -> None:
    """Bodies nest; the map is a member, its body is not; one node alone gives the item's output."""
    inner = {"kind": "map", "over": "${item}", "body": {"kind": "join"}, "concurrency": 4, "on_failure": {"tolerate": 2}}
    plan = plan_of(
        {"m": {"kind": "map", "over": "${input.x}", "on_failure": "collect", "body": {
            "nodes": [{"id": "p", "kind": "join"}, {"id": "q", **inner}], "edges": [{"from": "p", "to": "q"}]}}, **joins("z")},
        ("m", "z"),
    )
    root, body, deep = plan.regions
    assert (root.members, body.members, deep.members) == (2, 2, 1)
    assert (body.kind, body.owner, body.parent, body.entries, body.single) == ("map", "m", 0, ("p",), "")
    assert (deep.owner, deep.parent, deep.single) == ("q", 1, "q_item")
    assert (plan.nodes["m"].body, plan.nodes["m"].tolerate, plan.nodes["m"].concurrency) == (1, -1, 0)
    assert (plan.nodes["q"].body, plan.nodes["q"].tolerate, plan.nodes["q"].concurrency) == (2, 2, 4)
    assert [edge.src for edge in plan.edges] == ["m", "p"]


def test_a_map_in_a_loop_and_a_loop_in_a_map() -> None:
    """Regions of both sorts nest in each other."""
    body = {"nodes": [{"id": "x", "kind": "join"}], "edges": [{"from": "x", "to": "x", "max_iterations": 2}]}
    plan = plan_of(
        {"m": {"kind": "map", "over": "${input.x}", "body": body}}, ("m", "m", {"max_iterations": 2})
    )
    assert [(region.kind, region.owner, region.parent) for region in plan.regions] == [
        ("root", "", 0), ("loop", "m", 0), ("map", "m", 1), ("loop", "x", 2),
    ]
    assert plan.regions[2].entries == ("x",) and plan.regions[2].members == 1


def test_a_fallback_node_is_an_error_edge_after_the_authors() -> None:
    """The edge counts for its target, and is not drawn twice."""
    plan = plan_of(
        {"a": {"on_error": {"fallback": "f"}}, "b": {"on_error": {"fallback": "f"}}, **joins("fz")},
        ("a", "z"), ("b", "z"), ("b", "f", {"on": "error"}),
    )
    assert [(edge.src, edge.dst, edge.on) for edge in plan.edges] == [
        ("a", "z", "success"), ("b", "z", "success"), ("b", "f", "error"), ("a", "f", "error"),
    ]
    assert plan.nodes["f"].n_in == 2
    assert not plan.nodes["a"].plain


def test_requirements_name_handlers_tools_and_predicates() -> None:
    """A worker can tell whether it can serve a plan, bodies included."""
    plan = plan_of(
        {"a": {"kind": "function", "handler": "h"}, "b": {"kind": "pipeline", "tools": ["t", {"name": "u"}]},
         "m": {"kind": "map", "over": "${input.x}", "body": {"kind": "function", "tool": "v"}}},
        ("a", "b", {"when": "py:p"}),
    )
    assert plan.handlers == {"h", "t", "u", "v"}
    assert plan.predicates == {"p"}


def test_plans_are_cached_by_digest() -> None:
    """The same digest is compiled once."""
    definition = load_definition({"name": "w", "nodes": [{"id": "a", "kind": "join"}]})
    assert compile_cached("d1", definition) is compile_cached("d1", definition)
    assert compile_cached("d1", definition).digest == "d1"


def test_orders() -> None:
    """A topological order holds all nodes, loops and bodies included; the longest path counts hops."""
    plan = plan_of(
        {**joins("abcd"), "m": {"kind": "map", "over": "${input.x}", "body": {"kind": "join"}}},
        ("a", "b"), ("b", "c"), ("c", "b", {"max_iterations": 2}), ("c", "m"), ("a", "d"),
    )
    order = topological_order(plan)
    assert sorted(order) == sorted(plan.nodes)
    assert order.index("m") < order.index("m_item")
    assert longest_path(plan) == ("a", "b", "c", "m")


def test_the_difference_of_two_definitions() -> None:
    """Nodes, edges and settings that were added, removed or changed are named."""
    before = load_definition({
        "name": "w", "nodes": {"a": {"kind": "join"}, "b": {"kind": "join"}, "c": {"kind": "join"}},
        "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "b", "max_iterations": 2}],
    })
    after = load_definition({
        "name": "w", "nodes": {"a": {"kind": "join", "join": "any"}, "b": {"kind": "join"}, "d": {"kind": "join"}},
        "edges": [{"from": "a", "to": "d"}, {"from": "b", "to": "b", "max_iterations": 5}], "budget": {"tokens": 3},
    })
    found = diff_definitions(before, after)
    assert (found.nodes_added, found.nodes_removed) == (("d",), ("c",))
    assert found.nodes_changed == {"a": (Change("join", None, "any"),)}
    assert [edge.to for edge in found.edges_added] == ["d"]
    assert [edge.to for edge in found.edges_removed] == ["b"]
    assert [edge.max_iterations for edge in found.edges_changed] == [5]
    assert found.settings == (Change("budget", None, {"tokens": 3}),)
    assert diff_definitions(after, after) == type(found)()
