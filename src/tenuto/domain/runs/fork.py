"""What a replay takes over from its origin: the outcomes before the cut that no edit and no cut step can change.

Pure and linear: outcomes are read once, in journal order. Whatever is not taken over is simply run again, so being
too cautious costs time, never truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from tenuto.domain.graph.model import Node
from tenuto.domain.graph.plan import Plan, PlanEdge, PlanNode, split_key
from tenuto.domain.overlays.overlay import plan_after
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.data import frames
from tenuto.domain.runs.fold import fold_body
from tenuto.domain.runs.frozen import edge_name
from tenuto.domain.runs.reach import Reset, shape_of
from tenuto.domain.runs.state import ACTIVE_STEP, RunState
from tenuto.errors import Invalid, StepMissing

Bodies = Sequence[tuple[int, ev.Body]]

encode_reuse = msgspec.json.Encoder().encode
decode_reuse = msgspec.json.Decoder(dict[str, ev.Reused]).decode


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """Where a replay parts from its origin; at most one field is set, none means all is done anew.

    Attributes:
        at: Keep what was recorded up to this record.
        count: Keep the first so many completed steps.
        step: Start again at this step, by key.
        node: Start again at this node's last pass.
        everything: Keep every outcome; a frozen replay decides again on all of them.
    """

    at: int | None = None
    count: int | None = None
    step: str | None = None
    node: str | None = None
    everything: bool = False


def graph_at(bodies: Bodies, first: Plan, cut: Cut) -> Plan:
    """Return the plan the origin went by where it is cut; that of its newest graph, where the cut is not in its journal.

    Args:
        first: Plan the origin was created with.
    """
    plan, completed = first, 0
    if cut == Cut() or cut.count == 0:
        return first
    for seq, body in bodies:
        if cut.at is not None and seq > cut.at:
            break
        for event in body.ev:
            if isinstance(event, ev.PatchApplied):
                plan = plan_after(plan, bytes(event.ops), event.digest)
            elif isinstance(event, ev.StepCompleted | ev.StepReused):
                completed += getattr(event, "status", "completed") == "completed"
                if completed == cut.count:
                    return plan
            elif isinstance(event, ev.AttemptStarted | ev.WaitStarted) and _begins(event.step, cut):
                return plan
    return plan


def _begins(step: str, cut: Cut) -> bool:
    return step == cut.step or (cut.node is not None and split_key(step)[0] == cut.node)


def reuse(bodies: Bodies, first: Plan, new: Plan, cut: Cut, *, input_changed: bool = False) -> dict[str, ev.Reused]:
    """Return the outcomes a replay takes over, by step key, in the origin's order.

    Args:
        bodies: `(seq, body)` of the origin's records from the first on.
        first: Plan the origin was created with.
        new: Plan of the replay; that of `graph_at` unless the graph was edited.

    Raises:
        StepMissing: The cut names a step or node the origin does not have.
        Invalid: The cut is out of range.
    """
    if cut.everything:
        kept, old = outcomes(bodies, first, failures=True)
        return _translate(kept, old, new)
    kept, old = outcomes(bodies, first)
    if cut.at is not None:
        kept, old = _up_to(bodies, first, cut.at)
    else:
        kept = _before(kept, bodies, old, cut)
    reset = Reset(new, kept)
    for node in _changed(old, new, input_changed):
        reset.node(node, "")
    if cut.step is not None:
        reset.step(cut.step)
    if cut.node is not None:
        for key in last_pass(new, cut.node, kept):
            reset.step(key)
    return _translate({key: value for key, value in kept.items() if key not in reset.keys}, old, new)


def outcomes(bodies: Bodies, plan: Plan, *, failures: bool = False) -> tuple[dict[str, ev.Reused], Plan]:
    """Return the last accepted outcome of every step that has one, in journal order, and the plan its edges go by.

    Left out are steps that were sent round again since, skips (they follow from the edges), dead letters and cancelled
    steps, and the failed items of a map that is a dead letter: they are what a replay is to do again.

    Args:
        plan: What the journal begins with.
        failures: Keep dead letters and cancelled steps too; a frozen replay ends them as its origin did.
    """
    found: dict[str, ev.Reused] = {}
    for seq, body in bodies:
        for event in body.ev:
            if isinstance(event, ev.StepCompleted):
                found[event.step] = ev.Reused(seq=seq, output=event.out, taken=event.taken)
            elif isinstance(event, ev.StepFailed):
                found[event.step] = ev.Reused(
                    seq=seq, output=event.out, status="failed", taken=event.taken, how=event.how,
                    failure=event.failure,
                )
            elif isinstance(event, ev.StepReused):
                found[event.step] = ev.Reused(
                    seq=seq, output=event.out, status=event.status, taken=event.taken, how=event.how,
                    failure=event.failure,
                )
            elif isinstance(event, ev.StepRedriven):
                found.pop(event.step, None)
                _forget_items(found, event.step)
            elif isinstance(event, ev.StepDeadLettered):
                before = found.pop(event.step, None)
                _forget_items(found, event.step)
                if failures:
                    # A loop at its limit takes back its header's outcome; a replay comes to the limit by itself.
                    found[event.step] = before or ev.Reused(seq=seq, status="dead_letter", failure=event.failure)
            elif isinstance(event, ev.StepCancelled) and failures:
                found[event.step] = ev.Reused(seq=seq, status="cancelled", how=event.reason)
            elif isinstance(event, ev.PatchApplied):
                after = plan_after(plan, bytes(event.ops), event.digest)
                found, plan = _renumbered(found, plan, after), after
    return found, plan


def _renumbered(found: dict[str, ev.Reused], old: Plan, new: Plan) -> dict[str, ev.Reused]:
    """Return outcomes with their edges numbered as after a patch, which leaves the edges of what was routed alone."""
    places = {edge_name(edge): edge.index for edge in new.edges}
    return {
        key: value if value.taken is None else msgspec.structs.replace(
            value, taken=tuple(places[edge_name(old.edges[index])] for index in value.taken)
        )
        for key, value in found.items()
    }


def unended(run: str, bodies: Bodies, plan: Plan) -> dict[str, ev.Reused]:
    """Return what a run that goes on had begun and not ended at its last record; a frozen replay ends there."""
    st = RunState(id=run)
    for _, body in bodies:
        plan = fold_body(st, plan, body)
    return {
        key: ev.Reused(seq=bodies[-1][0], status="open") for key, step in st.steps.items() if step.status in ACTIVE_STEP
    }


def _forget_items(found: dict[str, ev.Reused], key: str) -> None:
    """Drop the failed items of a map that is to be done again."""
    node, scope = split_key(key)
    inside = f"{scope}~{node}."
    for name in [name for name, value in found.items() if value.how == "item" and inside in name]:
        del found[name]


def _before(kept: dict[str, ev.Reused], bodies: Bodies, plan: Plan, cut: Cut) -> dict[str, ev.Reused]:
    """Return the outcomes on the near side of the cut, before any step is reset."""
    if cut.count is not None:
        return _first(kept, cut.count)
    if cut.step is not None:
        _known_step(cut.step, kept, bodies, plan)
        return kept
    if cut.node is not None:
        if cut.node not in plan.nodes:
            raise StepMissing(f"the workflow has no node {cut.node!r}", node=cut.node, known=sorted(plan.nodes))
        return kept
    return {}


def _up_to(bodies: Bodies, first: Plan, at: int) -> tuple[dict[str, ev.Reused], Plan]:
    head = bodies[-1][0] if bodies else 0
    if not 1 <= at <= head:
        raise Invalid(f"record {at} is not in the origin, which has records 1 to {head}", code="replay.range")
    return outcomes([(seq, body) for seq, body in bodies if seq <= at], first)


def _first(kept: dict[str, ev.Reused], count: int) -> dict[str, ev.Reused]:
    total = sum(1 for value in kept.values() if value.status == "completed")
    if not 0 <= count <= total:
        raise Invalid(
            f"from_step {count} is out of range: the origin completed {total} steps; allowed: 0 to {total}",
            code="replay.range",
        )
    first: dict[str, ev.Reused] = {}
    for key, value in kept.items():
        if count == 0:
            break
        first[key] = value
        count -= value.status == "completed"
    return first


def _known_step(key: str, kept: dict[str, ev.Reused], bodies: Bodies, plan: Plan) -> None:
    if key in kept or key in plan.nodes:
        return
    seen = {getattr(event, "step", "") for _, body in bodies for event in body.ev}
    if key not in seen:
        raise StepMissing(f"the origin has no step {key!r}", step=key, known=sorted(name for name in seen if name))


def last_pass(plan: Plan, node: str, keys: Iterable[str]) -> list[str]:
    """Return the keys of a node in the last pass of every loop around it, over all items of maps around it."""
    scopes = [frames(split_key(key)[1]) for key in keys if split_key(key)[0] == node]
    kinds = [plan.regions[region].kind for region in reversed(plan.region_path(plan.nodes[node].region))] if scopes else []
    depth = 0
    while any(len(scope) > depth for scope in scopes):
        newest: dict[tuple[tuple[str, int], ...], int] = {}
        for scope in scopes:
            outer = tuple(scope[:depth])
            newest[outer] = max(newest.get(outer, 0), scope[depth][1])
        scopes = [
            scope for scope in scopes
            if kinds[depth] == "map" or scope[depth][1] == newest[tuple(scope[:depth])]
        ]
        depth += 1
    return [node + "".join(f"~{owner}.{number}" for owner, number in scope) for scope in scopes]


# --- edits -----------------------------------------------------------------------------------------------------


def _changed(old: Plan, new: Plan, input_changed: bool) -> list[str]:
    """Return the nodes of the new plan whose definition, arrivals, routing or place is not what it was."""
    if old.digest == new.digest and not input_changed:
        return []
    found: list[str] = []
    for node in new.nodes.values():
        before = old.nodes.get(node.id)
        edited = before is None or (old.digest != new.digest and not _same(old, before, new, node))
        if edited or (input_changed and _reads_input(node)):
            found.append(node.id)
    return found


def _same(old: Plan, before: PlanNode, new: Plan, node: PlanNode) -> bool:
    """Return whether a node's outcome in the old plan stands in the new one."""
    return (
        _definition(before.node) == _definition(node.node)
        and shape_of(old, before) == shape_of(new, node)
        and _arrivals(old, node.id) == _arrivals(new, node.id)
        and _members(old, before) == _members(new, node)
        and _remap(before, node, None, "completed") is not None
    )


def _definition(node: Node) -> bytes:
    """Return the parts of a node that can change its outcome; the bodies of maps are compared node by node."""
    config = {key: value for key, value in node.config.items() if node.kind != "map" or key != "body"}
    bare = msgspec.structs.replace(node, config=config, description="", retry=None, timeout_s=None, heartbeat_s=None)
    return msgspec.json.encode(bare, order="deterministic")


def _arrivals(plan: Plan, node: str) -> set[tuple[str, str, str, bool]]:
    return {(edge.src, edge.when, edge.on, edge.back) for edge in plan.edges if edge.dst == node}


def _members(plan: Plan, node: PlanNode) -> tuple[str, ...]:
    return () if node.body is None else plan.regions[node.body].nodes


def _reads_input(node: PlanNode) -> bool:
    """Return whether a node may see the run's input: it names it, or it is an entry without a mapping."""
    if node.node.input is msgspec.UNSET and node.n_in == 0:
        return True
    text = msgspec.json.encode([
        None if node.node.input is msgspec.UNSET else node.node.input, node.node.config, [e.when for e in node.out]
    ])
    return b"input" in text


def _translate(kept: dict[str, ev.Reused], old: Plan, new: Plan) -> dict[str, ev.Reused]:
    """Return outcomes with their edges numbered as in the new plan, without those the new plan has no place for."""
    if old.digest == new.digest:
        return kept
    found: dict[str, ev.Reused] = {}
    for key, value in kept.items():
        name = split_key(key)[0]
        before, node = old.nodes.get(name), new.nodes.get(name)
        if before is None or node is None or shape_of(old, before) != shape_of(new, node):
            continue
        taken = _remap(before, node, value.taken, value.status)
        if taken is None:
            continue
        found[key] = msgspec.structs.replace(value, taken=None if node.plain and value.taken is None else taken)
    return found


def _remap(
    before: PlanNode, node: PlanNode, taken: tuple[int, ...] | None, status: str
) -> tuple[int, ...] | None:
    """Return the new indexes of the edges taken, or `None` when only running the node again can tell them."""
    by_name = {_edge_name(edge): edge for edge in before.out}
    ordered = [_edge_name(edge) for edge in before.out] == [_edge_name(edge) for edge in node.out]
    if not ordered and (before.node.route == "first" or node.node.route == "first"):
        return None
    found: list[int] = []
    for edge in node.out:
        former = by_name.get(_edge_name(edge))
        if former is None:
            if edge.when or edge.on != "success" or edge.back:
                return None
            if status == "completed":
                found.append(edge.index)
        elif taken is None or former.index in taken:
            found.append(edge.index)
    return tuple(found)


def _edge_name(edge: PlanEdge) -> tuple[str, str, str, bool]:
    return (edge.dst, edge.when, edge.on, edge.back)

