"""Simulated processes: each a worker with its own store connection and clock, born, frozen, killed and replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Any

import msgspec

from tenuto.adapters.models.scripted import ScriptedModel
from tenuto.adapters.stores.memory import MemoryStore
from tenuto.adapters.stores.memory.tables import Tables
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.events import Body
from tenuto.domain.runs.wire import decode
from tenuto.ports.store import Commit, Committed, Store, WorkflowRow
from tenuto.runtime.bus import Bus
from tenuto.runtime.committer import Committer
from tenuto.runtime.creation import Creation
from tenuto.runtime.definitions import Definitions
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.runtime.worker.worker import Worker
from tenuto.testing.clock import VirtualClock, store_clock
from tenuto.testing.faulty import MOMENTS, Fault, Faults, FaultyStore
from tenuto.testing.loop import NODE, VirtualLoop
from tenuto.testing.simulation_check import Evidence
from tenuto.testing.simulation_money import broken, declare
from tenuto.testing.simulation_pool import SimPool
from tenuto.testing.simulation_world import World
from tenuto.testing.workloads import compiled
from tenuto.testing.workloads_people import CHILDREN
from tenuto.testing.workloads_steps import catalog

LEASE_MS = 3_000
TRACE = 4_000
STOP_S = 45.0
SILENT_S = 8.0
MOST_WRONG = 20


@dataclass(slots=True)
class Process:
    """One simulated process."""

    name: str
    context: Context
    clock: VirtualClock
    committer: Committer | None = None
    worker: Worker | None = None
    leaving: bool = False


class Announced(Bus):
    """A bus that notes what workers say is durable."""

    def __init__(self, evidence: Evidence) -> None:
        """Note into the evidence."""
        super().__init__()
        self._evidence = evidence

    def publish(self, run_id: str, seq: int, body: Body | None) -> None:
        """Note it; nobody listens."""
        if body is not None:
            self._evidence.announced.append((run_id, seq, body))


class SimCluster:
    """Processes on one database, and the hand of fate.

    Attributes:
        trace: The newest things that happened, for people; `digest` covers all of them.
        wrong: Faults of the engine seen while it ran.
        spends: Whether runs spend under caps they share.
    """

    def __init__(self, loop: VirtualLoop, random: Random, plan: list[Fault], *, workers: int) -> None:
        """Prepare; nothing runs before `start`."""
        self.loop, self.random, self.plan, self._count = loop, random, plan, workers
        self.db = Tables(store_clock(loop.time))
        self.store = MemoryStore(tables=self.db)
        self.faults = Faults(random, plan, lease_s=LEASE_MS / 1000)
        self.faults.kill = self.kill
        self.faults.freeze = self.freeze
        self.world = World(random, self.faults)
        self.evidence = Evidence(steals={}, snapshots={}, announced=[], read={})
        self.processes: dict[str, Process] = {}
        self.born = 0
        self.trace: list[str] = []
        self.wrong: list[str] = []
        self.spends = False
        self._hash = sha256()
        self._over = False
        self._polled: dict[str, float] = {}
        self._asked: list[tuple[str, str, asyncio.Future[Committed]]] = []

    @property
    def digest(self) -> str:
        """Return a digest of everything that happened so far, in order."""
        return self._hash.hexdigest()

    def note(self, who: str, what: str) -> None:
        """Add to the trace."""
        line = f"{self.loop.time():10.4f} {who or '-':>4} {what}"
        self._hash.update(line.encode())
        self.trace.append(line)
        if len(self.trace) > TRACE:
            del self.trace[: TRACE // 2]

    # --- life and death ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Store the workflows, start the processes, and let fate begin."""
        names = {digest: name for name, digest in compiled().digests.items() if name in CHILDREN}
        for digest, definition in compiled().definitions.items():
            body = msgspec.json.encode(definition)
            name = names.get(digest, definition.name)
            await self.store.put_workflow(WorkflowRow(ns="default", name=name, digest=digest, body=body))
            self.db.tags["default", name, "latest"] = digest
        if self.spends:
            await declare(self.store)
        for _ in range(self._count):
            self.spawn()
        for fault in self.plan:
            if fault.name in MOMENTS:
                self.loop.call_at(fault.at, self._strike, fault, context=copy_context())

    def spawn(self) -> None:
        """Start a process."""
        if self._over:
            return
        self.born += 1
        name = f"w{self.born}"
        context = copy_context()
        context.run(NODE.set, name)
        skew = self.random.randrange(-1500, 1500)
        process = self.processes[name] = Process(name, context, VirtualClock(self.loop.time, skew_ms=skew))
        self.note(name, "born")
        self.loop.create_task(self._boot(process), context=context)

    async def _boot(self, process: Process) -> None:
        store = self._reach(process.name)
        definitions = Definitions(store)
        if self.random.random() < 0.8:
            for digest, definition in compiled().definitions.items():
                definitions.keep(digest, definition)
        committer = process.committer = Committer(store)
        committer.start()
        options = WorkerOptions(lease_ms=LEASE_MS, concurrency=12, max_runs=40, idle_s=1.0, grace_s=1.0)
        worker = Worker(
            store, committer, definitions, catalog(), process.clock, bus=Announced(self.evidence), models=ScriptedModel(),
            options=options, pool=SimPool(),
        )
        await worker.start()
        process.worker = worker

    def _reach(self, node: str) -> Store:
        return FaultyStore(self.store.view(), self.faults, node, watch=self._watch).as_store()

    def kill(self, node: str) -> None:
        """End a process here and now; another is born later."""
        if node not in self.processes:
            return
        self.note(node, "killed")
        self.loop.kill(node)
        del self.processes[node]
        self._soon(0.1 + self.random.random() * 3, self.spawn)

    def freeze(self, node: str, seconds: float) -> None:
        """Stop a process for a while."""
        if node in self.processes and not self.loop.is_frozen(node):
            self.note(node, f"frozen for {seconds:.2f}")
            self.loop.freeze(node)
            self._soon(seconds, self._thaw, node)

    def _thaw(self, node: str) -> None:
        self.note(node, "thawed")
        self.loop.thaw(node)

    def _soon(self, seconds: float, what: Callable[..., Any], *args: Any) -> None:
        context = copy_context()
        context.run(NODE.set, "")
        self.loop.call_later(seconds, what, *args, context=context)

    async def _leave(self, process: Process) -> None:
        """Shut a process down as it should be."""
        worker, committer = process.worker, process.committer
        assert worker is not None and committer is not None
        try:
            async with asyncio.timeout(STOP_S):
                await worker.stop()
                await committer.close()
        except TimeoutError:
            self.wrong.append(f"{process.name} did not stop within {STOP_S:g} s")
        self.note(process.name, "left")
        if self.processes.pop(process.name, None) is not None:
            self._soon(0.1 + self.random.random(), self.spawn)

    # --- fate -------------------------------------------------------------------------------------------------

    def _strike(self, fault: Fault) -> None:
        if self._over:
            return
        live = [p for p in self.processes.values() if p.worker is not None and not p.leaving]
        if not live:
            self.loop.call_later(0.5, self._strike, fault)
            return
        victim = self.random.choice(live)
        self.faults.happened[fault.name] += 1
        self.note(victim.name, f"fault {fault.name} {fault.size:.2f}")
        getattr(self, f"_do_{fault.name}")(victim, fault.size)

    def _do_crash(self, victim: Process, _: float) -> None:
        self.kill(victim.name)

    def _do_freeze(self, victim: Process, size: float) -> None:
        self.freeze(victim.name, size)

    def _do_outage(self, _: Process, size: float) -> None:
        self.faults.out_until = max(self.faults.out_until, self.loop.time() + size)

    def _do_slow(self, _: Process, size: float) -> None:
        self.faults.slow_until = max(self.faults.slow_until, self.loop.time() + size)

    def _do_clock(self, victim: Process, size: float) -> None:
        victim.clock.jump(int((size - 4) * 1000))

    def _do_revoke(self, victim: Process, _: float) -> None:
        """End a lease in the store though its holder lives: all it still writes is a zombie's."""
        assert victim.worker is not None
        row = self.db.workers.get(victim.worker.id)
        if row is not None:
            row.lease_until = 0

    def _do_shutdown(self, victim: Process, _: float) -> None:
        victim.leaving = True
        self.loop.create_task(self._leave(victim), context=victim.context)

    # --- for clients ------------------------------------------------------------------------------------------

    def submitter(self) -> Callable[[Creation], asyncio.Future[Committed]] | None:
        """Return a way to create a run inside some live process."""
        live = [p for p in self.processes.values() if p.worker is not None and not p.leaving]
        if not live:
            return None
        process = self.random.choice(live)
        committer = process.committer
        assert committer is not None

        def submit(new: Creation) -> asyncio.Future[Committed]:
            future = process.context.run(committer.create, new)
            self._asked.append((process.name, new.row.id, future))
            return future

        return submit

    def store_of_client(self) -> Store:
        """Return the store as clients reach it."""
        return self._reach("")

    def check_live(self) -> None:
        """Note processes that live but no longer look for work, and creations that were never answered."""
        live = {p.name for p in self.processes.values() if p.worker is not None and not p.leaving}
        for name in sorted(live):
            if not self.loop.is_frozen(name) and self.loop.time() - self._polled.get(name, 0.0) > SILENT_S:
                self.wrong.append(f"{name} lives, but has not looked for work since {self._polled.get(name, 0):.1f}")
        for name, run_id, future in self._asked:
            if name in live and not future.done():
                self.wrong.append(f"{name} lives, but never answered whether {run_id} was created")

    def end(self) -> None:
        """Let nothing more happen."""
        self._over = True

    # --- evidence ---------------------------------------------------------------------------------------------

    def _watch(self, node: str, name: str, args: tuple[Any, ...], result: Any) -> None:
        if name == "poll":
            self._polled[node] = self.loop.time()
        elif name == "commit":
            self._committed(node, args[0], result)
        elif name in ("steal", "claim", "retake"):
            if result:
                self.note(node, f"{name} " + " ".join(f"{c.run_id[-6:]}@{c.epoch}" for c in result))
            if name != "claim":
                for claim in result:
                    self.evidence.steals.setdefault(claim.run_id, []).append(claim.epoch)
        elif name in ("send", "decide_ticket"):
            self.note(node, f"{name} {args[0][-6:]} {args[1]} {result if name == 'send' else ''}")

    def _committed(self, node: str, batch: list[Commit], results: list[Committed]) -> None:
        for commit, result in zip(batch, results, strict=True):
            if result.outcome == "ok" and commit.record is not None and commit.snapshot is not None:
                kept = self.evidence.snapshots.setdefault(commit.run_id, [])
                kept.append((commit.record.seq, commit.snapshot))
            if result.outcome == "moved":
                self.faults.seen["commit.moved"] += 1
            elif result.outcome == "refused":
                self.faults.seen["commit.refused"] += 1
            elif result.outcome == "ok" and commit.record is not None:
                self._by_time(commit)
                if b'"run.lease_taken"' in commit.record.body:
                    self.wrong.append(f"{commit.run_id}@{commit.record.seq}: work in flight was free to be claimed (I2)")
            seq = commit.record.seq if commit.record is not None else "-"
            row = f" {commit.row.state}{'' if result.row_applied else ' not'}" if commit.row is not None else ""
            self.note(node, f"commit {commit.run_id[-6:]} {seq}@{commit.epoch} {result.outcome}{row}")

        if self.spends and len(self.wrong) < MOST_WRONG:
            self.wrong += broken(self.db, self.world.billed)

    def _by_time(self, commit: Commit) -> None:
        """No record that ends a wait because nothing came is stored while something that came is unread (I7)."""
        if commit.record is None or not self.db.inbox.get(commit.run_id):
            return
        if any(ends_in_vain(event) for event in decode(commit.record).ev):
            self.wrong.append(f"{commit.run_id}@{commit.record.seq}: a wait timed out beside an unread message (I7)")


def ends_in_vain(event: ev.Event) -> bool:
    """Say whether an event tells that nobody came in time."""
    return (
        (isinstance(event, ev.TicketDecided) and event.by == "timeout")
        or (isinstance(event, ev.WaitEnded) and event.timed_out)
        or (isinstance(event, ev.StepCompleted) and bytes(event.out).endswith(b'"timed_out":true}'))
        or (isinstance(event, ev.RunExceeded) and event.cap == "wall_clock_s")
    )
