"""What a patch may never weaken: approvals, limits, locks, and what a node admits to doing to the world.

Whoever proposes, the run's author has decided these for the run; another decision is another version.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import msgspec

from tenuto.domain.graph.agents import Limits
from tenuto.domain.graph.model import Definition, Edge, Node
from tenuto.domain.graph.requirements import TOOL, tools_of
from tenuto.domain.graph.rules.approvals import reached_unapproved
from tenuto.domain.graph.rules.nodes import effect_of
from tenuto.domain.graph.rules.subject import Known, Subject
from tenuto.errors import Problem

_RANK = {"pure": 0, "idempotent": 1, "effect": 2}
_CAUTION = {"retry": 0, "": 1, "ask": 2}
_LIMITS = ("max_tokens", "max_rounds", "n", "corrections", "model_retries")
_BUDGET = ("tokens", "tool_calls", "cost_usd_micros", "wall_clock_s")


def weakened(before: Definition, after: Definition, known: Known) -> list[Problem]:
    """Return what a new graph takes away from the safety of the old one; none means that it is as safe."""
    old, new = Subject(before, known), Subject(after, known)
    found: list[Problem] = []
    for name, spot in old.by_id.items():
        other = new.by_id.get(name)
        if other is not None:
            found += _node(spot.node, other.node, other.place, known)
        elif spot.node.kind == "approval":
            found.append(_problem(f"/nodes/{name}", f"the approval {name!r} cannot be removed", "approval"))
    found += _edges(old, new)
    found += _unguarded(old, new)
    return found


def changed_nodes(before: Definition, after: Definition) -> Iterator[Node]:
    """Yield the nodes of a new graph that are new or differ from the old one's, bodies of maps apart."""
    old = {spot.node.id: _bare(spot.node) for spot in Subject(before, Known()).spots}
    for spot in Subject(after, Known()).spots:
        if old.get(spot.node.id) != _bare(spot.node):
            yield spot.node


def acts(node: Node, known: Known) -> bool:
    """Say whether a node may act on the world: by its handler, a tool, a request that is no reading, or another run."""
    return node.kind == "subflow" or effect_of(known, node) == "effect" or any(_tools_that_act(node, known))


def _bare(node: Node) -> Node:
    if node.kind != "map":
        return node
    return msgspec.structs.replace(node, config={key: value for key, value in node.config.items() if key != "body"})


# --- single nodes ----------------------------------------------------------------------------------------------


def _node(before: Node, after: Node, place: str, known: Known) -> list[Problem]:
    name, found = before.id, list[Problem]()
    bare = [msgspec.structs.replace(node, description="") for node in (before, after)]
    if before.kind == "approval" and bare[0] != bare[1]:
        found.append(_problem(place, f"the approval {name!r} cannot be changed", "approval"))
    if before.irreversible and not after.irreversible:
        message = f"what {name!r} does cannot be undone, and cannot be said to be otherwise"
        found.append(_problem(f"{place}/irreversible", message, "effect"))
    if before.kind == after.kind and _handler(before) == _handler(after):
        was, now = effect_of(known, before), effect_of(known, after)
        if _RANK[now] < _RANK[was]:
            found.append(_problem(f"{place}/effect", f"{name!r} was declared {was!r} and cannot become {now!r}", "effect"))
        if _caution(after) < _caution(before):
            message = f"{name!r} has a stricter rule for lost outcomes than {after.on_unknown or 'the default'!r}"
            found.append(_problem(f"{place}/on_unknown", message, "effect"))
    if before.isolation == "process" and after.isolation != "process":
        found.append(_problem(f"{place}/isolation", f"{name!r} runs in a process of its own and has to stay there", "isolation"))
    for lock in before.resources:
        if lock not in after.resources:
            found.append(_problem(f"{place}/resources", f"{name!r} holds {lock!r} while it runs and has to go on so", "lock"))
    found += _config(name, before.config, after.config, f"{place}/config") if before.kind == after.kind else []
    return found


def _handler(node: Node) -> Any:
    return node.config.get("handler") or node.config.get("tool")


def _caution(node: Node) -> int:
    return _CAUTION.get(node.on_unknown, 2)


def _config(name: str, before: dict[str, Any], after: dict[str, Any], place: str) -> list[Problem]:
    found: list[Problem] = []
    for key in _LIMITS:
        found += _raised(name, key, before.get(key), after.get(key), f"{place}/{key}", unlimited=key == "max_tokens")
    limits = [msgspec.convert(_object(config.get("limits")), Limits, strict=False) for config in (before, after)]
    for key in Limits.__struct_fields__:
        found += _raised(name, f"limits.{key}", getattr(limits[0], key), getattr(limits[1], key), f"{place}/limits/{key}")
    budgets = [_object(config.get("budget")) for config in (before, after)]
    for key in _BUDGET:
        found += _raised(name, f"budget.{key}", budgets[0].get(key), budgets[1].get(key), f"{place}/budget/{key}", unlimited=True)
    if before.get("verify") and not after.get("verify"):
        found.append(_problem(f"{place}/verify", f"the output of {name!r} is verified, and has to be", "verify"))
    return found


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _raised(name: str, what: str, was: Any, now: Any, place: str, *, unlimited: bool = False) -> list[Problem]:
    """Report a limit that was raised; without a value there is no limit, where `unlimited`, or else the default."""
    if was is None or was == now:
        return []
    if now is None and unlimited:
        return [_problem(place, f"{name!r} is limited to {what} = {was} and has to stay so", "limit")]
    if isinstance(now, int | float) and now > was:
        return [_problem(place, f"{name!r} is limited to {what} = {was}; {now} is more", "limit")]
    return []


# --- the graph -------------------------------------------------------------------------------------------------


def _edges(old: Subject, new: Subject) -> list[Problem]:
    """Report loops that may make more passes than before."""
    bounds = {_key(edge): edge.max_iterations for level in old.levels for edge in level.edges if edge.max_iterations}
    found: list[Problem] = []
    for level in new.levels:
        for at, edge in enumerate(level.edges):
            limit = bounds.get(_key(edge))
            if limit is not None and edge.max_iterations is not None and edge.max_iterations > limit:
                loop = f"the loop over {edge.from_!r} -> {edge.to!r}"
                message = f"{loop} makes {limit} passes at most; {edge.max_iterations} is more"
                found.append(_problem(f"{level.place}/edges/{at}/max_iterations", message, "limit"))
    return found


def _key(edge: Edge) -> tuple[str, str]:
    return (edge.from_, edge.to)


def _unguarded(old: Subject, new: Subject) -> list[Problem]:
    """Report nodes that an approval stood before and does no longer, and other ways to the same effects."""
    approvals = [name for name, spot in old.by_id.items() if spot.node.kind == "approval"]
    if not approvals:
        return []
    found: list[Problem] = []
    for approval in approvals:
        one = frozenset({approval})
        before, after = reached_unapproved(old, one), reached_unapproved(new, one)
        for name in old.by_id:
            if name != approval and name not in before and name in after:
                message = f"{name!r} waits for the approval {approval!r}; here it is reached by {_path(after, name)} without it"
                found.append(_problem(f"/nodes/{name}", message, "approval"))
    guarded = _needed(old) - _needed(old, reached_unapproved(old))
    loose = reached_unapproved(new)
    for name, spot in new.by_id.items():
        wanted = guarded & set(_acting(spot.node, new.known)) if name in loose and name not in old.by_id else set[str]()
        for what in sorted(wanted):
            message = f"{what!r} is used after an approval only; {name!r} would use it without one"
            found.append(_problem(spot.place, message, "approval"))
    return found


def _needed(s: Subject, among: dict[str, str] | None = None) -> set[str]:
    """Return the handlers and tools with effects that nodes use: all of them, or those in `among`."""
    return {what for name, spot in s.by_id.items() if among is None or name in among for what in _acting(spot.node, s.known)}


def _acting(node: Node, known: Known) -> Iterator[str]:
    handler = node.config.get("handler") if node.kind == "function" else None
    if isinstance(handler, str) and effect_of(known, node) == "effect":
        yield handler
    yield from _tools_that_act(node, known)


def _tools_that_act(node: Node, known: Known) -> Iterator[str]:
    return (tool for tool in tools_of(node) if known.effects.get(TOOL + tool, "effect") == "effect")


def _path(before: dict[str, str], name: str) -> str:
    path = [name]
    while before[path[-1]]:
        path.append(before[path[-1]])
    return " -> ".join(reversed(path))


def _problem(place: str, message: str, what: str) -> Problem:
    return Problem(place=place, message=message, code=f"patch.weakens_{what}")
