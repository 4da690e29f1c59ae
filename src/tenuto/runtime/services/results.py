"""What the use cases answer, beside the views of runs; each is the JSON body of its endpoint."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from tenuto.domain.graph.analysis import Severity
from tenuto.domain.runs.check import Violation
from tenuto.domain.runs.views import BudgetView, ErrorView, GraphView, View
from tenuto.runtime.services.gain_views import GainView

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], kw_only=True):
    """A part of a list; `next` is the cursor of the following part, `None` at the end."""

    items: list[T]
    next: str | None = None


class Accepted(View):
    """A command was taken; the run answers it in its own time.

    Attributes:
        status: Of the run when the command was taken.
        replayed: The idempotency key was used before with the same body: this is the answer given then.
    """

    id: str
    status: str
    replayed: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended.

    Attributes:
        output: Outputs of its last nodes by id; `None` unless it completed.
        error: Why it did not complete.
    """

    id: str
    status: str
    output: Any = None
    error: ErrorView | None = None


class Started(Accepted):
    """A run exists and is queued.

    Attributes:
        attached: An unfinished run had the business key: this is that run.
    """

    replay_of: str | None = None
    attached: bool = False


class ProblemView(View):
    """One fault in a document; `place` is a JSON pointer into it."""

    place: str
    message: str
    hint: str = ""
    code: str = ""


class Foreseen(View):
    """One thing that will go wrong, or is worth knowing, when a workflow runs; `place` is a JSON pointer into it."""

    id: str
    severity: Severity
    place: str
    message: str
    fix: str


class Validation(View):
    """What checking a definition found; `version` is its digest when it can be compiled.

    Problems keep it from being published; findings do not.
    """

    valid: bool
    version: str | None = None
    problems: list[ProblemView] = []
    findings: list[Foreseen] = []


class MoveView(View):
    """A tag of a workflow was let point at another version.

    Attributes:
        kind: `publish`, `tag`, `patch`, `undo` or `redo`.
        former: Version it pointed at before; empty when the tag was new.
        operations: For patches: the overlay, by places in lists, that makes the version of the former one.
        gain: For patches by optimizers that were proposed: what they were expected to save, and what they do.
    """

    tag: str
    n: int
    kind: str
    version: str
    former: str = ""
    by: str = ""
    author: str = ""
    reason: str = ""
    at: datetime | None = None
    operations: list[dict[str, Any]] = []
    evidence: dict[str, Any] = {}
    gain: GainView | None = None


class WorkflowVersion(View):
    """A stored version of a workflow.

    Attributes:
        number: `n.0` for the n-th that was written, `n.m` for the m-th patch in its line; empty in lists of all workflows.
    """

    name: str
    version: str
    number: str = ""
    tags: list[str] = []
    retired: bool = False
    created_at: datetime | None = None


class WorkflowView(WorkflowVersion):
    """A version with its definition, in canonical form, and its shape."""

    definition: dict[str, Any] = {}
    graph: GraphView | None = None


class VoteView(View):
    """What one of several people said; `role` is the group they spoke for."""

    decision: str
    by: str
    role: str = ""
    reason: str = ""


class TicketView(View):
    """A question to a person.

    Attributes:
        kind: `approval`, `escalation`, `review`, `unknown_outcome`, `integrity`, `patch`, `breaker`,
            `dead_letter`.
        state: `open`, `decided`, `closed`.
        choices: Decisions that are accepted while the ticket is open.
        digest: Of what is shown; a decision that carries it is refused when the ticket asks something else by then.
        approvers: People, and groups as `group:NAME`, who may decide; empty is everybody.
        quorum: How many distinct people have to approve.
        reject_quorum: How many distinct people have to reject.
        not_by: Who may not decide because it is their own affair.
        form: JSON Schema of the data that an approval brings.
        votes: What those said who have answered, where several have to.
        push_back: Earlier steps that `push_back` may send the run back to.
        on_timeout: What follows when nobody decides before `expires_at`.
    """

    id: str
    kind: str
    state: str
    run: str
    step: str
    message: str
    data: dict[str, Any] = {}
    choices: list[str] = []
    digest: str = ""
    approvers: list[str] = []
    quorum: int = 1
    reject_quorum: int = 1
    not_by: str = ""
    form: dict[str, Any] | None = None
    votes: list[VoteView] = []
    push_back: list[str] = []
    on_timeout: str | None = None
    decision: str | None = None
    reason: str | None = None
    by: str | None = None
    answer: Any = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    decided_at: datetime | None = None


class DeadLetterView(View):
    """A step that failed for good and that nothing handled; redriving it sends it round again."""

    id: str
    state: str
    run: str
    step: str
    node: str
    message: str
    error: dict[str, Any] = {}
    attempt: int = 0
    created_at: datetime | None = None


class ArtifactView(View):
    """Stored content; the digest is that of its bytes.

    Attributes:
        step: Whose it is in the run that was asked for; empty for its input, and outside of runs.
        role: `input`, `output`, `items`, `signal` or `reuse` for values of the journal, `artifact` for bytes it names.
    """

    digest: str
    size: int
    media_type: str = ""
    created_at: datetime | None = None
    step: str = ""
    role: str = ""


class StepRowView(View):
    """A step as the list across runs shows it; a projection that may lag.

    Attributes:
        cache: What the cache had to do with its outcome: `hit`, `joined`, `miss`, `unread`, or empty for nothing.
        saved_ms: What a result that was taken had taken to compute.
    """

    id: str
    run: str
    node: str
    kind: str
    status: str
    attempt: int = 0
    error: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cache: str = ""
    saved_ms: int = 0


class FindingView(View):
    """What an agent found out, as later agents of its run are told; findings of a run that say the same are one.

    Attributes:
        id: The run's id, a dot, and the finding's own.
        step: The step that found it first, and `node` its agent.
        deleted_at: Since when later prompts leave it out; absent while they do not.
    """

    id: str
    run: str
    workflow: str
    step: str
    node: str
    category: str
    text: str
    found_at: datetime | None = None
    deleted_at: datetime | None = None
    deleted_by: str = ""
    reason: str = ""


class WorkerView(View):
    """A worker and its lease.

    Attributes:
        alive: Whether its lease has not ended by the store's clock.
        manifest: What it can serve.
    """

    id: str
    host: str
    pid: int
    alive: bool
    lease_until: datetime | None = None
    started_at: datetime | None = None
    manifest: dict[str, Any] = {}


class RunUsage(View):
    """What one run used, current."""

    run: str
    workflow: str
    status: str
    budget: BudgetView
    calls: dict[str, int] = {}


class Spending(View):
    """What calls cost together.

    Attributes:
        calls: All of them, those that failed and those of unknown outcome included.
        failed: Calls that failed; what they cost all the same is in the sums.
        unknown: Calls whose outcome was lost; `unknown_tokens` and `unknown_cost_usd` say what they cost at most.
        tokens: As charged, known ones only; the kinds of tokens are as providers told them, and overlap: cached and
            cache-written ones are input, reasoning ones are output.
        cost_usd: The same as `cost_usd_micros`, in dollars, exact.
    """

    runs: int = 0
    calls: int = 0
    failed: int = 0
    unknown: int = 0
    tokens: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd_micros: int = 0
    cost_usd: str = "0.000000"
    unknown_tokens: int = 0
    unknown_cost_usd_micros: int = 0
    unknown_cost_usd: str = "0.000000"


class UsageGroup(Spending):
    """What the calls that have `key` in common cost; the key is empty for calls that have none."""

    key: str = ""


class UsageView(View):
    """What was used.

    Attributes:
        groups: Empty unless a grouping was asked for.
        complete: `False` when there were more groups than the limit; the totals count all of them.
        lag: How many committed groups of records are not counted yet; 0 = nothing is missing.
    """

    totals: Spending
    group_by: str = ""
    since: datetime | None = None
    until: datetime | None = None
    groups: list[UsageGroup] = []
    complete: bool = True
    lag: int = 0


class UsageCall(View):
    """One call as it was paid for.

    Attributes:
        agent: The node that made it.
        kind: `model`, `tool` or `call`.
        state: `settled`, `failed`, or `unknown`: then the amounts are an upper bound.
    """

    run: str
    step: str
    call: str
    at: datetime | None
    kind: str
    state: str
    agent: str
    workflow: str
    project: str = ""
    provider: str = ""
    model: str = ""
    purpose: str = ""
    tool: str = ""
    tokens: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd_micros: int = 0
    cost_usd: str = "0.000000"


class SharedCapView(View):
    """A cap that many runs share, and what counts under it in its window now.

    Attributes:
        scope: Empty for all runs of the namespace, `project:NAME`, or `provider:NAME`.
        period: `day`, `month`, `total`, or `now` for calls under way at one moment.
        limit: Millionths of a US dollar, numbers of calls for `now`; `None` = no cap is set.
        reserved: Held for calls under way; `unknown` for calls whose outcome was lost.
        overrun: What calls used above what they had reserved, where that passed the limit.
        source: `settings` or `api`.
    """

    scope: str
    period: str
    window: str = ""
    resets_at: datetime | None = None
    limit: int | None = None
    spent: int = 0
    reserved: int = 0
    unknown: int = 0
    overrun: int = 0
    remaining: int | None = None
    warn_percent: int | None = None
    warned: bool = False
    source: str = ""


class WaitingCallView(View):
    """A call that waits for room; `ask` is the most it may cost, in millionths of a US dollar."""

    run: str
    step: str
    call: str
    ask: int = 0
    project: str = ""
    provider: str = ""
    since: datetime | None = None


class SharedCapsView(View):
    """All shared caps, and who waits for room under them, longest first."""

    items: list[SharedCapView]
    waiting: list[WaitingCallView] = []


class HoldView(View):
    """What is held for a call without a known outcome; `lost` says that nobody will report it by itself."""

    run: str
    n: int
    step: str
    call: str
    usd_micros: int = 0
    provider: str = ""
    lost: bool = False
    since: datetime | None = None


class HoldsView(View):
    """Holds, oldest first."""

    items: list[HoldView]


class AuditEntry(View):
    """One transition as the journal holds it, with the proof of its place."""

    id: str
    seq: int
    epoch: int
    type: str
    at: datetime | None
    step: str = ""
    by: str = ""
    worker: str = ""
    data: dict[str, Any] = {}
    chain: str = ""


class AuditTrail(View):
    """A run's whole story; `verified` says whether the chain and the invariants hold."""

    run: str
    verified: bool
    head: str
    records: int
    problem: str = ""
    entries: list[AuditEntry] = []
    next: str | None = None


class Verification(View):
    """What verifying journals found; `heads` maps run to `{seq, chain}`, to be kept elsewhere."""

    runs: int
    records: int
    ok: bool
    violations: list[Violation] = []
    heads: dict[str, dict[str, Any]] = {}


class StateView(View):
    """A run's folded state as of one record, as plain data."""

    run: str
    at: int
    head: int
    state: dict[str, Any] = {}


class DeletedView(View):
    """How many runs were deleted."""

    deleted: int
