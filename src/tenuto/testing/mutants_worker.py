"""Bugs in the worker: acting before the commit, forgetting what is due, losing what was handed over."""

from __future__ import annotations

import asyncio
from typing import Any

from tenuto.ports.store import Committed
from tenuto.runtime.worker.deliver import deliver_outbox as _deliver

INBOX = "tenuto.runtime.worker.inbox:Inbox"
OPENING = "tenuto.runtime.worker.opening:Opening"
RUNS = "tenuto.runtime.worker.runs:Runs"
ACTOR = "tenuto.runtime.worker.actor:Actor"


class _Hasty:
    """A store that says yes at once and commits when it gets to it."""

    def __init__(self, store: Any) -> None:
        self.store = store

    async def commit(self, batch: Any) -> list[Committed]:
        asyncio.get_running_loop().create_task(self.store.commit(list(batch)))
        await asyncio.sleep(0.001)
        return [Committed("ok", item.row is not None) for item in batch]


def _ack_first(original: Any) -> Any:
    async def group(self: Any) -> None:
        if not isinstance(self.store, _Hasty):
            self.store = _Hasty(self.store)
        await original(self)

    return group


def _forget_first(_: Any) -> Any:
    async def deliver(runs: Any) -> None:
        store = runs.resources.store
        rows = await store.outbox(256)
        if rows:
            await store.delivered([row.id for row in rows])
            outbox, delivered = store.outbox, store.delivered

            async def taken(_: int) -> Any:
                return rows

            async def nothing(_: Any) -> None:
                return None

            store.outbox, store.delivered = taken, nothing
            try:
                await _deliver(runs)
            finally:
                store.outbox, store.delivered = outbox, delivered

    return deliver


def _never_due(_: Any) -> Any:
    def due(self: Any) -> int:
        return 0

    return due


def _skips_messages(original: Any) -> Any:
    async def messages(self: Any, actor: Any) -> Any:
        found = await original(self, actor)
        return found if actor.st.worker == actor.worker.lease.id else []

    return messages


def _parent_not_told(original: Any) -> Any:
    def outbox(st: Any, decision: Any) -> Any:
        return [row for row in original(st, decision) if not row.key.startswith("child/") or st.status == "completed"]

    return outbox


def _always_starts(_: Any) -> Any:
    def start(self: Any, key: str) -> None:
        self._attempt(key)

    return start


def _counts_anew(original: Any) -> Any:
    async def opened(self: Any, claim: Any, history: Any) -> None:
        await original(self, claim, history)
        actor = self._runs.actors.get(claim.run_id)
        if actor is not None and not actor.attempts:
            actor.inbox_seen = 0

    return opened


def _nothing(_: Any) -> Any:
    def nothing(*_: Any) -> None:
        return None

    return nothing


def _false(_: Any) -> Any:
    def answer(*_: Any) -> bool:
        return False

    return answer


def _first_only(original: Any) -> Any:
    def poke(self: Any) -> None:
        if self._entered:
            original(self)

    return poke


def _wrong_place(original: Any) -> Any:
    def parse(text: str) -> tuple[int, int]:
        seq, index = original(text)
        return (seq, index + 1) if seq else (seq, index)

    return parse


WORKER: tuple[Any, ...] = (
    ("ack_first", "acknowledged before it is durable", ("tenuto.runtime.committer:Committer._group", _ack_first)),
    (
        "forget_first", "messages between runs are forgotten before they are delivered",
        ("tenuto.runtime.worker.claims:deliver_outbox", _forget_first),
    ),
    ("never_due", "a run is parked without its timer", (f"{ACTOR}.next_due", _never_due)),
    ("skips_messages", "messages waiting at a claim are passed over", (f"{INBOX}.messages", _skips_messages)),
    ("parent_not_told", "a failed sub-flow tells nobody", ("tenuto.runtime.worker.actor:outbox_of", _parent_not_told)),
    ("always_starts", "an attempt that runs is started again", (f"{ACTOR}._start", _always_starts)),
    ("counts_anew", "consumed messages count as unread after a claim", (f"{OPENING}._open", _counts_anew)),
    ("drops_creation", "a creation taken over is lost with the lease", (f"{RUNS}.hand_on", _nothing)),
    (
        "forgets_children", "a message for a run still being created is dropped",
        ("tenuto.runtime.worker.deliver:_is_young", _false),
    ),
    (
        "keeps_flights", "who computed or failed never says that others may",
        ("tenuto.runtime.worker.memo:Memo._land", _nothing),
    ),
    ("looks_once", "who waits for another's result never looks again", ("tenuto.runtime.worker.memo:Memo.poke", _first_only)),
    (
        "event_id_off", "event ids are off by one when reading goes on",
        ("tenuto.runtime.services.history:parse_id", _wrong_place),
    ),
)
