"""What the use cases of optimizers answer; each is the JSON body of its endpoint."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from tenuto.domain.runs.views import View
from tenuto.runtime.services.gain_views import SavingView
from tenuto.runtime.services.patch_views import ChangedView, DifferenceView
from tenuto.runtime.services.results import ProblemView


class OptimizerView(View):
    """An optimizer that is asked, or not.

    Attributes:
        kind: `builtin` or `plugin`.
        status: `enabled`, `disabled`, or `quarantined` after too many failures in a row.
        error: What happened the last time it failed.
    """

    name: str
    kind: str
    status: str
    description: str = ""
    digest: str = ""
    size: int = 0
    failures: int = 0
    error: str = ""
    by: str = ""
    added_at: datetime | None = None
    quarantined_at: datetime | None = None


class AskedView(View):
    """What came of asking one optimizer.

    Attributes:
        status: `answered`, `stopped`, `disabled`, or `quarantined`; `faulty` when something it suggested cannot be applied.
        why: Which bound stopped it: `fuel`, `memory`, `time`, `trap`, `reply` or `module`.
        fuel: Instructions it used, `memory` in bytes.
    """

    name: str
    kind: str
    status: str
    why: str = ""
    message: str = ""
    suggestions: int = 0
    fuel: int = 0
    memory: int = 0
    ms: float = 0.0


class SuggestionView(View):
    """What an optimizer suggests.

    Attributes:
        status: `shown` (nothing was stored), `proposed` or `open` (a person decides), `applied`, `known` (it was decided
            before, `note` says how), `stale` (something else was applied first), or `invalid`: `findings` say why.
        asks: Why a person has to approve it; empty when nobody has to.
        proposal: What was made of it; for a live run the id of its patch.
        nodes: What it is about.
        expected: What a run is expected to save.
    """

    optimizer: str
    rule: str
    title: str
    reason: str
    status: str
    note: str = ""
    asks: str = ""
    proposal: str = ""
    base_digest: str = ""
    digest: str = ""
    nodes: tuple[str, ...] = ()
    expected: SavingView = msgspec.field(default_factory=SavingView)
    evidence: dict[str, Any] = {}
    operations: list[Any] = []
    changed: ChangedView = msgspec.field(default_factory=ChangedView)
    difference: DifferenceView | None = None
    findings: list[ProblemView] = []


class OptimizedView(View):
    """What optimizers said to a workflow, or to a run that goes on.

    Attributes:
        version: Digest of the graph they were shown first.
        observed: The version whose runs they were told of, `runs` of them; another one where this has none yet.
        faults: How many optimizers were stopped, or suggested what cannot be applied.
    """

    workflow: str
    version: str
    tag: str = ""
    run: str = ""
    dry_run: bool = False
    observed: str = ""
    runs: int = 0
    optimizers: list[AskedView] = []
    suggestions: list[SuggestionView] = []
    faults: int = 0
