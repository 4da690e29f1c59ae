"""What `mark_cacheable` suggests, run for real: the second run with the same input skips the marked part whole."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from tenuto import App
from tenuto.adapters.optimizers.sandbox import WasmSandbox
from tenuto.wiring import running
from tests.unit.optimizers.passes import patched, suggestions

LONG_S = 15


async def test_a_marked_part_is_computed_once_for_each_input() -> None:
    app, calls = App("t"), Counter[str]()

    @app.step(effect="pure")
    async def count(value: Any) -> Any:
        calls[str(value)] += 1
        return {"of": value}

    def step(id: str, given: str) -> dict[str, Any]:
        return {"id": id, "kind": "function", "effect": "pure", "config": {"handler": "count"}, "input": given}

    document = {
        "name": "w",
        "nodes": [
            {"id": "start", "kind": "function", "config": {"handler": "begin"}},
            step("first", "${input.x}"), step("left", "${nodes.first.output.of}1"), step("right", "${nodes.first.output.of}2"),
            {"id": "both", "kind": "transform", "config": {"template": ["${nodes.left.output}", "${nodes.right.output}"]}},
        ],
        "edges": [{"from": a, "to": b} for a, b in (
            ("start", "first"), ("first", "left"), ("first", "right"), ("left", "both"), ("right", "both"))],
    }  # fmt: skip

    @app.step
    async def begin(value: Any) -> None:
        return None

    sandbox = WasmSandbox()
    (suggestion,) = await suggestions(sandbox, "mark_cacheable", document)
    await asyncio.to_thread(sandbox.close)
    assert suggestion.nodes == ("first", "left", "right", "both")
    async with running("memory:", app.catalog()) as runtime:
        await runtime.engine.workflows.publish(patched(document, suggestion))
        outputs = []
        for x in ("a", "a", "b"):
            run = await runtime.engine.runs.start("w", {"x": x})
            view = await runtime.engine.runs.result(run.id, timeout_s=LONG_S)
            assert view.status == "completed", view.error
            outputs.append(view.output)
    assert outputs[0] == outputs[1] != outputs[2]
    assert calls == dict.fromkeys(["a", "a1", "a2", "b", "b1", "b2"], 1)
