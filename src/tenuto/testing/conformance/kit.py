"""Runs to write in conformance tests: real records with real chains, and the few steps most tests begin with."""

from __future__ import annotations

import copy
import itertools
import os
import time
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from tenuto.domain.runs import wire
from tenuto.domain.runs.events import Body, RunCreated, RunStarted
from tenuto.ports.store import Claim, Commit, Committed, RowChange, RunFilter, RunRow, Store, WorkerRow

LONG_MS = 600_000
FAR_AWAY_MS = 86_400_000
DIGEST = "sha256:" + "a" * 64
_counter = itertools.count()


def new_id() -> str:
    """Return a UUIDv7 of now; later ones sort after earlier ones of this process."""
    stamp = time.time_ns() // 1_000_000
    rest = (0x7 << 76) | ((next(_counter) & 0xFFF) << 64) | (0b10 << 62) | int.from_bytes(os.urandom(7), "big")
    return str(uuid.UUID(int=(stamp << 80) | rest))


class Journal:
    """A run's journal as one writer believes it to be."""

    def __init__(self, ns: str = "default", run_id: str | None = None) -> None:
        self.id = run_id or new_id()
        self.ns = ns
        self.seq = 0
        self.epoch = 0
        self.chain = wire.ZERO

    def creation(self, *, t: int = 1, **row: Any) -> Commit:
        """Return the commit that creates the run."""
        given: dict[str, Any] = {"workflow": "flow", "digest": DIGEST, "created_at": t, **row}
        new = RunRow(id=self.id, ns=self.ns, **given)
        event = RunCreated(ns=self.ns, workflow=new.workflow, digest=new.digest, input=msgspec.Raw(b"{}"))
        record = wire.record(self.chain, self.id, 1, 0, Body(t=t, ev=(event,)))
        return Commit(run_id=self.id, ns=self.ns, record=record, new=new)

    def next(self, *, t: int = 1, **fields: Any) -> Commit:
        """Return a commit with the record that follows."""
        body = Body(t=t, ev=(RunStarted(),))
        record = wire.record(self.chain, self.id, self.seq + 1, self.epoch, body)
        return Commit(run_id=self.id, ns=self.ns, epoch=self.epoch, record=record, **fields)

    def change(self, state: str, *, inbox_seen: int = 0, status: str = "", **fields: Any) -> Commit:
        """Return a commit with the record that follows and a change of ownership."""
        shown = status or {"waiting": "waiting", "ready": "running", "done": "completed"}[state]
        row = RowChange(state=state, status=shown, inbox_seen=inbox_seen, **fields)  # type: ignore[arg-type]
        return self.next(row=row)

    def took(self, commit: Commit) -> None:
        """Note that a commit stands."""
        if commit.record is not None:
            self.seq, self.chain = commit.record.seq, commit.record.chain

    def twin(self) -> Journal:
        """Return what another writer with the same belief has: a zombie, later."""
        return copy.copy(self)

    async def catch_up(self, store: Store) -> None:
        """Believe what is stored, after verifying it from the first record on."""
        records = await store.records(self.id)
        self.chain = wire.verify(self.id, wire.ZERO, records)
        self.seq = len(records)

    async def write(self, store: Store, commit: Commit | None = None) -> Committed:
        """Commit alone and note it when it stands."""
        commit = commit or self.next()
        (answer,) = await store.commit([commit])
        if answer.outcome == "ok":
            self.took(commit)
        return answer


async def created(store: Store, ns: str = "default", **row: Any) -> Journal:
    """Create a run that is ready to be claimed."""
    journal = Journal(ns)
    answer = await journal.write(store, journal.creation(**row))
    assert answer.outcome == "ok", answer
    return journal


async def enlist(store: Store, worker: str, lease_ms: int = LONG_MS) -> None:
    """Announce a worker; a lease of 0 has ended as soon as it began."""
    await store.register(WorkerRow(id=worker, host="host", pid=1), lease_ms)


async def owned(store: Store, worker: str, ns: str = "default", **row: Any) -> Journal:
    """Create a run and claim it for a worker that is alive."""
    await enlist(store, worker)
    journal = await created(store, ns, **row)
    claims = await store.claim(worker, 1)
    assert [claim.run_id for claim in claims] == [journal.id]
    journal.epoch = claims[0].epoch
    return journal


async def stolen(store: Store, journal: Journal, thief: str) -> Journal:
    """End the leases of all workers but the thief and steal the run; return the thief's journal."""
    for worker in await store.workers():
        if worker.id != thief:
            await store.unregister(worker.id)
    await enlist(store, thief)
    taken = {claim.run_id: claim for claim in await store.steal(thief, 100)}
    mine = Journal(journal.ns, journal.id)
    mine.epoch = taken[journal.id].epoch
    await mine.catch_up(store)
    return mine


def ids(claims: Sequence[Claim]) -> list[str]:
    """Return the runs that were claimed."""
    return [claim.run_id for claim in claims]


def everything(ns: str = "default") -> RunFilter:
    """Return a filter that lets all runs of a namespace pass."""
    return RunFilter(ns=ns)


async def owned_after(store: Store, worker: str, *others: Journal) -> Journal:
    """Create a run and own it, claiming along the way `others` that became claimable."""
    await enlist(store, worker)
    journal = await created(store)
    claims = {claim.run_id: claim for claim in await store.claim(worker, 10)}
    assert set(claims) == {journal.id, *(other.id for other in others)}
    journal.epoch = claims[journal.id].epoch
    return journal
