"""Caps that no run can keep, and caps that limit nothing."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, cast

from tenuto.domain.graph.analysis.scene import Scene
from tenuto.domain.graph.model import Budget, Node
from tenuto.domain.graph.reading import pointer
from tenuto.domain.graph.requirements import tools_of
from tenuto.domain.graph.rules.subject import Spot, text_of

MAX_TOKENS = 1024
"""What a request may use where an agent does not say."""
_CAPS = ("tokens", "tool_calls", "cost_usd_micros", "wall_clock_s")


def find_impossible_caps(scene: Scene) -> None:
    """Report what every successful run needs and its budget does not have."""
    budget = scene.definition.budget
    if budget is None:
        return
    _check_calls(scene, budget)
    _check_tokens(scene, budget)
    _check_time(scene, budget)
    _check_subflows(scene, budget)
    _check_unused(scene, budget)


def _times(scene: Scene) -> dict[int, int]:
    """Return how often each level runs at least: once for the run, for a body as often as its list is written long."""
    s, times = scene.subject, {0: 1}
    for index, level in enumerate(s.levels):
        if level.owner:
            owner = s.by_id[level.owner]
            over: Any = owner.node.config.get("over")
            counts = isinstance(over, list) and owner.node.config.get("on_failure", "fail_fast") == "fail_fast"
            items = len(cast("list[Any]", over)) if counts and level.owner in scene.order.certain else 0
            times[index] = times[level.parent] * items
    return times


def _sure(scene: Scene) -> list[tuple[Spot, int]]:
    times, certain = _times(scene), scene.order.certain
    found = [(spot, times[spot.level]) for spot in scene.subject.spots if spot.node.id in certain]
    return [(spot, many) for spot, many in found if many and not spot.node.cache]


def _check_calls(scene: Scene, budget: Budget) -> None:
    if budget.tool_calls is None and not budget.per_tool:
        return
    calls: Counter[str] = Counter()
    for spot, many in _sure(scene):
        tool = text_of(spot.node.config.get("tool")) if spot.node.kind == "function" else ""
        if tool:
            calls[tool] += many
    total = calls.total()
    if budget.tool_calls is not None and total > budget.tool_calls:
        message = f"every run makes at least {total} tool calls; the cap is {budget.tool_calls}"
        scene.add("cap.tool_calls", "/budget/tool_calls", message)
    for tool, cap in budget.per_tool.items():
        if calls[tool] > cap:
            message = f"every run calls {tool!r} at least {calls[tool]} times; the cap is {cap}"
            scene.add("cap.tool_calls", pointer("/budget/per_tool", tool), message)


def _check_tokens(scene: Scene, budget: Budget) -> None:
    if budget.tokens is None:
        return
    for spot, _ in _sure(scene):
        node = spot.node
        most: Any = node.config.get("max_tokens", MAX_TOKENS)
        if _asks_model(node) and isinstance(most, int) and most > budget.tokens:
            message = f"a request of {node.id!r} reserves {most} tokens; the cap of the run is {budget.tokens}"
            scene.add("cap.tokens", pointer(spot.place, "config"), message)


def _asks_model(node: Node) -> bool:
    config = node.config
    asks = config.get("model") or config.get("routing") or config.get("prompt") is not None
    return node.kind == "agent" and bool(asks or not config.get("tools"))


def _check_time(scene: Scene, budget: Budget) -> None:
    limit = budget.wall_clock_s
    if limit is None:
        return
    needed = _seconds(scene)
    if needed > limit:
        message = f"every run waits at least {needed:g} s; it has {limit:g} s"
        scene.add("cap.wall_clock", "/budget/wall_clock_s", message)
    for spot in scene.subject.spots:
        node = spot.node
        for place, value in (
            (pointer(spot.place, "timeout_s"), node.timeout_s),
            (pointer(spot.place, "config", "timeout_s"), node.config.get("timeout_s")),
        ):
            if isinstance(value, int | float) and value > limit:
                message = f"{node.id!r} may take {value:g} s; the run has {limit:g} s"
                scene.add("cap.late_timeout", place, message)


def _seconds(scene: Scene) -> float:
    """Return the least time that the waits of every successful run take, bodies before the maps around them."""
    s, longest = scene.subject, dict[str, float]()
    for index in reversed(range(len(s.levels))):
        level, shape = s.levels[index], s.shapes[index]
        ends: dict[str, float] = {}
        for name in scene.order.sorted[index]:
            if name not in scene.order.certain:
                continue
            node = s.by_id[name].node
            before = [ends[src] for src in scene.order.into.get(name, ()) if src in ends]
            waits_for_all = node.join == "all" or shape.n_in[name] < 2
            begin = max(before, default=0.0) if waits_for_all else 0.0
            ends[name] = begin + _own_seconds(node, longest)
        longest[level.owner] = max(ends.values(), default=0.0)
    return longest[""]


def _own_seconds(node: Node, longest: dict[str, float]) -> float:
    config = node.config
    if node.kind == "wait":
        seconds: Any = config.get("seconds")
        return float(seconds) if isinstance(seconds, int | float) else 0.0
    over: Any = config.get("over")
    if node.kind == "map" and isinstance(over, list) and config.get("on_failure", "fail_fast") == "fail_fast":
        items, at_once = len(cast("list[Any]", over)), config.get("concurrency") or 0
        rounds = math.ceil(items / at_once) if at_once else min(items, 1)
        return rounds * longest.get(node.id, 0.0)
    return 0.0


def _check_subflows(scene: Scene, budget: Budget) -> None:
    for spot in scene.subject.spots:
        config = spot.node.config
        given: Any = config.get("budget") if spot.node.kind == "subflow" else None
        if not isinstance(given, dict) or config.get("detach"):
            continue
        for cap in _CAPS:
            asked, limit = cast("dict[str, Any]", given).get(cap), getattr(budget, cap)
            if isinstance(asked, int | float) and limit is not None and asked > limit:
                message = f"{spot.node.id!r} is given {asked:g}; the run has {limit:g}"
                scene.add("cap.subflow", pointer(spot.place, "config", "budget", cap), message)


def _check_unused(scene: Scene, budget: Budget) -> None:
    nodes = [spot.node for spot in scene.subject.spots]
    if not budget.per_tool or any(node.kind == "subflow" or "handler" in node.config for node in nodes):
        return  # what code and other workflows call is not seen here
    used = {tool for node in nodes for tool in tools_of(node)}
    prefixes = {tool[:-2] for tool in used if tool.endswith(".*")}
    for tool in budget.per_tool:
        if tool not in used and tool.partition(".")[0] not in prefixes:
            scene.add("cap.unused", pointer("/budget/per_tool", tool), f"no node may call a tool {tool!r}")
