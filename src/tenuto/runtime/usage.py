"""What each call of a run cost, read off its journal record by record: the same records always give the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from tenuto.domain.budgets.escrow import PROJECT, Hold
from tenuto.domain.graph.plan import split_key
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.wire import UnknownEvent, decode
from tenuto.errors import Corrupt
from tenuto.ports.store import Store
from tenuto.ports.usage import BILLED, UsageFilter, UsageRow, UsageState

NAME = "steps"
"""The projection that steps and usage are made by."""

GROUPS_AT_ONCE = 500
RECORDS_AT_ONCE = 2000
_PAID = ("model", "tool")
_TOKENS = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")


class Asked:
    """A call whose outcome is not known yet."""

    __slots__ = ("hold", "kind", "name", "paid", "row")

    def __init__(self, kind: str, name: str, hold: ev.Charge | None = None) -> None:
        """Nothing is known of it but what it is, and what it may cost at most."""
        self.kind, self.name, self.hold = kind, name, hold
        self.row: UsageRow | None = None
        self.paid: ev.Charge | None = None


class Meter:
    """What a run's calls cost; to be fed every event of `METERED`, in order."""

    __slots__ = ("asked", "lost", "ns", "project", "run_id", "workflow")

    def __init__(self, run_id: str, created: ev.RunCreated) -> None:
        """Begin with a run that has just been created."""
        self.run_id, self.ns, self.workflow = run_id, created.ns, created.workflow
        self.project = created.labels.get(PROJECT, "")
        self.asked: dict[tuple[str, str], Asked] = {}
        self.lost: dict[int, Asked] = {}

    def read(self, event: ev.Events, seq: int, n: int, t: int) -> UsageRow | None:
        """Return the row an event makes or changes.

        Args:
            n: The event's place in record `seq`.
            t: The record's time.
        """
        return METERED[type(event)](self, event, seq, n, t)

    def _intended(self, e: ev.CallIntended, seq: int, n: int, t: int) -> None:
        self.asked[e.step, e.call] = Asked(e.kind, e.name, e.hold)

    def _completed(self, e: ev.CallCompleted, seq: int, n: int, t: int) -> UsageRow | None:
        call = self.asked.pop((e.step, e.call), None) or Asked(e.kind, e.name)
        if e.meta.get("shadow") or (call.kind not in _PAID and e.used is None):
            return None
        row = self._row(e.step, e.call, call, seq, n, t)
        _charge(row, e.used, e.meta)
        return row

    def _failed(self, e: ev.CallFailed, seq: int, n: int, t: int) -> UsageRow | None:
        call = self.asked.pop((e.step, e.call), None) or Asked(e.kind, e.name)
        if call.kind not in _PAID and e.used is None:
            return None
        row = self._row(e.step, e.call, call, seq, n, t, "failed")
        _charge(row, e.used, e.meta)
        return row

    def _unknown(self, e: ev.CallUnknown, seq: int, n: int, t: int) -> UsageRow | None:
        call = self.asked.get((e.step, e.call))
        if call is None or call.row is not None or (call.kind not in _PAID and call.hold is None):
            return None
        call.row = self._row(e.step, e.call, call, seq, n, t, "unknown")
        _charge(call.row, call.hold, {})
        if e.grant and call.hold is not None:
            self.lost[e.grant] = call
        return call.row

    def _resolved(self, e: ev.CallResolved, seq: int, n: int, t: int) -> UsageRow | None:
        """Settle what was unknown; where nobody said what it cost, its upper bound stays, as in the run's own ledger."""
        call = self.asked.pop((e.step, e.call), None)
        if call is None or call.row is None or e.resolution == "retry":
            return None
        used = call.paid or e.used  # a bill that somebody read goes before what the call says of itself
        if call.hold is not None and used is None:
            return None
        self.lost.pop(e.grant, None)
        state: UsageState = "settled" if e.resolution == "succeeded" else "failed"
        row = msgspec.structs.replace(call.row, state=state, as_of=seq, tokens=0, cost_usd_micros=0)
        _charge(row, used, e.meta)
        return row

    def _billed(self, e: ev.MoneyResolved, seq: int, n: int, t: int) -> UsageRow | None:
        """Settle what a lost call cost; it may have been made again since, and what became of it may still come."""
        call = self.lost.pop(e.grant, None)
        if call is None or call.row is None:
            return None
        call.paid = e.used
        call.row = msgspec.structs.replace(call.row, state="settled", as_of=seq)
        _charge(call.row, e.used, {})
        return call.row

    def _row(
        self, step: str, name: str, call: Asked, seq: int, n: int, t: int, state: UsageState = "settled"
    ) -> UsageRow:  # fmt: skip
        row = UsageRow(
            ns=self.ns, run_id=self.run_id, step=step, call=name, seq=seq, n=n, as_of=seq, at=t,
            agent=split_key(step)[0], workflow=self.workflow, project=self.project, kind=call.kind, state=state,
        )
        if call.kind == "tool":
            row.tool = call.name
        elif call.kind == "model":
            provider, colon, model = call.name.partition(":")
            row.provider, row.model = (provider, model) if colon else ("", call.name)
        return row


async def behind(store: Store) -> int:
    """Return how many committed groups are not projected yet; what comes while it looks counts as behind."""
    cursors = await store.projection_cursors(NAME)
    heads = await store.tail_heads()
    return sum(max(0, n - cursors.get(writer, 0)) for writer, n in heads.items())


async def keep(store: Store, runs: Sequence[str] | None = None) -> None:
    """Write what runs cost that are about to be deleted, as far as the projection has not yet.

    Args:
        runs: Ids; `None` = all that the projection has not seen the end of.
    """
    for run_id in runs if runs is not None else await _unseen(store):
        meter: Meter | None = None
        rows: list[UsageRow] = []
        after = 0
        while records := await store.records(run_id, after, RECORDS_AT_ONCE):
            after = records[-1].seq
            for record in records:
                try:
                    body = decode(record)
                except (Corrupt, UnknownEvent):
                    continue
                for n, event in enumerate(body.ev):
                    if isinstance(event, ev.RunCreated):
                        meter = Meter(run_id, event)
                    elif meter is not None and type(event) in METERED:
                        row = meter.read(event, record.seq, n, body.t)
                        rows += [row] if row is not None else []
        await store.put_usage(NAME, rows)


async def bill(store: Store, hold: Hold, place: int, usd_micros: int) -> None:
    """Write what a lost call did cost where its run takes no more records, so that only its row can tell.

    Args:
        place: How many calls of the same name, lost before this one, are still unknown.
    """
    await keep(store, [hold.run])
    rows = await store.list_usage(UsageFilter(ns=hold.ns, run_id=hold.run, state="unknown"), limit=RECORDS_AT_ONCE)
    lost = [row for row in reversed(rows) if (row.step, row.call) == (hold.step, hold.call)]
    if place < len(lost):
        paid = msgspec.structs.replace(lost[place], state="settled", as_of=BILLED, tokens=0, cost_usd_micros=usd_micros)
        await store.put_usage(NAME, [paid])


async def _unseen(store: Store) -> list[str]:
    """Return the runs that have records the projection may not have seen; all of them when it begins anew."""
    cursors, found = await store.projection_cursors(NAME), dict[str, None]()
    while groups := await store.tail(cursors, GROUPS_AT_ONCE):
        for group in groups:
            if group.n != cursors.get(group.writer, 0) + 1:
                return await _all(store)
            cursors[group.writer] = group.n
            found.update((run_id, None) for run_id, _ in group.runs)
    return list(found)


async def _all(store: Store) -> list[str]:
    found: list[str] = []
    while part := await store.run_ids(found[-1] if found else "", RECORDS_AT_ONCE):
        found += part
    return found


def _charge(row: UsageRow, used: ev.Charge | None, meta: Mapping[str, Any]) -> None:
    """Fill in what a call cost; what the run was charged goes before what its result says of itself."""
    for name in ("provider", "model", "purpose"):
        value = meta.get(name)
        if isinstance(value, str) and value:
            setattr(row, name, value)
    for name in _TOKENS:
        setattr(row, name, _count(meta.get(name)))
    if used is not None:
        row.tokens, row.cost_usd_micros = used.tokens, used.cost_usd_micros
    else:
        row.tokens, row.cost_usd_micros = row.input_tokens + row.output_tokens, _count(meta.get("cost_usd_micros"))


def _count(value: Any) -> int:
    """Return an amount as it stands in a journal that others may have written; what is none counts as 0."""
    return value if isinstance(value, int) and value > 0 else 0


METERED: dict[type[Any], Callable[[Meter, Any, int, int, int], UsageRow | None]] = {
    ev.CallIntended: Meter._intended,
    ev.CallCompleted: Meter._completed,
    ev.CallFailed: Meter._failed,
    ev.CallUnknown: Meter._unknown,
    ev.CallResolved: Meter._resolved,
    ev.MoneyResolved: Meter._billed,
}
