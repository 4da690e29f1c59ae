"""What a patch may never weaken: approvals, limits, locks, and what a node admits to doing to the world.

Whoever proposes, the run's author has decided these for the run; another decision is another version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from tenuto.domain.graph.model import Definition, Edge, Node
from tenuto.domain.graph.requirements import TOOL, tools_of
from tenuto.domain.graph.rules.approvals import reached_unapproved
from tenuto.domain.graph.rules.subject import Known, Spot, Subject
from tenuto.domain.overlays.care import (
    class_of,
    doing,
    greedy,
    less_careful,
    less_limited,
    problem,
    understated,
)
from tenuto.domain.overlays.waits import asked_less, may_be_passed_by, runs_unanswered
from tenuto.errors import Problem


def weakened(before: Definition, after: Definition, known: Known) -> list[Problem]:
    """Return what a new graph takes away from the safety of the old one; none means that it is as safe."""
    old, new = Subject(before, known), Subject(after, known)
    found: list[Problem] = []
    for name, spot in old.by_id.items():
        other = new.by_id.get(name)
        if other is not None:
            found += _changed(spot.node, other)
            found += less_careful(spot.node, other.node, other.place, known)
            found += less_limited(spot.node, other.node, other.place)
        elif spot.node.kind == "approval":
            found.append(problem(f"/nodes/{name}", f"the approval {name!r} cannot be removed", "approval"))
    found += _new(old, new)
    found += _loops(old, new)
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
    return node.kind == "subflow" or class_of(known, node) == "effect" or any(_tools_that_act(node, known))


def _bare(node: Node) -> Node:
    if node.kind != "map":
        return node
    return msgspec.structs.replace(node, config={key: value for key, value in node.config.items() if key != "body"})


# --- single nodes ----------------------------------------------------------------------------------------------


def _changed(before: Node, after: Spot) -> list[Problem]:
    bare = [msgspec.structs.replace(node, description="") for node in (before, after.node)]
    if before.kind == "approval" and bare[0] != bare[1]:
        return [problem(after.place, f"the approval {before.id!r} cannot be changed", "approval")]
    return []


def _new(old: Subject, new: Subject) -> list[Problem]:
    """Report nodes that do anew what others do already, but with less care, and those that admit to less than they do."""
    peers: dict[tuple[str, str], list[Node]] = {}
    for spot in old.spots:
        peers.setdefault(doing(spot.node), []).append(spot.node)
    agents = [spot.node for spot in old.spots if spot.node.kind == "agent"]
    found: list[Problem] = []
    for name, spot in new.by_id.items():
        former = old.by_id.get(name)
        if former is not None and doing(former.node) == doing(spot.node):
            continue
        same = peers.get(doing(spot.node), []) if doing(spot.node)[1] else []
        faults = [less_careful(peer, spot.node, spot.place, new.known) for peer in same]
        if faults:
            found += min(faults, key=len)
        else:
            found += understated(spot.node, spot.place, new.known)
        if spot.node.kind == "agent":
            found += greedy(spot.node, spot.place, agents)
        if spot.node.kind == "subflow":
            found += _spawned(spot, new.definition)
    return found


def _spawned(spot: Spot, definition: Definition) -> list[Problem]:
    """Report a new sub-flow that leaves the run's budget behind, or starts the very workflow it is part of."""
    node, found = spot.node, list[Problem]()
    if node.config.get("detach"):
        message = f"the run of {node.id!r} would not be paid out of this one's budget"
        found.append(problem(f"{spot.place}/config/detach", message, "budget"))
    if node.config.get("workflow") == definition.name:
        message = f"{node.id!r} would start {definition.name!r}, which it is part of, without end"
        found.append(Problem(f"{spot.place}/config/workflow", message, "name another workflow", code="patch.spawn"))
    return found


# --- loops -----------------------------------------------------------------------------------------------------


def _loops(old: Subject, new: Subject) -> list[Problem]:
    """Report loops that may make more passes than before; a loop goes by the node it begins at."""
    bounds = _passes(old)
    found: list[Problem] = []
    for level in new.levels:
        for at, edge in enumerate(level.edges):
            limit = bounds.get(edge.to)
            if limit is not None and edge.max_iterations is not None and edge.max_iterations > limit:
                message = f"the loop at {edge.to!r} makes {limit} passes at most; {edge.max_iterations} is more"
                found.append(problem(f"{level.place}/edges/{at}/max_iterations", message, "limit"))
    return found


def _passes(s: Subject) -> dict[str, int]:
    found: dict[str, int] = {}
    for level in s.levels:
        for edge in level.edges:
            if edge.max_iterations is not None:
                found[edge.to] = max(found.get(edge.to, 0), edge.max_iterations)
    return found


def endless(before: Definition, after: Definition, most: int) -> list[Problem]:
    """Report new loops that may make more than `most` passes."""
    bounds = _passes(Subject(before, Known()))
    found: list[Problem] = []
    for level in Subject(after, Known()).levels:
        for at, edge in enumerate(level.edges):
            if edge.max_iterations is not None and edge.to not in bounds and edge.max_iterations > most:
                message = f"the new loop at {edge.to!r} could make {edge.max_iterations} passes; at most {most} are allowed"
                found.append(Problem(f"{level.place}/edges/{at}/max_iterations", message, code="patch.iterations"))
    return found


# --- approvals -------------------------------------------------------------------------------------------------


def _unguarded(old: Subject, new: Subject) -> list[Problem]:
    """Report nodes that an approval stood before and does no longer, and other ways to the same effects."""
    approvals = [name for name, spot in old.by_id.items() if spot.node.kind == "approval"]
    if not approvals:
        return []
    found: list[Problem] = []
    for approval in approvals:
        if approval in new.by_id:
            found += _ahead(old, new, approval)
            if src := asked_less(old, new, approval):
                message = f"{src!r} leads to the approval {approval!r}; here it need not"
                found.append(problem(f"/nodes/{approval}", message, "approval"))
    guarded = _needed(old) - _needed(old, runs_unanswered(old))
    loose = reached_unapproved(new)
    for name, spot in new.by_id.items():
        if name not in loose:
            continue
        former = old.by_id.get(name)
        had = set(_acting(former.node, old.known)) if former is not None else set[str]()
        for what in sorted(guarded & (set(_acting(spot.node, new.known)) - had)):
            message = f"{what!r} is used after an approval only; {name!r} would use it without one"
            found.append(problem(spot.place, message, "approval"))
    return found


def _ahead(old: Subject, new: Subject, approval: str) -> list[Problem]:
    """Report nodes that waited for an approval, on every way to them or by their join, and need not any more."""
    one = frozenset({approval})
    before, after = reached_unapproved(old, one), reached_unapproved(new, one)
    waited, free = old.by_id.keys() - runs_unanswered(old, one), runs_unanswered(new, one)
    passed = may_be_passed_by(new, approval) and not may_be_passed_by(old, approval)
    found: list[Problem] = []
    for name in old.by_id:
        if name == approval or name not in new.by_id:
            continue
        if name not in before and name in after:
            message = f"{name!r} waits for the approval {approval!r}; here it is reached by {_path(after, name)} without it"
        elif name in waited and name in free:
            message = f"{name!r} waits for the approval {approval!r}; here it would not"
        elif name in waited and name in after and passed:
            message = f"{name!r} waits for the approval {approval!r}; here it would go on where nobody approves"
        else:
            continue
        found.append(problem(f"/nodes/{name}", message, "approval"))
    return found


def shown(definition: Definition, known: Known, asked: Iterable[str], begun: Iterable[str]) -> dict[str, str]:
    """Return the nodes that are fixed because a person was asked about what follows, with the approval that asked.

    They are those that wait for an approval and act, or lead to one that does: another deed was not shown.

    Args:
        asked: Approvals that were put to a person.
        begun: Nodes with a step.
    """
    s, over = Subject(definition, known), frozenset(begun)
    into: dict[str, list[str]] = {}
    for level in s.levels:
        for edge in level.edges:
            into.setdefault(edge.to, []).append(edge.from_)
    found: dict[str, str] = {}
    for approval in asked:
        waiting = s.by_id.keys() - runs_unanswered(s, frozenset({approval})) - {approval} - over
        todo = [name for name in waiting if acts(s.by_id[name].node, known)]
        while todo:
            name = todo.pop()
            if name not in found and name in waiting:
                found[name] = approval
                todo += into.get(name, [])
                todo += [s.levels[s.by_id[name].level].owner] if s.levels[s.by_id[name].level].owner else []
    return found


def _needed(s: Subject, among: Iterable[str] | None = None) -> set[str]:
    """Return the handlers and tools with effects that nodes use: all of them, or those in `among`."""
    names = s.by_id if among is None else among
    return {what for name in names if name in s.by_id for what in _acting(s.by_id[name].node, s.known)}


def _acting(node: Node, known: Known) -> Iterator[str]:
    handler = node.config.get("handler") if node.kind == "function" else None
    if isinstance(handler, str) and class_of(known, node) == "effect":
        yield handler
    yield from _tools_that_act(node, known)


def _tools_that_act(node: Node, known: Known) -> Iterator[str]:
    return (tool for tool in tools_of(node) if known.effects.get(TOOL + tool, "effect") == "effect")


def _path(before: dict[str, str], name: str) -> str:
    path = [name]
    while before[path[-1]]:
        path.append(before[path[-1]])
    return " -> ".join(reversed(path))


def edges_into(definition: Definition) -> dict[str, frozenset[Edge]]:
    """Return the edges that lead to each node, back edges included."""
    found: dict[str, set[Edge]] = {}
    for level in Subject(definition, Known()).levels:
        for edge in level.edges:
            found.setdefault(edge.to, set()).add(edge)
    return {name: frozenset(edges) for name, edges in found.items()}
