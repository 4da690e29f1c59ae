"""How a run comes to this worker: opened from its journal after a claim, or taken over as it is created here."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from tenuto.domain.graph.plan import Plan
from tenuto.domain.runs import inputs as io
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.events import Reused
from tenuto.domain.runs.fold import fold_body
from tenuto.domain.runs.history import digest_of_history, restore
from tenuto.domain.runs.state import RunState
from tenuto.domain.runs.wire import UnknownEvent
from tenuto.errors import Corrupt, Gone, Halted, WorkflowMissing
from tenuto.ports.store import Claim, History
from tenuto.runtime.creation import Creation
from tenuto.runtime.worker.actor import Actor
from tenuto.runtime.worker.runs import Runs

log = logging.getLogger("tenuto.worker")

_reuse = msgspec.json.Decoder(dict[str, Reused]).decode
_UNHALTING = (msg.Resume, msg.Cancel)
NEWER_MS = 1000
"""How long a run this version cannot read is left to workers of a newer one, before it is looked at again."""


class Opening:
    """Makes actors of runs. One whose journal cannot be read is halted, one that others can serve is left to them.

    Attributes:
        excluded: Digests of workflows this process cannot serve; their runs are not claimed.
    """

    def __init__(self, runs: Runs) -> None:
        """Open runs for a worker."""
        self.excluded: set[str] = set()
        self._runs = runs
        self._resources = runs.resources
        self._served: dict[str, bool] = {}

    async def take(self, claims: Sequence[Claim], owner: str) -> None:
        """Open the runs that were claimed, unless the lease they were claimed under has ended since.

        Args:
            owner: The worker's id when it asked for them; under a later one they are not ours.
        """
        if not claims:
            return
        exits, lease = self._runs.exits, self._runs.lease
        found = await self._resources.store.load([c.run_id for c in claims])
        histories = {history.run_id: history for history in found}
        for claim in claims:
            if lease.id != owner:
                return
            history = histories.get(claim.run_id)
            if history is None:
                await exits.halt(claim, Corrupt(f"run {claim.run_id}: there is no journal", run=claim.run_id))
                continue
            try:
                await self._open(claim, history, owner)
            except (Corrupt, Gone) as exc:
                former = self._runs.actors.get(claim.run_id)
                if former is not None:
                    self._runs.forget(former)
                await exits.halt(claim, exc)
            except Exception as exc:
                log.exception("run %s cannot be opened", claim.run_id, extra={"run": claim.run_id})
                await exits.halt(claim, Halted(f"the engine cannot open the run: {exc!r}"))

    async def _open(self, claim: Claim, history: History, owner: str) -> None:
        exits = self._runs.exits
        try:
            actor = await self._restore(claim, history.sound())
        except UnknownEvent:
            await exits.give_back(claim, "the journal holds events of a newer version", after_ms=NEWER_MS)
            return
        except WorkflowMissing as exc:
            await exits.give_back(claim, str(exc))
            return
        begin: list[io.Input] = [io.Begin(worker=owner, epoch=claim.epoch, lost=claim.stolen_from is not None)]
        if claim.inbox_seq:
            begin += await self._runs.inbox.messages(actor)
            # All up to the claim's number were read now or consumed by a former owner; parking compares with it.
            actor.inbox_seen = max(actor.inbox_seen, claim.inbox_seq)
        begin.append(io.Tick())
        if claim.status == "paused" or any(
            isinstance(inp, io.Arrived) and isinstance(inp.message, _UNHALTING) for inp in begin
        ):
            # Before it can be stopped again: the question about that is another one.
            await exits.go_on(claim)
        if self._runs.lease.id == owner:
            actor.begin(begin)
        else:
            self._runs.forget(actor)

    async def _restore(self, claim: Claim, history: History) -> Actor:
        digest = digest_of_history(history.snapshot, history.records)
        first = await self._resources.definitions.plan(claim.ns, digest)
        st, plan = restore(claim.run_id, history.snapshot, history.records, lambda _: first)
        missing = self._resources.catalog.missing(plan)
        if missing:
            self.excluded.add(plan.digest)
            raise WorkflowMissing(f"this worker has no {', '.join(missing)}", handlers=list(missing))
        st.epoch = claim.epoch
        actor = Actor(self._runs, st, plan, self._resources.env(await self._reused(st)), 0)
        actor.bytes_since = sum(len(item.body) for item in history.records)
        if history.snapshot is not None:
            actor.snapshot_at = max(actor.snapshot_at, len(history.snapshot))
        former = self._runs.actors.get(st.id)
        if former is not None:
            # Taken from ourselves while our lease was over: the older ownership has ended.
            self._runs.forget(former)
        # Messages may come in before the ownership begins; they have to wait.
        actor.in_flight = True
        self._runs.actors[st.id] = actor
        return actor

    async def _reused(self, st: RunState) -> dict[str, Reused]:
        """Return the outcomes a replay takes over."""
        if st.fork is None or not st.fork.reuse:
            return {}
        found = await self._resources.store.get_blobs([st.fork.reuse])
        body = found.get(st.fork.reuse)
        if body is None:
            raise Corrupt(f"run {st.id}: the outcomes it takes over from run {st.fork.run} are gone", run=st.id)
        return _reuse(body)

    # --- runs created here ------------------------------------------------------------------------------------

    def intercept(self, creation: Creation) -> Actor | None:
        """Take a run that is being created in this process straight over, sparing the claim."""
        new, runs = creation.row, self._runs
        if new.wake_at or new.replay_of is not None or runs.draining:
            return None
        if len(runs.actors) >= self._resources.options.max_runs:
            return None
        if not runs.lease.holds() or new.digest in self.excluded or new.id in runs.actors:
            return None
        plan = self._resources.definitions.cached(new.digest)
        if plan is None or not self._serves(plan):
            return None
        st = RunState(id=new.id)
        fold_body(st, plan, creation.body)
        st.seq, st.epoch = 1, 1
        actor = Actor(runs, st, plan, self._resources.env(), 0)
        for digest, blob in creation.blobs:
            self._resources.values.put(digest, blob)
        actor.new = creation
        actor.inputs.append(io.Begin(worker=runs.lease.id, epoch=1))
        actor.marked = True
        runs.actors[st.id] = actor
        return actor

    def _serves(self, plan: Plan) -> bool:
        known = self._served.get(plan.digest)
        if known is None:
            known = self._served[plan.digest] = not self._resources.catalog.missing(plan)
        return known
