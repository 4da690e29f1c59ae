"""A worker: claims runs, moves them forward, keeps its lease, takes over from the dead, lets go when told to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast
from uuid import uuid4

import msgspec

from tenuto.domain.graph.plan import Plan, PlanNode
from tenuto.domain.runs import inputs as io
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.events import Body, Reused
from tenuto.domain.runs.fold import fold_body
from tenuto.domain.runs.history import digest_of_history, restore
from tenuto.domain.runs.state import ENDED, RunState, Step
from tenuto.domain.runs.wire import UnknownEvent
from tenuto.errors import Corrupt, Halted, TenutoError, WorkflowMissing
from tenuto.ports.clock import Clock
from tenuto.ports.liveness import Liveness
from tenuto.ports.model import Model
from tenuto.ports.pool import Pool
from tenuto.ports.store import Claim, Committed, History, Store, WorkerRow
from tenuto.runtime.bus import Bus
from tenuto.runtime.committer import Committer
from tenuto.runtime.creation import Creation
from tenuto.runtime.definitions import Definitions
from tenuto.runtime.tools.catalog import Catalog
from tenuto.runtime.tools.http import HttpPolicy
from tenuto.runtime.worker.actor import Actor
from tenuto.runtime.worker.attempts import Attempt
from tenuto.runtime.worker.deliver import deliver_outbox
from tenuto.runtime.worker.halt import Exits
from tenuto.runtime.worker.kinds import execute
from tenuto.runtime.worker.redo import Redo
from tenuto.runtime.worker.tasks import Tasks
from tenuto.runtime.worker.values import RunEnv, Values

log = logging.getLogger("tenuto.worker")

_reuse = msgspec.json.Decoder(dict[str, Reused]).decode
_UNHALTING = (msg.Resume, msg.Cancel)


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker works.

    Attributes:
        lease_ms: A worker silent for this long loses its runs.
        concurrency: Attempts whose code runs at once.
        max_runs: Runs owned at once.
        idle_s: Pause between polls when there is nothing to do.
        grace_s: On a graceful stop, how long attempts may finish.
        threads: Threads for steps written as plain functions.
    """

    lease_ms: int = 10_000
    concurrency: int = 256
    max_runs: int = 2_000
    idle_s: float = 1.0
    grace_s: float = 30.0
    threads: int = 16


class Worker:
    """One owner of runs. Everything but the handlers' own threads happens on one event loop."""

    def __init__(
        self, store: Store, committer: Committer, definitions: Definitions, catalog: Catalog, clock: Clock, *,
        bus: Bus | None = None, options: WorkerOptions | None = None, models: Model | None = None,
        http: HttpPolicy | None = None, pool: Pool | None = None, liveness: Liveness | None = None,
    ) -> None:
        """Assemble a worker; nothing happens before `start`."""
        self.store = store
        self.committer = committer
        self.definitions = definitions
        self.catalog = catalog
        self.clock = clock
        self.bus = bus or Bus()
        self.options = options or WorkerOptions()
        self.models = models
        self.values = Values()
        self.heard: Callable[[str, int, Body], None] | None = None
        self.execute = execute
        self.id = new_worker_id()
        self.actors: dict[str, Actor] = {}
        self.stopping = False
        self.draining = False
        self._lease_end = 0.0
        self.group_now = 0
        self.group_has_lease = False
        self._excluded: set[str] = set()
        self._served: dict[str, bool] = {}
        self._running = 0
        self._queue: deque[Attempt] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._background: set[asyncio.Task[Any]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._nudge = asyncio.Event()
        self._reading: set[str] = set()
        self._recount = False
        self.takeovers = 0
        self.threads = ThreadPoolExecutor(self.options.threads, thread_name_prefix="tenuto-step")
        self.tasks = Tasks(self)
        self.redo = Redo(self)
        self.exits = Exits(store, committer, clock)
        self.http = http or HttpPolicy()
        self.pool: Pool | None = pool
        self.liveness = liveness

    # --- life -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Announce the worker and begin to claim."""
        await self._register()
        self.committer.intercept = self.intercept
        self.committer.before_group = self._read_clocks
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._heartbeats(), name="heartbeat"),
            loop.create_task(self._claims(), name="claims"),
        ]

    async def _register(self) -> None:
        if self.liveness is not None:
            self.liveness.show(self.id)
        before = self.clock.steady()
        manifest = {"handlers": sorted(self.catalog.handlers), "tools": sorted(self.catalog.tools)}
        row = WorkerRow(
            id=self.id, host=socket.gethostname(), pid=os.getpid(), started_at=self.clock.now(),
            manifest=msgspec.json.encode(manifest),
        )
        now = await self.store.register(row, self.options.lease_ms)
        self.clock.adjust(now)
        if self.id == row.id:
            self._lease_end = before + self.options.lease_ms / 1000

    async def stop(self, grace_s: float | None = None) -> None:
        """Let attempts finish for a while, give the rest back, and leave."""
        if self.stopping:
            return
        self.draining = True
        self.committer.intercept = None
        grace = self.options.grace_s if grace_s is None else grace_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while self._busy() or self.tasks.running:
                    self._nudge.clear()
                    await self._nudge.wait()
        await self.tasks.hand_back()
        await self._release_all()
        self.stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for actor in list(self.actors.values()):
            self._forget(actor)
        for task in list(self._background):
            task.cancel()
        if self.pool is not None:
            await self.pool.close()
        self.threads.shutdown(wait=False, cancel_futures=True)
        await self.store.unregister(self.id)
        if self.liveness is not None:
            self.liveness.hide(self.id)

    def _busy(self) -> bool:
        """Return whether code of an attempt runs; what waits for its turn is given back unbegun."""
        return any(
            attempt.task is not None for actor in self.actors.values() for attempt in actor.attempts.values()
        )

    async def _release_all(self) -> None:
        for actor in list(self.actors.values()):
            if actor.st.status not in ENDED:
                actor.release()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                while self.actors:
                    self._nudge.clear()
                    await self._nudge.wait()

    # --- the lease --------------------------------------------------------------------------------------------

    def has_lease(self) -> bool:
        """Return whether the lease certainly still holds, by a clock that counts while the process is stopped."""
        return self.clock.steady() < self._lease_end

    def _read_clocks(self) -> None:
        """Read the clocks once for a whole group of decisions."""
        self.group_now = self.clock.now()
        self.group_has_lease = self.has_lease()

    def lose_lease(self) -> None:
        """Drop every run at once: others may own them already."""
        if self.stopping:
            return
        log.warning("the lease of %s ended; dropping %d runs", self.id, len(self.actors))
        for actor in list(self.actors.values()):
            self._forget(actor)
        if self.liveness is not None:
            self.liveness.hide(self.id)
        self.id = new_worker_id()
        self._lease_end = 0.0
        self.spawn(self._register())

    async def _heartbeats(self) -> None:
        period = self.options.lease_ms / 3000
        while True:
            await asyncio.sleep(period)
            owner, before = self.id, self.clock.steady()
            try:
                now = await self.store.heartbeat(owner, self.options.lease_ms)
            except Exception:
                log.exception("a heartbeat failed")
                continue
            if self.id != owner:
                continue
            if now is None:
                self.lose_lease()
            else:
                self._lease_end = before + self.options.lease_ms / 1000
                self.clock.adjust(now)
                self._recount = True

    # --- claiming ---------------------------------------------------------------------------------------------

    def nudge(self) -> None:
        """Poll now instead of at the end of the pause."""
        self._nudge.set()

    async def _claims(self) -> None:
        while True:
            try:
                busy = await self._look()
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("looking for work failed")
                busy = False
            if not busy:
                await self._pause()

    async def _pause(self) -> None:
        hint = asyncio.ensure_future(self.store.wait_hint(self.options.idle_s))
        nudge = asyncio.ensure_future(self._nudge.wait())
        try:
            await asyncio.wait({hint, nudge}, return_when=asyncio.FIRST_COMPLETED, timeout=self.options.idle_s)
        finally:
            hint.cancel()
            nudge.cancel()
            await asyncio.gather(hint, nudge, return_exceptions=True)
        self._nudge.clear()

    async def _look(self) -> bool:
        """Do what one poll finds; return whether there may be more right away."""
        if not self.has_lease():
            return False
        if self.liveness is not None and not self.draining:
            await self._adopt_the_dead(self.liveness)
        found = await self.store.poll(self.id)
        for run_id in found.inbox:
            actor = self.actors.get(run_id)
            if actor is not None:
                self.read_inbox(actor)
        if found.outbox:
            await deliver_outbox(self)
        if found.tasks and self.pool is not None and not self.draining:
            await self.tasks.take()
        if self.draining:
            return False
        if self._recount:
            self._recount = False
            await self._retake()
        free = self.options.max_runs - len(self.actors)
        busy = False
        if found.expired and free > 0:
            stolen = await self.store.steal(self.id, min(free, 64))
            self.takeovers += len(stolen)
            await self._take(stolen)
            busy = bool(stolen)
        if found.claimable and free > 0:
            claims = await self.store.claim(self.id, min(free, 256), sorted(self._excluded))
            await self._take(claims)
            busy = busy or len(claims) > 0
        return busy

    async def _retake(self) -> None:
        """Take anew what the store says is ours though nobody here has it: a claim whose opening failed half way."""
        held = set(self.actors)
        owned = await self.store.owned(self.id)
        # Absent before and after: a run that is parked meanwhile was here before, one created meanwhile is here now.
        lost = [(run_id, epoch) for run_id, epoch in owned if run_id not in held and run_id not in self.actors]
        if lost:
            log.warning("taking %d runs anew that were claimed and never opened", len(lost))
            await self._take(await self.store.retake(self.id, lost))

    async def _adopt_the_dead(self, liveness: Liveness) -> None:
        """End the leases of workers on this machine whose processes are gone."""
        for dead in liveness.dead():
            orphans = await self.store.adopt(self.id, dead)
            liveness.bury(dead)
            if orphans:
                log.warning("worker %s is dead; its %d runs are taken over", dead, orphans)

    async def _take(self, claims: Sequence[Claim]) -> None:
        if not claims:
            return
        owner = self.id
        histories = {history.run_id: history for history in await self.store.load([c.run_id for c in claims])}
        for claim in claims:
            if self.id != owner:
                return
            history = histories.get(claim.run_id)
            if history is None:
                await self.exits.halt(claim, Corrupt(f"run {claim.run_id}: there is no journal", run=claim.run_id))
                continue
            try:
                await self._open(claim, history)
            except Exception as exc:
                log.exception("run %s cannot be opened", claim.run_id, extra={"run": claim.run_id})
                await self.exits.halt(claim, Halted(f"the engine cannot open the run: {exc!r}"))

    async def _open(self, claim: Claim, history: History) -> None:
        try:
            actor = await self._restore(claim, history)
        except UnknownEvent:
            await self.exits.give_back(claim, "the journal holds events of a newer version")
            return
        except WorkflowMissing as exc:
            await self.exits.give_back(claim, str(exc))
            return
        except Corrupt as exc:
            await self.exits.halt(claim, exc)
            return
        begin: list[io.Input] = [io.Begin(worker=self.id, epoch=claim.epoch, lost=claim.stolen_from is not None)]
        if claim.inbox_seq:
            begin += await self.messages(actor)
            # All up to the claim's number were read now or consumed by a former owner; parking compares with it.
            actor.inbox_seen = max(actor.inbox_seen, claim.inbox_seq)
        begin.append(io.Tick())
        actor.begin(begin)
        if any(isinstance(inp, io.Arrived) and isinstance(inp.message, _UNHALTING) for inp in begin):
            self.spawn(self.exits.go_on(claim))

    async def _restore(self, claim: Claim, history: History) -> Actor:
        digest = digest_of_history(history.snapshot, history.records)
        plan = await self.definitions.plan(claim.ns, digest)
        missing = self.catalog.missing(plan)
        if missing:
            self._excluded.add(digest)
            raise WorkflowMissing(f"this worker has no {', '.join(missing)}", handlers=list(missing))
        st = restore(claim.run_id, history.snapshot, history.records, lambda _: plan)
        st.epoch = claim.epoch
        env = RunEnv(self.values, self.catalog.predicates, self.is_remote, await self._reused(st))
        actor = Actor(self, st, plan, env, 0)
        actor.bytes_since = sum(len(item.body) for item in history.records)
        if history.snapshot is not None:
            actor.snapshot_at = max(actor.snapshot_at, len(history.snapshot))
        former = self.actors.get(st.id)
        if former is not None:
            # Taken from ourselves while our lease was over: the older ownership has ended.
            self._forget(former)
        # Messages may come in before the ownership begins; they have to wait.
        actor.in_flight = True
        self.actors[st.id] = actor
        return actor

    async def _reused(self, st: RunState) -> dict[str, Reused]:
        """Return the outcomes a replay takes over."""
        if st.fork is None or not st.fork.reuse:
            return {}
        found = await self.store.get_blobs([st.fork.reuse])
        body = found.get(st.fork.reuse)
        if body is None:
            raise Corrupt(f"run {st.id}: the outcomes it takes over from run {st.fork.run} are gone", run=st.id)
        return _reuse(body)

    # --- runs created here ------------------------------------------------------------------------------------

    def intercept(self, creation: Creation) -> Actor | None:
        """Take a run that is being created in this process straight over, sparing the claim."""
        new = creation.row
        if new.wake_at or new.replay_of is not None or self.draining or len(self.actors) >= self.options.max_runs:
            return None
        if not self.has_lease() or new.digest in self._excluded or new.id in self.actors:
            return None
        plan = self.definitions.cached(new.digest)
        if plan is None or not self._serves(plan):
            return None
        st = RunState(id=new.id)
        fold_body(st, plan, creation.body)
        st.seq, st.epoch = 1, 1
        actor = Actor(self, st, plan, RunEnv(self.values, self.catalog.predicates, self.is_remote), 0)
        for digest, blob in creation.blobs:
            self.values.put(digest, blob)
        actor.new = creation
        actor.inputs.append(io.Begin(worker=self.id, epoch=1))
        actor.marked = True
        self.actors[st.id] = actor
        return actor

    def _serves(self, plan: Plan) -> bool:
        known = self._served.get(plan.digest)
        if known is None:
            known = self._served[plan.digest] = not self.catalog.missing(plan)
        return known

    # --- inbox, timers ----------------------------------------------------------------------------------------

    def read_inbox(self, actor: Actor) -> None:
        """Fetch a run's new messages; at most one fetch a run at a time."""
        if actor.st.id not in self._reading and not actor.dropped:
            self._reading.add(actor.st.id)
            self.spawn(self._read(actor))

    async def _read(self, actor: Actor) -> None:
        try:
            messages = await self.messages(actor)
        finally:
            self._reading.discard(actor.st.id)
        if messages and not actor.dropped:
            for message in messages:
                actor.push(message)
        elif not actor.dropped:
            actor.touch()

    async def messages(self, actor: Actor) -> list[io.Input]:
        """Read what a run was sent since its last messages; from now on it counts as seen."""
        rows = await self.store.inbox(actor.st.id, actor.inbox_seen)
        found: list[io.Input] = []
        for row in rows:
            if row.n <= actor.inbox_seen:
                continue
            actor.inbox_seen = row.n
            found.append(io.Arrived(n=row.n, key=row.key, message=msg.decode_message(row.body)))
        return found

    def watch(self, actor: Actor, at_least_s: float = 0.001) -> None:
        """Wake a run when its next timer is due."""
        due = actor.next_due()
        handle = self._timers.pop(actor.st.id, None)
        if handle is not None:
            handle.cancel()
        delay = max(0.0, (due - self.clock.now()) / 1000) + at_least_s
        self._timers[actor.st.id] = asyncio.get_running_loop().call_later(delay, self._due, actor)

    def _due(self, actor: Actor) -> None:
        self._timers.pop(actor.st.id, None)
        if not actor.dropped:
            actor.push(io.Tick())

    # --- attempts ---------------------------------------------------------------------------------------------

    def attempt(self, actor: Actor, key: str) -> None:
        """Let a step's code run, now or when there is room."""
        attempt = Attempt(actor, key)
        actor.attempts[key] = attempt
        if self._running < self.options.concurrency and not self.draining:
            self._running += 1
            attempt.begin()
        else:
            self._queue.append(attempt)

    def finished(self, attempt: Attempt) -> None:
        """Give an attempt's place to the next."""
        if attempt.task is None:
            return
        while self._queue and not self.draining:
            following = self._queue.popleft()
            if following.stopping or following.evicted or following.actor.dropped:
                continue
            following.begin()
            return
        self._running -= 1
        if self.draining:
            self._nudge.set()

    def is_remote(self, node: PlanNode, step: Step) -> bool:
        """Return whether an attempt goes to a process of its own, on whichever worker has room for it."""
        if node.node.isolation != "process" and not step.isolate:
            return False
        if node.node.kind != "function" or self.pool is None:
            return False
        handler = self.catalog.handler(node.node.config.get("handler", ""))
        return handler is not None and bool(handler.target) and not handler.wants_ctx

    def model(self, name: str) -> Model:
        """Return the model of a name: the registered one, its provider's, or the offline one where neither is set."""
        found = self.catalog.models.get(name) or self.catalog.models.get(name.partition(":")[0])
        return cast("Model", found if found is not None else self.models)

    async def ask_hook(self, hook: str, key: str) -> tuple[str, Any]:
        """Ask a registered status hook what became of a call or step; returns `(resolution, value)`."""
        found = self.catalog.hooks.get(hook)
        if found is None:
            raise TenutoError(f"no status hook {hook!r} is registered", code="hook.unknown")
        answer: Any = found(key)
        if asyncio.iscoroutine(answer):
            answer = await answer
        if isinstance(answer, tuple):
            pair = cast("tuple[Any, Any]", answer)
            return str(pair[0]), pair[1]
        return str(answer), None

    # --- from the actors --------------------------------------------------------------------------------------

    def committed(self, st: RunState, body: Body) -> None:
        """Announce a durable record to whoever watches in this process."""
        self.bus.publish(st.id, st.seq, body)
        if self.heard is not None:
            self.heard(st.id, st.seq, body)

    def parked(self, actor: Actor) -> None:
        """Forget a run that has left this worker by its own record."""
        self._forget(actor)
        if len(self.actors) == self.options.max_runs - 1:
            self.nudge()

    def refused(self, actor: Actor, result: Committed) -> None:
        """Let go of a run somebody else owns, or whose record the store cannot take."""
        if result.outcome == "poison":
            self.spawn(self.exits.halt(_claim_of(actor), Halted(f"the store refuses a record: {result.error}")))
        else:
            log.info("run %s belongs to another worker", actor.st.id, extra={"run": actor.st.id})
        self._forget(actor)

    def quarantine(self, actor: Actor, why: str) -> None:
        """Stop a run the engine itself failed on; a person has to look. One that is not stored yet fails at its claim."""
        stored = actor.new is None
        self._forget(actor)
        if stored:
            self.spawn(self.exits.halt(_claim_of(actor), Halted(f"the engine failed to decide on the run: {why}")))

    def _forget(self, actor: Actor) -> None:
        handle = self._timers.pop(actor.st.id, None)
        if handle is not None:
            handle.cancel()
        if self.actors.get(actor.st.id) is actor:
            del self.actors[actor.st.id]
        actor.drop()
        self.hand_on(actor)
        if self.draining:
            self._nudge.set()

    def hand_on(self, actor: Actor) -> None:
        """Let a run whose creation was never proposed be created without an owner; whoever asked waits for it."""
        if actor.new is not None and actor.announce is not None and not actor.in_flight:
            self.committer.queue(actor.new.commit(), actor.announce)
            actor.new = actor.announce = None

    def spawn(self, work: Any) -> None:
        """Run something beside the rest until it ends or the worker stops."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._reaped)

    def _reaped(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a background task of the worker failed", exc_info=task.exception())


def _claim_of(actor: Actor) -> Claim:
    st = actor.st
    return Claim(run_id=st.id, ns=st.ns, epoch=st.epoch, digest=st.digest, inbox_seq=actor.inbox_seen)


def new_worker_id() -> str:
    """Return a fresh id that says where the worker runs."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
