"""Rules of a node's own fields: joins, retries, limits, failures and effects."""

from __future__ import annotations

import msgspec

from tenuto.domain.graph.model import Node, Retry
from tenuto.domain.graph.reading import nearest, pointer
from tenuto.domain.graph.requests import only_reads
from tenuto.domain.graph.requirements import TOOL
from tenuto.domain.graph.rules.subject import Known, Spot, Subject, text_of
from tenuto.domain.graph.schema import check_schema

_RUNS_NOTHING = ("switch", "join", "map", "approval", "wait", "subflow")


def check_nodes(s: Subject) -> None:
    """Report every fault in the fields that all kinds share."""
    for spot in s.spots:
        _check_join(s, spot)
        _check_limits(s, spot)
        _check_on_error(s, spot)
        _check_effect(s, spot)
        if spot.node.output_schema is not None:
            s.found.items.extend(check_schema(spot.node.output_schema, pointer(spot.place, "output_schema")))


def effect_of(known: Known, node: Node) -> str:
    """Return the effect class a node has, by its own word, its handler's, or its kind's."""
    if node.effect is not None:
        return node.effect
    if node.kind == "function":
        tool = text_of(node.config.get("tool"))
        if tool:
            return known.effects.get(TOOL + tool, "effect")
        return known.effects.get(text_of(node.config.get("handler")), "idempotent")
    if node.kind == "http":
        return "idempotent" if only_reads(node) else "effect"
    return "pure" if node.kind in ("transform", "aggregate", "filter") else "idempotent"


def _check_join(s: Subject, spot: Spot) -> None:
    node, place = spot.node, pointer(spot.place, "join")
    n_in = s.shapes[spot.level].n_in[node.id]
    if isinstance(node.join, int) and not 1 <= node.join <= max(n_in, 1):
        message = f"a quorum of {node.join} cannot be reached: edges that lead here: {n_in}; allowed: 1 to {max(n_in, 1)}"
        s.report(place, message, "graph.quorum")
    if node.cancel_losers and node.join == "all":
        message = "a join of 'all' has no losers to cancel; allowed with 'any' or a number"
        s.report(pointer(spot.place, "cancel_losers"), message, "graph.join")


def _check_limits(s: Subject, spot: Spot) -> None:
    node = spot.node
    for key, value in (("timeout_s", node.timeout_s), ("heartbeat_s", node.heartbeat_s)):
        if value is not None and value <= 0:
            message = f"{value!r} is not allowed; allowed: more than 0 seconds"
            s.report(pointer(spot.place, key), message, "graph.range")
    if node.retry is not None:
        check_retry(s, node.retry, pointer(spot.place, "retry"))
    if node.isolation == "process" and node.kind != "function":
        message = f"a node of kind {node.kind!r} runs no code of yours; only 'function' has a process of its own"
        s.report(pointer(spot.place, "isolation"), message, "graph.isolation")


def check_retry(s: Subject, retry: Retry, place: str) -> None:
    """Report numbers of a retry policy that are out of range."""
    ranges: tuple[tuple[str, float, float, float], ...] = (
        ("attempts", retry.attempts, 1, 1000),
        ("backoff_s", retry.backoff_s, 0, 86_400),
        ("multiplier", retry.multiplier, 1, 100),
        ("max_backoff_s", retry.max_backoff_s, 0, 604_800),
        ("jitter", retry.jitter, 0, 1),
    )
    for key, value, low, high in ranges:
        if not low <= value <= high:
            message = f"{value!r} is not allowed; allowed: {low:g} to {high:g}"
            s.report(pointer(place, key), message, "graph.retry")


def _check_on_error(s: Subject, spot: Spot) -> None:
    policy = spot.node.on_error
    if policy is None:
        return
    place = pointer(spot.place, "on_error")
    fallback = policy.fallback
    if policy.action != "fallback":
        if fallback is not None:
            s.report(pointer(place, "fallback"), "goes with the action 'fallback' only", "graph.on_error")
        return
    has_value = fallback is not None and fallback.value is not msgspec.UNSET
    if fallback is None or bool(fallback.node) == has_value:
        s.report(place, "a fallback needs either 'value' or 'node'", "graph.on_error")
    elif fallback.node:
        _check_fallback_node(s, spot, fallback.node, pointer(place, "fallback", "node"))


def _check_fallback_node(s: Subject, spot: Spot, name: str, place: str) -> None:
    other = s.by_id.get(name)
    if other is None or other.level != spot.level:
        where = "does not exist" if other is None else "is not in the same graph"
        message = f"the fallback node {name!r} {where}"
        s.report(place, message, "graph.unknown_node", nearest(name, s.shapes[spot.level].names))
    elif name == spot.node.id:
        s.report(place, "a node cannot be its own fallback", "graph.on_error", "use 'retry' to try again")


def _check_effect(s: Subject, spot: Spot) -> None:
    node = spot.node
    if node.effect is not None and node.kind in _RUNS_NOTHING:
        message = f"a node of kind {node.kind!r} does no work itself, so it has no effect class"
        s.report(pointer(spot.place, "effect"), message, "graph.effect")
    hooks = s.known.hooks
    if node.on_unknown and node.on_unknown not in ("retry", "ask") and hooks is not None and node.on_unknown not in hooks:
        message = f"there is no status hook {node.on_unknown!r}; allowed: 'retry', 'ask' or the name of a hook"
        hint = nearest(node.on_unknown, {"retry", "ask", *hooks})
        s.report(pointer(spot.place, "on_unknown"), message, "graph.unknown_hook", hint)
