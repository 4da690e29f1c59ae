"""What the journal says of caps: of the run's own, and of those that many runs share. Part of `events`."""

from __future__ import annotations

from tenuto.domain.runs.facts import Charge, Event, Failure


class FundsRefused(Event, frozen=True, tag="funds.refused"):
    """A call has no room under a cap that many runs share; it was not made and waits for room.

    Attributes:
        scope: Empty for the whole namespace, else `project:NAME` or `provider:NAME`.
        period: `day`, `month`, `total`, or `now` for what is under way at one moment.
        limit, spent, held, ask: Millionths of a US dollar; numbers of calls for `now`.
        final: Whether settling what is under way cannot make room: only the next window, or a higher cap.
        until: When the window ends, ms; 0 = never.
        since: When the call was refused first, ms.
    """

    step: str
    call: str
    scope: str
    period: str
    limit: int
    spent: int
    held: int
    ask: int
    final: bool = False
    until: int = 0
    since: int = 0
    digest: str = ""
    usd: int = 0
    slot: str = ""


class FundsReturned(Event, frozen=True, tag="funds.returned"):
    """A call waits for room no longer: it asks anew, or fails with `failure` because somebody decided so."""

    step: str
    call: str
    by: str = ""
    failure: Failure | None = None


class MoneyResolved(Event, frozen=True, tag="funds.resolved"):
    """What a call with a lost outcome did cost, as somebody found out; the hold numbered `grant` gives way to that."""

    grant: int
    used: Charge
    by: str = ""


class BudgetWarned(Event, frozen=True, tag="budget.warned"):
    """A cap is used to its warning share.

    Attributes:
        cap: Of the run; `day`, `month` or `total` for a cap that many runs share.
        scope: For shared caps: empty for the whole namespace, else `project:NAME`.
        window: For shared caps: the window it counts in, such as `day:2026-11-21`.
    """

    cap: str
    limit: float
    spent: float
    scope: str = ""
    window: str = ""


class Overrun(Event, frozen=True, tag="budget.overrun"):
    """A call used more than the upper bound it had reserved."""

    cap: str
    amount: int
