"""Changing a run's graph while it runs: a proposal is looked at, kept, put to a person where that is asked for, applied."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Raw

from tenuto.domain.base.canonical import canonical_json
from tenuto.domain.graph.compile import compile_definition
from tenuto.domain.graph.diff import diff_definitions
from tenuto.domain.graph.model import Definition, Edge
from tenuto.domain.graph.people import Terms
from tenuto.domain.graph.plan import Plan, split_key
from tenuto.domain.graph.validate import load_definition
from tenuto.domain.overlays.guards import changed_nodes, weakened
from tenuto.domain.overlays.operations import apply, read_operations
from tenuto.domain.overlays.overlay import document_of, overlay_of
from tenuto.domain.overlays.secrets import secrets_in
from tenuto.domain.overlays.terms import Surroundings, agents_of, asks_for, breached
from tenuto.domain.runs import breaker
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import inputs as io
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.calls import current
from tenuto.domain.runs.draft import Draft
from tenuto.domain.runs.events_patches import Changed, Finding
from tenuto.domain.runs.failure import keep, would_change
from tenuto.domain.runs.frozen import UNROUTED, conflicts, frozen
from tenuto.domain.runs.state import Patch, RunState, Ticket
from tenuto.errors import InvalidGraph, Problem

NOT_KEPT = frozenset({"patch.size", "patch.secret"})
"""Codes of findings with which the operations of a patch are not kept."""
PROPOSALS = "proposals"
STALE = ev.Failure(code="attempt.stale", type="Stale", message="this attempt is no longer the current one")
CORRECTIONS = 1
"""Times an agent is asked to mend a patch that cannot be applied; then a person may look at it."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of looking at a patch.

    Attributes:
        plan: Of the graph it leads to; `None` when there are findings.
        asks: Why a person has to approve it; empty when nobody has to.
    """

    findings: tuple[Finding, ...] = ()
    plan: Plan | None = None
    changed: Changed = Changed()
    asks: str = ""


def examine(
    st: RunState, plan: Plan, ops: Any, *, base: str, author: str, around: Surroundings, takes: str = "",
    absent: tuple[str, ...] = (),
) -> Verdict:
    """Look at a patch of a run's graph: everything that is wrong with it, or the graph it leads to.

    Args:
        ops: The operations as JSON gives them.
        base: Digest of the graph the author has seen.
        takes: The overlay to take back, or to bring back; the graph must then be the one that was accepted before.
        absent: Workflows it would start that do not exist.
    """
    terms = around.terms.of(plan.definition)
    if base != plan.digest:
        message = f"the patch was made for the graph {base or '(none named)'}; the run now goes by {plan.digest}"
        return _refused([Finding(message=message, hint="read the graph again and propose on it", code="patch.stale", place="")])
    operations, problems = read_operations(ops, terms.bounds)
    if problems := (*problems, *(() if takes else secrets_in(ops))):
        return _refused(_findings(problems))
    document, problems = apply(document_of(plan.definition), operations)
    if problems:
        return _refused(_findings(problems))
    try:
        after = load_definition(document, around.known, complete=around.complete)
    except InvalidGraph as exc:
        return _refused(_findings(exc.problems))
    new = compile_definition(after)
    if new.digest == plan.digest:
        return _refused([Finding(message="the patch changes nothing", code="patch.nothing")])
    if takes:
        found = _findings(_returns(st, new, takes))
    else:
        found = _findings(breached(plan.definition, after, author, len(st.overlays), terms))
        found += _findings(weakened(plan.definition, after, around.known))
        found += _orphans(plan, new)
        found += [Finding(message=f"there is no workflow {name!r}", code="graph.unknown_workflow") for name in absent]
    found += conflicts(st, plan, new, around.known)
    if found:
        return _refused(found)
    changed = changed_of(plan.definition, after)
    nodes = list(changed_nodes(plan.definition, after))
    added = [node for node in nodes if node.id in changed.nodes_added]
    asks = "" if takes else asks_for(author, nodes, added, len(changed.nodes_removed), terms, around.known)
    return Verdict(plan=new, changed=changed, asks=asks)


def changed_of(before: Definition, after: Definition) -> Changed:
    """Return the ids of what differs between two graphs."""
    found = diff_definitions(before, after)
    return Changed(
        nodes_added=found.nodes_added, nodes_removed=found.nodes_removed, nodes_changed=tuple(found.nodes_changed),
        edges_added=_names(found.edges_added), edges_removed=_names(found.edges_removed),
        edges_changed=_names(found.edges_changed),
    )


def _names(edges: tuple[Edge, ...]) -> tuple[str, ...]:
    return tuple(f"{edge.from_}->{edge.to}" for edge in edges)


def _refused(found: list[Finding]) -> Verdict:
    return Verdict(findings=tuple(dict.fromkeys(found)))


def _findings(problems: Any) -> list[Finding]:
    items: list[Problem] = list(problems)
    return [Finding(message=item.message, place=item.place, hint=item.hint, code=item.code) for item in items]


def _returns(st: RunState, new: Plan, takes: str) -> list[Problem]:
    """Report an undo or redo that does not lead to the graph that was accepted before."""
    patch = st.patches.get(takes)
    if patch is not None and st.overlays and st.overlays[-1] == takes and new.digest == patch.base:
        return []
    if patch is not None and st.undone and st.undone[-1] == takes and new.digest == patch.digest:
        return []
    return [Problem("", f"patch {takes!r} is neither the newest in force nor the last one taken back", code="patch.undo")]


def _orphans(old: Plan, new: Plan) -> list[Finding]:
    joined = {name for edge in new.edges for name in (edge.src, edge.dst)}
    added = [node for name, node in new.nodes.items() if name not in old.nodes and name not in joined]
    lone = [node.id for node in added if new.regions[node.region].kind != "map"]
    hint = "add an edge to it from a step that is not over yet"
    return [
        Finding(place=f"/nodes/{name}", message=f"the new node {name!r} is connected to nothing, so it would never run",
                hint=hint, code="patch.orphan")
        for name in lone
    ]


# --- proposals -------------------------------------------------------------------------------------------------


def proposed(d: Draft, m: msg.ProposePatch, key: str) -> None:
    """Take a proposal that came from outside the run; while the breaker's question is open, none is taken."""
    if m.patch not in d.st.patches and not breaker.open_for(d.st, PROPOSALS):
        _take(d, m.patch, m.ops, base=m.base, author=m.author, by=m.by, reason=m.reason, takes=m.takes, evidence=m.evidence,
              absent=m.absent)


def asked(d: Draft, inp: io.PatchAsked) -> None:
    """Take a proposal by a step's code, and answer it at once or when a person has decided."""
    step = current(d, inp.step, inp.n)
    if step is None or d.st.status not in ("running", "paused"):
        d.reply(inp.token, io.Broken(STALE))
        return
    call = step.calls.get(inp.call)
    if call is not None and call.status in ("done", "waiting"):
        d.reply(inp.token, io.Known(call.out or Raw(b"null")) if call.status == "done" else io.Waiting())
        return
    name = patch_id(d.st.id, f"{inp.step}/{step.group}/{inp.call}")
    if name not in d.st.patches and (ticket := breaker.open_for(d.st, PROPOSALS)):
        d.reply(inp.token, io.Broken(_tripped(ticket)))
        return
    if name not in d.st.patches:
        by = inp.by or f"step {inp.step}"
        _take(d, name, inp.ops, base=inp.base, author="agent", by=by, reason=inp.reason, step=inp.step, call=inp.call,
              absent=inp.absent)
    patch = d.st.patches[name]
    if patch.status == "open":
        why = "a person looks at the patch"
        d.emit(ev.WaitStarted(step=inp.step, call=inp.call, kind="approval", name=patch.ticket, reason=why))
        d.reply(inp.token, io.Waiting())
        return
    out = keep(d, answer_of(d.st, name, d.out.events))
    d.emit(ev.CallCompleted(step=inp.step, call=inp.call, kind="patch", name="propose_patch", out=out))
    d.reply(inp.token, io.Known(out))


def patch_id(run: str, what: str) -> str:
    """Return the id of a proposal: derived, so that proposing twice makes one."""
    return "pt-" + sha256(f"{run}/{what}".encode()).hexdigest()[:12]


def _take(
    d: Draft, name: str, ops: Raw, *, base: str, author: str, by: str, reason: str, step: str = "", call: str = "",
    takes: str = "", evidence: dict[str, Any] | None = None, absent: tuple[str, ...] = (),
) -> None:
    """Write down a proposal and what follows from it."""
    around, n = d.env.surroundings(), len(d.st.patches) + 1
    limit = around.terms.max_proposals
    is_over = breaker.is_over(d.st, PROPOSALS, n, limit)
    if is_over:
        verdict = _refused([Finding(message=f"the run has made {n} proposals, more than it may", code="patch.proposals")])
    else:
        verdict = examine(
            d.st, d.plan, msgspec.json.decode(ops), base=base, author=author, around=around, takes=takes, absent=absent
        )
    if any(finding.code in NOT_KEPT for finding in verdict.findings):
        ops = Raw(b"[]")
    d.emit(
        ev.PatchProposed(
            patch=name, base=base, ops=ops, author=author, by=by, reason=reason, step=step, call=call,
            findings=verdict.findings, digest=verdict.plan.digest if verdict.plan else "", changed=verdict.changed,
            asks=verdict.asks, takes=takes, evidence=evidence or {},
        )
    )
    if is_over:
        breaker.trip(d, PROPOSALS, n, limit, f"the run has made {n} proposals to change its graph; at most {limit} are allowed")
    if verdict.plan is None:
        return
    if verdict.asks:
        _ask(d, name, verdict, by, reason)
    else:
        _apply(d, name, verdict.plan, verdict.changed, by)


def _tripped(ticket: str) -> ev.Failure:
    message = f"the run has made too many proposals to change its graph; a person decides in ticket {ticket}"
    return ev.Failure(code="patch.proposals", type="TooManyPatches", message=message, retryable=False)


def _ask(d: Draft, name: str, verdict: Verdict, by: str, reason: str) -> None:
    assert verdict.plan is not None
    ticket = "tk-" + sha256(f"{d.st.id}/{name}".encode()).hexdigest()[:20]
    data = {
        "patch": name, "base": d.plan.digest, "digest": verdict.plan.digest, "by": by, "reason": reason,
        "changed": msgspec.to_builtins(verdict.changed), "asks": verdict.asks,
    }
    message = f"Apply patch {name} of {by or 'somebody'}? {verdict.asks[:1].upper()}{verdict.asks[1:]}."
    terms = Terms(requester=by) if by else None
    d.emit(ev.TicketOpened(ticket=ticket, kind="patch", step="", message=message, data=data, terms=terms))


def _apply(d: Draft, name: str, new: Plan, changed: Changed, by: str) -> None:
    takes = d.st.patches[name].takes
    n = len(d.st.overlays) + (-1 if takes in d.st.overlays else 1)
    ops = Raw(msgspec.json.encode(overlay_of(d.plan.definition, new.definition)))
    d.store(new.digest, canonical_json(new.definition))
    d.patch(ev.PatchApplied(patch=name, base=d.plan.digest, digest=new.digest, ops=ops, n=n, by=by, changed=changed))


def answer_of(st: RunState, name: str, events: Any = ()) -> dict[str, Any]:
    """Return what the author of a proposal is told."""
    patch = st.patches[name]
    told: dict[str, Any] = {"patch": name, "status": patch.status, "graph": st.digest, "number": f"1.{len(st.overlays)}"}
    said = next((e for e in reversed(list(events)) if isinstance(e, ev.PatchProposed) and e.patch == name), None)
    if said is not None and said.findings:
        told["problems"] = msgspec.to_builtins(said.findings)
        told["refused"] = sum(1 for one in st.patches.values() if one.step == patch.step and one.status == "invalid")
        told["example"] = example_of(st)
    if said is not None and patch.status == "applied":
        told["changed"] = msgspec.to_builtins(said.changed)
    return told


def example_of(st: RunState) -> list[dict[str, Any]]:
    """Return a patch that a run would take: a node behind a step that is not over yet."""
    behind = next((split_key(key)[0] for key, step in st.steps.items() if step.status in UNROUTED), "A_STEP_THAT_IS_NOT_OVER")
    node = {"id": "new_node", "kind": "agent", "config": {"pattern": "pipeline", "prompt": "What is to be done"}}
    return [
        {"op": "add", "path": "/nodes/-", "value": node},
        {"op": "add", "path": "/edges/-", "value": {"from": behind, "to": "new_node"}},
    ]


def view_of(st: RunState, plan: Plan, around: Surroundings) -> dict[str, Any]:
    """Return what an author of patches has to see: the graph, what of it is open, what is left of the limits."""
    terms, fixed = around.terms.of(plan.definition), frozen(st, plan)
    document = document_of(plan.definition)
    agents, nodes = agents_of(plan.definition), len(plan.nodes)
    return {
        "digest": plan.digest, "number": f"1.{len(st.overlays)}", "nodes": document["nodes"], "edges": document["edges"],
        "begun": sorted(fixed.begun), "over": sorted(fixed.routed),
        "left": {
            "agents": max(0, max(terms.max_agents, st.agents) - agents), "nodes": max(0, terms.max_nodes - nodes),
            "patches": max(0, terms.max_patches - len(st.overlays)), "operations": terms.bounds.operations,
        },
        "example": example_of(st),
    }


# --- decisions -------------------------------------------------------------------------------------------------


def decided(d: Draft, ticket: Ticket, decision: str, by: str, reason: str) -> None:
    """Follow a person's answer to the question whether a patch is to be applied."""
    name = ticket.data["patch"]
    if d.st.patches[name].status == "open":
        _decide(d, name, decision, by, reason)


def reviewed(d: Draft, m: msg.ReviewPatch, key: str) -> None:
    """Follow a person who has looked at a proposal that could not be applied."""
    patch = d.st.patches.get(m.patch)
    if patch is not None and patch.status == "invalid":
        _decide(d, m.patch, m.decision, m.by, m.reason)


def _decide(d: Draft, name: str, decision: str, by: str, reason: str) -> None:
    patch = d.st.patches[name]
    findings: tuple[Finding, ...] = ()
    if decision == "approve" and patch.ops is not None:
        verdict = examine(
            d.st, d.plan, msgspec.json.decode(patch.ops), base=patch.base, author=patch.author, around=d.env.surroundings(),
            takes=patch.takes,
        )
        if verdict.plan is not None:
            _apply(d, name, verdict.plan, verdict.changed, by)
            _answer(d, name, patch, by, reason)
            return
        findings = verdict.findings
        reason = "approved, but it can no longer be applied: " + findings[0].message
    d.emit(ev.PatchRejected(patch=name, by=by, reason=reason, findings=findings, changed=would_change(d.st, name)))
    _answer(d, name, patch, by, reason)


def _answer(d: Draft, name: str, patch: Patch, by: str, reason: str) -> None:
    """Tell the step that proposed, if it still waits."""
    step = d.st.steps.get(patch.step)
    call = step.calls.get(patch.call) if step is not None else None
    if call is None or call.status != "waiting":
        return
    out = keep(d, {**answer_of(d.st, name), "by": by, "reason": reason})
    d.emit(ev.WaitEnded(step=patch.step, call=patch.call, out=out))
    d.out.wake.append((patch.step, patch.call))
