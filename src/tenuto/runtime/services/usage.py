"""What runs and their calls used: one run from its journal, all of them from the projection."""

from __future__ import annotations

from typing import Any

from tenuto.domain.runs.present import budget_view
from tenuto.domain.runs.state import public_status
from tenuto.domain.runs.views import instant
from tenuto.ports.usage import UsageFilter, UsageKey, UsageRow, UsageSum
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.requests import ListUsage
from tenuto.runtime.services.results import Page, RunUsage, Spending, UsageCall, UsageGroup, UsageView
from tenuto.runtime.usage import behind

MICROS = 1_000_000


class Usage:
    """What was used, by whom and for what."""

    def __init__(self, context: Context) -> None:
        """Use the store and caches of an engine."""
        self._c = context

    async def run(self, run_id: str) -> RunUsage:
        """Return one run's ledger, current.

        Raises:
            RunMissing: There is no such run.
        """
        st, _, _ = await self._c.load(run_id)
        calls: dict[str, int] = {}
        for step in st.steps.values():
            for call in step.calls.values():
                calls[call.kind] = calls.get(call.kind, 0) + 1
        return RunUsage(run=st.id, workflow=st.workflow, status=public_status(st), budget=budget_view(st), calls=calls)

    async def totals(
        self, where: ListUsage | None = None, *, by: UsageKey | None = None, limit: int = 1000
    ) -> UsageView:  # fmt: skip
        """Return what matching calls cost together, and by group; may lag by `lag`, which is read first."""
        asked = where or ListUsage()
        lag = await behind(self._c.store)
        chosen = self._filter(asked)
        (total,) = await self._c.store.sum_usage(chosen)
        groups = await self._c.store.sum_usage(chosen, by, limit + 1) if by is not None else []
        return UsageView(
            group_by=by or "", since=instant(asked.since), until=instant(asked.until), totals=_spending(total),
            groups=[_group(group) for group in groups[:limit]], complete=len(groups) <= limit, lag=lag,
        )

    async def calls(
        self, where: ListUsage | None = None, *, after: str = "", limit: int = 100
    ) -> Page[UsageCall]:  # fmt: skip
        """Return single calls, newest first; may lag by the projection's delay."""
        rows = await self._c.store.list_usage(self._filter(where or ListUsage()), after=after, limit=limit + 1)
        more = len(rows) > limit
        return Page(items=[_call(row) for row in rows[:limit]], next=rows[limit - 1].cursor if more else None)

    def _filter(self, asked: ListUsage) -> UsageFilter:
        return UsageFilter(
            ns=self._c.ns, since=asked.since, until=asked.until, run_id=asked.run, workflow=asked.workflow,
            project=asked.project, provider=asked.provider, model=asked.model, agent=asked.agent,
            purpose=asked.purpose, tool=asked.tool, kind=asked.kind, state=asked.state,
        )


def usd(micros: int) -> str:
    """Return an amount in dollars, exact to the millionth."""
    return f"{micros // MICROS}.{micros % MICROS:06d}"


def _amounts(total: UsageSum) -> dict[str, Any]:
    named = {name: getattr(total, name) for name in UsageSum.__struct_fields__ if name != "key"}
    return {
        **named, "cost_usd": usd(total.cost_usd_micros), "unknown_cost_usd": usd(total.unknown_cost_usd_micros)
    }  # fmt: skip


def _spending(total: UsageSum) -> Spending:
    return Spending(**_amounts(total))


def _group(total: UsageSum) -> UsageGroup:
    return UsageGroup(key=total.key, **_amounts(total))


def _call(row: UsageRow) -> UsageCall:
    return UsageCall(
        run=row.run_id, step=row.step, call=row.call, at=instant(row.at), kind=row.kind, state=row.state,
        agent=row.agent, workflow=row.workflow, project=row.project, provider=row.provider, model=row.model,
        purpose=row.purpose, tool=row.tool, tokens=row.tokens, input_tokens=row.input_tokens,
        cached_tokens=row.cached_tokens, cache_write_tokens=row.cache_write_tokens, output_tokens=row.output_tokens,
        reasoning_tokens=row.reasoning_tokens, cost_usd_micros=row.cost_usd_micros, cost_usd=usd(row.cost_usd_micros),
    )
