"""Those outside the engine: clients who start and steer runs, a person who answers, and a log of what they were told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import Raw

from tenuto.adapters.stores.memory.tables import Tables
from tenuto.domain.base.values import blob_digest
from tenuto.domain.graph.model import Budget
from tenuto.domain.overlays.overlay import overlay_of
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.failure import LOST
from tenuto.domain.runs.fork import Cut, encode_reuse, reuse
from tenuto.domain.runs.wire import decode
from tenuto.errors import Conflict, TenutoError
from tenuto.ports.store import Committed, Store
from tenuto.runtime.creation import Creation, creation
from tenuto.testing.simulation_world import World
from tenuto.testing.workloads import compiled, plan_of
from tenuto.testing.workloads_people import frozen

if TYPE_CHECKING:
    from tenuto.testing.workloads_kinds import Scenario

PATIENCE_S = 4.0
LOOK_S = 0.5


class Outcome(msgspec.Struct):
    """How a run ended, as its scenario judges it.

    Attributes:
        lost: Some step failed because its workers kept dying, which may change the outcome.
    """

    status: str
    output: Any
    outcomes: dict[str, int]
    lost: bool = False
    why: str = ""

    def completed(self, node: str) -> int:
        """Return how many steps of a node completed."""
        return self.outcomes.get(node, 0)


class Cluster(Protocol):
    """What clients see of the simulated processes."""

    world: World
    db: Tables

    def submitter(self) -> Callable[[Creation], asyncio.Future[Committed]] | None:
        """Return a way into some live process, or `None` while there is none."""
        ...

    def store_of_client(self) -> Store:
        """Return the store as clients reach it."""
        ...


class Client:
    """Starts one run, steers it by its scenario's script, and waits for its end."""

    def __init__(self, cluster: Cluster, scenario: Scenario, run_id: str) -> None:
        """Serve one run."""
        self._cluster, self.scenario, self.run_id = cluster, scenario, run_id
        self._world, self._db = cluster.world, cluster.db
        self._store = cluster.store_of_client()
        self._sent = 0
        self.forks: dict[str, Scenario] = {}

    async def go(self) -> None:
        """Create the run, act on it, and see it to its end."""
        await asyncio.sleep(self._world.random.random() * 6)
        digest = compiled().digests[self.scenario.name]
        given = msgspec.json.encode(self.scenario.given(self._world.random))
        budget = self.scenario.budget or compiled().definitions[digest].budget
        event = ev.RunCreated(
            ns="default", workflow=self.scenario.name, digest=digest, input=Raw(given), budget=budget,
            fidelity="fast" if self._world.random.random() < 0.3 else "full",
        )
        await self._create(creation(self.run_id, event, self._db.clock()))
        if self.scenario.script is not None:
            await self.scenario.script(self)
        for run_id in [self.run_id, *self.forks]:
            await self._until_end(run_id)

    async def _create(self, new: Creation) -> None:
        """Create a run through some process or directly, again and again until somebody says that it exists."""
        while True:
            submit = self._cluster.submitter() if self._world.random.random() < 0.7 else None
            try:
                async with asyncio.timeout(PATIENCE_S):
                    if submit is not None:
                        result = await submit(_fresh(new))
                        done = result.outcome in ("ok", "fenced")
                    else:
                        await self._store.create_once(_fresh(new).commit(), new.row.id, "same")
                        done = True
            except TimeoutError:
                continue
            except Conflict:
                # An earlier attempt that nobody answered was carried out after all.
                done = True
            if done:
                break
        self._world.created.add(new.row.id)

    # --- steering ---------------------------------------------------------------------------------------------

    async def sleep(self, seconds: float) -> None:
        """Wait roughly so long."""
        await asyncio.sleep(seconds * (0.5 + self._world.random.random()))

    def dice(self) -> float:
        """Return a random share from 0 to 1."""
        return self._world.random.random()

    async def signal(self, name: str, payload: Any, *, key: str) -> None:
        """Deliver a signal."""
        await self._send(msg.Signal(name=name, payload=Raw(msgspec.json.encode(payload)), by="client"), key)

    async def cancel(self) -> None:
        """Cancel the run."""
        await self._send(msg.Cancel(by="client", reason="enough"), "cancel")

    async def pause(self) -> None:
        """Pause the run."""
        await self._send(msg.Pause(by="client"), "pause")

    async def resume(self, budget: Budget | None = None) -> None:
        """Let the run go on, with raised caps if given."""
        await self._send(msg.Resume(by="client", budget=budget), "resume", reopens=True)

    def repair(self) -> None:
        """Repair what the run's steps need."""
        self._world.fixed.add(self.run_id)

    async def redrive(self, step: str, *, fresh: bool = False) -> None:
        """Send a failed step round again."""
        await self._send(msg.Redrive(step=step, fresh=fresh, by="client"), f"redrive/{step}", reopens=True)

    async def propose(self, operations: list[dict[str, Any]], *, key: str) -> None:
        """Propose a change of the graph as it is now."""
        ops = Raw(msgspec.json.encode(operations))
        message = msg.ProposePatch(patch=f"pt-{key}", base=self._db.runs[self.run_id].digest, ops=ops, by="client")
        await self._send(message, f"patch/{key}")

    async def take_back(self, key: str) -> None:
        """Take the first patch back, where the run goes by it and has not relied on it."""
        first, now = compiled().digests[self.scenario.name], self._db.runs[self.run_id].digest
        if first == now:
            return
        ops = Raw(msgspec.json.encode(overlay_of(plan_of(now).definition, plan_of(first).definition)))
        await self._send(msg.ProposePatch(patch=f"pt-{key}", base=now, ops=ops, by="client", takes="pt-p1"), f"patch/{key}")

    async def _send(self, message: msg.Messages, key: str, *, reopens: bool = False, run_id: str = "") -> None:
        """Send until an answer comes; what was accepted is promised."""
        run_id = run_id or self.run_id
        body = msg.encode_message(message)
        while True:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    outcome = await self._store.send(run_id, key, body, reopens=reopens)
            except TimeoutError:
                continue
            if outcome in ("accepted", "duplicate"):
                self._world.promised.setdefault(run_id, []).append(key)
            elif outcome == "terminal" and self._db.runs[run_id].status == "failed" and await self._send_round(run_id):
                await asyncio.sleep(LOOK_S)
                continue
            return

    async def until(self, status: str) -> None:
        """Wait until the run's row says it stopped with a status, or ended otherwise."""
        while True:
            row = self._db.runs.get(self.run_id)
            if row is not None and row.state == "done":
                if row.status == status or row.status in ("completed", "cancelled"):
                    return
                if row.status == "failed" and await self._send_round(self.run_id):
                    continue
                return
            await asyncio.sleep(LOOK_S)

    async def _until_end(self, run_id: str) -> None:
        """Wait for the end; steps whose workers kept dying are sent round again."""
        while True:
            row = self._db.runs.get(run_id)
            if row is not None and row.state == "done":
                if row.status != "failed" or not await self._send_round(run_id):
                    self._world.told[run_id] = row.status
                    return
            await asyncio.sleep(LOOK_S)

    async def _send_round(self, run_id: str) -> bool:
        """Redrive what failed only because workers died; return whether there was anything."""
        found = lost_steps(self._db, run_id)
        for step in found:
            self._sent += 1
            await self._send(msg.Redrive(step=step, by="client"), f"again/{self._sent}", reopens=True, run_id=run_id)
        return bool(found)

    async def until_retrying(self, step: str) -> None:
        """Wait until a step waits for its next attempt."""
        while True:
            for item in reversed(self._db.records.get(self.run_id, ())):
                for event in decode(item).ev:
                    if isinstance(event, ev.AttemptFailed) and event.step == step:
                        return
            row = self._db.runs.get(self.run_id)
            if row is not None and row.state == "done" and not await self._send_round(self.run_id):
                return
            await asyncio.sleep(LOOK_S)

    async def fork(self, node: str, *, mode: str = "live", becomes: str = "") -> None:
        """Start a replay of the run from a node; `becomes` names what is expected of it, else the same as of this."""
        row = self._db.runs[self.run_id]
        if row.status != "completed":
            return
        records = self._db.records[self.run_id]
        bodies = [(item.seq, decode(item)) for item in records]
        plan = plan_of(row.digest)
        try:
            taken = encode_reuse(reuse(bodies, plan, plan, Cut(node=node)))
        except TenutoError:
            return
        name = blob_digest(taken)
        await self._store.put_blobs([(name, taken)])
        fork = ev.Fork(run=self.run_id, seq=records[-1].seq, chain=records[-1].chain.hex(), reuse=name, mode=mode, from_node=node)
        created = next(event for event in bodies[0][1].ev if isinstance(event, ev.RunCreated))
        run_id = self.run_id.replace("-8000-", "-8001-")
        self.forks[run_id] = frozen() if becomes else self.scenario
        await self._create(creation(run_id, msgspec.structs.replace(created, fork=fork), self._db.clock()))


def lost_steps(db: Tables, run_id: str) -> list[str]:
    """Return the dead letters of a run that are there only because workers died."""
    dead: dict[str, bool] = {}
    for item in db.records[run_id]:
        for event in decode(item).ev:
            if isinstance(event, ev.StepDeadLettered):
                dead[event.step] = event.failure.code == LOST.code
            elif isinstance(event, ev.StepRedriven):
                dead.pop(event.step, None)
    return [step for step, lost in dead.items() if lost]


def _fresh(new: Creation) -> Creation:
    """Return a creation of its own: whoever gets it may change the row."""
    return msgspec.structs.replace(new, row=msgspec.structs.replace(new.row))
