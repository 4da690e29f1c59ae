"""A run's past: its events, its state and graph at any record, and streams that follow it live."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from tenuto.domain.graph.plan import Plan, split_key
from tenuto.domain.runs.events import Body, PatchApplied
from tenuto.domain.runs.present import graph_view, step_status, step_view
from tenuto.domain.runs.public import (
    ERRORS,
    FINAL,
    NAMES,
    PROVISIONAL,
    TABLE,
    PublicEvent,
    parse_id,
    public_event,
    step_of,
)
from tenuto.domain.runs.sensitive import Hidden, marks_of
from tenuto.domain.runs.state import RunState, encode_state
from tenuto.domain.runs.views import ErrorView, GraphView, StepView, WaitView, instant
from tenuto.domain.runs.wire import Record, decode
from tenuto.errors import Gone, Invalid, RunMissing, StepMissing
from tenuto.ports.store import TailRow
from tenuto.runtime.bus import DELTA, LOG, Line
from tenuto.runtime.services.context import READ_AT_ONCE, Context, is_run_id
from tenuto.runtime.services.feed import INTERVAL_S
from tenuto.runtime.services.hiding import hidden_in, hidden_of
from tenuto.runtime.services.requests import ListEvents
from tenuto.runtime.services.results import Page, StateView
from tenuto.runtime.services.shown import inputs_of

NAMESPACES_KNOWN = 4096
_ABSORBING = frozenset({"run.completed", "run.cancelled"})


class Tailed(msgspec.Struct, frozen=True):
    """An event of the stream over all runs; `cursors` resume the stream after the group it came in."""

    event: PublicEvent
    cursors: dict[int, int]


class History:
    """Reads of journals, for one namespace."""

    def __init__(self, context: Context) -> None:
        """Use the store and caches of an engine."""
        self._c = context
        self._mine: OrderedDict[str, Plan | None] = OrderedDict()

    async def events(
        self, run_id: str, *, after: str = "", limit: int = 100, where: ListEvents | None = None
    ) -> Page[PublicEvent]:
        """Return events after the one with id `after` (`seq.i`), in order.

        Raises:
            RunMissing: There is no such run.
            Gone: There is none any more: the caller has seen its events up to `after`.
            Invalid: `after` is no event id, or a filter names no type of event.
        """
        plan = await self._plan(run_id, after)
        where = _read(where, plan)
        seq, index = parse_id(after)
        position = seq - 1 if seq else 0
        hidden = await hidden_of(self._c, run_id, plan)
        found: list[PublicEvent] = []
        while True:
            part = await self._c.store.records(run_id, position, min(READ_AT_ONCE, max(limit, 50)))
            for item in part:
                past = index if item.seq == seq else -1
                found.extend(_chosen(run_id, item.seq, decode(item), past, where, plan, hidden))
                position = item.seq
                if len(found) > limit:
                    return Page(items=found[:limit], next=found[limit - 1].id)
            if not part:
                return Page(items=found, next=None)

    async def steps(
        self, run_id: str, *, after: str = "", limit: int = 100, node: str | None = None,
        status: tuple[str, ...] = (),
    ) -> Page[StepView]:
        """Return all steps of a run in the order they began, items of maps included.

        Raises:
            StepMissing: `after` is no step of the run.
        """
        st, plan, _ = await self._c.load(run_id)
        marks = marks_of(plan)
        node = plan.key_of(node) if node else node
        keys = [
            key for key, step in st.steps.items()
            if (node is None or split_key(key)[0] == node) and (not status or step_status(step) in status)
        ]
        if after:
            if after not in st.steps:
                raise StepMissing(f"run {run_id} has no step {after!r}", step=after)
            order = {key: place for place, key in enumerate(st.steps)}
            keys = [key for key in keys if order[key] > order[after]]
        part = keys[:limit]
        inputs = await inputs_of(self._c.store, st, plan, part)
        items = [step_view(st, plan, key, inputs) for key in part]
        if marks:
            hidden = await hidden_in(self._c, st, marks)
            items = [_without(item, hidden) for item in items]
        return Page(items=items, next=part[-1] if len(keys) > limit and part else None)

    async def state(self, run_id: str, *, at: int | None = None) -> StateView:
        """Return the folded state as of a record (the last when `None`)."""
        st, _, head = await self._at(run_id, at)
        return StateView(run=run_id, at=st.seq, head=head, state=msgspec.json.decode(encode_state(st)))

    async def graph(self, run_id: str, *, at: int | None = None) -> GraphView:
        """Return the run's graph with the states of its steps as of a record."""
        st, plan, _ = await self._at(run_id, at)
        return graph_view(plan, st)

    async def _at(self, run_id: str, at: int | None) -> tuple[RunState, Plan, int]:
        if at is None:
            st, plan, _ = await self._c.load(run_id)
            return st, plan, st.seq
        await self._c.row(run_id)
        records: list[Record] = []
        while part := await self._c.store.records(run_id, records[-1].seq if records else 0, READ_AT_ONCE):
            records.extend(part)
        head = records[-1].seq if records else 0
        if not 1 <= at <= head:
            raise Invalid(f"run {run_id} has records 1 to {head}, not {at}", code="state.range")
        st, plan = await self._c.restored(run_id, None, records, until=at)
        return st, plan, head

    async def stream(
        self, run_id: str, *, after: str = "", where: ListEvents | None = None
    ) -> AsyncIterator[PublicEvent]:
        """Yield every event after `after`, in order and without gaps, live; ends after the run does.

        What steps say in this process meanwhile comes in between as `step.log`, and what models answer as `call.delta`,
        without an id: it is provisional, kept nowhere, and never comes twice.

        Raises:
            RunMissing: At the first step, when there is no such run.
            Gone: At the first step, when there is none any more.
        """
        plan = await self._plan(run_id, after)
        where = _read(where, plan)
        seq, index = parse_id(after)
        ended, last = "", seq
        hidden = await hidden_of(self._c, run_id, plan)
        async for part in self._c.feed.follow(run_id, seq - 1 if seq else 0):
            if isinstance(part, Line):
                if (said := _said(part, plan, where, hidden)) is not None:
                    yield said
                continue
            for number, body in part:
                if _patches(body):
                    plan = await self._plan(run_id, after)
                    hidden = await hidden_of(self._c, run_id, plan)
                past = index if number == seq else -1
                ended = final_of(body, past) or (ended if not body.ev else "")
                for event in _chosen(run_id, number, body, past, where, plan, hidden):
                    yield event
                last = number
            if ended in _ABSORBING or ((ended or not part) and await self._over(run_id, last)):
                return

    async def _over(self, run_id: str, last: int) -> bool:
        """Return whether a run has stopped, or was deleted, and has no record past `last`.

        The row is read first: whatever the run wrote before it was done is found by the second read.
        """
        row = await self._c.store.get_run(run_id)
        if row is not None and row.state != "done":
            return False
        return not await self._c.store.records(run_id, last, 1)

    async def stream_all(self, *, cursors: Mapping[int, int] | None = None) -> AsyncIterator[Tailed]:
        """Yield the events of all runs as they are committed; from now on when `cursors` is `None`.

        Raises:
            Gone: Groups after `cursors` were forgotten; begin anew, or read the runs one by one.
        """
        at = dict(cursors) if cursors is not None else await self._c.store.tail_heads()
        while True:
            groups = await self._c.store.tail(at, 200)
            for group in groups:
                _next_to(group, at)
                at[group.writer] = group.n
                async for event in self._of_group(group):
                    yield Tailed(event, dict(at))
            if not groups:
                await asyncio.sleep(INTERVAL_S)

    async def check_place(self, cursors: Mapping[int, int]) -> None:
        """Look whether the stream over all runs can go on from a place, before it begins.

        Raises:
            Gone: Groups after it were forgotten.
        """
        heads = await self._c.store.tail_heads()
        for writer, newest in heads.items():
            if newest > cursors.get(writer, 0):
                at = {**heads, writer: cursors.get(writer, 0)}
                for group in await self._c.store.tail(at, 1):
                    _next_to(group, at)

    async def _of_group(self, group: TailRow) -> AsyncIterator[PublicEvent]:
        for run_id, seq in group.runs:
            plan = await self._mine_by(run_id)
            if plan is None:
                continue
            try:
                hidden = await hidden_of(self._c, run_id, plan)
            except RunMissing:
                continue
            for item in await self._c.store.records(run_id, seq - 1, 1):
                body = decode(item)
                if _patches(body) and item.seq == seq:
                    del self._mine[run_id]
                    plan = await self._mine_by(run_id) or plan
                    hidden = await hidden_of(self._c, run_id, plan)
                if item.seq == seq:
                    for event in _chosen(run_id, seq, body, -1, None, plan, hidden):
                        yield event

    async def _plan(self, run_id: str, after: str) -> Plan:
        """Return the plan of a run of this namespace; an event the caller has seen proves that there was one."""
        try:
            row = await self._c.row(run_id)
        except RunMissing as exc:
            if parse_id(after)[0] and is_run_id(run_id):
                raise Gone(f"the history of run {run_id} was pruned; nothing follows event {after}", run=run_id) from exc
            raise
        return await self._c.definitions.plan(self._c.ns, row.digest)

    async def _mine_by(self, run_id: str) -> Plan | None:
        """Return the plan of a run in this engine's namespace; `None` for others."""
        if run_id in self._mine:
            return self._mine[run_id]
        row = await self._c.store.get_run(run_id)
        mine = row is not None and row.ns == self._c.ns
        plan = self._mine[run_id] = await self._c.definitions.plan(self._c.ns, row.digest) if row and mine else None
        if len(self._mine) > NAMESPACES_KNOWN:
            self._mine.popitem(last=False)
        return plan


def _patches(body: Body) -> bool:
    """Return whether a record changes the graph: from there on other nodes have names, and other values are sensitive."""
    return any(isinstance(event, PatchApplied) for event in body.ev)


def _next_to(group: TailRow, at: Mapping[int, int]) -> None:
    """Refuse a group that others, forgotten meanwhile, stood before."""
    if group.n != at.get(group.writer, 0) + 1:
        raise Gone("what happened after this place is not kept in one line any more; follow from now on")


def final_of(body: Body, past: int) -> str:
    """Return the public name of the event, past a place in a record, that ends the run, or an empty text."""
    for event in body.ev[past + 1 :]:
        name = TABLE[type(event)].name
        if name in FINAL:
            return name
    return ""


def _read(where: ListEvents | None, plan: Plan) -> ListEvents | None:
    """Return a filter with steps and nodes by their ids."""
    if where is None:
        return None
    for name in where.types:
        if name not in (*NAMES, *PROVISIONAL) and not (name.endswith(".") and any(known.startswith(name) for known in NAMES)):
            raise Invalid(f"{name!r} is no type of event; allowed: {', '.join(NAMES)}", code="event.type")
    ids = {name: plan.key_of(text) for name in ("node", "step") if (text := getattr(where, name))}
    return msgspec.structs.replace(where, **ids)


def _without(view: StepView, hidden: Hidden) -> StepView:
    """Return a step without what is sensitive in its input, output, error and question."""
    error, waiting = hidden.value(msgspec.to_builtins((view.error, view.waiting_for)))
    return msgspec.structs.replace(
        view, input=hidden.value(view.input), output=hidden.output(view.id, view.output),
        error=msgspec.convert(error, ErrorView | None), waiting_for=msgspec.convert(waiting, WaitView | None),
    )


def _said(line: Line, plan: Plan, where: ListEvents | None, hidden: Hidden | None) -> PublicEvent | None:
    """Return a step's line as an event without a place, or `None` when a filter holds it back."""
    node = split_key(line.step)[0]
    if where is not None:
        if where.errors and line.level not in ("error", "critical"):
            return None
        if where.step not in (None, line.step) or where.node not in (None, node) or not _has_type(line.type, where):
            return None
    own: dict[str, Any] = {"attempt": line.attempt, "provisional": True}
    if line.type == LOG:
        own |= {"level": line.level, "message": line.message}
    else:
        own |= {"call": line.call} | ({"text": line.message} if line.type == DELTA else {})
    data = {**line.fields, **own}
    if hidden is not None:
        data = hidden.value(data)
    return PublicEvent(
        id="", run=line.run_id, type=line.type, at=instant(line.at), step=line.step, name=plan.title(line.step), node=node,
        data=data,
    )


def _has_type(name: str, where: ListEvents) -> bool:
    return not where.types or any(name == t or (t.endswith(".") and name.startswith(t)) for t in where.types)


def _chosen(
    run_id: str, seq: int, body: Body, after: int, where: ListEvents | None, plan: Plan, hidden: Hidden | None
) -> list[PublicEvent]:
    """Return the events of a record past a place that a filter lets through."""
    at = instant(body.t)
    found: list[PublicEvent] = []
    for index, event in enumerate(body.ev):
        if index <= after:
            continue
        if where is not None:
            name, step = TABLE[type(event)].name, step_of(event)
            if where.errors and name not in ERRORS:
                continue
            if where.step is not None and step != where.step:
                continue
            if where.node is not None and split_key(step)[0] != where.node:
                continue
            if not _has_type(name, where):
                continue
        found.append(public_event(run_id, seq, index, event, at, plan, hidden))
    return found
