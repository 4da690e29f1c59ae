"""Rules of a node's config: the fields of its kind, their types and ranges, the names they use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from tenuto.domain.graph.bodies import body_of
from tenuto.domain.graph.kinds import CONFIG
from tenuto.domain.graph.model import Budget, Node
from tenuto.domain.graph.people import term_problems
from tenuto.domain.graph.reading import Findings, nearest, pointer, read_field, read_struct
from tenuto.domain.graph.rules.agents import check_agent
from tenuto.domain.graph.rules.budgets import budget_problems
from tenuto.domain.graph.rules.requests import check_http
from tenuto.domain.graph.rules.subject import Spot, Subject, check_name, text_of
from tenuto.domain.graph.rules.texts import expression_fault


def check_configs(s: Subject) -> None:
    """Report every fault in what nodes are configured to do."""
    for spot in s.spots:
        place = pointer(spot.place, "config")
        _check_fields(s, spot.node, place)
        extra = _BY_KIND.get(spot.node.kind)
        if extra is not None:
            extra(s, spot, place)


def _check_fields(s: Subject, node: Node, place: str) -> None:
    rule, config = CONFIG[node.kind], node.config
    for key, value in config.items():
        if key not in rule.keys:
            s.found.unknown_field(place, key, rule.keys, f"the config of a node of kind {node.kind!r}")
        else:
            read_field(rule.keys[key], value, pointer(place, key), s.found)
    for key in rule.required:
        if key not in config:
            s.report(place, f"a node of kind {node.kind!r} needs {key!r}", "graph.missing_field")
    for group in rule.one_of:
        given = [key for key in group if key in config]
        if len(given) != 1:
            named = " or ".join(repr(key) for key in group)
            message = f"a node of kind {node.kind!r} needs exactly one of {named}; {len(given)} are given"
            s.report(place, message, "graph.missing_field")
    for key in rule.conditions:
        _check_expression(s, config.get(key), pointer(place, key))
    over = config.get("over")
    if isinstance(over, str) and "$" not in over:
        _check_expression(s, over, pointer(place, "over"))
    for key in ("timeout_s", "n", "max_rounds", "max_tokens"):
        value = config.get(key)
        if isinstance(value, int | float) and value <= 0:
            s.report(pointer(place, key), f"{value!r} is not allowed; allowed: more than 0", "graph.range")


def _check_expression(s: Subject, text: Any, place: str) -> None:
    if not isinstance(text, str):
        return
    if fault := expression_fault(text):
        s.report(place, f"{text!r} is not an expression: {fault}", "graph.expression")


def _check_function(s: Subject, spot: Spot, place: str) -> None:
    config = spot.node.config
    check_name(s, s.known.handlers, text_of(config.get("handler")), "handler", pointer(place, "handler"))
    check_name(s, s.known.tools, text_of(config.get("tool")), "tool", pointer(place, "tool"))
    if "args" in config and "tool" not in config:
        message = "'args' are for a tool; a handler gets the node's 'input'"
        s.report(pointer(place, "args"), message, "graph.unknown_field")


def _check_map(s: Subject, spot: Spot, place: str) -> None:
    config = spot.node.config
    if isinstance(config.get("body"), dict) and body_of(spot.node) is None:
        message = "a map's body in canonical form is an object with 'nodes' and 'edges'"
        s.report(pointer(place, "body"), message, "graph.map_body")
    concurrency = config.get("concurrency")
    if isinstance(concurrency, int) and concurrency < 0:
        message = f"{concurrency} is not allowed; allowed: 0 (no limit) or more"
        s.report(pointer(place, "concurrency"), message, "graph.range")
    policy = config.get("on_failure", "fail_fast")
    tolerate: Any = cast("dict[str, Any]", policy).get("tolerate") if isinstance(policy, dict) else None
    counted = isinstance(policy, dict) and set(cast("dict[str, Any]", policy)) == {"tolerate"}
    if policy in ("fail_fast", "collect") or (counted and isinstance(tolerate, int) and tolerate >= 0):
        return
    message = f"{policy!r} is not allowed; allowed: 'fail_fast', 'collect', {{'tolerate': n}}"
    hint = nearest(policy, ("fail_fast", "collect")) if isinstance(policy, str) else ""
    s.report(pointer(place, "on_failure"), message, "graph.map_failure", hint)


def _check_approval(s: Subject, spot: Spot, place: str) -> None:
    s.found.items.extend(term_problems(spot.node.config, place))


def _check_wait(s: Subject, spot: Spot, place: str) -> None:
    config = spot.node.config
    seconds = config.get("seconds")
    if isinstance(seconds, int | float) and seconds < 0:
        s.report(pointer(place, "seconds"), f"{seconds!r} is not allowed; allowed: 0 or more", "graph.range")
    elif seconds is not None and not isinstance(seconds, int | float | str):
        s.report(pointer(place, "seconds"), "allowed: a number or a reference", "graph.type")
    if "timeout_s" in config and "signal" not in config:
        s.report(pointer(place, "timeout_s"), "'timeout_s' is for a wait for a 'signal'", "graph.unknown_field")


def _check_subflow(s: Subject, spot: Spot, place: str) -> None:
    config = spot.node.config
    check_name(s, s.known.workflows, text_of(config.get("workflow")), "workflow", pointer(place, "workflow"))
    if "tag" in config and "version" in config:
        s.report(pointer(place, "tag"), "give a 'tag' or a 'version', not both", "graph.duplicate_field")
    if isinstance(config.get("budget"), dict):
        inner = Findings()
        budget = read_struct(Budget, config["budget"], pointer(place, "budget"), inner, owner="a budget")
        s.found.items.extend(inner.items)
        if budget is not None:
            s.found.items.extend(budget_problems(budget, pointer(place, "budget")))


_BY_KIND: dict[str, Callable[[Subject, Spot, str], None]] = {
    "function": _check_function,
    "agent": check_agent,
    "http": check_http,
    "map": _check_map,
    "approval": _check_approval,
    "wait": _check_wait,
    "subflow": _check_subflow,
}
