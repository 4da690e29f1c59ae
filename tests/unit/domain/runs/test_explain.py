"""Every run that has not ended says what it waits for, and who can move it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from tenuto.domain.graph.model import Budget
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import inputs as io
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
    assert "about to be taken over" in found.summary


def test_running_code_is_progress():
    core = Core(CHAIN)
    core.step(*core.todo)
    found = why(core, Facts(now=2_000, row_state="owned", owner="w1", lease_until=8_000, alive=1))
    assert (found.running, found.summary) == (["a"], "1 step runs on worker w1: a.")


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


# --- the sentence for a person, in every state ---------------------------------------------------------------------

PAIR = graph("a b", ("a", "b"))
ASKS = {"nodes": [node("a"), {"id": "ok", "kind": "approval", "config": {"message": "Pay 5?"}}], "edges": [edge("a", "ok")]}
SUB = {"nodes": [{"id": "sub", "kind": "subflow", "config": {"workflow": "child"}}]}
SLEEP = {"nodes": [{"id": "t", "kind": "wait", "config": {"seconds": 500}}]}
EACH = {"nodes": [{"id": "m", "kind": "map", "config": {
    "over": [1, 2], "body": {"nodes": [{"id": "s", "kind": "wait", "config": {"signal": "go"}}]}}}]}


def begun(document: dict[str, Any], *inputs: io.Input, **options: Any) -> Core:
    core = Core(document, **options)
    core.step(*core.todo)
    core.todo = []
    for inp in inputs:
        core.step(inp)
    return core


def asking(kind: str, **rest: Any) -> Core:
    return begun(graph("a"), io.WaitAsked(step="a", n=1, call="c", token=None, kind=kind, **rest))


def sent(core: Core, message: Any) -> Core:
    core.send(message)
    return core


def lost() -> Core:
    core = begun(graph("a", a={"effect": "effect"}))
    core.step(io.Begin(worker="w2", epoch=2, lost=True))
    return core


def cut() -> Core:
    asked = io.CallAsked(step="a", n=1, call="pay", token=None, name="pay", effect="effect", on_unknown="ask")
    failure = ev.Failure(code="x", message="cut", unknown=True)
    return begun(graph("a"), asked, io.CallBroke(step="a", n=1, call="pay", token=None, failure=failure))


def child() -> Core:
    return begun(SUB, io.ChildAsked(step="sub", n=1, workflow="child", digest="d", input=Raw(b"null")))


def capped() -> Core:
    return begun(SLEEP, budget=Budget(wall_clock_s=2)).tick(3000)


READY = Facts(now=2_000, row_state="ready", alive=2)
OWNED = Facts(now=2_000, row_state="owned", owner="w1", lease_until=8_000, alive=1)
ENDED = Facts(now=2_000, row_state="done", owner="w1", lease_until=8_000, alive=1)
T = "1970-01-01T00:"
SAID: dict[str, tuple[Callable[[], Core], Facts, str]] = {
    "queued": (lambda: Core(PAIR), READY, "The run waits for a worker: waits to be claimed. Any of 2 live workers can move it."),
    "running": (lambda: begun(PAIR), OWNED, "1 step runs on worker w1: a."),
    "in a process": (lambda: begun({"nodes": [node("a", isolation="process")]}), PARKED, "1 step runs in a process of a worker: a."),
    "lease over": (lambda: begun(PAIR), Facts(now=9_000, row_state="owned", owner="w1", lease_until=8_000, alive=1),
                   "The run waits for a worker: the lease of worker w1 has ended; the run is about to be taken over."),
    "retrying": (lambda: Core(graph("a", a={"retry": {"attempts": 3, "jitter": 0}}), {"a": failing}).run(), PARKED,
                 f"Step a waits for its next attempt until {T}00:02+00:00: attempt 1 failed: no luck. The clock, or anyone"),
    "run retrying": (lambda: Core({**graph("a"), "retry": {"attempts": 3, "jitter": 0}}, {"a": failing}).run(), PARKED,
                     f"The run waits for its next attempt until {T}00:02+00:00: step 'a' failed: no luck."),
    "timer": (lambda: Core(SLEEP).run(), PARKED, f"Step t waits for its moment until {T}08:21+00:00. The clock can move it."),
    "approval": (lambda: Core(ASKS).run(), PARKED, "Step ok waits for an approval, ticket tk-ID: Pay 5? Anyone who may"),
    "escalation": (lambda: Core(graph("a", a={"on_error": "escalate"}), {"a": failing}).run(), PARKED,
                   "Step a has failed and waits for a person's decision, ticket tk-ID: Step 'a' failed: no luck."),
    "lost effect": (lost, PARKED, "Step a waits for a person to say what became of it, ticket tk-ID: Did step 'a' take effect?"),
    "lost call": (cut, PARKED, "Step a waits for a person to say what became of it, ticket tk-ID: Did 'pay' in step 'a' take"),
    "code sleeps": (lambda: asking("timer", until=9_000), PARKED, f"Step a waits for its moment until {T}00:09+00:00."),
    "code asks": (lambda: asking("approval", message="may I?"), PARKED, "Step a waits for an approval, ticket tk-ID: may I? Anyone"),
    "code listens": (lambda: asking("signal", name="go"), PARKED, "Step a waits for signal 'go'. Anyone who sends the signal 'go'"),
    "items listen": (lambda: Core(EACH).run(), PARKED, "Step s~m.0 waits for signal 'go'. Anyone who sends the signal 'go' can"),
    "child": (child, PARKED, "Step sub waits for its child run 0"),
    "paused": (lambda: sent(Core(ASKS).run(), msg.Pause()), PARKED, "The run is paused. Anyone who may resume the run can move it."),
    "paused, code runs": (lambda: sent(begun(PAIR), msg.Pause(reason="lunch")), OWNED,
                          "The run is paused: lunch. Meanwhile 1 step runs on worker w1: a. Anyone who may resume the run"),
    "cancelling": (lambda: sent(begun(PAIR), msg.Cancel(reason="enough")), OWNED,
                   f"The run is being cancelled until {T}00:11+00:00: enough. Meanwhile 1 step runs on worker w1: a."),
    "unread": (lambda: Core(ASKS).run(), Facts(now=2_000, row_state="waiting", unread=True, alive=2),
               "The run waits for a worker to read a message. Any of 2 live workers can move it."),
    "failed": (lambda: Core(PAIR, {"a": failing}).run(), ENDED, "The run has failed at step a: no luck. Anyone who retries the step"),
    "capped": (capped, ENDED, "The run has stopped at its cap on wall_clock_s: wall_clock_s budget exceeded"),
    "completed": (lambda: Core(PAIR).run(), ENDED, "The run is completed; nothing can move it."),
    "cancelled": (lambda: sent(Core(ASKS).run(), msg.Cancel()), ENDED, "The run is cancelled; nothing can move it."),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_every_state_is_said_in_a_sentence_a_tired_person_understands(name: str):
    make, facts, said = SAID[name]
    core = make()
    found = why(core, facts)
    for ticket in core.st.tickets:
        found.summary = found.summary.replace(ticket, "tk-ID")
    assert found.summary.startswith(said)
    assert "?." not in found.summary
    assert (found.owner is None) == (facts.row_state != "owned")
    assert found.since is not None
    assert all(wait.who for wait in found.waits)
    assert all(wait.since for wait in found.waits if wait.kind != "predecessors")
