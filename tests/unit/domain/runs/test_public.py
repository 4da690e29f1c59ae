"""The public event stream: every journal event has one stable name and its fields are plain data."""

from __future__ import annotations

import typing

import msgspec
import pytest
from msgspec import Raw

from tenuto.domain.runs import events as ev
from tenuto.domain.runs.public import ERRORS, FINAL, NAMES, TABLE, parse_id, public_events
from tenuto.errors import Invalid
from tests.unit.domain.runs.harness import Core
from tests.unit.domain.runs.test_fork import LOOP


def test_every_event_has_one_public_name():
    assert set(TABLE) == set(typing.get_args(ev.Events))
    assert len(set(NAMES)) == len(NAMES)
    assert all(name.split(".")[0] in ("run", "step", "call", "ticket", "patch") for name in NAMES)


def test_every_shown_field_exists():
    for kind, entry in TABLE.items():
        assert set(entry.fields) <= set(kind.__struct_fields__), kind


def test_what_ends_a_stream_and_what_is_an_error():
    assert {"run.completed", "run.failed", "run.cancelled", "run.budget_exceeded"} == FINAL
    assert {"step.retrying", "step.dead_lettered", "run.failed"} <= ERRORS


def test_ids_order_a_runs_events_and_lead_back():
    core = Core(LOOP).run()
    events = [event for seq, body in enumerate(core.records, 1) for event in public_events("r", seq, body)]
    ids = [parse_id(event.id) for event in events]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    seq, body = 2, core.records[1]
    rest = list(public_events("r", seq, body, after=0))
    assert rest == list(public_events("r", seq, body))[1:]


def test_events_are_plain_json():
    core = Core(LOOP).run()
    for seq, body in enumerate(core.records, 1):
        for event in public_events("r", seq, body):
            assert msgspec.json.decode(msgspec.json.encode(event))["id"] == event.id


def test_a_step_event_names_its_node_and_pass():
    body = ev.Body(5, (ev.StepCompleted(step="b~h.2", out=Raw(b'{"x":1}'), n=2, queued_ms=3, took_ms=4),))
    (event,) = public_events("r", 7, body)
    assert (event.id, event.type, event.step, event.node) == ("7.0", "step.completed", "b~h.2", "b")
    assert event.data == {
        "output": {"x": 1}, "attempt": 2, "edges_taken": None, "queued_ms": 3, "took_ms": 4, "worker": "",
    }


def test_a_pass_belongs_to_its_header():
    (event,) = public_events("r", 7, ev.Body(5, (ev.LoopPassed(scope="~m.1~h.2", next=3),)))
    assert (event.step, event.node) == ("h~m.1~h.2", "h")


@pytest.mark.parametrize(("text", "found"), [("", (0, -1)), ("12.3", (12, 3)), ("12", (12, 1 << 30))])
def test_ids_are_read(text: str, found: tuple[int, int]):
    assert parse_id(text) == found


@pytest.mark.parametrize("text", ["x", "1.", ".1", "1.x", "-1.0", "1.2.3", "9" * 40])
def test_what_is_no_id_is_refused(text: str):
    with pytest.raises(Invalid, match="event id"):
        parse_id(text)
