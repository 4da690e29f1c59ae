"""What an agent needs of the step it is, and what may go wrong in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from tenuto.domain.graph.plan import PlanNode
from tenuto.domain.routing import Routing
from tenuto.domain.runs.calls import refusal
from tenuto.domain.runs.events import Charge
from tenuto.domain.runs.state import RunState
from tenuto.errors import Permanent
from tenuto.ports.model import Model, OnDelta
from tenuto.runtime.tools.call import Journaled, Settled, Status
from tenuto.runtime.tools.catalog import Catalog


class Durable(Journaled, Settled, Protocol):
    """What an agent asks of the engine: calls, notes and waits that are recorded.

    Attributes:
        guidance: What a person wrote when sending the step round again; empty otherwise.
        step: The step's key.
    """

    guidance: str
    run_id: str
    step: str

    async def perform(
        self, kind: str, name: str, arguments: Any, make: Callable[[str], Awaitable[Any]], *, key: str | None = None,
        effect: str = "idempotent", on_unknown: str = "retry", hold: Charge | None = None,
        used: Callable[[Any], Charge | None] = ..., meta: Callable[[Any], dict[str, Any]] = ..., slot: str = ...,
        partial: Any = None, status: Status | None = None,
    ) -> Any:
        """Make one journaled call; `partial` is the step's output should a cap be used up and halt the run."""
        ...

    async def note(self, key: str, value: Any, *, kind: str = "note", name: str = "") -> Any:
        """Record a decision; every later attempt gets the same."""
        ...

    def begun(self, call: str) -> bool:
        """Return whether the journal knows a call or wait."""
        ...

    async def graph(self, *, key: str | None = None) -> dict[str, Any]:
        """Return the run's graph as it is now; a later attempt sees the same."""
        ...

    async def propose_patch(
        self, operations: Any, *, reason: str = "", base: str = "", key: str | None = None
    ) -> dict[str, Any]:
        """Propose a change of the run's graph."""
        ...

    async def sleep(self, seconds: float, *, key: str | None = None, reason: str = "") -> None:
        """Wait durably."""
        ...

    async def review(self, message: str, *, data: dict[str, Any] | None = None, key: str | None = None) -> dict[str, Any]:
        """Let a person judge."""
        ...

    def log(self, message: str, **fields: Any) -> None:
        """Write a line to the log of the step."""
        ...


class Step(Protocol):
    """What an agent needs of the step it is.

    Attributes:
        node: Its node, with the edges that leave it.
    """

    node: PlanNode

    @property
    def st(self) -> RunState:
        """Return the state of the run."""
        ...

    @property
    def catalog(self) -> Catalog:
        """Return what the worker can serve."""
        ...

    @property
    def routing(self) -> Routing:
        """Return which models do what agents leave open."""
        ...

    def model(self, name: str) -> Model:
        """Return the model of a name."""
        ...

    def teller(self, call: str) -> OnDelta | None:
        """Return what tells those who watch the run of a call's text as it comes; `None` when nobody does."""
        ...

    def withdraw(self, call: str) -> None:
        """Tell those who watch that the text of a call so far does not count."""
        ...

    async def render(self, template: Any) -> Any:
        """Return a template of the node's config with its references filled in."""
        ...

    async def predecessors(self) -> Mapping[str, Any]:
        """Return the outputs of the nodes whose edges led here, by id."""
        ...

    async def finished(self) -> list[tuple[str, Any]]:
        """Return the outputs of the run's completed agent steps as `(name, output)`, the newest first."""
        ...

    async def deleted_findings(self) -> frozenset[str]:
        """Return the ids of the findings that somebody deleted from this run, or from one it replays, until now."""
        ...


class ChoiceRefused(Permanent):
    """The model chose a node that is not among the allowed ones."""

    code = "agent.choice_refused"


class AnswerInvalid(Permanent):
    """The model's structured answer does not fit its schema, also after being told."""

    code = "agent.answer_invalid"


class RoundsSpent(Permanent):
    """The model went on asking for tools until its rounds were used up, and gave no answer that can stand."""

    code = "agent.rounds_spent"


class CallsRefused(Permanent):
    """The model asked for too many calls that could not be made."""

    code = "agent.calls_refused"


class NotVerified(Permanent):
    """A person judged the output not good enough."""

    code = "agent.not_verified"


class ToolNotOffered(Permanent):
    """The model called something it was not offered; nothing was called."""

    code = "tool.not_offered"


class ToolCallsLimited(Permanent):
    """The model asked for more than a limit of its node allows; this call was not made."""

    code = "tool.limited"


def refusal_of(step: Step, ask: Charge) -> str:
    """Return the cap that has no room for an ask and never will by itself, or an empty text."""
    refused = refusal(step.st, ask)
    return refused.cap if refused is not None and refused.final else ""
