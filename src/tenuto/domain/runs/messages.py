"""Messages to a run: what others may ask of it. They wait in the inbox until the owner answers them in a record."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from tenuto.domain.base.values import MaybeRaw
from tenuto.domain.graph.model import Budget
from tenuto.domain.runs.events import Failure


class Message(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="m", kw_only=True):
    """The base of all messages; `by` names who sent it."""

    by: str = ""


class Signal(Message, frozen=True, tag="signal"):
    """Deliver a payload to whoever waits, or will wait, for `name`."""

    name: str
    payload: Raw = Raw(b"null")


class Decision(Message, frozen=True, tag="decision"):
    """Answer a ticket. `decision`: `approve`/`reject` for approvals; `retry`, `skip`, `fail`, … for escalations.

    Attributes:
        role: The group that `by` speaks for.
        digest: Of what was shown; the answer is to nothing else.
        to: For `push_back`: the step to go back to.
    """

    ticket: str
    decision: str
    reason: str = ""
    data: Any = None
    role: str = ""
    digest: str = ""
    to: str = ""


class Cancel(Message, frozen=True, tag="cancel"):
    """End the run."""

    reason: str = ""


class Pause(Message, frozen=True, tag="pause"):
    """Start nothing new."""

    reason: str = ""


class Resume(Message, frozen=True, tag="resume"):
    """End a pause; a stopped run is reopened, with `budget` raising its caps."""

    budget: Budget | None = None


class Redrive(Message, frozen=True, tag="redrive"):
    """Send a dead-lettered (or retrying, or failed) step round again.

    Attributes:
        fresh: Give effects a new idempotency key.
        config: Overrides merged into the node's config, for this run only.
    """

    step: str
    fresh: bool = False
    guidance: str = ""
    config: dict[str, Any] | None = None
    reason: str = ""


class ChildEnded(Message, frozen=True, tag="child"):
    """A child run reached its end."""

    step: str
    run: str
    status: str
    output: Raw = Raw(b"null")
    failure: Failure | None = None
    tokens: int = 0
    tool_calls: int = 0
    cost_usd_micros: int = 0


class TaskEnded(Message, frozen=True, tag="task"):
    """An executor finished an attempt of a step that ran outside the owner.

    Attributes:
        began: When its code began, ms.
    """

    step: str
    n: int
    worker: str = ""
    out: MaybeRaw = None
    blob: bool = False
    failure: Failure | None = None
    began: int = 0
    took_ms: int = 0


class Funds(Message, frozen=True, tag="funds"):
    """There is room for a call that waits for some."""

    step: str
    call: str


class MoneySettled(Message, frozen=True, tag="money"):
    """What a call with a lost outcome did cost; `grant` is the number of its hold."""

    grant: int
    cost_usd_micros: int = 0
    tokens: int = 0


class ProposePatch(Message, frozen=True, tag="patch"):
    """Change the run's graph; see `PatchProposed` for the fields.

    Attributes:
        absent: Workflows it would start, `name@tag`, that do not exist.
    """

    patch: str
    base: str
    ops: Raw
    author: str = "person"
    reason: str = ""
    takes: str = ""
    evidence: dict[str, Any] = {}
    absent: tuple[str, ...] = ()


class ReviewPatch(Message, frozen=True, tag="review"):
    """Say what is to become of a proposal that could not be applied: `approve` tries again, `reject` turns it down."""

    patch: str
    decision: str
    reason: str = ""


Messages = (
    Signal | Decision | Cancel | Pause | Resume | Redrive | ChildEnded | TaskEnded | Funds | MoneySettled
    | ProposePatch | ReviewPatch
)

encode_message = msgspec.json.Encoder().encode
decode_message = msgspec.json.Decoder(Messages).decode
