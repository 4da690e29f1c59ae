"""What the use cases of patches answer; each is the JSON body of its endpoint."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from tenuto.domain.runs.views import View
from tenuto.runtime.services.results import ProblemView


class ChangedView(View):
    """Ids of what a patch adds, removes and changes; edges as `from->to`."""

    nodes_added: tuple[str, ...] = ()
    nodes_removed: tuple[str, ...] = ()
    nodes_changed: tuple[str, ...] = ()
    edges_added: tuple[str, ...] = ()
    edges_removed: tuple[str, ...] = ()
    edges_changed: tuple[str, ...] = ()


class FieldView(View):
    """A field of a node with another value than before; a missing value is `None`."""

    field: str
    before: Any = None
    after: Any = None


class EdgeView(View):
    """An edge as a definition has it."""

    from_: str = msgspec.field(name="from")
    to: str
    when: str = ""
    on: str = "success"
    max_iterations: int | None = None


class DifferenceView(View):
    """What a patch makes of the graph it was made for.

    Attributes:
        nodes_changed: Fields that differ, by node; a move into or out of the body of a map is a removal and an addition.
        edges_changed: Edges whose bound on passes differs.
        nodes: Added nodes whole, by id.
    """

    nodes_added: tuple[str, ...] = ()
    nodes_removed: tuple[str, ...] = ()
    nodes_changed: dict[str, tuple[FieldView, ...]] = {}
    edges_added: tuple[EdgeView, ...] = ()
    edges_removed: tuple[EdgeView, ...] = ()
    edges_changed: tuple[EdgeView, ...] = ()
    nodes: dict[str, dict[str, Any]] = {}


class PatchView(View):
    """A proposed change of a run's graph.

    Attributes:
        status: `sent` (its run has not looked at it yet), `open` (a person decides), `applied`, `rejected`, or `invalid`:
            it cannot be applied, and is kept for a person to look at.
        author: `agent`, `person` or `optimizer`; `by` names it.
        base_digest: Of the graph it was made for; `digest` is that of the graph it leads to.
        number: Of the graph since it is in force, `1.n`; empty when it is not.
        asks: Why a person has to approve it.
        changed: Ids of what is added, removed and changed.
        takes: The patch it takes back or brings back.
        operations, difference: Of a single patch only.
        replayed: The idempotency key was used before with the same body: this is the patch made then.
    """

    id: str
    run: str
    status: str
    author: str
    by: str = ""
    reason: str = ""
    step: str = ""
    base_digest: str = ""
    digest: str = ""
    number: str = ""
    asks: str = ""
    ticket: str = ""
    takes: str = ""
    at: datetime | None = None
    changed: ChangedView = msgspec.field(default_factory=ChangedView)
    findings: list[ProblemView] = []
    evidence: dict[str, Any] = {}
    operations: list[Any] | None = None
    difference: DifferenceView | None = None
    replayed: bool = False


class LeftView(View):
    """What is left of the limits on patches of a run."""

    agents: int
    nodes: int
    patches: int
    operations: int


class PatchableView(View):
    """What an author of patches has to see of a run.

    Attributes:
        digest: Of the graph the run goes by now: the `base_digest` of a patch made for it.
        number: Of that graph, `1.n`.
        nodes, edges: The graph as patches address it.
        begun: Nodes with a step: they and the edges to them are fixed.
        over: Nodes whose outgoing edges are decided, and fixed too.
        left: What may be added; `operations` is the most of one patch.
        example: Operations the run would take.
    """

    digest: str
    number: str
    nodes: list[dict[str, Any]]
    edges: list[dict[str, Any]]
    begun: list[str]
    over: list[str]
    left: LeftView
    example: list[dict[str, Any]]
