"""What the journal says of changes to the run's graph. Part of `events`."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from tenuto.domain.runs.facts import Event


class Finding(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One reason why a patch is refused: what is wrong, where, and what to do."""

    message: str
    place: str = ""
    hint: str = ""
    code: str = ""


class Changed(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Which parts of a graph differ: ids of nodes, and edges as `from->to`."""

    nodes_added: tuple[str, ...] = ()
    nodes_removed: tuple[str, ...] = ()
    nodes_changed: tuple[str, ...] = ()
    edges_added: tuple[str, ...] = ()
    edges_removed: tuple[str, ...] = ()
    edges_changed: tuple[str, ...] = ()


class PatchProposed(Event, frozen=True, tag="patch.proposed"):
    """Somebody proposed a change of the graph.

    Attributes:
        base: Digest of the graph it was made for.
        ops: The operations as they were given.
        author: `agent`, `person` or `optimizer`; `by` names it.
        step, call: The call of the step that proposes, for agents.
        findings: Why it cannot be applied; with any, it is kept for a person to look at.
        digest: Of the graph it leads to; empty when there are findings.
        asks: Why a person has to approve it first; empty when nobody has to.
        takes: The overlay it takes back or brings back, for `undo` and `redo`.
    """

    patch: str
    base: str
    ops: Raw
    author: str
    by: str = ""
    reason: str = ""
    step: str = ""
    call: str = ""
    findings: tuple[Finding, ...] = ()
    digest: str = ""
    changed: Changed = Changed()
    asks: str = ""
    takes: str = ""
    evidence: dict[str, Any] = {}


class PatchApplied(Event, frozen=True, tag="patch.applied"):
    """The graph changed: from here on the run goes by the graph `digest`.

    Attributes:
        ops: The overlay: operations by places in lists that make the canonical form of `digest` of that of `base`.
        n: Overlays in force from here on; the graph's number is `1.n`.
    """

    patch: str
    base: str
    digest: str
    ops: Raw
    n: int
    by: str = ""
    changed: Changed = Changed()


class PatchRejected(Event, frozen=True, tag="patch.rejected"):
    """A proposed change was turned down, by a person or because the graph has moved on; it has no effect.

    Attributes:
        changed: What it would have changed.
    """

    patch: str
    by: str = ""
    reason: str = ""
    findings: tuple[Finding, ...] = ()
    changed: Changed = Changed()
