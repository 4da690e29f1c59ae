"""Other spellings a node, edge, budget or config may use, brought to the canonical one.

Each function changes the copy of the document it is given and touches nothing else; a spelling that cannot be
understood stays as it is, so that the reader reports it in its place.
"""

from __future__ import annotations

from typing import Any, cast

from tenuto.domain.graph.kinds import CONFIG, PATTERNS
from tenuto.domain.graph.reading import Findings, pointer

Object = dict[str, Any]

KIND_ALIASES = {"hitl": "approval", "conditional": "switch", "branch": "switch", "parallel": "join", "loop": "switch"}
CONFIG_ALIASES: dict[str, dict[str, str]] = {
    "agent": {"llm": "model", "concurrency": "n", "system_prompt": "system"},
    "http": {"payload": "body"},
    "subflow": {"graph": "workflow", "name": "workflow"},
}
_NODE_FIELDS = {
    "id", "kind", "config", "input", "retry", "timeout_s", "heartbeat_s", "on_error", "join", "cancel_losers",
    "route", "effect", "on_unknown", "isolation", "deterministic", "irreversible", "cache", "resources",
    "output_schema", "description",
}
_BUDGET_ALIASES = {
    "tools": "tool_calls", "perTool": "per_tool", "wallClockSec": "wall_clock_s", "toolCalls": "tool_calls",
    "wall_clock_sec": "wall_clock_s",
}


def rename(data: Object, old: str, new: str, place: str, found: Findings) -> None:
    """Give a field its canonical name; two spellings of one field are a problem."""
    if old not in data:
        return
    if new in data:
        message = f"{old!r} means the same as {new!r}; keep one of them"
        found.add(pointer(place, old), message, code="graph.duplicate_field")
        del data[old]
        return
    data[new] = data.pop(old)


def rename_ms(data: Object, old: str, new: str, place: str, found: Findings) -> None:
    """Turn a field in milliseconds into the canonical one in seconds."""
    value = data.get(old)
    if isinstance(value, int | float) and not isinstance(value, bool):
        data[old] = value / 1000
        rename(data, old, new, place, found)
    elif old in data:
        found.add(pointer(place, old), "is not a number of milliseconds", code="graph.type")
        del data[old]


def spell_node(data: Object, place: str, found: Findings) -> str:
    """Bring a node's fields to the canonical form; return the kind as the author wrote it."""
    rename(data, "type", "kind", place, found)
    if "agent" in data and "kind" not in data:
        data["kind"] = data.pop("agent")
    rename_ms(data, "timeout_ms", "timeout_s", place, found)
    written = data.get("kind")
    kind = written if isinstance(written, str) else ""
    config = data.setdefault("config", {})
    if not isinstance(config, dict):
        return kind
    if kind in PATTERNS:
        data["kind"] = "agent"
        cast("Object", config).setdefault("pattern", kind)
    elif kind in KIND_ALIASES:
        data["kind"] = KIND_ALIASES[kind]
    _spell_config(data, cast("Object", config), kind, place, found)
    if kind in ("conditional", "branch"):
        data.setdefault("route", "first")
    spell_retry(data, pointer(place, "retry"), found)
    _spell_on_error(data)
    join = data.get("join")
    if isinstance(join, dict) and set(cast("Object", join)) == {"quorum"}:
        data["join"] = join["quorum"]
    return kind


def _spell_config(data: Object, config: Object, kind: str, place: str, found: Findings) -> None:
    canonical = data.get("kind")
    if not isinstance(canonical, str) or canonical not in CONFIG:
        return
    aliases = CONFIG_ALIASES.get(canonical, {})
    keys = CONFIG[canonical].keys
    for key in [key for key in data if key not in _NODE_FIELDS and (key in keys or key in aliases)]:
        if key in config:
            message = "is set here and in 'config'; keep one of them"
            found.add(pointer(place, key), message, code="graph.duplicate_field")
            del data[key]
        else:
            config[key] = data.pop(key)
    for old, new in aliases.items():
        rename(config, old, new, pointer(place, "config"), found)
    if kind == "hitl":
        _spell_approval(config)


def _spell_approval(config: Object) -> None:
    hours = config.get("timeout_hours")
    if isinstance(hours, int | float) and "timeout_s" not in config:
        config["timeout_s"] = config.pop("timeout_hours") * 3600
    policy = config.get("escalation_policy")
    if isinstance(policy, dict) and set(cast("Object", policy)) <= {"auto_approve_after_timeout"}:
        approve = bool(config.pop("escalation_policy").get("auto_approve_after_timeout"))
        config.setdefault("on_timeout", "approve" if approve else "reject")


def spell_retry(data: Object, place: str, found: Findings) -> None:
    """Bring a retry policy to the canonical form; a number alone is a number of attempts."""
    retry = data.get("retry")
    if isinstance(retry, int) and not isinstance(retry, bool):
        data["retry"] = {"attempts": retry}
    if not isinstance(retry, dict):
        return
    fields = cast("Object", retry)
    rename(fields, "max_attempts", "attempts", place, found)
    rename(fields, "backoff_multiplier", "multiplier", place, found)
    rename_ms(fields, "backoff_ms", "backoff_s", place, found)
    rename_ms(fields, "max_backoff_ms", "max_backoff_s", place, found)


def _spell_on_error(data: Object) -> None:
    policy = data.get("on_error")
    if isinstance(policy, str):
        data["on_error"] = {"action": policy}
    elif isinstance(policy, dict) and "fallback" in policy:
        fields = cast("Object", policy)
        fields.setdefault("action", "fallback")
        if isinstance(fields["fallback"], str):
            fields["fallback"] = {"node": fields["fallback"]}


def spell_edge(data: Object, place: str, found: Findings) -> None:
    """Bring an edge's fields to the canonical form."""
    rename(data, "condition", "when", place, found)
    when = data.get("when")
    if isinstance(when, dict) and isinstance(cast("Object", when).get("expression"), str):
        data["when"] = when = cast("Object", when)["expression"]
    if when is None:
        data.pop("when", None)
    elif isinstance(when, str):
        data["when"] = when.strip()
    if isinstance(data.get("conditional"), bool):
        del data["conditional"]


def spell_budget(data: Object, place: str, found: Findings) -> None:
    """Bring a budget's fields to the canonical form; dollars become millionths."""
    for old, new in _BUDGET_ALIASES.items():
        rename(data, old, new, place, found)
    dollars = data.get("cost_usd")
    if isinstance(dollars, int | float) and not isinstance(dollars, bool):
        data["cost_usd"] = round(dollars * 1_000_000)
        rename(data, "cost_usd", "cost_usd_micros", place, found)
