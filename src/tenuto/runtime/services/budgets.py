"""Caps that many runs share: what they are, what counts under them, and who waits for room."""

from __future__ import annotations

import msgspec

from tenuto.domain.budgets.escrow import EVERYWHERE, NOW, PERIODS, Balance, Cap, Place, ends, window
from tenuto.domain.runs.messages import MoneySettled, encode_message
from tenuto.domain.runs.views import instant
from tenuto.errors import Conflict, Invalid, Missing, Problem
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.results import HoldView, SharedCapsView, SharedCapView, WaitingCallView
from tenuto.runtime.usage import bill

MOST_MICROS = 10**15


class SetCap(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a cap is to be.

    Attributes:
        scope: Empty for all runs, else `project:NAME` for runs labelled `project=NAME`.
        period: `day`, `month` or `total`, in UTC.
        limit_usd_micros: Millionths of a US dollar; 0 stops every call that costs anything.
        warn_percent: Share of the limit at which one warning a window is given, 1 to 100.
    """

    scope: str = ""
    period: str
    limit_usd_micros: int
    warn_percent: int = 80


class Budgets:
    """The shared caps of a namespace."""

    def __init__(self, context: Context) -> None:
        """Use the store of an engine."""
        self._c = context

    async def read(self) -> SharedCapsView:
        """Return every cap with what counts in its window now, every scope that spends without one, and who waits."""
        store, ns = self._c.store, self._c.ns
        now = await store.now()
        caps = {(cap.scope, cap.period): cap for cap in await store.caps(ns)}
        balances = await store.balances(ns)
        scopes = {scope for scope, _ in caps} | {place.scope for place in balances}
        items = [
            _view(scope, period, caps.get((scope, period)), balances.get(Place(ns, scope, window(period, now))), now)
            for scope in sorted(scopes | {""}) for period in PERIODS
        ]  # fmt: skip
        shared = await store.balances(EVERYWHERE)
        items += [
            _view(cap.scope, NOW, cap, shared.get(Place(EVERYWHERE, cap.scope, NOW)), now)
            for cap in await store.caps(EVERYWHERE)
        ]
        waiting = [
            WaitingCallView(
                run=waiter.run, step=waiter.want.step, call=waiter.want.call, ask=waiter.want.usd,
                project=waiter.want.project, provider=waiter.want.slot, since=instant(waiter.want.since),
            )
            for waiter in await store.waiters(ns)
        ]  # fmt: skip
        return SharedCapsView(items=items, waiting=waiting)

    async def put(self, asked: SetCap) -> SharedCapsView:
        """Set a cap; whoever waits for room under it is told within a second.

        Raises:
            Invalid: With every field that is wrong.
        """
        problems = [*_scope_problems(asked.scope), *_period_problems(asked.period)]
        if not 0 <= asked.limit_usd_micros <= MOST_MICROS:
            message = f"{asked.limit_usd_micros} is not allowed; allowed: 0 to {MOST_MICROS:,} millionths of a US dollar"
            problems.append(Problem(place="limit_usd_micros", message=message, code="budget.limit"))
        if not 1 <= asked.warn_percent <= 100:
            message = f"{asked.warn_percent} is not allowed; allowed: 1 to 100"
            problems.append(Problem(place="warn_percent", message=message, code="budget.warn"))
        if problems:
            raise Invalid("the cap cannot be set", problems=tuple(problems))
        await self._c.store.put_cap(
            Cap(
                ns=self._c.ns, scope=asked.scope, period=asked.period, limit=asked.limit_usd_micros,
                warn_percent=asked.warn_percent, source="api",
            )
        )
        return await self.read()

    async def drop(self, scope: str, period: str) -> SharedCapsView:
        """Remove a cap; one that settings declare is back when a process starts with them.

        Raises:
            Missing: There is no such cap.
        """
        if not await self._c.store.drop_cap(self._c.ns, scope, period):
            raise Missing(f"there is no {period!r} cap of {scope or 'all runs'!r}", code="budget.no_cap")
        return await self.read()

    async def holds(self, *, run_id: str | None = None, lost: bool | None = None, limit: int = 1000) -> list[HoldView]:
        """Return what is held for calls without a known outcome, oldest first."""
        return [
            HoldView(
                run=hold.run, n=hold.n, step=hold.step, call=hold.call, usd_micros=hold.usd, provider=hold.slot,
                lost=hold.lost, since=instant(hold.since),
            )
            for hold in await self._c.store.holds(self._c.ns, run_id=run_id, lost=lost, limit=limit)
        ]  # fmt: skip

    async def settle(self, run_id: str, n: int, usd_micros: int, *, by: str = "") -> None:
        """Say what a call with a lost outcome did cost, as its provider's bill shows.

        Raises:
            Missing: Nothing is held under this number.
            Conflict: The call's outcome may still come.
            Invalid: The amount is negative.
        """
        if not 0 <= usd_micros <= MOST_MICROS:
            raise Invalid(f"{usd_micros} is not allowed; allowed: 0 to {MOST_MICROS:,} millionths of a US dollar")
        holds = await self._c.store.holds(self._c.ns, run_id=run_id)
        hold = next((hold for hold in holds if hold.n == n), None)
        if hold is None:
            raise Missing(f"run {run_id} holds nothing under number {n}", code="budget.no_hold", run=run_id)
        if not hold.lost:
            raise Conflict(f"call {hold.call!r} of run {run_id} is still under way", code="budget.under_way", run=run_id)
        message = MoneySettled(grant=n, cost_usd_micros=usd_micros, by=by)
        outcome = await self._c.store.send(run_id, f"money/{n}", encode_message(message))
        if outcome in ("terminal", "missing"):
            # The run takes no more messages, so its journal cannot say it: what counts beside it is settled alone.
            before = [one for one in holds if one.lost and one.n < n and (one.step, one.call) == (hold.step, hold.call)]
            await bill(self._c.store, hold, len(before), usd_micros)
            await self._c.store.settle_lost(self._c.ns, run_id, n, usd_micros)


def _view(scope: str, period: str, cap: Cap | None, balance: Balance | None, now: int) -> SharedCapView:
    counts = balance or Balance()
    view = SharedCapView(
        scope=scope, period=period, window=window(period, now), resets_at=instant(ends(period, now)),
        spent=counts.spent, reserved=counts.held - counts.unknown, unknown=counts.unknown, overrun=counts.overrun,
        warned=counts.warned,
    )
    if cap is not None:
        view.limit, view.source, view.warn_percent = cap.limit, cap.source, cap.warn_percent
        view.remaining = max(0, cap.limit - counts.spent - counts.held)
    return view


def _scope_problems(scope: str) -> list[Problem]:
    if not scope or (scope.startswith("project:") and len(scope) > len("project:")):
        return []
    message = f"{scope!r} is no scope; allowed: empty for all runs, or 'project:NAME'"
    return [Problem(place="scope", message=message, code="budget.scope")]


def _period_problems(period: str) -> list[Problem]:
    if period in PERIODS:
        return []
    return [Problem(place="period", message=f"{period!r} is no period; allowed: {', '.join(PERIODS)}", code="budget.period")]
