"""The passes that ship: what they suggest, that it is a good patch, that they stop there, and what they leave alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tenuto.ports.optimizers import NodeStatistics, Statistics, Suggestion
from tests.unit.optimizers.passes import MODULES, asked, edges_of, nodes_of, patched, shown

URL = "http://api.example/"
RETRY = {"attempts": 3, "backoff_s": 0.5}


def get(id: str, path: str = "x", **fields: Any) -> dict[str, Any]:
    config = {"url": path if path.startswith("$") else URL + path, **fields.pop("config", {})}
    return {"id": id, "kind": "http", "config": config, **fields}


def calc(id: str, template: Any = 1, **fields: Any) -> dict[str, Any]:
    return {"id": id, "kind": "transform", "config": {"template": template}, **fields}


def fn(id: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "kind": "function", "config": {"handler": "h"}, **fields}


def graph(*nodes: dict[str, Any], edges: str = "", **more: dict[str, Any]) -> dict[str, Any]:
    """Return a graph with edges as in `"a>b b>c"`; `more` are fields of edges by `a_b`."""
    drawn = [dict(zip(("from", "to"), pair.split(">"), strict=True)) for pair in edges.split()]
    return {"name": "w", "nodes": list(nodes), "edges": [edge | more.get(f"{edge['from']}_{edge['to']}", {}) for edge in drawn]}


def only(name: str, document: dict[str, Any], **options: Any) -> tuple[Suggestion, dict[str, Any]]:
    """Return the one suggestion of a pass and the graph it leads to, in which the pass finds nothing more."""
    (suggestion,) = asked(name, document, **options)
    after = patched(document, suggestion)
    assert suggestion.rule == name
    assert suggestion.title
    assert suggestion.reason
    assert asked(name, after, **options) == ()
    return suggestion, after


# --- fuse_http -----------------------------------------------------------------------------------------------------


def test_requests_that_follow_each_other_become_one_that_is_called_like_the_last() -> None:
    document = graph(calc("s"), get("a"), get("b", "y/${nodes.a.output.body.id}"), fn("t"), edges="s>a a>b b>t")
    suggestion, after = only("fuse_http", document)
    assert nodes_of(after)["b"]["config"] == {
        "requests": [{"id": "a", "url": URL + "x"}, {"id": "b", "url": URL + "y/${requests.a.body.id}"}], "result": "b",
    }
    assert (set(nodes_of(after)), edges_of(after)) == ({"s", "b", "t"}, {("s", "b"), ("b", "t")})
    assert (suggestion.nodes, suggestion.gain.steps) == (("a", "b"), 1)
    assert suggestion.evidence["p50_ms"] == {"a": 10, "b": 10}


def test_an_order_that_no_data_asks_for_is_kept_unless_both_are_pure() -> None:
    for effect, after in ((None, ["a"]), ("pure", None)):
        fields = {"effect": effect} if effect else {}
        suggestion, made = only("fuse_http", graph(get("a", **fields), get("b", **fields), edges="a>b"))
        assert nodes_of(made)["b"]["config"]["requests"][1].get("after") == after
        assert (suggestion.gain.ms > 10) == (effect == "pure")


def test_a_terminal_request_keeps_its_name_and_its_output() -> None:
    _, after = only("fuse_http", graph(get("a"), get("b"), get("c"), edges="a>b b>c"))
    assert nodes_of(after)["c"]["config"]["result"] == "c"


def test_what_reads_an_earlier_answer_reads_it_in_the_output_of_all() -> None:
    document = graph(
        get("a", timeout_s=2), get("b", timeout_s=3), calc("t", {"x": "${nodes.a.output.body.x}", "y": "${nodes.b.output}"}),
        fn("u", input="${nodes.a.output}"), edges="a>b b>t t>u",
    )  # fmt: skip
    _, after = only("fuse_http", document)
    nodes = nodes_of(after)
    assert nodes["a_to_b"]["timeout_s"] == 5
    assert [one["timeout_s"] for one in nodes["a_to_b"]["config"]["requests"]] == [2, 3]
    assert nodes["t"]["config"]["template"] == {"x": "${nodes.a_to_b.output.a.body.x}", "y": "${nodes.a_to_b.output.b}"}
    assert nodes["u"]["input"] == "${nodes.a_to_b.output.a}"


def test_as_many_attempts_are_left_as_the_steps_had_together() -> None:
    _, after = only("fuse_http", graph(get("a", retry=RETRY), get("b", retry=RETRY), fn("t"), edges="a>b b>t"))
    nodes = nodes_of(after)
    assert nodes["a_to_b"]["retry"] == {"attempts": 5, "backoff_s": 0.5}
    assert nodes["t"]["input"] == {"b": "${nodes.a_to_b.output.b}"}


def test_requests_side_by_side_become_one() -> None:
    document = graph(calc("s"), get("a"), get("b"), get("c"), fn("t"), edges="s>a s>b s>c a>t b>t c>t")
    suggestion, after = only("fuse_http", document)
    assert nodes_of(after)["t"]["input"] == {name: f"${{nodes.a_and_2_more.output.{name}}}" for name in "abc"}
    assert edges_of(after) == {("s", "a_and_2_more"), ("a_and_2_more", "t")}
    assert suggestion.gain.steps == 2


def test_several_groups_are_suggested_each_by_itself() -> None:
    document = graph(get("a"), get("b"), get("c"), get("d"), calc("t"), edges="a>b c>d b>t d>t")
    found = asked("fuse_http", document)
    assert [one.nodes for one in found] == [("a", "b"), ("c", "d")]
    for one in found:
        patched(document, one)
    both = patched(patched(document, found[0]), found[1])
    assert asked("fuse_http", both) == ()


@pytest.mark.parametrize(
    "document",
    [
        graph(get("a", config={"method": "POST"}), get("b"), edges="a>b"),
        graph(get("a", effect="effect"), get("b"), edges="a>b"),
        graph(get("a"), get("b", effect="pure"), edges="a>b"),
        graph(get("a"), get("b"), edges="a>b", a_b={"when": "output.body.ok"}),
        graph(get("a"), get("b"), get("e"), edges="a>b a>e", a_e={"on": "error"}),
        graph(get("a"), get("b"), get("e"), edges="a>b b>e", b_e={"on": "error"}),
        graph(get("a", on_error="continue"), get("b"), edges="a>b"),
        graph(get("a"), get("b", on_error={"fallback": {"value": 1}}), edges="a>b"),
        graph(get("a", retry=RETRY), get("b", retry=RETRY), edges="a>b"),
        graph(get("a", retry=RETRY), get("b"), fn("t"), edges="a>b b>t"),
        graph(get("a", timeout_s=1), get("b"), fn("t"), edges="a>b b>t"),
        graph(get("a", timeout_s=1), get("b", timeout_s=1), edges="a>b"),
        graph({"id": "ok", "kind": "approval", "config": {"message": "?"}}, get("a", irreversible=True), get("b"), edges="ok>a a>b"),
        graph(get("a", resources=["lock"]), get("b"), edges="a>b"),
        graph(get("a", output_schema={"type": "object"}), get("b"), edges="a>b"),
        graph(get("a", cache="read_through", effect="pure"), get("b", effect="pure"), edges="a>b"),
        graph(get("a"), {"id": "ok", "kind": "approval", "config": {"message": "?"}}, get("b"), edges="a>ok ok>b"),
        graph(get("a"), calc("m"), get("b"), edges="a>m m>b"),
        graph(get("a"), get("b"), fn("t"), edges="a>b b>t", b_t={"when": "nodes.a.output.body.ok"}),
        graph(get("a"), get("b"), {"id": "t", "kind": "transform", "config": {"value": "nodes.a.output.body"}}, edges="a>b b>t"),
        graph(get("a"), get("b", "y/$nodes.a.output.body"), edges="a>b"),
        graph(get("a"), get("b"), {"id": "j", "kind": "join", "join": "any"}, edges="a>j b>j"),
        graph(get("a"), get("b"), {"id": "j", "kind": "join"}, edges="a>j b>j"),
        graph(get("a"), get("b"), fn("t"), fn("u"), edges="a>t b>t b>u"),
        graph({"id": "s", "kind": "switch"}, get("a"), get("b"), fn("t"), edges="s>a s>b a>t b>t"),
        graph(get("a"), get("b"), fn("t"), edges="a>t b>t", a_t={"when": "output.body.ok"}),
        graph(fn("x", on_error={"fallback": {"node": "b"}}), get("a"), get("b"), edges="x>a a>b"),
        graph(calc("h"), get("a"), get("b"), edges="h>a a>b b>h", b_h={"max_iterations": 3, "when": "output.body.again"}),
        graph(get("a"), get("b"), edges=""),
    ],
)  # fmt: skip
def test_what_is_no_plain_reading_or_would_be_told_apart_is_left_alone(document: dict[str, Any]) -> None:
    assert asked("fuse_http", document) == ()


def test_fixed_nodes_are_left_alone_by_every_pass() -> None:
    document = graph(get("a"), get("b"), calc("p"), calc("q"), calc("r", "${nodes.p.output}"), edges="a>b p>q q>r")
    assert {name: len(asked(name, document)) for name in MODULES} == {
        "fuse_http": 1, "prune": 1, "parallelise": 1, "mark_cacheable": 1,
    }
    for name in MODULES:
        assert asked(name, document, fixed=nodes_of(document)) == ()


def test_answers_that_would_be_too_much_for_one_step_stay_apart() -> None:
    document = graph(get("a"), get("b"), edges="a>b")
    large = NodeStatistics(completed=5, p50_ms=10, bytes=600_000)
    assert asked("fuse_http", document, statistics=shown(document, a=large, b=large)) == ()
    assert len(asked("fuse_http", document, statistics=shown(document, a=large, b=large), max_bytes=2_000_000)) == 1


# --- prune ---------------------------------------------------------------------------------------------------------


def test_pure_steps_that_nobody_reads_are_taken_out_all_at_once() -> None:
    document = graph(calc("a"), calc("x"), calc("y", "${nodes.x.output}"), calc("b", "${nodes.a.output}"), edges="a>x x>y y>b")
    suggestion, after = only("prune", document)
    assert (set(nodes_of(after)), edges_of(after)) == ({"a", "b"}, {("a", "b")})
    assert (suggestion.gain.steps, suggestion.gain.ms) == (2, 20)


def test_what_no_run_can_reach_is_taken_out_with_what_follows_it() -> None:
    document = graph(calc("a"), fn("x"), fn("y"), fn("b"), edges="a>x x>y a>b", a_x={"when": "false"})
    _, after = only("prune", document)
    assert (set(nodes_of(after)), edges_of(after)) == ({"a", "b"}, {("a", "b")})


@pytest.mark.parametrize(
    "document",
    [
        graph(calc("a"), calc("x")),
        graph(calc("a"), calc("x"), edges="a>x"),
        graph(calc("a"), fn("x"), calc("b"), edges="a>x x>b"),
        graph(calc("a"), fn("x", effect="pure"), fn("b"), edges="a>x x>b"),
        graph(calc("a"), calc("x", output_schema={"type": "integer"}), calc("b"), edges="a>x x>b", x_b={"when": "nodes.a.output > 0"}),
        graph(calc("a"), calc("x"), calc("b"), edges="a>x x>b", x_b={"when": "output > 0"}),
        graph(calc("a"), calc("x"), calc("b"), calc("c", "${nodes.x.output}"), edges="a>x x>b b>c a>b"),
        graph(calc("a", route="first"), calc("x"), calc("y"), calc("b"), edges="a>x a>y x>b y>b", a_x={"when": "output > 1"}),
        graph(calc("a"), {"id": "ok", "kind": "approval", "config": {"message": "?"}}, calc("b"), edges="a>ok ok>b", a_ok={"when": "false"}),
        graph(calc("a"), fn("x"), calc("b", "${nodes.x.output}"), edges="a>x a>b x>b", a_x={"when": "false"}),
        graph(calc("a"), calc("x"), calc("b"), edges="a>b x>b", a_b={"when": "output > 1"}),
    ],
)  # fmt: skip
def test_what_is_read_checked_or_acts_stays(document: dict[str, Any]) -> None:
    found = [one for one in asked("prune", document) if "x" in one.nodes or "ok" in one.nodes]
    assert found == []


def test_a_step_that_has_failed_may_be_a_check_and_stays() -> None:
    document = graph(calc("a"), calc("x"), calc("b", "${nodes.a.output}"), edges="a>x x>b")
    assert asked("prune", document, statistics=shown(document, x=NodeStatistics(completed=9, failed=1, p50_ms=1))) == ()


# --- parallelise ---------------------------------------------------------------------------------------------------


def test_steps_that_need_nothing_of_each_other_run_at_once() -> None:
    document = graph(calc("s"), calc("a"), calc("b"), calc("c", "${nodes.a.output}${nodes.b.output}"), edges="s>a a>b b>c")
    suggestion, after = only("parallelise", document)
    assert edges_of(after) == {("s", "c"), ("a", "c"), ("b", "c")}
    assert (suggestion.gain.ms, suggestion.evidence["longest_way_ms_before"]) == (20, 40)


def test_what_is_declared_to_give_the_same_again_may_run_at_once_too() -> None:
    safe = {"effect": "idempotent", "deterministic": True, "input": "${input.x}"}
    _, after = only("parallelise", graph(fn("a", **safe), fn("b", **safe), calc("c", "${nodes.a.output}"), edges="a>b b>c"))
    assert ("a", "b") not in edges_of(after)


@pytest.mark.parametrize(
    "document",
    [
        graph(calc("a"), calc("b", "${nodes.a.output}"), edges="a>b"),
        graph(calc("a"), calc("b", "${nodes['a'].output}"), edges="a>b"),
        graph(calc("a"), {"id": "b", "kind": "transform", "config": {"value": "input"}}, edges="a>b"),
        graph(calc("a"), {"id": "b", "kind": "transform", "config": {"value": "nodes['a'].output"}}, edges="a>b"),
        graph(calc("a"), calc("b"), edges="a>b"),
        graph(fn("a"), fn("b", input=1), calc("c"), edges="a>b b>c"),
        graph(get("a"), get("b"), calc("c"), edges="a>b b>c"),
        graph(fn("a", effect="effect"), calc("b"), calc("c", "${nodes.b.output}"), edges="a>b b>c"),
        graph(calc("a"), calc("b"), calc("c", "${nodes.b.output}"), edges="a>b b>c", a_b={"when": "output > 0"}),
        graph(calc("a"), calc("b"), calc("c", "${nodes.b.output}"), edges="a>b b>c", b_c={"when": "nodes.a.output > 0"}),
        graph(calc("a"), calc("b"), fn("c"), edges="a>b b>c"),
        graph(calc("a", resources=["lock"]), calc("b"), calc("c", "${nodes.b.output}"), edges="a>b b>c"),
        graph(calc("a", on_error="skip"), calc("b"), calc("c", "${nodes.b.output}"), edges="a>b b>c"),
        graph(calc("a"), calc("b"), calc("c", "${nodes.b.output}"), edges="a>b b>c a>c", a_c={"when": "output > 1"}),
    ],
)  # fmt: skip
def test_an_order_that_something_depends_on_stays(document: dict[str, Any]) -> None:
    assert [one for one in asked("parallelise", document) if "b" in one.nodes and "a" in one.nodes] == []


# --- mark_cacheable ------------------------------------------------------------------------------------------------


def test_the_largest_pure_part_with_one_way_in_is_kept_as_one() -> None:
    document = graph(
        fn("s"), calc("a", "${nodes.s.output}"), calc("b", "${nodes.a.output}"), calc("c", "${nodes.a.output}"),
        calc("d", "${nodes.b.output}${nodes.c.output}"), fn("e"), calc("lone"), edges="s>a a>b a>c b>d c>d d>e e>lone",
    )  # fmt: skip
    group, single = asked("mark_cacheable", document)
    assert (group.nodes, group.gain.ms, single.nodes) == (("a", "b", "c", "d"), 40, ("lone",))
    after = patched(patched(document, group), single)
    assert {name: node.get("cache") for name, node in nodes_of(after).items()} == {
        **{key: {"policy": "read_through", "group": "pure"} for key in "abcd"},
        "lone": {"policy": "read_through"}, "s": None, "e": None,
    }
    assert asked("mark_cacheable", after) == ()


def test_what_the_author_declares_to_give_the_same_again_is_kept() -> None:
    suggestion, after = only("mark_cacheable", graph(fn("s"), fn("a", effect="idempotent", deterministic=True), edges="s>a"))
    assert suggestion.nodes == ("a",)
    assert nodes_of(after)["a"]["cache"] == {"policy": "read_through"}


@pytest.mark.parametrize(
    "statistics",
    [
        Statistics(runs=4, nodes={"a": NodeStatistics(completed=4, p50_ms=100)}),
        Statistics(runs=20, nodes={"a": NodeStatistics(completed=20, p50_ms=0.5)}),
        Statistics(runs=20),
    ],
    ids=["few runs", "quick", "unknown"],
)  # fmt: skip
def test_nothing_is_kept_that_is_not_shown_to_be_worth_it(statistics: Statistics) -> None:
    assert asked("mark_cacheable", graph(calc("a")), statistics=statistics) == ()


def test_what_costs_money_is_worth_it_however_quick() -> None:
    paid = Statistics(runs=20, nodes={"a": NodeStatistics(completed=20, p50_ms=0.5, cost_usd_micros=300)})
    (suggestion,) = asked("mark_cacheable", graph(fn("a", effect="pure")), statistics=paid)
    assert suggestion.gain.cost_usd_micros == 300


def test_nodes_that_are_not_sure_to_give_the_same_are_not_kept() -> None:
    assert asked("mark_cacheable", graph(fn("a"), get("b"), fn("c", effect="effect"), calc("d", cache="off"))) == ()


# --- large graphs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(MODULES))
@pytest.mark.parametrize("kind", ["requests", "idle", "side by side"])
def test_large_graphs_are_done_within_the_usual_bounds_in_patches_of_the_usual_size(name: str, kind: str) -> None:
    ids = [f"n{at}" for at in range(200)]
    if kind == "side by side":
        read = {id: f"${{nodes.{id}.output.body}}" for id in ids}
        document = graph(calc("s"), *map(get, ids), calc("t", read), edges=" ".join(f"s>{id} {id}>t" for id in ids))
    else:
        following = [get(id) if kind == "requests" else calc(id, {"at": id}) for id in ids]
        document = graph(*following, edges=" ".join(f"{a}>{b}" for a, b in pairwise(ids)))
    found = asked(name, document)
    assert bool(found) == ((name == "fuse_http") == (kind != "idle") or (name, kind) == ("mark_cacheable", "side by side"))
    for one in found[:2]:
        assert len(one.operations) <= 50
        patched(document, one)
