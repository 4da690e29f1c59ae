"""What an overlay makes of a plan. Pure, and the same wherever and whenever it is asked."""

from __future__ import annotations

from typing import Any

import msgspec

from tenuto.domain.base.canonical import canonical_json
from tenuto.domain.graph.compile import cached_plan, compile_cached
from tenuto.domain.graph.digests import digest_of_definition
from tenuto.domain.graph.model import Definition
from tenuto.domain.graph.plan import Plan
from tenuto.domain.overlays.operations import Operation, apply, between


def overlay_of(before: Definition, after: Definition) -> list[Operation]:
    """Return the operations, by places, that make one definition's canonical form of another's."""
    return between(document_of(before), document_of(after))


def document_of(definition: Definition) -> dict[str, Any]:
    """Return the document that patches are applied to: the canonical form, its lists of nodes and edges always there."""
    return {"edges": [], **msgspec.json.decode(canonical_json(definition))}


def plan_after(plan: Plan, operations: bytes, digest: str) -> Plan:
    """Return the plan an overlay leads to, compiled at most once while it stays in use.

    Args:
        operations: JSON of an overlay made by `overlay_of`.
        digest: Of the definition it leads to.

    Raises:
        ValueError: The overlay does not lead there; the journal is not what was written.
    """
    known = cached_plan(digest)
    if known is not None:
        return known
    document, problems = apply(document_of(plan.definition), msgspec.json.decode(operations, type=list[Operation]))
    if problems:
        raise ValueError(f"the overlay on {plan.digest} cannot be applied: {problems[0]}")
    definition = msgspec.convert(document, Definition)
    found = digest_of_definition(definition)
    if found != digest:
        raise ValueError(f"the overlay on {plan.digest} leads to {found}, not to {digest}")
    return compile_cached(digest, definition)
