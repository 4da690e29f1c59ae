"""Requests that are repeated blindly or may go anywhere, and work without a limit."""

from __future__ import annotations

from typing import Any, cast

from tenuto.domain.graph.agents import tool_lists
from tenuto.domain.graph.analysis.scene import Scene
from tenuto.domain.graph.model import Node
from tenuto.domain.graph.reading import pointer
from tenuto.domain.graph.requests import method_of, requests_of
from tenuto.domain.graph.rules.subject import Spot, text_of

_KEYED = ("POST", "PATCH")


def find_missing_limits(scene: Scene) -> None:
    """Report requests and agents that nothing limits, and effects whose repeat nothing stops."""
    for spot in scene.subject.spots:
        if spot.node.kind == "http":
            _check_http(scene, spot)
        elif spot.node.kind == "agent":
            _check_agent(scene, spot)
        elif spot.node.kind == "map":
            _check_map(scene, spot)
        if spot.node.on_unknown == "retry" and scene.acts(spot.node):
            message = f"{spot.node.id!r} is made again when it is not known whether it happened"
            scene.add("retry.unknown_effect", pointer(spot.place, "on_unknown"), message)


def _check_http(scene: Scene, spot: Spot) -> None:
    if spot.node.timeout_s is None:
        scene.add("http.slow", spot.place, f"{spot.node.id!r} has no time limit of its own")
    for request, place in requests_of(spot.node):
        _check_request(scene, spot.node, request, spot.place + place)


def _check_request(scene: Scene, node: Node, config: dict[str, Any], place: str) -> None:
    url = text_of(config.get("url"))
    host = url.partition("://")[2].partition("/")[0] if "://" in url else url
    if "${" in host and not config.get("allow"):
        message = f"{node.id!r} calls whatever host the data names"
        scene.add("http.open_host", pointer(place, "url"), message)
    headers: Any = config.get("headers")
    for name, value in (cast("dict[str, Any]", headers) if isinstance(headers, dict) else {}).items():
        constant = isinstance(value, str) and "${" not in value
        if name.lower() == "idempotency-key" and constant and method_of(config) in _KEYED:
            message = f"{node.id!r} sends the same idempotency key in every run"
            scene.add("retry.constant_key", pointer(place, "headers", name), message)


def _check_agent(scene: Scene, spot: Spot) -> None:
    budget, config = scene.definition.budget, spot.node.config
    capped = budget is not None and (budget.tokens is not None or budget.cost_usd_micros is not None)
    talks = config.get("model") or config.get("routing") or config.get("prompt") is not None
    if talks and not capped and any(tools for _, tools in tool_lists(config)):
        message = f"{spot.node.id!r} may ask its model again after every round of tool calls, and nothing caps what that takes"
        scene.add("agent.no_token_limit", spot.place, message)


def _check_map(scene: Scene, spot: Spot) -> None:
    config = spot.node.config
    if config.get("concurrency") or isinstance(config.get("over"), list):
        return
    s = scene.subject
    inside = [node for level in s.levels if level.owner == spot.node.id for node in level.nodes]
    outward = next((node for node in inside if _goes_out(node)), None)
    if outward is not None:
        message = f"{spot.node.id!r} runs {outward.id!r} for every item at once, however many there are"
        scene.add("map.no_concurrency", pointer(spot.place, "config"), message)


def _goes_out(node: Node) -> bool:
    return node.kind in ("agent", "http")
