"""Handlers, workflows and a way to wait, for tests of the use cases."""

from __future__ import annotations

from typing import Any

from tenuto.domain.runs.public import PublicEvent
from tenuto.errors import StepError
from tenuto.runtime.services.engine import Engine
from tenuto.sdk.app import App

broken: set[str] = set()
"""Steps that fail for now, by the value of `name` in their config or input."""


def make_app() -> App:
    app = App()

    @app.step
    def echo(value: dict) -> Any:  # type: ignore[type-arg]
        return value

    @app.step
    def double(value: dict) -> Any:  # type: ignore[type-arg]
        return {"n": value["n"] * 2}

    @app.step
    def flaky(value: dict) -> Any:  # type: ignore[type-arg]
        if "flaky" in broken:
            raise StepError("it is broken")
        return {"fine": True}

    return app


def node(name: str, handler: str = "echo", **rest: Any) -> dict[str, Any]:
    return {"id": name, "kind": "function", "config": {"handler": handler}, **rest}


CALC: dict[str, Any] = {
    "name": "calc",
    "input_schema": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}},
    "nodes": [node("double", "double"), node("last", input={"got": "${nodes.double.output.n}"})],
    "edges": [{"from": "double", "to": "last"}],
}
ASK: dict[str, Any] = {
    "name": "ask",
    "nodes": [node("first"), {"id": "ok", "kind": "approval", "config": {"message": "fine?"}}, node("end")],
    "edges": [{"from": "first", "to": "ok"}, {"from": "ok", "to": "end"}],
}
FLAKY: dict[str, Any] = {"name": "flaky", "nodes": [node("a", "flaky")]}
WAITS: dict[str, Any] = {
    "name": "waits", "nodes": [{"id": "w", "kind": "wait", "config": {"signal": "go"}}, node("end")],
    "edges": [{"from": "w", "to": "end"}],
}


async def until(engine: Engine, run_id: str, kind: str, after: str = "") -> PublicEvent:
    """Follow a run until it says something."""
    async for event in engine.history.stream(run_id, after=after):
        if event.type == kind:
            return event
    raise AssertionError(f"{kind} never came")
