"""Bugs in what a store promises: the fence, the inbox check, what stands or falls with a record."""

from __future__ import annotations

from typing import Any

import msgspec

from tenuto.domain.budgets import escrow
from tenuto.ports.store import Committed

JOURNAL = "tenuto.adapters.stores.memory.journal:Journal"
OWNERSHIP = "tenuto.adapters.stores.memory.ownership:Ownership"
MESSAGES = "tenuto.adapters.stores.memory.messages:Messages"


def _no_fence(_: Any) -> Any:
    def store(self: Any, commit: Any) -> Committed:
        run = self.tables.runs.get(commit.run_id)
        if commit.record is not None:
            self.tables.records.setdefault(commit.run_id, []).append(commit.record)
        elif run is None:
            return Committed("fenced")
        applied = commit.row is not None and self._change(commit, run, commit.row)
        self._rare(commit)
        return Committed("ok", applied)

    return store


def _parks_unread(original: Any) -> Any:
    def change(self: Any, commit: Any, run: Any, row: Any) -> bool:
        if run is not None and commit.new is None:
            row = msgspec.structs.replace(row, inbox_seen=run.inbox_seq)
        return original(self, commit, run, row)

    return change


def _times_out_unread(original: Any) -> Any:
    def store(self: Any, commit: Any) -> Committed:
        commit.inbox_seen = None
        return original(self, commit)

    return store


def _silent_steal(original: Any) -> Any:
    async def steal(self: Any, worker: str, limit: int) -> Any:
        claims = await original(self, worker, limit)
        for claim in claims:
            self.tables.records[claim.run_id].pop()
        return claims

    return steal


def _beside_though_fenced(original: Any) -> Any:
    def store(self: Any, commit: Any) -> Committed:
        answer = original(self, commit)
        if answer.outcome == "fenced" and commit.new is None:
            self._rare(msgspec.structs.replace(commit, snapshot=None))
        return answer

    return store


def _snapshot_first(original: Any) -> Any:
    def store(self: Any, commit: Any) -> Committed:
        if commit.snapshot is not None and commit.record is not None:
            self.tables.snapshots[commit.run_id] = (commit.record.seq, commit.snapshot)
        return original(self, commit)

    return store


def _same_epoch(original: Any) -> Any:
    def own(self: Any, worker: str, run: Any, stolen_from: Any = None) -> Any:
        claim = original(self, worker, run, stolen_from)
        run.epoch -= 1
        return msgspec.structs.replace(claim, epoch=run.epoch)

    return own


def _eats_when_read(original: Any) -> Any:
    async def inbox(self: Any, run_id: str, after: int = 0) -> Any:
        rows = await original(self, run_id, after)
        for row in rows:
            self.tables.inbox[run_id].pop(row.n, None)
        return rows

    return inbox


def _forgets_to_wake(original: Any) -> Any:
    def receive(self: Any, run_id: str, key: str, body: bytes, reopens: bool) -> Any:
        run = self.runs.get(run_id)
        waiting = run is not None and run.state == "waiting" and run.wake_at
        wake_at = run.wake_at if run is not None else 0
        answer = original(self, run_id, key, body, reopens)
        if waiting and run is not None and answer == "accepted":
            run.state, run.wake_at = "waiting", wake_at + 3_600_000
            self.set_due(run)
        return answer

    return receive


def _unheld(original: Any) -> Any:
    def enter(self: Any, commit: Any, answer: Committed) -> Committed:
        before = set(self.tables.holds)
        found = original(self, commit, answer)
        for key in set(self.tables.holds) - before:
            del self.tables.holds[key]
        return found

    return enter


def _lost_is_free(_: Any) -> Any:
    def lose(book: Any, hold: Any, out: Any) -> None:
        escrow.settle(book, hold, 0, out)

    return lose


def _never_final(original: Any) -> Any:
    def fitting(book: Any, waiters: Any) -> Any:
        return original(book, [msgspec.structs.replace(waiter, told_at=waiter.told_at or escrow.KNOWS) for waiter in waiters])

    return fitting


STORE: tuple[Any, ...] = (
    (
        "unheld", "what a call may cost is not stored with its intent",
        ("tenuto.adapters.stores.memory.funds:Funds.enter", _unheld),
    ),
    ("lost_is_free", "the hold of a lost call is given back", ("tenuto.domain.budgets.escrow:_lose", _lost_is_free)),
    (
        "hopes_on", "a call that waits for what was spent after all is never told",
        ("tenuto.domain.budgets.escrow:fitting", _never_final),
    ),
    ("no_fence", "no conflict clause: whoever writes, writes", (f"{JOURNAL}._store", _no_fence)),
    ("parks_unread", "a run is parked though a message came in", (f"{JOURNAL}._change", _parks_unread)),
    (
        "times_out_unread", "a wait is closed by time though a message came in",
        (f"{JOURNAL}._store", _times_out_unread),
    ),
    ("no_lease_taken", "a takeover leaves no record", (f"{OWNERSHIP}.steal", _silent_steal)),
    ("not_joined", "what a refused record would have done is done", (f"{JOURNAL}._store", _beside_though_fenced)),
    ("snapshot_ahead", "a snapshot is stored before its record", (f"{JOURNAL}._store", _snapshot_first)),
    ("same_epoch", "a new owner has the old epoch", (f"{OWNERSHIP}._own", _same_epoch)),
    ("eats_when_read", "reading a message deletes it", (f"{MESSAGES}.inbox", _eats_when_read)),
    (
        "sleeps_on", "a message does not wake a run that waits for a time",
        ("tenuto.adapters.stores.memory.tables:Tables.receive", _forgets_to_wake),
    ),
)
