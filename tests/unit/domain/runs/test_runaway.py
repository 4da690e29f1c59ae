"""A run that does not end by itself is paused at its limits, and never goes beyond them before a person says so."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from tenuto.domain.graph.limits import Limits, Most
from tenuto.domain.graph.model import Budget
from tenuto.domain.graph.parse import read_definition
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import inputs as io
from tenuto.domain.runs import messages as msg
from tests.unit.domain.runs.harness import Core

GRACE = {"by": "grace"}


def node(name: str, kind: str = "function", **config: Any) -> dict[str, Any]:
    return {"id": name, "kind": kind, "config": config or {"handler": name}}


def looping(passes: int, **top: Any) -> dict[str, Any]:
    """A step, then a loop of two steps that goes round `passes` times."""
    edges = [
        {"from": "a", "to": "b"}, {"from": "b", "to": "c"},
        {"from": "c", "to": "b", "when": f"iteration < {passes}", "max_iterations": passes},
    ]
    return {"nodes": [node("a"), node("b"), node("c")], "edges": edges, **top}


def mapping(items: int, **top: Any) -> dict[str, Any]:
    body = {"nodes": [node("x"), node("y")], "edges": [{"from": "x", "to": "y"}]}
    each = {"id": "each", "kind": "map", "config": {"over": "${input}", "body": body}}
    return {"nodes": [each, node("z")], "edges": [{"from": "each", "to": "z"}], "given": list(range(items)), **top}


def core(document: dict[str, Any], **most: int) -> Core:
    run = Core({key: value for key, value in document.items() if key != "given"}, given=document.get("given"))
    run.env.most = Most(**most)
    return run


def asked(run: Core) -> str:
    return next(name for name, ticket in run.st.tickets.items() if ticket.status == "open")


def answer(run: Core, decision: str = "resume") -> Core:
    run.send(msg.Decision(ticket=asked(run), decision=decision, **GRACE))
    return run.run()


def test_a_loop_is_paused_before_the_step_that_would_go_beyond_the_limit() -> None:
    run = core(looping(50), steps=10).run()
    assert run.st.status == "paused"
    assert len(run.executed) == 10
    ticket = run.st.tickets[asked(run)]
    assert (ticket.kind, ticket.data) == ("breaker", {"what": "steps", "count": 10, "limit": 10})
    assert ticket.message == "The run has begun 10 steps; at most 10 are allowed at once. Is it to go on?"


def test_a_person_lets_a_run_do_as_much_again_each_time() -> None:
    run = core(looping(50), steps=10).run()
    done = [len(run.executed)]
    while run.st.status == "paused":
        answer(run)
        done.append(len(run.executed))
    assert run.st.status == "completed"
    assert done == [*range(10, 101, 10), 101]
    assert len(set(run.st.tickets)) == 10


def test_a_run_that_is_not_let_go_on_fails_with_a_code_of_its_own() -> None:
    run = core(looping(50), steps=10).run()
    answer(run, "fail")
    assert run.st.status == "failed"
    assert run.st.failure is not None
    assert run.st.failure.code == "limit.steps"
    assert run.st.failure.message == "the run reached its limit of steps, and grace did not let it go on"
    assert len(run.executed) == 10
    run.send(msg.Resume(by="ada"))
    assert run.run().st.status == "paused", "a failed run that is reopened begins no more than as much again"
    assert len(run.executed) == 20


def test_a_workflow_may_set_a_lower_limit_and_no_higher_one() -> None:
    assert len(core(looping(50, limits={"steps": 4}), steps=10).run().executed) == 4
    assert len(core(looping(50, limits={"steps": 40}), steps=10).run().executed) == 10
    assert Most(steps=5, children=6, depth=7).under(Limits(steps=9, children=2)) == Most(steps=5, children=2, depth=7)


def test_items_of_a_map_that_were_opened_and_not_begun_do_not_count() -> None:
    """A map makes all its items known at once; each begins, and counts, by itself."""
    run = core(mapping(100), steps=30).run()
    assert run.st.status == "paused"
    assert len(run.executed) == 30
    answer(run)
    assert len(run.executed) == 60


def test_limits_that_make_no_sense_are_told_with_their_place() -> None:
    reading = read_definition({"name": "t", "nodes": [node("a")], "limits": {"steps": 0, "child": 3}})
    places = {problem.place for problem in reading.problems}
    assert any(place.startswith("/limits") for place in places), reading.problems
    reading = read_definition({"name": "t", "nodes": [node("a")], "limits": {"steps": 0}})
    assert [(one.place, one.message) for one in reading.problems] == [
        ("/limits/steps", "0 is not possible; allowed: 1 or more")
    ]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(0, 9), st.integers(1, 12), st.booleans())
def test_no_more_than_the_limit_begins_between_two_answers(passes: int, items: int, limit: int, maps: bool) -> None:
    """Whatever the graph: the limit holds at every record, and a run that is always let go on does all its work once."""
    document = mapping(items) if maps else looping(passes)
    whole = core(document).run()
    run, last = core(document, steps=limit).run(), 0
    while run.st.status == "paused":
        begun = len(run.st.steps) - len(run.st.ready)
        assert begun - last == limit
        last = begun
        answer(run)
    assert run.st.status == whole.st.status == "completed"
    assert len(run.st.steps) - last <= limit
    assert sorted(run.executed) == sorted(whole.executed)
    assert len(run.st.tickets) == (len(whole.st.steps) - 1) // limit


# --- sub-flows ---------------------------------------------------------------------------------------------------


def spawning(n: int, **most: int) -> Core:
    run = core({"nodes": [node(f"s{i}", "subflow", workflow="child") for i in range(n)]}, **most)
    run.step(*run.todo)
    run.todo = []
    return run


def spawn(run: Core, key: str) -> io.Decision:
    step = run.st.steps[key]
    return run.step(io.ChildAsked(step=key, n=step.attempt, workflow="child", digest="sha256:x", input=Raw(b"null")))


def test_the_sub_flow_beyond_the_limit_is_not_started_and_asks_again_when_a_person_said_so() -> None:
    """All of them are on the way when the limit is met; each that comes too late waits, and none asks a second question."""
    run = spawning(5, children=2)
    for key in list(run.started):
        spawn(run, key)
    assert len(run.st.children) == 2
    assert [ticket.data for ticket in run.st.tickets.values()] == [{"what": "children", "count": 2, "limit": 2}]
    assert list(run.st.ready) == ["s2", "s3", "s4"]
    run.started.clear()
    run.send(msg.Decision(ticket=asked(run), decision="resume", **GRACE))
    assert run.started == ["s2", "s3", "s4"]
    decisions = [spawn(run, key) for key in run.started]
    assert [len(out.children) for out in decisions] == [1, 1, 0]
    assert [ticket.data["count"] for ticket in run.st.tickets.values()] == [2, 4]


def test_a_spawn_while_a_person_has_paused_the_run_waits_too() -> None:
    run = spawning(3, children=1)
    run.send(msg.Pause(**GRACE))
    for key in list(run.started):
        spawn(run, key)
    assert len(run.st.children) == 1
    run.started.clear()
    run.send(msg.Resume(**GRACE))
    assert run.started == ["s1", "s2"]
    assert run.st.tickets and all(ticket.status == "closed" for ticket in run.st.tickets.values())


def test_a_run_at_two_limits_goes_on_when_both_questions_are_answered() -> None:
    """Going on after the first answer, what the second question is about would ask again and again, without an end."""
    spawns = [node(f"s{i}", "subflow", workflow="child") for i in range(3)]
    run = core({"nodes": [*spawns, node("b")]}, children=1, steps=3)
    run.step(*run.todo)
    run.todo = []
    for key in list(run.started):
        spawn(run, key)
    run.started.clear()
    assert [ticket.data["what"] for ticket in run.st.tickets.values()] == ["steps", "children"]
    run.send(msg.Decision(ticket=asked(run), decision="resume", **GRACE))
    assert (run.st.status, run.started) == ("paused", [])
    run.send(msg.Decision(ticket=asked(run), decision="resume", **GRACE))
    assert run.st.status == "running"
    assert run.started == ["b", "s1", "s2"]


def test_a_question_does_not_outlive_its_run_out_of_time() -> None:
    """Were it open still when the run is resumed, nobody would pause the run again, and its sub-flows would ask for ever."""
    run = core(
        {"nodes": [node(f"s{i}", "subflow", workflow="child") for i in range(2)], "budget": {"wall_clock_s": 60}},
        children=1,
    )
    run.step(*run.todo)
    run.todo = []
    for key in list(run.started):
        spawn(run, key)
    first = asked(run)
    run.now += 61_000
    run.step(io.Tick())
    assert run.st.status == "budget_exceeded"
    assert run.st.tickets[first].status == "closed"
    run.started.clear()
    run.send(msg.Resume(by="ada", budget=Budget(wall_clock_s=600)))
    assert "s1" in run.started
    spawn(run, "s1")
    assert len(run.st.children) == 2


@pytest.mark.parametrize(("depth", "since", "allowed"), [(0, 0, True), (2, 0, True), (3, 0, False), (5, 3, True), (6, 3, False)])
def test_depth_is_counted_from_the_run_that_was_let_go_on(depth: int, since: int, allowed: bool) -> None:
    run = spawning(1, depth=3)
    run.st.parent = ev.Parent(run="above", step="s", key="k", depth=depth, deep_since=since)
    out = spawn(run, "s0")
    assert bool(out.children) is allowed
    if allowed:
        assert (out.children[0].parent.depth, out.children[0].parent.deep_since) == (depth + 1, since)
        return
    assert run.st.tickets[asked(run)].data == {"what": "depth", "count": depth, "limit": 3}
    run.started.clear()
    run.send(msg.Decision(ticket=asked(run), decision="resume", **GRACE))
    parent = spawn(run, "s0").children[0].parent
    assert (parent.depth, parent.deep_since) == (depth + 1, depth)
