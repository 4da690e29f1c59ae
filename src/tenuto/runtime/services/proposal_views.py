"""What the use cases of proposals answer; each is the JSON body of its endpoint."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from tenuto.domain.runs.views import View
from tenuto.runtime.services.gain_views import GainView, SavingView
from tenuto.runtime.services.patch_views import ChangedView, DifferenceView
from tenuto.runtime.services.results import ProblemView


class ProposalView(View):
    """A change of a workflow for the runs to come.

    Attributes:
        status: `proposed` (a person decides), `applied`, `rejected`, `stale` (the tag points elsewhere by now; propose it
            anew), `superseded` (a newer one took its place), or `refused` (approved, but it can no longer be applied).
        author: `agent`, `person` or `optimizer`; `by` names it.
        base_digest: Of the version it was made for; `digest` is that of the version it leads to.
        asks: Why a person has to approve it.
        expected: What a run is expected to save.
        gain: What it saves, for one of an optimizer that was applied; of a single proposal only.
        decided_by, decision_reason: Who decided, and why.
        operations, difference: Of a single proposal only.
        replayed: It was there before; nothing has changed.
    """

    id: str
    workflow: str
    tag: str
    status: str
    author: str
    by: str = ""
    optimizer: str = ""
    rule: str = ""
    title: str = ""
    reason: str = ""
    base_digest: str = ""
    digest: str = ""
    asks: str = ""
    note: str = ""
    changed: ChangedView = msgspec.field(default_factory=ChangedView)
    expected: SavingView = msgspec.field(default_factory=SavingView)
    evidence: dict[str, Any] = {}
    findings: list[ProblemView] = []
    at: datetime | None = None
    decided_at: datetime | None = None
    decided_by: str = ""
    decision_reason: str = ""
    operations: list[Any] | None = None
    difference: DifferenceView | None = None
    gain: GainView | None = None
    replayed: bool = False
