"""The invariant checker passes what the core writes, and finds every fault put into a journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from tenuto.domain.graph.model import Budget
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.check import Violation, check_row, check_run
from tenuto.domain.runs.fold import fold_body
from tenuto.domain.runs.state import RunState, encode_state
from tenuto.domain.runs.wire import ZERO, Record, record
from tests.unit.domain.runs.harness import Core, Failed
from tests.unit.domain.runs.test_fork import CHAIN, LOOP, MAP
from tests.unit.domain.runs.test_graph_semantics import graph

RUN = "run-1"
Bodies = list[tuple[int, ev.Body]]


def epochs(core: Core) -> Bodies:
    """Return `(epoch, body)` of a run that one worker owned."""
    return [(0 if at == 0 else 1, body) for at, body in enumerate(core.records)]


def chained(bodies: Bodies) -> list[Record]:
    found: list[Record] = []
    previous = ZERO
    for seq, (epoch, body) in enumerate(bodies, 1):
        found.append(record(previous, RUN, seq, epoch, body))
        previous = found[-1].chain
    return found


def rules(core: Core, bodies: Bodies, **kwargs: Any) -> set[str]:
    return {item.rule for item in check_run(RUN, chained(bodies), lambda _: core.plan, **kwargs)}


def find(bodies: Bodies, kind: type[Any], step: str = "") -> tuple[int, int]:
    for at, (_, body) in enumerate(bodies):
        for index, event in enumerate(body.ev):
            if isinstance(event, kind) and (not step or event.step == step):
                return at, index
    raise AssertionError(kind)


def without(bodies: Bodies, kind: type[Any], step: str = "") -> Bodies:
    at, index = find(bodies, kind, step)
    epoch, body = bodies[at]
    rest = tuple(event for place, event in enumerate(body.ev) if place != index)
    return [*bodies[:at], (epoch, msgspec.structs.replace(body, ev=rest)), *bodies[at + 1 :]]


def added(bodies: Bodies, *events: ev.Event, epoch: int = 1, inbox: tuple[str, ...] = ()) -> Bodies:
    return [*bodies, (epoch, ev.Body(bodies[-1][1].t, events, inbox))]  # type: ignore[arg-type]


def failing(value: Any) -> Any:
    raise Failed("no")


@pytest.mark.parametrize("make", [
    lambda: Core(CHAIN).run(),
    lambda: Core(LOOP).run(),
    lambda: Core(MAP, given={"items": [1, 2, 3]}).run(),
    lambda: Core(CHAIN, {"b": failing}).run(),
    lambda: Core(graph("a b", ("a", "b"), a={"retry": {"attempts": 3}}), {"a": failing}).run().tick(5_000),
])
def test_what_the_core_writes_holds(make: Callable[[], Core]):
    core = make()
    assert check_run(RUN, chained(epochs(core)), lambda _: core.plan) == []


def test_a_redriven_step_may_end_again():
    core = Core(CHAIN, {"b": failing}).run()
    core.steps = {}
    core.send(msg.Redrive(step="b"))
    core.run()
    assert core.status == "completed"
    assert check_run(RUN, chained(epochs(core)), lambda _: core.plan) == []


class TestPosition:
    """I1: dense and chained."""

    def test_an_altered_byte_is_found_where_it_is(self):
        core = Core(CHAIN).run()
        records = chained(epochs(core))
        records[2] = Record(3, 1, records[2].body.replace(b'"did"', b'"dId"'), records[2].chain)
        found = check_run(RUN, records, lambda _: core.plan)
        assert [(item.rule, item.seq) for item in found] == [("I1.chain", 3)]

    def test_a_missing_record_is_found(self):
        core = Core(CHAIN).run()
        records = chained(epochs(core))
        del records[2]
        assert "I1.dense" in {item.rule for item in check_run(RUN, records, lambda _: core.plan)}

    def test_a_clock_that_goes_back_is_found(self):
        core = Core(CHAIN).run()
        bodies = epochs(core)
        bodies[2] = (1, msgspec.structs.replace(bodies[2][1], t=5))
        assert rules(core, bodies) >= {"I1.time"}


class TestOwnership:
    """I2: one writer."""

    def test_a_zombie_is_found(self):
        core = Core(CHAIN).run()
        bodies = epochs(core)
        last = len(bodies) - 1
        bodies[last] = (2, msgspec.structs.replace(bodies[last][1], ev=(ev.Claimed(worker="w2", epoch=2), *bodies[last][1].ev)))
        bodies.append((1, ev.Body(bodies[-1][1].t, ())))
        assert "I2.zombie" in rules(core, bodies)

    def test_an_epoch_begins_with_its_claim(self):
        core = Core(CHAIN).run()
        assert rules(core, without(epochs(core), ev.Claimed)) == {"I2.claim"}

    def test_work_in_flight_is_taken_with_lease_taken(self):
        core = Core(CHAIN)
        core.step(*core.todo)
        bodies = added(epochs(core), ev.Claimed(worker="w2", epoch=2), epoch=2)
        assert rules(core, bodies) == {"I2.lease_taken"}
        taken = added(epochs(core), ev.LeaseTaken(epoch=2, by="w2", from_="w1"), epoch=2)
        assert rules(core, taken) == set()

    def test_a_steal_known_from_outside_must_be_in_the_journal(self):
        core = Core(CHAIN).run()
        assert rules(core, epochs(core), steals=[1]) == {"I2.lease_taken"}


class TestFold:
    """I4 and legal transitions."""

    def test_a_snapshot_equals_the_fold(self):
        core = Core(CHAIN).run()
        records = chained(epochs(core))
        st = RunState(id=RUN)
        for item, body in zip(records[:3], core.records[:3], strict=True):
            fold_body(st, core.plan, body)
            st.seq, st.epoch, st.chain = item.seq, item.epoch, item.chain
        good = encode_state(st)
        assert check_run(RUN, records, lambda _: core.plan, snapshots=[(3, good)]) == []
        st.goal = "altered"
        found = check_run(RUN, records, lambda _: core.plan, snapshots=[(3, encode_state(st))])
        assert [item.rule for item in found] == ["I4"]
        assert "goal" in found[0].message

    def test_a_snapshot_ahead_of_its_record_is_found(self):
        core = Core(CHAIN).run()
        assert rules(core, epochs(core), snapshots=[(99, b"{}")]) == {"I4.ahead"}

    def test_an_event_out_of_place_is_found(self):
        core = Core(CHAIN).run()
        assert "legal" in rules(core, without(epochs(core), ev.RunStarted))


class TestSteps:
    """I5: one outcome a step, begun before it ends."""

    def test_a_second_outcome_is_found(self):
        core = Core(CHAIN).run()
        bodies = epochs(core)[:-1]
        bodies = added(bodies, ev.StepCompleted(step="a", out=Raw(b"1")))
        assert "I5.second_outcome" in rules(core, bodies)

    def test_an_attempt_after_the_outcome_is_found(self):
        core = Core(CHAIN).run()
        bodies = added(epochs(core)[:-1], ev.AttemptStarted(step="a", n=2))
        assert "I5.after_outcome" in rules(core, bodies)

    def test_a_completion_that_never_began_is_found(self):
        core = Core(CHAIN).run()
        assert "I5.not_begun" in rules(core, without(epochs(core), ev.AttemptStarted, "b"))

    def test_a_finished_call_made_again_is_found(self):
        core = Core(CHAIN)
        core.step(*core.todo)
        intent = ev.CallIntended(step="a", call="t:1", kind="tool")
        bodies = added(epochs(core), intent, ev.CallCompleted(step="a", call="t:1", out=Raw(b"1")), intent)
        assert rules(core, bodies) == {"I5.call_repeated"}

    def test_a_charge_without_intent_is_found(self):
        core = Core(CHAIN)
        core.step(*core.todo)
        bodies = added(epochs(core), ev.CallCompleted(step="a", call="t:1", out=Raw(b"1"), used=ev.Charge(tokens=1)))
        assert rules(core, bodies) == {"I5.no_intent"}


class TestMessages:
    """I7: each message once."""

    def test_a_signal_that_takes_effect_again_is_found(self):
        core = Core(CHAIN)
        core.step(*core.todo)
        signal = ev.SignalReceived(name="s", key="k1", payload=Raw(b"1"))
        once = added(epochs(core), signal, inbox=("k1",))
        assert rules(core, once) == set()
        assert rules(core, added(once, signal, inbox=("k1",))) == {"I7.twice"}
        assert rules(core, added(once, inbox=("k1",))) == set()

    def test_an_accepted_message_that_was_never_read_is_found(self):
        core = Core(CHAIN).run()
        assert rules(core, epochs(core), acknowledged=["k9"]) == {"I7.lost"}

    def test_a_wait_that_ends_twice_is_found(self):
        core = Core(CHAIN)
        core.step(*core.todo)
        ended = ev.WaitEnded(step="a", call="sleep:1", out=Raw(b"null"))
        bodies = added(epochs(core), ev.WaitStarted(step="a", kind="timer", call="sleep:1", until=9), ended)
        assert rules(core, bodies) == set()
        assert "I7.woken_twice" in rules(core, added(bodies, ended))


def test_money_over_a_cap_is_found_at_the_record_where_it_happens():
    core = Core(CHAIN, budget=Budget(tokens=10))
    core.step(*core.todo)
    held = ev.CallIntended(step="a", call="m:1", kind="model", hold=ev.Charge(tokens=11))
    assert rules(core, added(epochs(core), held)) == {"I8"}
    fits = ev.CallIntended(step="a", call="m:1", kind="model", hold=ev.Charge(tokens=10))
    assert rules(core, added(epochs(core), fits)) == set()


def test_nothing_follows_a_terminal_run():
    core = Core(CHAIN).run()
    assert "terminal" in rules(core, added(epochs(core), ev.PauseRequested()))
    assert rules(core, added(epochs(core), inbox=("late",))) == set()
    assert rules(core, added(epochs(core), ev.LeaseTaken(epoch=2, by="w2", from_="w1"), epoch=2)) == set()


class TestRows:
    """I6: a run at rest can always be woken."""

    def only(self, found: list[Violation]) -> str:
        return found[0].rule if found else ""

    def test_a_parked_run_must_have_something_to_wait_for(self):
        core = Core(CHAIN).run()
        assert self.only(check_row(core.st, "waiting", 0, 0)) == "I6.done"
        idle = RunState(id=RUN, status="running")
        assert self.only(check_row(idle, "waiting", 0, 0)) == "I6.stuck"
        idle.timers["d"] = 50
        assert self.only(check_row(idle, "waiting", 0, 0)) == "I6.timer"
        assert self.only(check_row(idle, "waiting", 50, 0)) == ""
        assert self.only(check_row(idle, "waiting", 50, 1)) == "I7.lost_wakeup"
        assert self.only(check_row(idle, "done", 0, 0)) == "I6.done"
        assert self.only(check_row(idle, "owned", 0, 0, owner_known=False)) == "I6.owner"
