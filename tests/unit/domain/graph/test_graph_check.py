"""Checking definitions: each rule finds its fault, names its place, and leaves good graphs alone."""

from __future__ import annotations

from typing import Any

import pytest

from tenuto.domain.graph.validate import Known, check, load_definition, require_valid
from tenuto.errors import InvalidGraph, Problem

Edges = list[tuple[Any, ...]]


def problems(nodes: Any, edges: Edges | None = None, *, known: Known | None = None, **top: Any) -> list[Problem]:
    """Return the problems of a graph of nodes by id (of kind `join` by default) and edges as tuples."""
    listed = [{"id": name, "kind": "join"} | fields for name, fields in nodes.items()]
    drawn = [{"from": edge[0], "to": edge[1], **(edge[2] if len(edge) > 2 else {})} for edge in edges or []]
    try:
        load_definition({"name": "w", "nodes": listed, "edges": drawn} | top, known)
    except InvalidGraph as error:
        return list(error.problems)
    return []


def places(nodes: Any, edges: Edges | None = None, *, known: Known | None = None, **top: Any) -> dict[str, str]:
    """Return the code of each problem by place."""
    return {problem.place: problem.code for problem in problems(nodes, edges, known=known, **top)}


def joins(names: str) -> dict[str, Any]:
    """Return pass-through nodes, one a letter."""
    return {name: {} for name in names}


def fn(**fields: Any) -> dict[str, Any]:
    """Return a function node."""
    return {"kind": "function", "config": {"handler": "h"}, **fields}


# --- structure -------------------------------------------------------------------------------------------------


def test_everything_wrong_with_a_graph_is_reported_at_once() -> None:
    """One registration shows faults of reading, structure, conditions and names together."""
    with pytest.raises(InvalidGraph) as caught:
        load_definition({
            "name": "w",
            "nodes": [
                {"id": "a", "kind": "function", "handler": "fetsh"}, {"id": "b", "kind": "join"},
                {"id": "b", "kind": "join"}, {"id": "c", "kind": "agnt"},
                {"id": "d", "kind": "pipeline", "model": "nope", "tools": ["serch"]},
            ],
            "edges": [
                {"from": "a", "to": "x"}, {"from": "a"}, {"from": "a", "to": "b", "when": "output.x >"},
                {"from": "c", "to": "d"}, {"from": "c", "to": "d"},
            ],
        }, Known(handlers=frozenset({"fetch"}), tools=frozenset({"search"}), models=frozenset({"m"})))
    found = {problem.place: problem for problem in caught.value.problems}
    assert set(found) == {
        "/nodes/0/config/handler", "/nodes/2/id", "/nodes/3/kind", "/nodes/4/config/model", "/nodes/4/config/tools/0",
        "/edges/0/to", "/edges/1", "/edges/2/when", "/edges/4",
    }
    assert found["/nodes/0/config/handler"].hint == "did you mean 'fetch'?"
    assert "9 problems" in str(caught.value)


def test_a_cycle_without_bound_shows_its_path() -> None:
    """The path begins and ends with the same node; the closing edge is the place."""
    found = problems(joins("abcd"), [("a", "b"), ("b", "c"), ("c", "b"), ("d", "d")])
    cycles = {problem.place: problem.message for problem in found if problem.code == "graph.cycle"}
    assert cycles == {"/edges/2": "an unbounded cycle: b -> c -> b", "/edges/3": "an unbounded cycle: d -> d"}


def test_a_cycle_through_a_fallback_is_found() -> None:
    """Fallback nodes are edges too."""
    nodes = {"a": {}, "b": {"on_error": {"fallback": "a"}}}
    assert "graph.cycle" in {problem.code for problem in problems(nodes, [("a", "b")])}


def test_a_graph_needs_an_entry_and_reachable_nodes() -> None:
    """A ring has no entry; what only a ring leads to is unreachable."""
    found = places(joins("ab"), [("a", "b"), ("b", "a")])
    assert found["/nodes"] == "graph.no_entry"
    assert found["/nodes/0"] == found["/nodes/1"] == "graph.unreachable"
    assert places({}) == {"/nodes": "graph.empty"}


@pytest.mark.parametrize("name", ["", "a b", "a.b", "~", "-a", "ä", "a" * 129])
def test_ids_are_safe_in_urls_and_scopes(name: str) -> None:
    """Letters, digits, underscore and dash, within a bound."""
    assert places({name: {}}) == {"/nodes/0/id": "graph.id"}


@pytest.mark.parametrize("name", ["", "a b", "/a", "a" * 201])
def test_a_workflow_has_a_name(name: str) -> None:
    """Names are as safe as ids, with dots and slashes."""
    assert "/name" in places(joins("a"), name=name)


def test_ids_are_unique_over_map_bodies_and_edges_stay_inside() -> None:
    """A body is a graph of its own, but shares the names."""
    body = {"nodes": [{"id": "a", "kind": "join"}, {"id": "b", "kind": "join"}], "edges": [{"from": "b", "to": "z"}]}
    found = places({"a": {}, "m": {"kind": "map", "over": "${input.x}", "body": body}, "z": {}}, [("b", "z")])
    assert found == {
        "/nodes/1/config/body/nodes/0/id": "graph.duplicate_id",
        "/nodes/1/config/body/edges/0/to": "graph.crossing",
        "/edges/0/from": "graph.crossing",
    }


def test_places_are_those_of_the_document_as_written() -> None:
    """A wrapped graph, named nodes and unreadable edges do not shift places."""
    with pytest.raises(InvalidGraph) as caught:
        load_definition({
            "name": "w",
            "graph": {"nodes": {"a": {"kind": "join", "join": 7}, "b": {"kind": "join", "depends_on": ["a"]}},
                      "edges": [{"from": 1}, {"from": "a", "to": "b", "on": "rejected"}]},
        })
    assert {"/graph/nodes/a/join", "/graph/edges/1/on"} <= {problem.place for problem in caught.value.problems}


# --- loops -----------------------------------------------------------------------------------------------------


def test_good_loops_pass() -> None:
    """Nested, sibling, self and shared-header loops are all right."""
    again = {"max_iterations": 2}
    assert not problems(
        joins("ahibxs"),
        [("a", "h"), ("h", "i"), ("i", "b"), ("b", "i", again), ("b", "h", again), ("i", "h", again), ("b", "x"),
         ("x", "s"), ("s", "s", again), ("i", "x", {"on": "limit"})],
    )


def test_a_loop_is_entered_at_its_header_only() -> None:
    """An edge, or a fallback, into the middle is refused."""
    nodes = {**joins("zabc"), "y": {"on_error": {"fallback": "c"}}}
    found = places(nodes, [("a", "b"), ("b", "c"), ("c", "a", {"max_iterations": 2}), ("z", "b")])
    assert found == {"/edges/3": "graph.loop_entry", "/nodes/4": "graph.loop_entry"}


def test_max_iterations_is_for_back_edges() -> None:
    """The bound is at least one, and on an edge that closes a loop."""
    found = places(joins("ab"), [("a", "a", {"max_iterations": 0}), ("a", "b", {"max_iterations": 2})])
    assert found == {"/edges/0/max_iterations": "graph.loop_limit", "/edges/1/max_iterations": "graph.not_a_loop"}


def test_limit_edges_lead_out_of_a_loop() -> None:
    """They have no condition, begin inside, and end outside."""
    again = {"max_iterations": 2}
    limit = {"on": "limit"}
    found = places(
        joins("abcd"),
        [("a", "b"), ("b", "a", again), ("a", "b", limit), ("b", "c", {"on": "limit", "when": "output.x"}),
         ("c", "d", limit), ("b", "d", {**limit, **again})],
    )
    assert found == {
        "/edges/2/to": "graph.limit_edge", "/edges/3/when": "graph.default_edge", "/edges/4/on": "graph.limit_edge",
        "/edges/5/max_iterations": "graph.limit_edge",
    }


# --- edges -----------------------------------------------------------------------------------------------------


def test_conditions_compile_and_predicates_exist() -> None:
    """A type error, an undeclared name and an unknown predicate are found before any run."""
    found = problems(
        joins("ab"),
        [("a", "b", {"when": "1 + 'a' == 2"}), ("a", "b", {"when": "foo"}), ("a", "b", {"when": "py:bigg"}),
         ("a", "b", {"when": "py:big"}), ("a", "b", {"when": "output.n"}), ("a", "b", {"when": "'text'"})],
        known=Known(predicates=frozenset({"big"})),
    )
    assert [(problem.place, problem.code) for problem in found] == [
        ("/edges/0/when", "graph.condition"), ("/edges/1/when", "graph.condition"),
        ("/edges/2/when", "graph.unknown_predicate"), ("/edges/5/when", "graph.condition"),
    ]
    assert found[2].hint == "did you mean 'big'?"


def test_a_condition_names_nodes_that_can_have_run() -> None:
    """The source itself may be named, later nodes and unknown ones may not."""
    found = places(
        joins("abc"),
        [("a", "b", {"when": "nodes.a.output.x && nodes.q.output.x"}), ("b", "c", {"when": "nodes.c.output.x"})],
    )
    assert found == {"/edges/0/when": "graph.unknown_node", "/edges/1/when": "graph.not_upstream"}


def test_rejected_edges_leave_approvals() -> None:
    """Nothing else can be rejected."""
    nodes = {"a": {}, "p": {"kind": "approval"}, "b": {}}
    assert not problems(nodes, [("p", "b", {"on": "rejected"})])
    assert places(nodes, [("a", "b", {"on": "rejected"})]) == {"/edges/0/on": "graph.rejected_edge"}


def test_default_edges_need_something_to_be_the_default_of() -> None:
    """At most one, without a condition, beside conditions."""
    default, when = {"on": "default"}, {"when": "output.x"}
    assert not problems(joins("abc"), [("a", "b", when), ("a", "c", default)])
    assert not problems({"a": {"route": "first"}, **joins("b")}, [("a", "b", default)])
    assert places(joins("abc"), [("a", "b", default), ("a", "c")]) == {"/edges/0/on": "graph.default_edge"}
    assert places(joins("abcd"), [("a", "b", when), ("a", "c", default), ("a", "d", default)]) == {
        "/edges/2/on": "graph.default_edge"
    }
    assert places(joins("abc"), [("a", "b", when), ("a", "c", default | when)]) == {
        "/edges/1/when": "graph.default_edge"
    }


def test_edges_after_an_unconditional_one_of_a_switch_are_dead() -> None:
    """`route: first` never looks past it."""
    nodes = {"a": {"kind": "switch", "route": "first"}, **joins("bcd")}
    found = places(nodes, [("a", "b"), ("a", "c", {"when": "output.x"}), ("a", "d", {"on": "default"})])
    assert found == {"/edges/1": "graph.shadowed_edge", "/edges/2": "graph.shadowed_edge"}


@pytest.mark.parametrize("policy", ["skip", "continue", {"fallback": {"value": 1}}])
def test_error_edges_contradict_policies_that_handle_the_failure(policy: Any) -> None:
    """What is never taken is an error of the author."""
    found = places({"a": {"on_error": policy}, "b": {}}, [("a", "b", {"on": "error"})])
    assert found == {"/edges/0/on": "graph.error_edge"}


# --- nodes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"join": 0}, "/join"),
        ({"join": 2}, "/join"),
        ({"cancel_losers": True}, "/cancel_losers"),
        ({"timeout_s": 0}, "/timeout_s"),
        ({"heartbeat_s": -1}, "/heartbeat_s"),
        ({"retry": 0}, "/retry/attempts"),
        ({"retry": {"backoff_s": -1}}, "/retry/backoff_s"),
        ({"retry": {"multiplier": 0.5}}, "/retry/multiplier"),
        ({"retry": {"jitter": 2}}, "/retry/jitter"),
        ({"retry": {"max_backoff_s": -1}}, "/retry/max_backoff_s"),
        ({"on_error": "fallback"}, "/on_error"),
        ({"on_error": {"fallback": {"node": "b", "value": 1}}}, "/on_error"),
        ({"on_error": {"action": "skip", "fallback": {"value": 1}}}, "/on_error/fallback"),
        ({"on_error": {"fallback": "nope"}}, "/on_error/fallback/node"),
        ({"on_error": {"fallback": "a"}}, "/on_error/fallback/node"),
        ({"effect": "pure"}, "/effect"),
        ({"isolation": "process"}, "/isolation"),
        ({"on_unknown": "hok"}, "/on_unknown"),
        ({"cache": "read_through"}, "/cache"),
        ({"output_schema": {"type": "objekt"}}, "/output_schema/type"),
    ],
)
def test_fields_of_a_node_have_their_ranges(fields: dict[str, Any], place: str) -> None:
    """Each bad value is found in its place."""
    known = Known(hooks=frozenset({"hook"}))
    assert f"/nodes/0{place}" in places({"a": fields, "b": {}}, [("a", "b")], known=known)


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"effect": "pure"}, True),
        ({"effect": "idempotent"}, False),
        ({"effect": "idempotent", "deterministic": True}, True),
        ({"effect": "effect", "deterministic": True}, False),
        ({}, False),
        ({"config": {"handler": "sure"}}, True),
        ({"config": {"handler": "clean"}}, True),
        ({"config": {"tool": "mail"}}, False),
    ],
)
def test_only_what_always_gives_the_same_result_is_cached(fields: dict[str, Any], allowed: bool) -> None:
    """The node's own word counts, else what its handler declares; the reason is given."""
    known = Known(effects={"clean": "pure"}, deterministic=frozenset({"sure"}))
    found = problems({"a": fn(cache="read_through") | fields}, known=known)
    assert not found if allowed else "cannot be cached: " in found[0].message


def test_cache_policies() -> None:
    """A policy is one of four words, alone or with its settings; off is always allowed."""
    assert not problems({"a": fn(cache="off")})
    assert not problems({"a": fn(cache={"policy": "read_only", "ttl_s": 3}, effect="pure")})
    found = problems({"a": fn(cache={"polcy": "x"}, effect="pure"), "b": fn(cache="readonly", effect="pure")})
    assert [problem.hint for problem in found] == ["did you mean 'policy'?", "did you mean 'read_only'?"]


@pytest.mark.parametrize(
    ("kind", "config", "place"),
    [
        ("function", {}, ""),
        ("function", {"handler": "a", "tool": "b"}, ""),
        ("function", {"handler": "h", "args": 1}, "/args"),
        ("function", {"handler": 1}, "/handler"),
        ("agent", {}, ""),
        ("agent", {"pattern": "swarn"}, "/pattern"),
        ("agent", {"pattern": "swarm", "n": 0}, "/n"),
        ("agent", {"pattern": "supervisor", "choices": ["z"]}, "/choices/0"),
        ("agent", {"pattern": "pipeline", "schema": {"typ": "object"}}, "/schema/typ"),
        ("http", {}, ""),
        ("http", {"url": "ftp://x"}, "/url"),
        ("http", {"url": "https://x", "method": "GTE"}, "/method"),
        ("transform", {}, ""),
        ("transform", {"value": "1", "template": 1}, ""),
        ("transform", {"value": "foo"}, "/value"),
        ("aggregate", {"over": "${input.x}", "op": "summ"}, "/op"),
        ("aggregate", {"over": "bad(", "op": "sum"}, "/over"),
        ("filter", {"over": "${input.x}"}, ""),
        ("filter", {"over": "${input.x}", "when": "item >"}, "/when"),
        ("switch", {"x": 1}, "/x"),
        ("map", {"over": "${input.x}"}, ""),
        ("map", {"over": "${input.x}", "body": {"nodes": []}}, "/body/nodes"),
        ("map", {"over": "${input.x}", "body": {"kind": "join"}, "concurrency": -1}, "/concurrency"),
        ("map", {"over": "${input.x}", "body": {"kind": "join"}, "on_failure": "colect"}, "/on_failure"),
        ("map", {"over": "${input.x}", "body": {"kind": "join"}, "on_failure": {"tolerate": -1}}, "/on_failure"),
        ("approval", {"on_timeout": "approve"}, "/on_timeout"),
        ("approval", {"timeout_s": 0}, "/timeout_s"),
        ("wait", {}, ""),
        ("wait", {"signal": "a", "seconds": 1}, ""),
        ("wait", {"seconds": -1}, "/seconds"),
        ("wait", {"seconds": 1, "timeout_s": 1}, "/timeout_s"),
        ("subflow", {}, ""),
        ("subflow", {"workflow": "x", "tag": "a", "version": "b"}, "/tag"),
        ("subflow", {"workflow": "x", "budget": {"tokens": -1}}, "/budget/tokens"),
        ("subflow", {"workflow": "x", "budget": {"token": 1}}, "/budget/token"),
        ("subflow", {"workflow": "zz"}, "/workflow"),
    ],
)
def test_every_kind_checks_its_config(kind: str, config: dict[str, Any], place: str) -> None:
    """Missing, contradictory, mistyped and unknown settings are found in their place."""
    known = Known(workflows=frozenset({"x"}))
    found = places({"a": {"kind": kind, "config": config}, "b": {}}, [("a", "b")], known=known)
    assert list(found) == [f"/nodes/0/config{place}"]


GOOD_CONFIGS: list[tuple[str, dict[str, Any]]] = [
    ("function", {"tool": "t", "args": {"q": "${input.q}"}}),
    ("agent", {"pattern": "supervisor", "choices": ["b"], "prompt": "${input.q}", "tools": ["t"], "max_rounds": 3}),
    ("http", {"url": "${input.url}", "method": "post", "headers": {"a": "b"}, "expect_status": [200, 201]}),
    ("transform", {"value": "input.x + 1"}),
    ("transform", {"template": {"a": ["${input.x}"]}}),
    ("aggregate", {"over": "input.items", "op": "sum", "field": "n"}),
    ("filter", {"when": "item.n > index"}),
    ("map", {"over": "${input.x}", "body": {"kind": "join"}, "on_failure": {"tolerate": 3}}),
    ("approval", {"message": "ok ${input.x}?", "timeout_s": 5, "on_timeout": "reject"}),
    ("wait", {"signal": "s", "timeout_s": 5}),
    ("wait", {"until": "${input.when}"}),
    ("subflow", {"workflow": "x", "tag": "prod", "budget": {"tokens": 1}}),
]


@pytest.mark.parametrize(("kind", "config"), GOOD_CONFIGS)
def test_every_kind_has_good_configs(kind: str, config: dict[str, Any]) -> None:
    """What the language offers is accepted."""
    assert not problems({"a": {"kind": kind, "config": config}, "b": {}}, [("a", "b")])


def test_a_name_may_stand_for_a_prefix() -> None:
    """`tool_call.*` knows every handler that begins so."""
    known = Known(handlers=frozenset({"tool_call.*"}))
    nodes = {"a": fn(config={"handler": "tool_call.x"}), "b": fn(config={"handler": "llm_call.x"})}
    assert places(nodes, known=known) == {"/nodes/1/config/handler": "graph.unknown_handler"}


def test_budgets_and_input_schemas_are_checked() -> None:
    """Caps are not negative; schemas use known keywords."""
    found = places(joins("a"), budget={"tokens": -1, "per_tool": {"t": -1}}, input_schema={"type": "obj"})
    assert set(found) == {"/budget/tokens", "/budget/per_tool/t", "/input_schema/type"}


# --- data ------------------------------------------------------------------------------------------------------


def test_references_name_nodes_that_can_run_before() -> None:
    """Anything upstream counts, also across loops and around maps; a map's inside is seen from after it."""
    nodes = {
        **joins("ahb"),
        "m": {"kind": "map", "over": "${nodes.b.output}", "body": {"nodes": [
            {"id": "p", "kind": "join", "input": "${nodes.a.output}"},
            {"id": "q", "kind": "join", "input": ["${item}", "${index}", "${nodes.p.output}"]}],
            "edges": [{"from": "p", "to": "q"}]}},
        "z": {"input": "${nodes.q.output} ${nodes.h.output}"},
    }
    nodes["h"]["input"] = "${nodes.b.output} ${nodes.h.output}"
    edges: Edges = [("a", "h"), ("h", "b"), ("b", "h", {"max_iterations": 2}), ("h", "m"), ("m", "z")]
    assert not problems(nodes, edges)


def test_references_that_cannot_work_are_found() -> None:
    """Unknown nodes, later nodes, the map from its own inside, items outside, and bad syntax."""
    nodes = {
        "a": {"input": {"x": ["${nodes.b.output}"], "y": "${nodes.bb.output}", "z": "${item}"}},
        "m": {"kind": "map", "over": "${nodes.a.output", "body": {"kind": "join", "input": "${nodes.m.output}"}},
        "b": {"input": "${foo.x}"},
    }
    assert places(nodes, [("a", "m"), ("m", "b")]) == {
        "/nodes/0/input/x/0": "graph.not_upstream",
        "/nodes/0/input/y": "graph.unknown_node",
        "/nodes/0/input/z": "graph.reference",
        "/nodes/1/config/over": "graph.reference",
        "/nodes/1/config/body/nodes/0/input": "graph.not_upstream",
        "/nodes/2/input": "graph.reference",
    }


# --- approvals -------------------------------------------------------------------------------------------------


def test_what_cannot_be_undone_needs_an_approval_on_every_path() -> None:
    """Going round the approval, or leaving it rejected, is no approval."""
    ok = {"kind": "approval"}
    pay = fn(irreversible=True)
    assert not problems({"ok": ok, "b": {}, "pay": pay}, [("ok", "b"), ("b", "pay")])
    assert not problems({"ok": ok, "pay": pay}, [("ok", "pay", {"when": "output.approved == true"})])
    assert places({"a": {}, "ok": ok, "pay": pay}, [("a", "ok"), ("ok", "pay"), ("a", "pay")]) == {
        "/nodes/2": "graph.approval_missing"
    }
    assert places({"ok": ok, "pay": pay}, [("ok", "pay", {"on": "rejected"})]) == {"/nodes/1": "graph.approval_missing"}
    assert places({"ok": ok, "pay": pay}, [("ok", "pay", {"when": "!output.approved"})]) == {
        "/nodes/1": "graph.approval_missing"
    }


def test_irreversible_tools_and_map_bodies_need_approvals_too() -> None:
    """A tool's mark counts for the nodes that use it, wherever they are; the path is shown."""
    known = Known(irreversible=frozenset({"tool:wire"}))
    pay = {"kind": "pipeline", "tools": ["wire"]}
    assert places({"a": pay}, known=known) == {"/nodes/0": "graph.approval_missing"}
    body = {"kind": "map", "over": "${input.x}", "body": {"id": "p", **pay}}
    found = problems({"a": {}, "m": body}, [("a", "m")], known=known)
    assert found[0].place == "/nodes/1/config/body/nodes/0"
    assert "the tool 'wire' is irreversible" in found[0].message
    assert "a -> m -> p" in found[0].message
    assert not problems({"ok": {"kind": "approval"}, "m": body}, [("ok", "m")], known=known)


# --- entry points ----------------------------------------------------------------------------------------------


def test_a_definition_can_be_checked_without_its_document() -> None:
    """`check` and `require_valid` take the canonical form."""
    good = load_definition({"name": "w", "nodes": [{"id": "a", "kind": "join"}]})
    assert check(good) == ()
    assert require_valid(good) is good
    bad = type(good)(name="w", nodes=good.nodes * 2)
    with pytest.raises(InvalidGraph, match="1 problem"):
        require_valid(bad)


def test_large_graphs_are_checked_without_recursion() -> None:
    """A chain of 5,000 nodes, each reading the one before, is no trouble."""
    nodes = {f"n{at}": {"input": f"${{nodes.n{at - 1}.output}}" if at else 1} for at in range(5000)}
    assert not problems(nodes, [(f"n{at}", f"n{at + 1}") for at in range(4999)])
