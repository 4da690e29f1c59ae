"""A run about to exist: what brings it into being, written alone or together with its first decision."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tenuto.domain.runs.events import Body, RunCreated
from tenuto.domain.runs.wire import ZERO, record
from tenuto.ports.store import Commit, RunRow


class Creation(msgspec.Struct, eq=False):
    """A run's row, its first event, and the large values that event refers to.

    A worker at hand takes it over and writes its own first decision into the same record, so the record is encoded
    only by whoever writes it.

    Attributes:
        body: The creation alone, at the time it was asked for.
    """

    row: RunRow
    body: Body
    blobs: Sequence[tuple[str, bytes]] = ()

    @property
    def event(self) -> RunCreated:
        """What the journal begins with."""
        created = self.body.ev[0]
        assert isinstance(created, RunCreated)
        return created

    def commit(self) -> Commit:
        """Return the commit that creates the run without an owner."""
        run_id = self.row.id
        first = record(ZERO, run_id, 1, 0, self.body)
        return Commit(run_id=run_id, ns=self.row.ns, record=first, new=self.row, blobs=self.blobs)


def creation(
    run_id: str, event: RunCreated, now: int, blobs: Sequence[tuple[str, bytes]] = (), *,
    business_key: str | None = None,
) -> Creation:
    """Return what brings a run into being that begins now, or at the time its event names."""
    row = RunRow(
        id=run_id, ns=event.ns, workflow=event.workflow, digest=event.digest, priority=event.priority,
        goal=event.goal, labels=event.labels, created_at=now, wake_at=event.start_at if event.start_at > now else 0,
        parent=event.parent.run if event.parent is not None else None,
        replay_of=event.fork.run if event.fork is not None else None, business_key=business_key,
    )
    return Creation(row, Body(now, (event,)), blobs)
