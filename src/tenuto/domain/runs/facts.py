"""What events are made of: their base, failures, amounts, and references to other runs."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from tenuto.domain.budgets.ledger import Amounts


class Event(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="e", kw_only=True):
    """The base of all journal events; `tag` is its stable name."""


class Failure(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Why an attempt, call or run did not succeed, as a person may see it.

    Attributes:
        code: Stable reason, such as `step.failed` or `attempt.timeout`.
        type: Class name of the exception, for retry policies.
        retryable: Whether trying again may help.
        unknown: Whether the work may have happened all the same.
    """

    code: str
    message: str
    type: str = ""
    retryable: bool = True
    unknown: bool = False
    details: dict[str, Any] = {}


class Cached(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the cache had to do with an outcome.

    Attributes:
        key: What the result is kept under, `sha256:` and 64 hex digits.
        how: `hit` (kept before), `joined` (another step computed it meanwhile), `miss`, or `unread` (not looked for).
        stored: Whether the computed result is kept; of a group it is once all of it is there.
        why: Why a computed result is not kept, where its policy asks for it.
        group: The group the step was looked up with.
        saved_ms: What computing it took when it was computed, with `saved_usd_micros`.
    """

    key: str
    how: str
    stored: bool = False
    why: str = ""
    group: str = ""
    saved_ms: int = 0
    saved_usd_micros: int = 0


class Charge(Amounts, frozen=True, omit_defaults=True):
    """An amount of a run's budget, either asked for or used; `tool` names the tool whose own cap counts it."""

    tool: str = ""


class Parent(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The step of another run that started this one.

    Attributes:
        depth: How many runs stand above this one.
        deep_since: The depth from which it counts against the limit; see `runaway`.
    """

    run: str
    step: str
    key: str
    depth: int = 0
    deep_since: int = 0


class Fork(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The run this one replays and what it takes over from it.

    Attributes:
        seq: Last record of the origin that counts.
        chain: Hex digest of the origin's chain at `seq`.
        mode: `live`, `freeze` or `shadow`.
        reuse: Digest of the stored map `step key -> Reused`; empty when nothing is taken over.
        from_step: As the caller gave it, for display.
    """

    run: str
    seq: int
    chain: str
    mode: str = "live"
    reuse: str = ""
    from_step: str | int | None = None
    from_node: str | None = None


class Reused(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An outcome of the origin that a replay takes over instead of running the step.

    Attributes:
        seq: The origin's record that holds the outcome.
        taken: Indexes of the edges the origin took; `None` when all plain edges were.
        status: `completed`, `failed` (handled, or the end of an item), and for frozen replays also `dead_letter`,
            `cancelled` with the reason in `how`, and `open` for what the origin had begun and not ended.
    """

    seq: int
    output: Raw = Raw(b"null")
    status: str = "completed"
    taken: tuple[int, ...] | None = None
    how: str = ""
    failure: Failure | None = None
