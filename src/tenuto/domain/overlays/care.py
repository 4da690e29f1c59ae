"""How careful a node is: what it admits to doing, the limits it keeps to, and whether another is less so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import msgspec

from tenuto.domain.graph.agents import BRANCHES, CORRECTIONS, MODEL_RETRIES, Limits
from tenuto.domain.graph.model import Node
from tenuto.domain.graph.rules.nodes import effect_of
from tenuto.domain.graph.rules.subject import Known
from tenuto.errors import Problem

_RANK = {"pure": 0, "idempotent": 1, "effect": 2}
_CAUTION = {"retry": 0, "": 1, "ask": 2}
_STATED = ("timeout_s", "heartbeat_s")
_BUDGET = ("tokens", "tool_calls", "cost_usd_micros", "wall_clock_s")
_AGENT = {"corrections": CORRECTIONS, "model_retries": MODEL_RETRIES, "n": BRANCHES}


def doing(node: Node) -> tuple[str, str]:
    """Return what a node does, as far as its name tells: its kind, and its handler or tool."""
    what = node.config.get("handler") or node.config.get("tool") if node.kind == "function" else ""
    return node.kind, what if isinstance(what, str) else ""


def class_of(known: Known, node: Node) -> str:
    """Return the effect class a node is treated as here: by its own word, or its handler's or kind's if that is stricter."""
    own, bare = effect_of(known, node), effect_of(known, msgspec.structs.replace(node, effect=None))
    return max(own, bare, key=_RANK.__getitem__)


def less_careful(before: Node, after: Node, place: str, known: Known) -> list[Problem]:
    """Return where a node is less careful than another that does the same: effects, lost outcomes, isolation, locks."""
    name, found = after.id, list[Problem]()
    if before.irreversible and not after.irreversible:
        message = f"what {name!r} does cannot be undone, and cannot be said to be otherwise"
        found.append(problem(f"{place}/irreversible", message, "effect"))
    if doing(before) == doing(after):
        was, now = effect_of(known, before), effect_of(known, after)
        if _RANK[now] < _RANK[was]:
            message = f"what {name!r} does was declared {was!r} and cannot become {now!r}"
            found.append(problem(f"{place}/effect", message, "effect"))
        if _caution(after) < _caution(before):
            message = f"{name!r} has a stricter rule for lost outcomes than {after.on_unknown or 'the default'!r}"
            found.append(problem(f"{place}/on_unknown", message, "effect"))
    if before.isolation == "process" and after.isolation != "process":
        message = f"what {name!r} does runs in a process of its own and has to stay there"
        found.append(problem(f"{place}/isolation", message, "isolation"))
    for lock in before.resources:
        if lock not in after.resources:
            message = f"what {name!r} does holds {lock!r} while it runs and has to go on so"
            found.append(problem(f"{place}/resources", message, "lock"))
    return found


def understated(node: Node, place: str, known: Known) -> list[Problem]:
    """Report a node that admits to less than its handler, tool or kind declares."""
    own, bare = effect_of(known, node), effect_of(known, msgspec.structs.replace(node, effect=None))
    if _RANK[own] >= _RANK[bare]:
        return []
    message = f"{node.id!r} says that it is {own!r}, but what it does is declared {bare!r}"
    return [problem(f"{place}/effect", message, "effect")]


def _caution(node: Node) -> int:
    return _CAUTION.get(node.on_unknown, 2)


# --- limits ----------------------------------------------------------------------------------------------------


def less_limited(before: Node, after: Node, place: str) -> list[Problem]:
    """Return the limits of a node that a new version of it raises or leaves out, and checks that it drops."""
    name, found = before.id, list[Problem]()
    for key in _STATED:
        found += raised(name, key, getattr(before, key), getattr(after, key), f"{place}/{key}", unlimited=True)
    if before.retry is not None and after.retry is not None:
        found += raised(name, "retry.attempts", before.retry.attempts, after.retry.attempts, f"{place}/retry/attempts")
    if before.output_schema is not None and after.output_schema is None:
        found.append(problem(f"{place}/output_schema", f"the output of {name!r} is checked, and has to be", "verify"))
    if before.kind != after.kind:
        return found
    old, new, spot = before.config, after.config, f"{place}/config"
    if before.kind == "agent":
        found += _agent(name, old, new, spot)
    if before.kind == "map":
        was, now = old.get("concurrency") or None, new.get("concurrency") or None
        found += raised(name, "concurrency", was, now, f"{spot}/concurrency", unlimited=True)
    if before.kind == "subflow":
        found += _budget(name, _object(old.get("budget")), _object(new.get("budget")), f"{spot}/budget")
        if new.get("detach") and not old.get("detach"):
            message = f"the run of {name!r} is paid out of this one's budget and has to be"
            found.append(problem(f"{spot}/detach", message, "budget"))
    return found


def _agent(name: str, old: dict[str, Any], new: dict[str, Any], place: str) -> list[Problem]:
    found = raised(name, "max_tokens", old.get("max_tokens"), new.get("max_tokens"), f"{place}/max_tokens", unlimited=True)
    was, now = limits_of(old), limits_of(new)
    for key, limit in was.items():
        found += raised(name, key, limit, now[key], f"{place}/{key.replace('.', '/')}")
    for helper, item in _object(old.get("agents")).items():
        most, asked = (_object(one).get("max_tokens") for one in (item, _object(new.get("agents")).get(helper)))
        if helper in _object(new.get("agents")):
            spot = f"{place}/agents/{helper}/max_tokens"
            found += raised(f"{name}.{helper}", "max_tokens", most, asked, spot, unlimited=True)
    for key, what in (("verify", "verified"), ("schema", "checked")):
        if old.get(key) and (not new.get(key) or (key == "verify" and new[key] != old[key])):
            message = f"the output of {name!r} is {what}, and has to be, just so"
            found.append(problem(f"{place}/{key}", message, "verify"))
    return found


def limits_of(config: dict[str, Any]) -> dict[str, int]:
    """Return the numbers an agent is limited by, defaults included."""
    given = dict(_object(config.get("limits")))
    if isinstance(config.get("max_rounds"), int):
        given["rounds"] = config["max_rounds"]
    limits = msgspec.to_builtins(msgspec.convert(given, Limits, strict=False))
    found = {f"limits.{key}": limits.get(key, getattr(Limits(), key)) for key in Limits.__struct_fields__}
    own = {key: config.get(key) for key in _AGENT}
    return found | {key: value if isinstance(value := own[key], int) else _AGENT[key] for key in _AGENT}


def greedy(node: Node, place: str, agents: Iterable[Node]) -> list[Problem]:
    """Report a new agent that may do more than the shipped limits, and than every agent the graph had."""
    most = limits_of({})
    for other in agents:
        most = {key: max(most[key], value) for key, value in limits_of(other.config).items()}
    found: list[Problem] = []
    for key, value in limits_of(node.config).items():
        if value > most[key]:
            message = f"the new agent {node.id!r} would have {key} = {value}; at most {most[key]} is allowed"
            found.append(problem(f"{place}/config/{key.replace('.', '/')}", message, "limit"))
    return found


def _budget(name: str, old: dict[str, Any], new: dict[str, Any], place: str) -> list[Problem]:
    found: list[Problem] = []
    for key in _BUDGET:
        found += raised(name, f"budget.{key}", old.get(key), new.get(key), f"{place}/{key}", unlimited=True)
    tools, others = _object(old.get("per_tool")), _object(new.get("per_tool"))
    for tool, limit in tools.items():
        spot = f"{place}/per_tool/{tool}"
        found += raised(name, f"budget.per_tool.{tool}", limit, others.get(tool), spot, unlimited=True)
    return found


def raised(name: str, what: str, was: Any, now: Any, place: str, *, unlimited: bool = False) -> list[Problem]:
    """Report a limit that was raised; without a value there is no limit, where `unlimited`, or else the default."""
    if was is None or was == now:
        return []
    if now is None and unlimited:
        return [problem(place, f"{name!r} is limited to {what} = {was} and has to stay so", "limit")]
    if isinstance(now, int | float) and now > was:
        return [problem(place, f"{name!r} is limited to {what} = {was}; {now} is more", "limit")]
    return []


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def problem(place: str, message: str, what: str) -> Problem:
    """Return the problem that a patch weakens something."""
    return Problem(place=place, message=message, code=f"patch.weakens_{what}")
