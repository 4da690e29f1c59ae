"""What a workflow's schemas mark as sensitive is nowhere to be seen in passing, and whole where a run is read."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import msgspec
import pytest

from tenuto.errors import Permanent
from tenuto.logs import configure
from tenuto.runtime.services.requests import ListSteps, StartRun
from tenuto.sdk.app import App
from tenuto.settings import Settings
from tenuto.wiring import running

CARD = "canary-4111-1111"
TOKEN = 'canary "ä" token'
PIN = 71_345_902
LARGE = "canary-large"

app = App()
user_log = logging.getLogger("shop")


@app.step
def charge(value: dict) -> Any:  # type: ignore[type-arg]
    user_log.warning("charging %s with pin %d", value["card"], value["pin"])
    return {"token": TOKEN, "note": f"charged {value['card']}", "n": 3}


@app.step
async def ship(ctx, value: dict) -> Any:  # type: ignore[no-untyped-def, type-arg]
    ctx.log(f"shipping with {value['got']}", token=value["got"], pin=PIN)
    return [value["got"]]


@app.step
def fail(value: dict) -> Any:  # type: ignore[type-arg]
    raise Permanent(f"no delivery for {value['card']}")


FLOW: dict[str, Any] = {
    "name": "shop",
    "input_schema": {
        "type": "object",
        "properties": {
            "card": {"$ref": "#/$defs/secret"}, "pin": {"type": "integer", "x-sensitive": True},
            "more": {"type": "array", "items": {"anyOf": [{"type": "object", "properties": {
                "key": {"type": "string", "x-sensitive": True}}}, {"type": "null"}]}},
            "open": {"type": "string"}, "fill": {"type": "string"},
        },
        "$defs": {"secret": {"type": "string", "x-sensitive": True}},
    },
    "nodes": [
        {"id": "charge", "kind": "function", "config": {"handler": "charge"}, "input": {
            "card": "${input.card}", "pin": "${input.pin}"},
         "output_schema": {"type": "object", "properties": {"token": {"type": "string", "x-sensitive": True}}}},
        {"id": "ship", "kind": "function", "config": {"handler": "ship"}, "input": {"got": "${nodes.charge.output.token}"}},
        {"id": "fail", "kind": "function", "config": {"handler": "fail"}, "input": {"card": "${input.more.0.key}"}},
    ],
    "edges": [{"from": "charge", "to": "ship"}, {"from": "ship", "to": "fail"}],
}


def shows(view: Any) -> str:
    return json.dumps(msgspec.to_builtins(view), ensure_ascii=False, default=str)


def clean(text: str) -> bool:
    plain = text.replace("\\", "")
    return "canary" not in plain and str(PIN) not in plain


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("fill", ["", "x" * 20_000], ids=["inline", "stored"])
async def test_what_is_marked_is_seen_nowhere_but_in_the_run_itself(form: str, fill: str):
    before, level = logging.getLogger().handlers[:], logging.getLogger().level
    stream = io.StringIO()
    configure(Settings(log_format=form), stream)
    try:
        async with running("memory:", app.catalog()) as runtime:
            engine = runtime.engine
            given = {"card": CARD, "pin": PIN, "more": [{"key": LARGE}], "open": "seen", "fill": fill}
            await engine.workflows.publish(FLOW)
            run = await engine.runs.submit(StartRun(workflow="shop", input=given))
            live = [event async for event in engine.history.stream(run.id)]
            events = (await engine.history.events(run.id, limit=1000)).items
            steps = (await engine.history.steps(run.id)).items
            every = [item.event async for item in first(engine.history.stream_all(cursors={}), events[-1].id)]
            trail = await engine.audit.trail(run.id)
            await runtime.projector.drain()
            rows = (await engine.steps.list(ListSteps(run=run.id))).items
            listed = (await engine.runs.list()).items
            whole = await engine.runs.get(run.id)
    finally:
        logging.getLogger().handlers[:] = before
        logging.getLogger().setLevel(level)

    for shown in (live, events, steps, every, trail, rows, listed):
        assert clean(shows(shown)), shows(shown)
    log = stream.getvalue()
    assert "charging [redacted] with pin [redacted]" in log
    assert "shipping with [redacted]" in log
    assert clean(log)

    assert [event.type for event in events][-1] == "run.failed"
    if not fill:
        assert events[0].data["input"] == {
            "card": "[redacted]", "pin": "[redacted]", "more": [{"key": "[redacted]"}], "open": "seen", "fill": ""}
    charged = next(event for event in events if event.type == "step.completed" and event.step == "charge")
    assert charged.data["output"] == {"token": "[redacted]", "note": "charged [redacted]", "n": 3}
    assert "no delivery for [redacted]" in shows(rows)
    assert any("shipping with [redacted]" in shows(event) for event in live if event.type == "step.log")

    if not fill:
        assert whole.input["card"] == CARD
    assert whole.steps[1].output == [TOKEN]


async def first(source: Any, last: str) -> Any:
    async for item in source:
        yield item
        if item.event.id == last:
            return


async def test_a_mark_is_true_or_false():
    async with running("memory:", app.catalog(), worker=False) as runtime:
        wrong = {**FLOW, "input_schema": {"type": "object", "x-sensitive": "yes"}}
        with pytest.raises(Exception, match="true or false"):
            await runtime.engine.workflows.publish(wrong)
