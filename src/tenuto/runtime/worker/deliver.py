"""Delivering messages between runs: at least once, dropped by the receiver when they come again."""

from __future__ import annotations

import msgspec

from tenuto.domain.runs.events import RunCreated
from tenuto.domain.runs.inputs import ChildRun
from tenuto.ports.store import OutboxRow
from tenuto.runtime.creation import creation
from tenuto.runtime.worker.resources import Resources
from tenuto.runtime.worker.runs import Runs

CREATION_MS = 3_600_000
"""A run that does not exist so long after its id was made was deleted; messages to it are dropped."""

_child = msgspec.json.Decoder(ChildRun).decode


async def deliver_outbox(runs: Runs) -> None:
    """Deliver what waits in the outbox, then forget it."""
    resources = runs.resources
    rows = await resources.store.outbox(256)
    done: list[int] = []
    for row in rows:
        if row.kind == "create":
            await _create(resources, row)
        else:
            outcome = await resources.store.send(row.target, row.key, row.body)
            if outcome == "missing" and _is_young(row.target, resources.clock.now()):
                # Another worker is still creating it; a message that stops a child must not be lost before it lives.
                continue
            actor = runs.actors.get(row.target)
            if actor is not None:
                runs.inbox.read(actor)
        done.append(row.id)
    if done:
        await resources.store.delivered(done)
        runs.nudge.set()


def _is_young(run_id: str, now: int) -> bool:
    """Return whether a run's id was made recently enough for the run to be on its way."""
    return now - int(run_id.replace("-", "")[:12], 16) < CREATION_MS


async def _create(resources: Resources, row: OutboxRow) -> None:
    """Create a child run unless it exists: its position 1 is taken then, and the commit is refused."""
    child = _child(row.body)
    now = resources.clock.now()
    await resources.definitions.plan(child.ns, child.digest)
    event = RunCreated(
        ns=child.ns, workflow=child.workflow, digest=child.digest, input=child.input, priority=child.priority,
        budget=child.budget, parent=child.parent, by=f"run {child.parent.run}", shadow=child.shadow,
        traceparent=child.traceparent, labels=child.labels,
    )
    await resources.committer.create(creation(child.run, event, now))
