"""Every error a caller of Tenuto can see: one root, a family per kind of fault, a stable code per class.

The code is what clients match on; the HTTP status and the exit code are decided at the edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in what a caller sent: what is wrong, where, and what to do.

    Attributes:
        place: JSON pointer into the document (`/nodes/2/kind`), or a parameter's name.
        message: What is wrong, naming the value, and what is allowed.
        hint: The next step, such as the nearest match; empty when there is none.
        code: Stable identifier of the rule, such as `graph.cycle`.
    """

    place: str
    message: str
    hint: str = ""
    code: str = ""

    def __str__(self) -> str:
        """Return the fault as one line: place, message, hint."""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.place or '/'}: {self.message}{hint}"


class TenutoError(Exception):
    """The root of all errors raised to callers.

    Attributes:
        code: `family.reason`, unique per class unless given per instance.
        retryable: Whether the same request may succeed later without being changed.
        problems: The faults found, all at once; empty for errors with a single cause.
        details: Extra fields for machines (`workflow`, `nearest`, …); never secrets.
    """

    code: ClassVar[str] = "tenuto.error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, problems: tuple[Problem, ...] = (), code: str | None = None, **details: Any):
        """Keep the message a person reads and the fields a machine reads."""
        super().__init__(message)
        self.message = message
        self.problems = problems
        self.details = details
        self.reason = code or type(self).code

    def __str__(self) -> str:
        """Return the message followed by each problem on a line of its own."""
        if not self.problems:
            return self.message
        return self.message + "".join(f"\n  - {problem}" for problem in self.problems)


class Invalid(TenutoError):
    """The caller's document or parameters break a rule; the same request never succeeds."""

    code = "request.invalid"


class InvalidGraph(Invalid):
    """A workflow definition breaks rules of the graph; `problems` lists every one."""

    code = "graph.invalid"


class InvalidPatch(Invalid):
    """A change of a graph cannot be applied; `problems` lists every reason."""

    code = "patch.invalid"


class InvalidInput(Invalid):
    """A run's input does not fit the schema its workflow declares."""

    code = "input.invalid"


class InvalidSettings(Invalid):
    """A setting has a value the program cannot start with."""

    code = "settings.invalid"


class Missing(TenutoError):
    """What the caller named does not exist."""

    code = "resource.unknown"


class RunMissing(Missing):
    """No run has this id."""

    code = "run.unknown"


class WorkflowMissing(Missing):
    """No workflow, version or tag has this name."""

    code = "workflow.unknown"


class StepMissing(Missing):
    """The run has no such step or node."""

    code = "step.unknown"


class PatchMissing(Missing):
    """The run has no patch of this id."""

    code = "patch.unknown"


class ProposalMissing(Missing):
    """No workflow has a proposal of this id."""

    code = "proposal.unknown"


class OptimizerMissing(Missing):
    """No optimizer has this name."""

    code = "optimizer.unknown"


class TicketMissing(Missing):
    """No ticket has this id."""

    code = "ticket.unknown"


class FindingMissing(Missing):
    """No run has a finding of this id."""

    code = "finding.unknown"


class ArtifactMissing(Missing):
    """No stored value has this digest, or it was pruned."""

    code = "artifact.unknown"


class Gone(TenutoError):
    """The history asked for was pruned or deleted; it cannot be followed any further."""

    code = "history.gone"


class Shredded(Gone):
    """What was asked for was sealed with a key that was destroyed on purpose; nobody can read it any more."""

    code = "encryption.shredded"


class Conflict(TenutoError):
    """The request contradicts something already decided."""

    code = "request.conflict"


class RunTerminal(Conflict):
    """The run has ended, so it takes no more messages."""

    code = "run.terminal"


class RunEnded(Conflict):
    """A run ended without completing; the message says as what, and why."""

    code = "run.ended"


class AlreadyDecided(Conflict):
    """The ticket was decided before, with another decision."""

    code = "ticket.decided"


class TicketStale(Conflict):
    """A decision was made on something that the ticket does not ask, or does not ask any longer."""

    code = "ticket.stale"


class KeyReused(Conflict):
    """The idempotency key was used before with another body."""

    code = "idempotency.mismatch"


class Denied(TenutoError):
    """The caller may not do this."""

    code = "auth.denied"


class Exhausted(TenutoError):
    """A limit was reached."""

    code = "limit.exhausted"


class BudgetExceeded(Exhausted):
    """A call would take a run past one of its caps; it was refused before it was made."""

    code = "budget.limit"


class StepError(TenutoError):
    """A step's code failed in a way its author declares.

    Raise it (or a subclass) from a step to say whether a retry can help.
    """

    code = "step.failed"
    retryable = True


class Permanent(StepError):
    """The step cannot succeed by being tried again; retries are skipped."""

    code = "step.permanent"
    retryable = False


class InputMissing(Permanent):
    """A reference in a node's input names something that does not exist."""

    code = "input.missing"


class RoutingFailed(Permanent):
    """A condition on an outgoing edge could not be evaluated."""

    code = "routing.failed"


class Unserialisable(Permanent):
    """A step returned something that has no JSON form, or is too large to keep."""

    code = "output.invalid"


class CallDiverged(Permanent):
    """A step's code asked for a recorded call with other arguments than before."""

    code = "replay.diverged"


class Unavailable(TenutoError):
    """Something outside did not answer; the same request may succeed later."""

    code = "store.unavailable"
    retryable = True


class StatementRefused(Unavailable):
    """The database refuses a statement of ours whoever sends it: a right, a table or a column is missing."""

    code = "store.statement"
    retryable = False


class Corrupt(TenutoError):
    """Stored bytes are not what was written; the run stops and a person is told."""

    code = "journal.corrupt"


class Halted(TenutoError):
    """The engine could not go on with a run; it is paused until somebody has looked and resumes it."""

    code = "run.halted"


class ControlSignal(BaseException):
    """The engine takes a step's code off the worker; user code must let it pass."""


class Suspended(ControlSignal):
    """The step waits durably; its code runs again from the top when the wait ends."""


class LeaseRevoked(ControlSignal):
    """The run is no longer this worker's."""
