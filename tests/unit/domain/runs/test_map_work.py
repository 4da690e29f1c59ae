"""The work of a map grows with its items, also where they hold loops and maps and fail."""

from __future__ import annotations

import cProfile
import pstats
from typing import Any

import pytest

from tests.unit.domain.runs.harness import Core, Failed
from tests.unit.domain.runs.test_graph_semantics import edge, node

LOOP = {
    "nodes": [node("head"), node("check"), node("end")],
    "edges": [edge("head", "check"), edge("check", "head", when="output.again", max_iterations=3),
              edge("check", "end", when="!output.again")],
}  # fmt: skip
INNER = {
    "nodes": [
        {"id": "inner", "kind": "map", "config": {"over": [1, 2], "body": {"nodes": [node("check")]}}}, node("end"),
    ],
    "edges": [edge("inner", "end")],
}  # fmt: skip


def bad(_value: Any) -> Any:
    raise Failed("no luck")


def calls_for(body: dict[str, Any], items: int) -> int:
    config = {"over": "${input.n}", "body": body, "on_failure": "collect"}
    core = Core({"nodes": [{"id": "m", "kind": "map", "config": config}]}, {"check": bad}, given={"n": list(range(items))})
    profile = cProfile.Profile()
    profile.enable()
    core.run()
    profile.disable()
    assert core.status == "completed"
    assert len(core.output["m"]) == items
    assert not [key for key, step in core.st.steps.items() if step.status in ("ready", "running")]
    assert core.st.regions.keys() <= {""}
    stats: Any = pstats.Stats(profile)
    return stats.total_calls


@pytest.mark.parametrize("body", [LOOP, INNER], ids=["loop", "map"])
def test_failing_items_cost_as_much_each_however_many_there_are(body: dict[str, Any]):
    few, many = calls_for(body, 250), calls_for(body, 2000)
    assert many < 8 * few * 1.1, f"{many:,} calls for 2,000 items, {few:,} for 250"


def test_what_is_active_in_loops_and_maps_of_a_failed_item_is_cancelled():
    loop = {"nodes": [node("bad"), node("h"), node("c")],
            "edges": [edge("h", "c"), edge("c", "h", when="true", max_iterations=3)]}  # fmt: skip
    inner = {"id": "k", "kind": "map", "config": {"over": [1, 2], "body": {"nodes": [node("x")]}}}
    body = {"nodes": [*loop["nodes"], inner], "edges": loop["edges"]}
    config = {"over": [7], "body": body, "on_failure": "collect"}
    core = Core({"nodes": [{"id": "m", "kind": "map", "config": config}]}, {"bad": bad})
    core.step(*core.todo)
    core.todo = []
    core.started.sort(key=lambda key: key.startswith("bad"))
    core.run()
    assert core.status == "completed"
    assert core.statuses()["m"] == "completed"
    active = {key for key, status in core.statuses().items() if status in ("ready", "running", "waiting")}
    assert active == set()
    assert core.st.active == 0
