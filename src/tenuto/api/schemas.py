"""What requests may say: strict, closed models, turned into the use cases' own requests.

Answers need no models of their own; they are the views the use cases return.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from tenuto.domain.graph.model import Budget
from tenuto.runtime.services import requests

_NO_NUL = r"^[^\x00]*$"
Text = Annotated[str, StringConstraints(pattern=_NO_NUL, max_length=10_000)]
Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]+$", min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Label = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]*$", max_length=200)]
Labels = Annotated[dict[Name, Label], Field(max_length=64)]

RUN_SYNONYMS = {"dependsOn": "depends_on", "startAt": "start_at"}
REPLAY_SYNONYMS = {"fromStep": "from_step", "fromNode": "from_node"}


class Strict(BaseModel):
    """Nothing is coerced and no unknown field passes."""

    model_config = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True)


class BudgetIn(Strict):
    """Caps of one run; a cap left out does not apply."""

    tokens: Count | None = None
    """Model tokens, input and output together."""
    tool_calls: Count | None = None
    per_tool: dict[Name, Count] = {}
    """Calls by tool name."""
    cost_usd_micros: Count | None = None
    """Millionths of a US dollar."""
    wall_clock_s: Annotated[float, Field(gt=0, le=10**10)] | Annotated[int, Field(gt=0, le=10**10)] | None = None
    """Seconds from the first start, waits included."""

    def to_domain(self) -> Budget:
        """Return the caps as the domain knows them."""
        return Budget(**self.model_dump())


class CapIn(Strict):
    """A cap that many runs share."""

    scope: Label = ""
    """Empty for all runs, else `project:NAME` for runs labelled `project=NAME`."""
    period: Literal["day", "month", "total"]
    """In UTC."""
    limit_usd_micros: Annotated[int, Field(ge=0, le=10**15)]
    """Millionths of a US dollar; 0 stops every call that costs anything."""
    warn_percent: Annotated[int, Field(ge=1, le=100)] = 80
    """Share of the limit at which one warning a window is given."""


class SettledIn(Strict):
    """What a call with a lost outcome did cost."""

    cost_usd_micros: Annotated[int, Field(ge=0, le=10**15)]
    """Millionths of a US dollar; 0 when it was not made."""


class RunIn(Strict):
    """A run to start: exactly one of `workflow`, `definition` and `steps`."""

    workflow: Name | None = None
    """Name of a registered workflow; `graph` is a synonym."""
    definition: dict[str, Any] | str | None = None
    """A workflow's definition, for this run."""
    steps: list[Any] | None = None
    """A plain step list: `[{name, input, depends_on}]`; `dependsOn` is a synonym."""
    goal: Text = ""
    input: Any = None
    tag: Name = "latest"
    """Which version of `workflow`: a tag or a full digest."""
    budget: BudgetIn | None = None
    """Caps that replace the definition's, cap by cap."""
    priority: Literal["low", "medium", "high"] = "medium"
    labels: Labels = {}
    start_at: int | str | None = None
    """Not before this instant: RFC 3339 text, or milliseconds since 1970."""
    business_key: Name | None = None
    """At most one unfinished run has it; starting again attaches to that run."""
    fidelity: Literal["full", "fast"] = "full"

    @field_validator("start_at")
    @classmethod
    def _instant(cls, value: int | str | None) -> int | None:
        return instant_ms(value)

    @model_validator(mode="after")
    def _one_source(self) -> RunIn:
        given = [name for name in ("workflow", "definition", "steps") if getattr(self, name) is not None]
        if len(given) != 1:
            told = " and ".join(given) if given else "none"
            raise ValueError(f"give exactly one of 'workflow', 'definition' and 'steps'; {told} given")
        return self

    def to_request(self, *, key: str | None, by: str) -> requests.StartRun:
        """Return the request of the use case."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        given["budget"] = self.budget.to_domain() if self.budget else None
        given["start_at"] = self.start_at or 0
        return requests.StartRun(**given, idempotency_key=key, by=by)


class EditsIn(Strict):
    """What a replay changes against its origin; `nodes` and `definition` exclude each other."""

    input: Any = None
    nodes: dict[Name, dict[str, Any]] = {}
    """Node id to the fields of the node to replace; `config` is merged key by key."""
    budget: BudgetIn | None = None
    definition: dict[str, Any] | str | None = None

    @model_validator(mode="after")
    def _one_graph(self) -> EditsIn:
        if self.nodes and self.definition is not None:
            raise ValueError("'nodes' and 'definition' exclude each other")
        return self

    def to_request(self) -> requests.Edits:
        """Return the edits of the use case."""
        return requests.Edits(
            input=self.input if "input" in self.model_fields_set else msgspec.UNSET,
            nodes=self.nodes,
            budget=self.budget.to_domain() if self.budget else None,
            definition=self.definition,
        )


class ReplayIn(Strict):
    """Which part of a run to do again, and how; at most one of `from_step`, `from_node` and `at`."""

    from_step: int | Name | None = None
    """A number keeps that many completed steps, 0 none; a step's id starts again there. `fromStep` is a synonym."""
    from_node: Name | None = None
    at: Annotated[int, Field(ge=0, le=2**53)] | None = None
    """A record of the origin: everything up to it is kept."""
    mode: Literal["live", "freeze", "shadow"] = "live"
    edits: EditsIn | None = None
    labels: Labels | None = None

    @model_validator(mode="after")
    def _one_cut(self) -> ReplayIn:
        given = [name for name in ("from_step", "from_node", "at") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other")
        return self

    def to_request(self, *, key: str | None, by: str) -> requests.Replay:
        """Return the request of the use case."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        given["edits"] = self.edits.to_request() if self.edits else None
        return requests.Replay(**given, idempotency_key=key, by=by)


class ReasonIn(Strict):
    """Why, in the caller's words."""

    reason: Text = ""


class ResumeIn(Strict):
    """A stopped run goes on where it stood; `budget` raises its caps."""

    budget: BudgetIn | None = None


class RetryIn(Strict):
    """How a failed step goes round again."""

    fresh: bool = False
    """Give its effects a new idempotency key."""
    guidance: Text = ""
    config: dict[str, Any] | None = None
    """Merged into the node's config, for this run only."""
    reason: Text = ""


class DecisionIn(Strict):
    """An answer to a ticket."""

    decision: Name
    """`approve` or `reject` for approvals; for others one of the ticket's `choices`."""
    reason: Text = ""
    data: Any = None
    digest: Name | None = None
    """The ticket's `digest` as it was read: the decision is about that and nothing else."""
    by: Name | None = None
    """The person the caller speaks for; without it, the decision is the caller's own."""
    to: Name | None = None
    """For `push_back`: the earlier step the run goes back to; not needed where there is one only."""


class PatchIn(Strict):
    """A change of a run's graph."""

    model_config = ConfigDict(json_schema_extra={"examples": [{
        "base_digest": "sha256:" + "0" * 64,
        "operations": [
            {"op": "add", "path": "/nodes/-", "value": {"id": "check", "kind": "function", "config": {"handler": "check"}}},
            {"op": "add", "path": "/edges/-", "value": {"from": "draft", "to": "check"}},
            {"op": "replace", "path": "/nodes/publish/config/prompt", "value": "Publish what was checked."},
            {"op": "remove", "path": "/edges/draft->publish"},
        ],
        "reason": "The draft names figures that nobody has checked.",
    }]})

    base_digest: Name
    """Digest of the graph it is made for, as `GET /runs/{run_id}/patches/graph` tells it."""
    operations: list[Any]
    """JSON Patch (RFC 6902) on `/nodes` and `/edges`; nodes go by place or id, edges by place or `FROM->TO`."""
    reason: Text = ""
    """Why, for whoever looks at it."""
    evidence: dict[str, Any] = {}
    """What speaks for it, kept as it is."""


class PatchDecisionIn(Strict):
    """What is to become of a patch."""

    decision: Literal["approve", "reject"]
    reason: Text = ""
    """Needed to reject."""
    by: Name | None = None
    """The person the caller speaks for; without it, the decision is the caller's own."""


class ProposalIn(Strict):
    """A change of a workflow for the runs to come, for somebody to decide."""

    operations: list[Any]
    """JSON Patch (RFC 6902) on `/nodes` and `/edges`; nodes go by place or id, edges by place or `FROM->TO`."""
    base: Name = "latest"
    """Version they are made for, as a tag or digest; the tag has to point at it."""
    tag: Name = "latest"
    """The tag that is to be moved."""
    author: Literal["person", "agent"] = "person"
    """Who proposes it; policy may let some wait for a person and apply others at once."""
    title: Text = ""
    """What it is about, in a line."""
    reason: Text = ""
    """Why, for whoever decides."""
    evidence: dict[str, Any] = {}
    """What speaks for it, kept as it is."""


class ProposalDecisionIn(Strict):
    """Why a proposal is approved or turned down."""

    reason: Text = ""
    """Needed to reject."""
    by: Name | None = None
    """The person the caller speaks for; without it, the decision is the caller's own."""
    digest: Name | None = None
    """Of the version it leads to, as it was shown; the decision is refused when it leads elsewhere."""


class OptimizeIn(Strict):
    """What optimizers are asked."""

    tag: Name = "latest"
    """Which version of the workflow, and the tag that proposals are to move."""
    dry_run: bool = False
    """Only show what they suggest; nothing is stored."""
    optimizers: list[Name] = []
    """Only these; none is all of them."""


class OptimizeRunIn(Strict):
    """What optimizers are asked about a run that goes on."""

    dry_run: bool = False
    """Only show what they suggest; nothing is proposed."""
    optimizers: list[Name] = []
    """Only these; none is all of them."""


class VersionPatchIn(Strict):
    """A change of a workflow for the runs to come."""

    operations: list[Any]
    """JSON Patch (RFC 6902) on `/nodes` and `/edges`; nodes go by place or id, edges by place or `FROM->TO`."""
    base: Name = "latest"
    """Version they are made for, as a tag or digest; the tag has to point at it."""
    tag: Name = "latest"
    """The tag that shall point at what comes of it."""
    reason: Text = ""
    evidence: dict[str, Any] = {}
    """What speaks for it, kept as it is."""


class TagIn(Strict):
    """The version a tag shall point at."""

    version: Name
    """A full digest, or another tag of the workflow."""


class KnowledgeDocumentIn(Strict):
    """A document of a source."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    """Names it within its source."""
    text: Annotated[str, StringConstraints(pattern=_NO_NUL)] | None = None
    """What it says; left out, `digest` asks whether the text is needed."""
    digest: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    """SHA-256 of the text in UTF-8, in hex."""


class KnowledgeIndexIn(Strict):
    """Documents of a source as they are now."""

    source: Name
    documents: Annotated[list[KnowledgeDocumentIn], Field(max_length=100_000)]
    prune: bool = False
    """Whether documents of the source that are not named here are removed."""


class KnowledgeSearchIn(Strict):
    """What to look for."""

    query: Annotated[str, StringConstraints(pattern=_NO_NUL, min_length=1, max_length=10_000)]
    database: Annotated[str, StringConstraints(max_length=64)] = ""
    """One base; all of them when left out."""
    mode: Literal["meaning", "words", "exact"] = "meaning"
    limit: Annotated[int, Field(ge=1, le=100)] = 5


class RetireIn(Strict):
    """Which versions can no longer be started."""

    version: Name | None = None
    """A digest; all versions when left out."""


class PruneIn(Strict):
    """Which ended runs are deleted."""

    before: int | str
    """Those that ended before this instant: RFC 3339 text, or milliseconds since 1970."""

    @field_validator("before")
    @classmethod
    def _instant(cls, value: int | str) -> int:
        return instant_ms(value) or 0


class SessionIn(Strict):
    """A one-time code from the printed link, or the bearer token."""

    code: Text = ""
    token: Text = ""


def instant_ms(value: int | str | None) -> int | None:
    """Return an instant as milliseconds since 1970.

    Raises:
        ValueError: It is not RFC 3339 text with an offset, or out of range.
    """
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("must be RFC 3339 text such as 2030-01-31T09:00:00Z, or milliseconds") from None
        if moment.tzinfo is None:
            raise ValueError("needs an offset from UTC, such as Z or +02:00")
        value = int(moment.timestamp() * 1000)
    if value is not None and not 0 <= value < 253_402_300_800_000:
        raise ValueError("must be between 1970 and 9999")
    return value
