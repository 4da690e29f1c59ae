"""What ended runs took, on every store: by version and node, with what came from the cache."""

from __future__ import annotations

from typing import Any

import pytest

from tenuto import App
from tenuto.errors import WorkflowMissing
from tenuto.runtime.optimizer.options import Optimizing
from tenuto.wiring import running

LONG_S = 20


def build() -> App:
    app = App("t")

    @app.step(effect="pure")
    def square(value: Any) -> int:
        return value["n"] ** 2

    @app.step
    def check(value: Any) -> str:
        if value["n"] > 2:
            raise ValueError("too much")
        return "fine"

    app.register({
        "name": "w", "edges": [{"from": "first", "to": "last"}],
        "nodes": [
            {"id": "first", "kind": "function", "config": {"handler": "square"}, "cache": {"policy": "read_through"}},
            {"id": "last", "kind": "function", "config": {"handler": "check"}, "input": "${input}"},
        ],
    })  # fmt: skip
    return app


async def test_statistics_are_those_of_the_runs_of_a_version(url: str) -> None:
    """Completed and failed ones, replays apart; a result from the cache is no executed step; another version has its own."""
    async with running(url, build().catalog(), optimizing=Optimizing(window=3)) as runtime:
        engine = runtime.engine
        first = ""
        for n in (1, 1, 2, 3):
            run = (await engine.runs.start("w", {"n": n})).id
            first = first or run
            await engine.runs.result(run, timeout_s=LONG_S)
        replay = await engine.runs.replay(first)
        await engine.runs.result(replay.id, timeout_s=LONG_S)
        assert runtime.projector is not None
        await runtime.projector.drain()
        found = await engine.gains.statistics("w")
        assert (found.runs, found.failed, found.window, found.number) == (2, 1, 3, "1.0")
        nodes = {node.node: node for node in found.nodes}
        assert (nodes["first"].completed, nodes["first"].reused) == (3, 1)
        assert (nodes["last"].completed, nodes["last"].failed) == (2, 1)
        assert found.steps == (6 - 1) / 3 and found.p50_ms is not None and found.requests is None
        base = found.version
        node = {"id": "more", "kind": "function", "config": {"handler": "square"}, "input": "${input}"}
        edge = {"from": "last", "to": "more"}
        ops = [{"op": "add", "path": "/nodes/-", "value": node}, {"op": "add", "path": "/edges/-", "value": edge}]
        version = await engine.versions.patch("w", ops)
        assert (await engine.gains.statistics("w")).runs == 0
        assert (await engine.gains.known_of("w", version.version))[0] == base, "until it has runs, those it came of count"
        with pytest.raises(WorkflowMissing):
            await engine.gains.statistics("w", "prod")
