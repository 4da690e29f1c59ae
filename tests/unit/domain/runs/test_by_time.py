"""What time decides is said to be decided by time, and messages that came with it go first."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from tenuto.domain.runs import events as ev
from tenuto.domain.runs import inputs as io
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.decide import decide
from tests.unit.domain.runs.harness import Core

SIGNAL = {"id": "w", "kind": "wait", "config": {"signal": "go", "timeout_s": 1}}


def waiting(node: dict[str, Any], **rest: Any) -> Core:
    core = Core({"nodes": [node], **rest})
    core.run()
    return core


def decided(core: Core, *inputs: io.Input, after_ms: int = 60_000) -> io.Decision:
    return decide(core.st, core.plan, inputs, core.now + after_ms, core.env)


def signal() -> io.Arrived:
    return io.Arrived(n=1, key="k", message=msg.Signal(name="go", payload=Raw(b"1"), by="x"))


@pytest.mark.parametrize("node", [
    SIGNAL,
    {"id": "w", "kind": "wait", "config": {"seconds": 1}},
    {"id": "w", "kind": "approval", "config": {"timeout_s": 1}},
])  # fmt: skip
def test_the_end_of_a_wait_by_time_says_so(node: dict[str, Any]):
    assert decided(waiting(node), io.Tick()).by_time
    assert not decided(waiting(node), io.Tick(), after_ms=1).by_time


def test_the_end_of_a_run_by_its_deadline_says_so():
    core = waiting({"id": "w", "kind": "wait", "config": {"signal": "go"}}, budget={"wall_clock_s": 5})
    decision = decided(core, io.Tick())
    assert decision.by_time
    assert any(isinstance(event, ev.RunExceeded) for event in decision.events)


def test_the_end_of_a_wait_by_a_message_depends_on_no_other():
    assert not decided(waiting(SIGNAL), signal(), after_ms=10).by_time


def test_a_message_that_came_with_the_timer_goes_first():
    core = waiting(SIGNAL)
    decision = decided(core, io.Tick(), signal())
    assert not decision.by_time
    (done,) = [event for event in decision.events if isinstance(event, ev.StepCompleted)]
    assert msgspec.json.decode(done.out) == {"signal": "go", "payload": 1, "timed_out": False}
