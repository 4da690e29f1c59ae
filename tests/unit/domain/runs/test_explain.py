"""Every run that has not ended says what it waits for, and who can move it."""

from __future__ import annotations

from typing import Any

from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.explain import Explanation, Facts, explain
from tests.unit.domain.runs.harness import Core, Failed
from tests.unit.domain.runs.test_fork import CHAIN
from tests.unit.domain.runs.test_graph_semantics import edge, graph, node

PARKED = Facts(now=2_000, row_state="waiting", alive=1)


def why(core: Core, facts: Facts = PARKED) -> Explanation:
    return explain(core.st, core.plan, facts)


def failing(value: Any) -> Any:
    raise Failed("no luck")


def test_a_run_nobody_claims_names_the_handler_that_is_missing():
    core = Core(CHAIN)
    found = why(core, Facts(now=2_000, row_state="ready", alive=2, missing=("charge",)))
    assert found.summary.startswith("The run waits for a worker: no live worker has 'charge'")
    assert "no worker is running" in why(core, Facts(now=2_000, row_state="ready")).summary


def test_an_owner_whose_lease_ended_is_named():
    core = Core(CHAIN)
    core.step(*core.todo)
    found = why(core, Facts(now=9_000, row_state="owned", owner="w1", lease_until=8_000, alive=1))
    assert found.owner == "w1"
    assert "waiting to be taken over" in found.waits[0].message


def test_running_code_is_progress():
    core = Core(CHAIN)
    core.step(*core.todo)
    found = why(core, Facts(now=2_000, row_state="owned", owner="w1", lease_until=8_000, alive=1))
    assert (found.running, found.summary) == (["a"], "1 step(s) run on worker w1: a.")


def test_a_retry_says_when():
    core = Core(graph("a b", ("a", "b"), a={"retry": {"attempts": 3}}), {"a": failing}).run()
    (retry, blocked) = why(core).waits
    assert (retry.kind, retry.step) == ("retry", "a")
    assert retry.until is not None
    assert "no luck" in retry.message
    assert (blocked.kind, blocked.name) == ("predecessors", "a")


def test_signals_and_timers_say_who():
    doc = {"nodes": [
        {"id": "s", "kind": "wait", "config": {"signal": "go", "timeout_s": 60}},
        {"id": "t", "kind": "wait", "config": {"seconds": 5}},
    ]}
    core = Core(doc).run()
    waits = {wait.step: wait for wait in why(core).waits}
    assert "'go'" in waits["s"].who
    assert waits["s"].until is not None
    assert waits["t"].who == "the clock"


def test_a_paused_run_says_so_first():
    core = Core({"nodes": [node("a"), {"id": "ok", "kind": "approval", "config": {}}], "edges": [edge("a", "ok")]}).run()
    core.send(msg.Pause(reason="lunch"))
    found = why(core)
    assert [wait.kind for wait in found.waits] == ["paused", "approval"]
    assert "lunch" in found.summary


def test_a_failed_run_names_its_dead_letters_and_an_ended_one_nothing():
    core = Core(CHAIN, {"b": failing}).run()
    (dead,) = why(core, Facts(now=2_000, row_state="done")).waits
    assert (dead.kind, dead.step, dead.message) == ("dead_letter", "b", "no luck")
    done = why(Core(CHAIN).run(), Facts(now=2_000, row_state="done"))
    assert (done.waits, done.summary) == ([], "The run is completed; nothing can move it.")
