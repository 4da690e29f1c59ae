"""Rules of an agent's config: whom it may ask, where it ends, and who judges it."""

from __future__ import annotations

import re
from typing import Any, cast

from tenuto.domain.graph.agents import TRANSFER, Helper, entry_of, tool_lists
from tenuto.domain.graph.reading import nearest, pointer, read_struct
from tenuto.domain.graph.rules.subject import Spot, Subject, check_model, check_name, text_of
from tenuto.domain.graph.schema import check_schema

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,49}")
_LEAST: dict[tuple[str, ...], int] = {
    ("corrections",): 0, ("model_retries",): 0, ("limits", "rounds"): 1, ("limits", "tool_calls"): 1,
    ("limits", "bad_calls"): 0, ("limits", "depth"): 0, ("limits", "children"): 0, ("limits", "handoffs"): 0,
    ("limits", "history"): 1, ("verify", "max_retries"): 0, ("verify", "max_chars"): 1, ("knowledge", "max_chars"): 1,
    ("knowledge", "min_chars"): 0, ("context", "upstream"): 1,
}
"""The least value of each number that is not simply more than 0."""


def check_agent(s: Subject, spot: Spot, place: str) -> None:
    """Report every fault in an agent's config that its types do not show."""
    config = spot.node.config
    _check_helpers(s, config, place)
    _check_tools(s, config, place)
    _check_numbers(s, config, place)
    _check_choices(s, spot, place)
    for path in (("model",), ("verify", "model"), ("knowledge", "model"), ("judge", "model")):
        name = text_of(_at(config, path))
        if not _is_chosen(name):
            check_model(s, name, pointer(place, *path))
        elif path != ("model",):
            s.report(pointer(place, *path), f"{name!r} chooses a model for the node itself only", "graph.unknown_model")
    if isinstance(config.get("schema"), dict):
        s.found.items.extend(check_schema(config["schema"], pointer(place, "schema")))
    if "max_rounds" in config and _at(config, ("limits", "rounds")) is not None:
        message = "'max_rounds' means the same as 'limits.rounds'; keep one of them"
        s.report(pointer(place, "max_rounds"), message, "graph.duplicate_field")
    if "judge" in config and config.get("merge") not in ("reduce", "best"):
        s.report(pointer(place, "judge"), "'judge' is for a swarm that merges by 'reduce' or 'best'", "graph.unknown_field")
    criteria: Any = _at(config, ("verify", "criteria"))
    if isinstance(criteria, str | list) and not criteria:
        s.report(pointer(place, "verify", "criteria"), "says nothing to judge by", "graph.missing_field")


def _is_chosen(name: str) -> bool:
    """Say whether a model's name leaves the choice to the settings."""
    return name == "auto" or name.startswith("tier:")


def _at(config: dict[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = config
    for key in path:
        found = cast("dict[str, Any]", found).get(key) if isinstance(found, dict) else None
    return found


def _helpers(config: dict[str, Any]) -> dict[str, Any]:
    helpers = config.get("agents")
    return cast("dict[str, Any]", helpers) if isinstance(helpers, dict) else {}


def _check_helpers(s: Subject, config: dict[str, Any], place: str) -> None:
    helpers = _helpers(config)
    for name, item in helpers.items():
        spot = pointer(place, "agents", name)
        if not _NAME.fullmatch(name):
            message = f"{name!r} is no name of an agent; allowed: letters, digits, '_' and '-', at most 50, no digit first"
            s.report(spot, message, "graph.name")
        if not isinstance(item, dict):
            s.report(spot, "an agent is an object", "graph.type")
            continue
        fields = cast("dict[str, Any]", item)
        read_struct(Helper, fields, spot, s.found, owner="an agent inside a node")
        if not _is_chosen(text_of(fields.get("model"))):
            check_model(s, text_of(fields.get("model")), pointer(spot, "model"))
        _check_handoffs(s, fields, helpers, spot)
    _check_handoffs(s, config, helpers, place)


def _check_handoffs(s: Subject, config: dict[str, Any], helpers: dict[str, Any], place: str) -> None:
    names: Any = config.get("handoffs")
    for at, name in enumerate(cast("list[Any]", names) if isinstance(names, list) else []):
        if isinstance(name, str) and name not in helpers:
            message = f"there is no agent {name!r} in this node's 'agents'"
            s.report(pointer(place, "handoffs", at), message, "graph.unknown_agent", nearest(name, helpers))


def _check_tools(s: Subject, config: dict[str, Any], place: str) -> None:
    helpers = _helpers(config)
    for path, tools in tool_lists(config):
        for at, entry in enumerate(tools):
            kind, name = entry_of(entry)
            spot = pointer(place, *path, at)
            if kind == "tool":
                check_name(s, s.known.tools, name, "tool", spot)
                if name in helpers or name.startswith(TRANSFER):
                    message = f"{name!r} is a tool and an agent of this node; a model could not tell them apart"
                    s.report(spot, message, "graph.name")
            elif kind == "agent" and name not in helpers:
                message = f"there is no agent {name!r} in this node's 'agents'"
                s.report(spot, message, "graph.unknown_agent", nearest(name, helpers))
            elif not kind:
                s.report(spot, "a tool is a name, {name: NAME}, or {agent: NAME}", "graph.type")


def _check_numbers(s: Subject, config: dict[str, Any], place: str) -> None:
    for path, least in _LEAST.items():
        value = _at(config, path)
        if isinstance(value, int) and value < least:
            s.report(pointer(place, *path), f"{value} is not allowed; allowed: {least} or more", "graph.range")


def _check_choices(s: Subject, spot: Spot, place: str) -> None:
    targets = {edge.to for edge, _ in s.outgoing.get(spot.node.id, ()) if edge.on == "success"}
    choices = spot.node.config.get("choices")
    for at, name in enumerate(cast("list[Any]", choices) if isinstance(choices, list) else []):
        if isinstance(name, str) and name not in targets:
            message = f"{name!r} is no next node of {spot.node.id!r}; allowed: {', '.join(sorted(targets)) or 'none'}"
            s.report(pointer(place, "choices", at), message, "graph.unknown_node", nearest(name, targets))
