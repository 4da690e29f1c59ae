"""The benchmark's workflows in the public definition form; `tenuto serve` can serve them too."""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

from typing import Any

import tenuto
from bench.measure import StepClock
from bench.peer import STATE

CHAIN, HOPS, FAN, GROW, PARK = "bench-chain", "bench-hops", "bench-fan", "bench-grow", "bench-park"
HOP_STEPS = 50
MAX_PASSES = 1_000_000

CLOCK = StepClock()

app = tenuto.App()


def watch(clock: StepClock) -> StepClock:
    """Make the steps of the next run stamp this clock."""
    global CLOCK
    CLOCK = clock
    return clock


@app.step
async def bench_step(value: Any) -> dict[str, int]:
    CLOCK.tick()
    return {"n": 1}


@app.step
async def bench_item(value: Any) -> dict[str, int]:
    return {"n": 1}


@app.step
async def bench_grow(value: Any) -> dict[str, Any]:
    """Carry a small state from pass to pass; the first pass has no predecessor."""
    CLOCK.tick()
    before = value.get("s") or {**STATE, "limit": value["limit"]}
    return {**before, "n": before["n"] + 1}


def _function(node: str, handler: str) -> dict[str, Any]:
    return {"id": node, "kind": "function", "config": {"handler": handler}}


def _chain(name: str, steps: int) -> dict[str, Any]:
    nodes = [_function(f"s{i}", "bench_step") for i in range(steps)]
    return {
        "name": name,
        "nodes": nodes,
        "edges": [{"from": f"s{i}", "to": f"s{i + 1}"} for i in range(steps - 1)],
    }


DEFINITIONS: tuple[dict[str, Any], ...] = (
    _chain(CHAIN, 3),
    _chain(HOPS, HOP_STEPS),
    {
        "name": FAN,
        "nodes": [
            {
                "id": "all",
                "kind": "map",
                "config": {
                    "over": "${input.items}",
                    "body": _function("one", "bench_item"),
                    "concurrency": 10_000,
                },
            },
            {"id": "sum", "kind": "transform", "config": {"value": "size(nodes.all.output)"}},
        ],
        "edges": [{"from": "all", "to": "sum"}],
    },
    {
        "name": GROW,
        "nodes": [_function("s", "bench_grow")],
        "edges": [{"from": "s", "to": "s", "when": "output.n < output.limit", "max_iterations": MAX_PASSES}],
    },
    {"name": PARK, "nodes": [{"id": "w", "kind": "wait", "config": {"signal": "go"}}]},
)

for _definition in DEFINITIONS:
    app.register(_definition)
