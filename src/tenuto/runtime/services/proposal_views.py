"""What the use cases of proposals and of optimizers answer; each is the JSON body of its endpoint."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from tenuto.domain.runs.views import View
from tenuto.runtime.services.patch_views import ChangedView, DifferenceView
from tenuto.runtime.services.results import ProblemView


class SavingView(View):
    """What a run saves by the median, or is expected to; below 0 it takes more. `None` where nothing is known.

    Attributes:
        steps: Executed steps a run, on average; `requests`: of those, calls of HTTP.
        cost_usd_micros: On average.
    """

    ms: float | None = None
    steps: float | None = None
    requests: float | None = None
    cost_usd_micros: float | None = None


class MeasuredView(View):
    """What the runs of one version took."""

    version: str
    runs: int = 0
    failed: int = 0
    p50_ms: float | None = None
    steps: float = 0.0
    requests: float | None = None
    cost_usd_micros: float = 0.0


class GainView(View):
    """What an applied change of an optimizer was expected to save, and what it does.

    Attributes:
        status: `measured`, or `waiting` for runs: then `note` says how many there are of how many.
        in_force: Whether the tag still points at a version that has the change.
        worse: Why it made things worse; empty when it did not, or nobody knows yet. `undo` takes it back.
    """

    proposal: str
    workflow: str
    tag: str
    optimizer: str
    rule: str
    title: str
    status: str
    note: str
    expected: SavingView
    measured: SavingView | None
    before: MeasuredView
    after: MeasuredView
    in_force: bool
    worse: str = ""
    undo: str = ""
    applied_at: datetime | None = None


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
