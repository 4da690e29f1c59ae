"""A machine that does the same to a store and to the memory store and compares every answer.

Subclass `StoreMachine`, override `make_store`, and let pytest find `MyMachine.TestCase`. A store that cannot be given
the machine's clock sets `shares_clock = False`; then nothing is compared that hangs on the order of moments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tenuto.adapters.stores.memory import MemoryStore
from tenuto.adapters.stores.memory.store import wall_clock
from tenuto.domain.runs import wire
from tenuto.ports.store import OutboxRow, RowChange, RunRow, Store, TaskRow, TicketRow, WorkerRow
from tenuto.testing.conformance import kit
from tenuto.testing.conformance.kit import Journal

T = TypeVar("T")
WORKERS = ("a", "b", "c")
KEYS = ("k1", "k2", "k3")
_indexes = st.integers(0, 7)
_workers = st.sampled_from(WORKERS)
_keys = st.sampled_from(KEYS)


class Belief:
    """What one owner believes about a run, once for each store: chains differ where clocks are in them."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.sides = (Journal(run_id=run_id), Journal(run_id=run_id))
        self.seen = 0

    def twin(self) -> Belief:
        """Return the same belief, to grow stale."""
        copy = Belief(self.run_id)
        copy.sides = (self.sides[0].twin(), self.sides[1].twin())
        copy.seen = self.seen
        return copy


class StoreMachine(RuleBasedStateMachine):
    """Random histories of a few runs, workers, messages, tickets and tasks."""

    shares_clock: ClassVar[bool] = True

    def __init__(self) -> None:
        """Open both stores on a loop of the machine's own."""
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.t = 0
        self.model: Store = MemoryStore(self.clock if self.shares_clock else wall_clock)
        self.store = self.make_store()
        self.beliefs: list[Belief] = []
        self.zombies: list[Belief] = []

    def clock(self) -> int:
        """Return a time that moves on with every record."""
        return 1_000_000 + self.t

    def make_store(self) -> Store:
        """Return a new store on an empty database."""
        raise NotImplementedError

    def teardown(self) -> None:
        """Close both."""
        self.run(self.store.close())
        self.run(self.model.close())
        self.loop.close()

    def run(self, work: Awaitable[T]) -> T:
        """Run until done."""

        async def wrapped() -> T:
            async with asyncio.timeout(30):
                return await work

        return self.loop.run_until_complete(wrapped())

    def both(self, call: Callable[[Store, int], Awaitable[Any]], shown: Callable[[Any], Any] = lambda x: x) -> Any:
        """Do the same to both stores; what is shown must be equal. Return the store's answer."""
        expected = self.run(call(self.model, 0))
        found = self.run(call(self.store, 1))
        assert shown(found) == shown(expected)
        return found

    def pick(self, index: int) -> Belief:
        """Return one of the runs."""
        return self.beliefs[index % len(self.beliefs)]

    def moment(self) -> int:
        """Return a time that lies in the past for every clock, later than all before."""
        self.t += 1
        return self.t

    def commit(self, belief: Belief, **fields: Any) -> Any:
        """Let a believer write its next record to both stores."""
        t = self.moment()

        async def write(store: Store, side: int) -> Any:
            journal = belief.sides[side]
            return await journal.write(store, journal.next(t=t, **fields))

        return self.both(write, lambda answer: (answer.outcome, answer.row_applied))

    @initialize()
    def open(self) -> None:
        """Begin with empty databases and living workers."""
        self.run(self.model.open())
        self.run(self.store.open())
        for worker in WORKERS:
            self.both(lambda s, _, w=worker: s.register(WorkerRow(id=w), kit.LONG_MS), lambda _: None)

    @rule(priority=st.integers(0, 2), later=st.booleans(), key=st.none() | _keys)
    def create(self, priority: int, later: bool, key: str | None) -> None:
        """Create a run, perhaps for much later, perhaps with a business key that is taken."""
        belief = Belief(kit.new_id())
        t = self.moment()
        wake_at = 2**45 if later else 0

        async def write(store: Store, side: int) -> Any:
            journal = belief.sides[side]
            row = {"priority": priority, "wake_at": wake_at, "business_key": key}
            return await journal.write(store, journal.creation(t=t, **row))

        if self.both(write, lambda answer: answer.outcome).outcome == "ok":
            self.beliefs.append(belief)

    @rule(key=_keys, digest=st.sampled_from(("x", "y")))
    def create_once(self, key: str, digest: str) -> None:
        """Create a run under an idempotency key; the same run, or the same refusal, in both."""
        belief = Belief(kit.new_id())
        t = self.moment()

        async def create(store: Store, side: int) -> Any:
            journal = belief.sides[side]
            commit = journal.creation(t=t)
            try:
                answer = await store.create_once(commit, key, digest)
            except Exception as error:
                return type(error)
            if answer[1]:
                journal.took(commit)
            return answer

        answer = self.both(create)
        if isinstance(answer, tuple) and answer[1]:
            self.beliefs.append(belief)

    @rule(worker=_workers, limit=st.integers(1, 4))
    def claim(self, worker: str, limit: int) -> None:
        """Claim; the same runs in the same order."""
        self.moment()
        self.take(lambda s, _: s.claim(worker, limit if self.shares_clock else 100))

    @rule(worker=_workers)
    def steal(self, worker: str) -> None:
        """Steal all that can be stolen."""
        self.take(lambda s, _: s.steal(worker, 100))

    @rule(worker=_workers)
    def retake(self, worker: str) -> None:
        """Take anew one of the runs a worker owns, and one it does not own in that epoch."""
        owned = sorted(self.both(lambda s, _: s.owned(worker), sorted))
        asked = [*owned[:1], *((run, epoch + 1) for run, epoch in owned[1:2])]
        self.take(lambda s, _: s.retake(worker, asked))

    def take(self, call: Callable[[Store, int], Awaitable[Any]]) -> None:
        """Believe in the runs just taken; whoever had them before is a zombie now."""
        for claim in sorted(self.both(call, _shown_claims), key=lambda claim: claim.run_id):
            belief = next(b for b in self.beliefs if b.run_id == claim.run_id)
            self.zombies = [*self.zombies, belief.twin()][-4:]
            belief.seen = 0
            for side, store in enumerate((self.model, self.store)):
                belief.sides[side].epoch = claim.epoch
                self.run(belief.sides[side].catch_up(store))

    @precondition(lambda self: self.beliefs)
    @rule(index=_indexes, snapshot=st.booleans(), ticket=st.booleans(), task=st.booleans(), message=st.booleans())
    def write(self, index: int, snapshot: bool, ticket: bool, task: bool, message: bool) -> None:
        """Write a record with any of the rows that ride with one; no owner is asked, the fence decides."""
        belief = self.pick(index)
        run, name = belief.run_id, f"{self.t}"
        self.commit(
            belief,
            snapshot=b"s" if snapshot else None,
            tickets=[TicketRow(id=name, ns="default", run_id=run, step="s", kind="approval", created_at=self.t)]
            if ticket else [],
            tasks=[TaskRow(id=f"{run}/{name}", ns="default", run_id=run, step="s", attempt=1, handler="h",
                           body=b"", created_at=self.t)] if task else [],
            outbox=[OutboxRow(ns="default", target="x", key=name, kind="send", body=b"")] if message else [],
        )  # fmt: skip

    @precondition(lambda self: self.beliefs)
    @rule(index=_indexes, name=st.integers(0, 2), states=st.lists(st.sampled_from(("open", "decided", "closed")), min_size=1,
          max_size=2))  # fmt: skip
    def ask(self, index: int, name: int, states: list[str]) -> None:
        """Ask, ask again, or be done with a question, in one record or several."""
        belief = self.pick(index)
        rows = [
            TicketRow(id=f"{belief.run_id}/{name}", ns="default", run_id=belief.run_id, step="s", kind="approval",
                      state=state, answer=b"x" if state == "decided" else b"", created_at=self.t)
            for state in states
        ]  # fmt: skip
        self.commit(belief, tickets=rows)

    @precondition(lambda self: self.beliefs)
    @rule(index=_indexes, name=st.integers(0, 2), answer=st.sampled_from((b"yes", b"no")), votes=st.integers(0, 2),
          closes=st.booleans())  # fmt: skip
    def answer(self, index: int, name: int, answer: bytes, votes: int, closes: bool) -> None:
        """Answer a question, asked or not, alone or as one of several."""
        ticket = f"{self.pick(index).run_id}/{name}"
        self.both(
            lambda s, _: s.decide_ticket("default", ticket, answer, f"a{name}/{votes}", b"{}", votes=votes, closes=closes),
            _without_times,
        )

    @precondition(lambda self: self.beliefs)
    @rule(index=_indexes, behind=st.integers(0, 1), ticket=st.booleans(), leaves=st.booleans())
    def time_out(self, index: int, behind: int, ticket: bool, leaves: bool) -> None:
        """Write a record that time alone calls for, sometimes without having seen the newest message."""
        belief = self.pick(index)
        row = self.run(self.model.get_run(belief.run_id))
        seen = max(0, row.inbox_seq - behind) if row is not None else 0
        self.commit(
            belief,
            inbox_seen=seen, row=RowChange(state="waiting", status="waiting", inbox_seen=seen) if leaves else None,
            tickets=[TicketRow(id=f"{self.t}", ns="default", run_id=belief.run_id, step="s", kind="approval")]
            if ticket else [],
        )  # fmt: skip

    @precondition(lambda self: self.beliefs)
    @rule(index=_indexes)
    def read_inbox(self, index: int) -> None:
        """Consume what is in the inbox."""
        belief = self.pick(index)
        messages = self.both(lambda s, _: s.inbox(belief.run_id))
        answer = self.commit(belief, eaten=[message.n for message in messages])
        if answer.outcome == "ok":
            belief.seen = max([belief.seen, *(message.n for message in messages)])

    @precondition(lambda self: self.beliefs)
    @rule(index=_indexes, state=st.sampled_from(("waiting", "ready", "done")), timer=st.booleans(),
          status=st.sampled_from(("completed", "failed", "waiting")), exact=st.booleans())  # fmt: skip
    def leave(self, index: int, state: Any, timer: bool, status: str, exact: bool) -> None:
        """Park, release or end, sometimes without having seen the newest message."""
        belief = self.pick(index)
        seen = belief.seen
        if exact:
            row = self.run(self.model.get_run(belief.run_id))
            seen = row.inbox_seq if row is not None else 0
        change = RowChange(state=state, status=status, inbox_seen=seen, wake_at=5 if timer and state == "waiting" else 0)
        self.commit(belief, row=change)

    @precondition(lambda self: self.zombies)
    @rule(index=_indexes)
    def zombie(self, index: int) -> None:
        """Let a former owner write; both stores refuse it, or it is the present owner after all."""
        belief = self.zombies[index % len(self.zombies)]
        self.commit(belief)

    @precondition(lambda self: self.beliefs)
    @rule(index=_indexes, key=_keys, reopens=st.booleans())
    def send(self, index: int, key: str, reopens: bool) -> None:
        """Send a message, perhaps a repeated one, perhaps to an ended run."""
        self.moment()
        self.both(lambda s, _: s.send(self.pick(index).run_id, key, b"{}", reopens=reopens))

    @rule(worker=_workers)
    def die(self, worker: str) -> None:
        """End a worker's lease and let it come back with nothing."""
        self.both(lambda s, _: s.adopt("a", worker))
        self.both(lambda s, _: s.heartbeat(worker, kit.LONG_MS), lambda beat: beat is None)

    @rule(worker=_workers)
    def live(self, worker: str) -> None:
        """Announce a worker anew."""
        self.both(lambda s, _: s.register(WorkerRow(id=worker), kit.LONG_MS), lambda _: None)

    @rule(name=st.integers(0, 40), answer=st.sampled_from((b"yes", b"no")))
    def decide(self, name: int, answer: bytes) -> None:
        """Decide a ticket that may be there."""
        self.both(lambda s, _: s.decide_ticket("default", f"{name}", answer, f"d{name}", b"{}"), _without_times)

    @rule(worker=_workers)
    def tasks(self, worker: str) -> None:
        """Take tasks and finish the first one."""
        taken = self.both(lambda s, _: s.take_tasks(worker, 3, ["h"]))
        for task in taken[:1]:
            self.both(lambda s, _, name=task.id: s.drop_task(name, worker))

    @rule()
    def deliver(self) -> None:
        """Deliver what other runs were sent; numbers of rows are each store's own."""
        expected, found = self.run(self.model.outbox(5)), self.run(self.store.outbox(5))
        assert [row.key for row in found] == [row.key for row in expected]
        self.run(self.model.delivered([row.id for row in expected[:2]]))
        self.run(self.store.delivered([row.id for row in found[:2]]))

    @rule()
    def forget_keys(self) -> None:
        """Forget all idempotency keys."""
        self.both(lambda s, _: s.prune_keys(2**50))

    @precondition(lambda self: self.beliefs)
    @rule(index=_indexes)
    def delete(self, index: int) -> None:
        """Delete a run if it has ended."""
        belief = self.pick(index)
        if self.both(lambda s, _: s.delete_runs("default", run_id=belief.run_id)):
            self.beliefs.remove(belief)
            self.zombies = [zombie for zombie in self.zombies if zombie.run_id != belief.run_id]

    @invariant()
    def rows_agree(self) -> None:
        """Every run's row, the counts, the tickets and the polls are the same."""
        self.both(lambda s, _: s.list_runs(kit.everything(), limit=1000), lambda rows: [_shown_run(r) for r in rows])
        self.both(lambda s, _: s.tickets("default"), lambda rows: [_without_times(row) for row in rows])
        for worker in WORKERS:
            self.both(lambda s, _, w=worker: s.poll(w), _shown_poll)

    @invariant()
    def journals_hold(self) -> None:
        """Every journal is dense and chained, and both have the same positions and epochs."""
        for belief in self.beliefs:
            for store in (self.model, self.store):
                wire.verify(belief.run_id, wire.ZERO, self.run(store.records(belief.run_id)))
            self.both(
                lambda s, _, b=belief: s.records(b.run_id), lambda rows: [(row.seq, row.epoch) for row in rows]
            )


def _shown_claims(claims: Any) -> Any:
    return sorted((c.run_id, c.epoch, c.inbox_seq, c.stolen_from or "") for c in claims)


def _shown_run(row: RunRow) -> Any:
    return msgspec.structs.asdict(row)


def _shown_poll(poll: Any) -> Any:
    return poll.claimable, sorted(poll.inbox), poll.expired, poll.outbox, poll.tasks


def _without_times(row: TicketRow | None) -> Any:
    return None if row is None else (row.id, row.state, row.answer, row.run_id, row.decided_at > 0)
