"""What runs took, and what changes saved, as answers show it."""

from __future__ import annotations

from datetime import datetime

from tenuto.domain.runs.views import View


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


class NodeStatisticsView(View):
    """What ended steps of one node have shown; times are of those that succeeded at the first attempt."""

    node: str
    kind: str = ""
    completed: int = 0
    failed: int = 0
    skipped: int = 0
    retried: int = 0
    reused: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    cost_usd_micros: float = 0.0


class StatisticsView(View):
    """What the newest ended runs of a version have shown; a projection that may lag. Replays do not count.

    Attributes:
        window: At most so many runs are looked at.
        runs, failed: Completed and failed ones that were.
        steps: Executed steps a run, and `requests`: calls of HTTP by its `http` nodes, on average.
    """

    workflow: str
    version: str
    number: str = ""
    window: int = 0
    runs: int = 0
    failed: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    steps: float = 0.0
    requests: float | None = None
    cost_usd_micros: float = 0.0
    nodes: list[NodeStatisticsView] = []
