"""Money and places shared by many runs: caps of a scope in a window of time, and the balances that stay below them.

A run asks before it spends. What it asks for is held in every place it counts (`day`, `month` and `total` of its
namespace, and of its project if it has one) until its outcome is known, then the hold gives way to what was used.
A hold belongs to the call that asked, so a takeover inherits it, and to the window in which it was asked for.
`spent + held <= limit + overrun` holds in every place after every function here (invariant I8 of scopes).

The arithmetic is here and pure; a store loads the rows it names, lets it work on them in one transaction with the
record that asks or settles, and writes back what changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

PERIODS = ("day", "month", "total")
NOW = "now"
"""The period of a scope whose cap counts what is under way at one moment, such as requests to a provider."""
EVERYWHERE = "*"
"""The namespace of what all namespaces share."""
PROJECT = "project"
"""Label that names the project a run counts under, and the runs it starts."""
TOLD_AGAIN_MS = 10_000
KNOWS = -1
"""Instead of when a call was told: it knows that only the next window or a higher cap can make room."""


class Place(NamedTuple):
    """Where a sum counts; `scope` is empty for a whole namespace, else `project:NAME` or `provider:NAME`."""

    ns: str
    scope: str
    window: str

    @property
    def period(self) -> str:
        """Return `day`, `month`, `total` or `now`."""
        return self.window.partition(":")[0]


class Cap(msgspec.Struct, frozen=True, kw_only=True):
    """The most that may be spent in every window of a period; equality is allowed.

    Attributes:
        limit: Millionths of a US dollar; a number of calls for `now`.
        warn_percent: Share of the limit at which one warning a window is given.
        source: `settings`, or `api` for what a person set, which settings do not override.
    """

    ns: str
    scope: str
    period: str
    limit: int
    warn_percent: int = 80
    source: str = "settings"


class Balance(msgspec.Struct):
    """What counts in one place, in the unit of its cap.

    Attributes:
        held: For calls whose outcome is not known yet; `unknown` is the part whose outcome was lost.
        overrun: What was used above its hold when that passed the limit.
        warned: Whether the window's warning was given.
    """

    spent: int = 0
    held: int = 0
    unknown: int = 0
    overrun: int = 0
    warned: bool = False


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A call asks for room; stored with its intent.

    Attributes:
        n: Number of the hold, unique in its run.
        usd: Millionths of a US dollar it may cost at most.
        project: The run's project, empty for none.
        slot: Provider whose limit of concurrent calls it counts under; empty for none.
    """

    n: int
    step: str
    call: str
    usd: int = 0
    project: str = ""
    slot: str = ""


class Settled(msgspec.Struct, frozen=True):
    """A hold's outcome is known: `usd` was spent."""

    n: int
    usd: int


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A call was refused and waits for room; see `Ask`.

    Attributes:
        since: When it was refused first, ms: the longest waiting comes first.
        final: Whether the run knows that no call under way can make room; not stored, see `waiter_for`.
    """

    step: str
    call: str
    usd: int = 0
    project: str = ""
    slot: str = ""
    since: int = 0
    final: bool = False


class Escrow(msgspec.Struct, kw_only=True):
    """What a record asks for, settles and waits for; stands or falls with it.

    Attributes:
        lost: Holds whose outcome was lost: the money stays held, marked unknown; a provider's place is free again.
        heard: Calls (step, call) that were told of room, or want it no more.
        warned: Places whose warning the record gives.
    """

    asks: Sequence[Ask] = ()
    settled: Sequence[Settled] = ()
    lost: Sequence[int] = ()
    wanted: Sequence[Wanted] = ()
    heard: Sequence[tuple[str, str]] = ()
    warned: Sequence[Place] = ()


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """What is held for a call, as a store keeps it until it is settled.

    Attributes:
        places: Where the money counts: fixed when it was asked for.
        since: ms.
    """

    ns: str
    run: str
    n: int
    step: str
    call: str
    usd: int = 0
    slot: str = ""
    places: tuple[Place, ...] = ()
    lost: bool = False
    since: int = 0


class Waiter(msgspec.Struct, frozen=True, kw_only=True):
    """A call that waits for room; `told_at` says when it was last told of some, 0 = never, `KNOWS` = see there."""

    ns: str
    run: str
    want: Wanted
    told_at: int = 0


class Short(msgspec.Struct, frozen=True, kw_only=True):
    """A cap an ask does not fit under.

    Attributes:
        final: Whether even a full refund of everything held would not make room.
        until: When the window ends, ms; 0 = never.
    """

    step: str
    call: str
    scope: str
    period: str
    limit: int
    spent: int
    held: int
    ask: int
    final: bool
    until: int = 0


class Warn(msgspec.Struct, frozen=True, kw_only=True):
    """A place that has passed its warning share, and nobody has said so yet."""

    place: Place
    limit: int
    spent: int


class Book:
    """The rows a group of changes works on, and what became of them."""

    def __init__(self, caps: Iterable[Cap], balances: dict[Place, Balance], now: int) -> None:
        """Work on balances as they are at a moment; places without a row count as empty."""
        self.caps = {(cap.ns, cap.scope, cap.period): cap for cap in caps}
        self.balances = balances
        self.now = now
        self.changed: set[Place] = set()

    def balance(self, place: Place) -> Balance:
        """Return the balance of a place."""
        found = self.balances.get(place)
        if found is None:
            found = self.balances[place] = Balance()
        return found

    def cap(self, place: Place) -> Cap | None:
        """Return the cap of a place."""
        return self.caps.get((place.ns, place.scope, place.period))


class Posted(msgspec.Struct):
    """What a posting did beside the balances.

    Attributes:
        freed: Whether there is more room somewhere than before.
    """

    added: list[Hold]
    dropped: list[int]
    lost: list[Hold]
    warn: list[Warn]
    freed: bool = False


def window(period: str, now: int) -> str:
    """Return the window of a period at a moment, in UTC."""
    day = datetime.fromtimestamp(now / 1000, UTC)
    if period == "day":
        return f"day:{day:%Y-%m-%d}"
    return f"month:{day:%Y-%m}" if period == "month" else period


def ends(period: str, now: int) -> int:
    """Return when the window of a period ends, ms; 0 = never."""
    day = datetime.fromtimestamp(now / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        end = day + timedelta(days=1)
    elif period == "month":
        end = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    else:
        return 0
    return int(end.timestamp() * 1000)


def money_places(ns: str, project: str, now: int) -> tuple[Place, ...]:
    """Return where a run's money counts."""
    scopes = ("", f"project:{project}") if project else ("",)
    return tuple(Place(ns, scope, window(period, now)) for scope in scopes for period in PERIODS)


def slot_place(slot: str) -> Place:
    """Return where a call to a provider counts while it is under way."""
    return Place(EVERYWHERE, f"provider:{slot}", NOW)


def needed(ns: str, escrow: Escrow, holds: Mapping[int, Hold], now: int) -> set[Place]:
    """Return the places whose balances `refused` and `post` look at."""
    found: set[Place] = set(escrow.warned)
    for ask in escrow.asks:
        if ask.usd:
            found.update(money_places(ns, ask.project, now))
        if ask.slot:
            found.add(slot_place(ask.slot))
    for n in (*(item.n for item in escrow.settled), *escrow.lost):
        hold = holds.get(n)
        if hold is not None:
            found.update(hold.places)
            if hold.slot:
                found.add(slot_place(hold.slot))
    return found


def refused(book: Book, ns: str, escrow: Escrow) -> list[Short] | None:
    """Return the asks that do not fit, or `None` when all do; asks of one record count together.

    An empty list says that another record has given the warning that this one was to give.
    """
    if any(book.balance(place).warned for place in escrow.warned):
        return []
    extra: dict[Place, int] = {}
    found: list[Short] = []
    for ask in escrow.asks:
        short = _short(book, ns, ask.step, ask.call, ask.usd, ask.project, ask.slot, extra)
        if short is not None:
            found.append(short)
            continue
        for place, amount in _amounts(book, ns, ask.usd, ask.project, ask.slot):
            extra[place] = extra.get(place, 0) + amount
    return found or None


def post(book: Book, ns: str, run: str, escrow: Escrow, holds: Mapping[int, Hold]) -> Posted:
    """Enter a record's changes; its asks were found to fit.

    One record may ask for a hold, lose it and settle it, and say twice that it is lost: each counts once, in this order.
    """
    out = Posted([], [], [], [])
    known = dict(holds)
    for ask in escrow.asks:
        hold = Hold(
            ns=ns, run=run, n=ask.n, step=ask.step, call=ask.call, usd=ask.usd, slot=ask.slot,
            places=money_places(ns, ask.project, book.now) if ask.usd else (), since=book.now,
        )
        for place, amount in _amounts(book, ns, ask.usd, ask.project, ask.slot):
            book.balance(place).held += amount
            book.changed.add(place)
        out.added.append(hold)
        known[ask.n] = hold
    for n in escrow.lost:
        hold = known.get(n)
        if hold is not None and not hold.lost:
            _lose(book, hold, out)
            known[n] = msgspec.structs.replace(hold, lost=True)
    for item in escrow.settled:
        hold = known.pop(item.n, None)
        if hold is not None:
            settle(book, hold, item.usd, out)
    for place in escrow.warned:
        book.balance(place).warned = True
        book.changed.add(place)
    return out


def settle(book: Book, hold: Hold, usd: int, out: Posted) -> None:
    """Let a hold give way to what was spent."""
    out.dropped.append(hold.n)
    if hold.slot and not hold.lost:
        _free(book, hold.slot)
        out.freed = True
    for place in hold.places:
        balance, cap = book.balance(place), book.cap(place)
        balance.held -= hold.usd
        if hold.lost:
            balance.unknown -= hold.usd
        balance.spent += usd
        book.changed.add(place)
        if cap is None:
            continue
        over = min(usd - hold.usd, balance.spent + balance.held - cap.limit - balance.overrun)
        balance.overrun += max(0, over)
        if balance.spent * 100 >= cap.limit * cap.warn_percent and not balance.warned:
            out.warn.append(Warn(place=place, limit=cap.limit, spent=balance.spent))
    out.freed = out.freed or usd < hold.usd


def waiter_for(ns: str, run: str, want: Wanted) -> Waiter:
    """Return a refused call as it is stored."""
    return Waiter(ns=ns, run=run, want=msgspec.structs.replace(want, final=False), told_at=KNOWS if want.final else 0)


def fitting(book: Book, waiters: Iterable[Waiter]) -> list[Waiter]:
    """Return those who are to be told of room: the longest waiting first, and no more than there is room for.

    Whoever was told a moment ago is presumed to take what was free then; who has not asked since is told again.
    Who hopes for what others hold is told once when that was spent after all, so that it asks and a person hears of it.
    """
    extra: dict[Place, int] = {}
    told: list[Waiter] = []
    idle: list[Waiter] = []
    for waiter in waiters:
        (told if waiter.told_at and waiter.told_at > book.now - TOLD_AGAIN_MS else idle).append(waiter)
    for waiter in told:
        _count(book, waiter, extra)
    found: list[Waiter] = []
    for waiter in sorted(idle, key=lambda item: (item.want.since, item.run, item.want.step, item.want.call)):
        want = waiter.want
        short = _short(book, waiter.ns, want.step, want.call, want.usd, want.project, want.slot, extra)
        if short is None:
            _count(book, waiter, extra)
            found.append(waiter)
        elif short.final and not waiter.told_at:
            found.append(waiter)
    return found


def wanted_places(ns: str, want: Wanted, now: int) -> set[Place]:
    """Return the places a waiting call needs room in."""
    return needed(ns, Escrow(asks=[_as_ask(want)]), {}, now)


def _as_ask(want: Wanted) -> Ask:
    return Ask(n=0, step=want.step, call=want.call, usd=want.usd, project=want.project, slot=want.slot)


def _count(book: Book, waiter: Waiter, extra: dict[Place, int]) -> None:
    want = waiter.want
    for place, amount in _amounts(book, waiter.ns, want.usd, want.project, want.slot):
        extra[place] = extra.get(place, 0) + amount


def _amounts(book: Book, ns: str, usd: int, project: str, slot: str) -> list[tuple[Place, int]]:
    found = [(place, usd) for place in money_places(ns, project, book.now)] if usd else []
    if slot:
        found.append((slot_place(slot), 1))
    return found


def _short(
    book: Book, ns: str, step: str, call: str, usd: int, project: str, slot: str, extra: Mapping[Place, int]
) -> Short | None:
    """Return the cap an ask does not fit under, final ones before those that resolve themselves."""
    waits: Short | None = None
    for place, amount in _amounts(book, ns, usd, project, slot):
        cap, balance = book.cap(place), book.balance(place)
        held = balance.held + extra.get(place, 0)
        if cap is None or balance.spent + held + amount <= cap.limit:
            continue
        short = Short(
            step=step, call=call, scope=place.scope, period=place.period, limit=cap.limit, spent=balance.spent,
            held=held, ask=amount, final=balance.spent + amount > cap.limit, until=ends(place.period, book.now),
        )
        if short.final:
            return short
        waits = waits or short
    return waits


def _lose(book: Book, hold: Hold, out: Posted) -> None:
    for place in hold.places:
        book.balance(place).unknown += hold.usd
        book.changed.add(place)
    if hold.slot:
        _free(book, hold.slot)
        out.freed = True
    out.added = [added for added in out.added if added.n != hold.n]
    if hold.places:
        out.lost.append(msgspec.structs.replace(hold, lost=True))
    else:
        out.dropped.append(hold.n)


def _free(book: Book, slot: str) -> None:
    place = slot_place(slot)
    balance = book.balance(place)
    balance.held = max(0, balance.held - 1)
    book.changed.add(place)
