"""What patches come to: looked at for the runs to come, and shown as the difference they make."""

from __future__ import annotations

from typing import Any

import msgspec

from tenuto.domain.graph.bodies import levels_of
from tenuto.domain.graph.diff import diff_definitions
from tenuto.domain.graph.model import Definition
from tenuto.domain.graph.plan import Plan
from tenuto.domain.overlays.operations import Bounds, apply, read_operations
from tenuto.domain.overlays.overlay import document_of
from tenuto.domain.runs.patches import Verdict, examine
from tenuto.domain.runs.state import RunState
from tenuto.errors import InvalidPatch, Problem
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.patch_views import DifferenceView
from tenuto.runtime.services.results import ProblemView
from tenuto.runtime.subflows import absent_workflows

_READ_AS_THEY_ARE = Bounds(operations=1_000_000, bytes=1 << 40)
NOBODY = RunState(id="")
"""A run that has not begun: nothing of its graph is fixed."""


async def judged(context: Context, plan: Plan, operations: Any, author: str) -> Verdict:
    """Look at a patch of a version for the runs to come."""
    absent = await absent_workflows(context.store, context.ns, plan.definition, operations)
    return examine(
        NOBODY, plan, operations, base=plan.digest, author=author, around=context.surroundings(), absent=absent
    )


def refusal(workflow: str, verdict: Verdict) -> InvalidPatch:
    """Return what says why a patch of a workflow cannot be applied."""
    problems = tuple(Problem(f.place, f.message, f.hint, f.code) for f in verdict.findings)
    return InvalidPatch(f"the patch of workflow {workflow!r} cannot be applied", workflow=workflow, problems=problems)


def problem_views(verdict: Verdict) -> list[ProblemView]:
    """Return what is wrong with a patch as answers show it."""
    return [ProblemView(place=f.place, message=f.message, hint=f.hint, code=f.code) for f in verdict.findings]


def difference(before: Definition, after: Definition) -> DifferenceView:
    """Return what differs between two graphs."""
    view = msgspec.convert(msgspec.to_builtins(diff_definitions(before, after)), DifferenceView)
    nodes = {node.id: node for level in levels_of(after) for node in level.nodes}
    view.nodes = {name: msgspec.to_builtins(nodes[name]) for name in view.nodes_added}
    return view


def difference_by(before: Definition, operations: Any) -> DifferenceView | None:
    """Return what operations make of a graph; `None` where they cannot be applied at all."""
    read, problems = read_operations(operations, _READ_AS_THEY_ARE)
    document, faults = apply(document_of(before), read) if not problems else ({}, problems)
    if faults:
        return None
    try:
        return difference(before, msgspec.convert(document, Definition))
    except msgspec.ValidationError:
        return None
