"""What of a graph a run has already relied on, and a patch therefore cannot touch.

A node's definition is fixed once one of its steps exists, its incoming edges too (they decided that it did); its
outgoing edges once one of its steps was routed. Everything else of the graph is still open.
"""

from __future__ import annotations

from dataclasses import dataclass

from tenuto.domain.graph.plan import ROOT, Plan, PlanEdge, PlanNode, split_key
from tenuto.domain.graph.rules.subject import Known
from tenuto.domain.overlays.guards import edges_into, shown
from tenuto.domain.runs.events_patches import Finding
from tenuto.domain.runs.state import RunState

UNROUTED = frozenset({"ready", "running", "waiting", "retrying", "dead_letter"})
"""Statuses in which no outgoing edge of a step was decided yet."""

EdgeName = tuple[str, str, str, str, bool]
RegionName = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Frozen:
    """Nodes by what is fixed of them.

    Attributes:
        begun: With a step: definition, incoming edges and place are fixed.
        routed: With a step whose outgoing edges were decided: those are fixed too.
        reached: With an incoming edge that was decided: their place is fixed.
    """

    begun: frozenset[str]
    routed: frozenset[str]
    reached: frozenset[str]


def frozen(st: RunState, plan: Plan) -> Frozen:
    """Return what a run has relied on so far."""
    begun: set[str] = set()
    routed: set[str] = set()
    for key, step in st.steps.items():
        name = split_key(key)[0]
        begun.add(name)
        if step.status not in UNROUTED:
            routed.add(name)
    reached = {edge.dst for edge in plan.edges if edge.src in routed}
    return Frozen(frozenset(begun), frozenset(routed), frozenset(reached))


def edge_name(edge: PlanEdge) -> EdgeName:
    """Return what makes an edge the same one in two plans; a level has no two alike."""
    return (edge.src, edge.dst, edge.when, edge.on, edge.back)


def region_name(plan: Plan, region: int) -> RegionName:
    """Return what makes a region the same one in two plans."""
    found = plan.regions[region]
    return (found.kind, found.owner)


def place_of(plan: Plan, node: PlanNode) -> tuple[RegionName, ...]:
    """Return the regions a node is in, innermost first."""
    return tuple(region_name(plan, region) for region in plan.region_path(node.region))


def conflicts(st: RunState, old: Plan, new: Plan, known: Known) -> list[Finding]:
    """Return how a new graph contradicts what the run has already done or asked; none means that it can go by it.

    Before the run has started nothing is fixed.
    """
    if not st.regions and not st.steps:
        return []
    fixed, found = frozen(st, old), list[Finding]()
    for name in sorted(fixed.begun | fixed.reached):
        before, after = old.nodes.get(name), new.nodes.get(name)
        if before is None:
            continue
        if after is None:
            why = "has begun" if name in fixed.begun else "is already on its way"
            found.append(_finding(name, f"the step {name!r} {why}, so its node cannot be removed"))
            continue
        if place_of(old, before) != place_of(new, after):
            found.append(_finding(name, f"{name!r} is already on its way, so it cannot be moved into or out of a loop"))
        if name in fixed.begun:
            _same_node(found, old, new, before, after)
        if name in fixed.routed:
            _same_out(found, before, after)
    _entries(found, old, new)
    _as_shown(found, st, old, new, known, fixed)
    return found


def _as_shown(found: list[Finding], st: RunState, old: Plan, new: Plan, known: Known, fixed: Frozen) -> None:
    """Refuse to change what a person was asked about: who approves, approves what was to follow then."""
    asked = [name for name in sorted(fixed.begun) if old.nodes[name].node.kind == "approval"]
    if not asked:
        return
    before, after = edges_into(old.definition), edges_into(new.definition)
    for name, approval in sorted(shown(old.definition, known, asked, fixed.begun).items()):
        other = new.nodes.get(name)
        if other is None or other.node != old.nodes[name].node or before.get(name) != after.get(name):
            message = f"a person was asked at {approval!r} about what follows, so {name!r} and the edges to it cannot be changed"
            found.append(_finding(name, message, "start a run of a new version", "patch.shown"))


def _same_node(found: list[Finding], old: Plan, new: Plan, before: PlanNode, after: PlanNode) -> None:
    name = before.id
    if before.node != after.node:
        found.append(_finding(name, f"the step {name!r} has begun, so its node cannot be changed"))
    former, latter = _into(old, name), _into(new, name)
    for edge in sorted(latter - former):
        found.append(_finding(name, f"the step {name!r} has begun, so no edge from {edge[0]!r} can lead to it any more"))
    for edge in sorted(former - latter):
        found.append(_finding(name, f"the step {name!r} has begun, so its edge from {edge[0]!r} cannot be removed or changed"))


def _same_out(found: list[Finding], before: PlanNode, after: PlanNode) -> None:
    name = before.id
    former, latter = [edge_name(edge) for edge in before.out], [edge_name(edge) for edge in after.out]
    if former == latter:
        return
    added = [edge for edge in latter if edge not in former]
    removed = [edge for edge in former if edge not in latter]
    for edge in added:
        message = f"the step {name!r} is over and its outgoing edges are decided, so no edge to {edge[1]!r} can leave it any more"
        found.append(_finding(name, message, "lead the edge from a step that is not over yet"))
    for edge in removed:
        found.append(_finding(name, f"the step {name!r} is over, so its edge to {edge[1]!r} cannot be removed or changed"))
    if not added and not removed and before.node.route == "first":
        found.append(_finding(name, f"the step {name!r} is over, so the order of its edges cannot be changed"))


def _into(plan: Plan, name: str) -> set[EdgeName]:
    return {edge_name(edge) for edge in plan.edges if edge.dst == name and not edge.back}


def _entries(found: list[Finding], old: Plan, new: Plan) -> None:
    """Refuse nodes that nothing leads to: the run's entries have begun, and no more will."""
    for name in new.regions[ROOT].entries:
        if name not in old.regions[ROOT].entries:
            hint = "add an edge to it from a step that is not over yet"
            found.append(_finding(name, f"nothing leads to {name!r}, so it would never run", hint, "patch.orphan"))


def _finding(node: str, message: str, hint: str = "", code: str = "patch.frozen") -> Finding:
    return Finding(place=f"/nodes/{node}", message=message, hint=hint, code=code)
