"""What all live processes reach outside of them, and how that is: by the last look each of them had at it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec

from tenuto.ports.services import Kind, ReportRow, Role, Service
from tenuto.ports.tools import Condition
from tenuto.runtime.services.context import Context
from tenuto.runtime.watch import Watch

PATIENCE_S = 25.0
PAUSE_S = 0.1


class SeenView(msgspec.Struct, frozen=True, kw_only=True):
    """How something outside was when one process last looked at it.

    Attributes:
        role: `worker`, or `api` for a process that only answers requests.
    """

    process: str
    role: Role
    status: Condition
    reason: str
    since: int
    checked_at: int


class OutsideView(msgspec.Struct, frozen=True, kw_only=True):
    """Something outside, as all processes see it together.

    Attributes:
        place: Scheme, host and port; empty where it is a program.
        condition: What all say that know; `degraded` where they differ.
        reason: Why it is not online; what it offers when it is.
        since: Since when it is so, in ms since 1970.
        checked_at: When somebody last looked at it; 0 for never.
        tools: What it offers, also while it is away.
        seen_by: What each process says.
    """

    kind: Kind
    name: str
    place: str
    condition: Condition
    reason: str
    since: int
    checked_at: int
    tools: list[str]
    seen_by: list[SeenView]


class Outside:
    """What is outside of the processes on this store.

    Attributes:
        watch: What this very process sees; `None` where it looks at nothing.
    """

    def __init__(self, context: Context, watch: Watch | None = None) -> None:
        """Read what processes report."""
        self._c = context
        self.watch = watch

    async def list(self) -> list[OutsideView]:
        """Return what is outside, as it was when last looked at; while the store is away, as this process sees it."""
        seen: dict[tuple[str, str, str], list[tuple[ReportRow, Service]]] = {}
        for row in await self._reports():
            for service in _services(row):
                seen.setdefault((service.kind, service.name, service.place), []).append((row, service))
        return [_together(seen[key]) for key in sorted(seen)]

    async def refresh(self) -> list[str]:
        """Let every live process look at all of it now; one that does not answer holds up no other.

        Returns:
            The processes that have not said within some time that they are done.
        """
        if self._c.store.health():
            if self.watch is not None:
                await self.watch.look()
            return []
        asked = await self._c.store.ask_look()
        if self.watch is not None:
            self.watch.poke()
        until = time.monotonic() + PATIENCE_S
        while True:
            late = [row.process for row in await self._reports() if row.answered < asked and _services(row)]
            if not late or time.monotonic() > until:
                return late
            await asyncio.sleep(PAUSE_S)

    async def _reports(self) -> list[ReportRow]:
        own = self.watch.report() if self.watch is not None else None
        others = [] if self._c.store.health() else await self._live()
        return [*([own] if own is not None else []), *(row for row in others if own is None or row.process != own.process)]

    async def _live(self) -> list[ReportRow]:
        """Return the reports of processes that live: a worker whose lease has ended counts as gone at once."""
        rows, now = await self._c.store.reports(), await self._c.store.now()
        alive = {worker.id for worker in await self._c.store.workers() if worker.lease_until > now}
        return [row for row in rows if row.role == "api" or row.process in alive]


def _services(row: ReportRow) -> Sequence[Service]:
    try:
        return msgspec.json.decode(row.services, type=list[Service])
    except msgspec.DecodeError:  # of a version to come
        return ()


def _together(seen: Sequence[tuple[ReportRow, Service]]) -> OutsideView:
    """Return what processes say of one thing, in one: those that do not know count only where nobody does."""
    knowing = [one for one in seen if one[1].health.condition != "unknown"] or seen
    conditions = {service.health.condition for _, service in knowing}
    wrong = [service for _, service in knowing if service.health.condition != "online"]
    said = max(wrong or [service for _, service in knowing], key=lambda service: service.health.checked_at)
    reason, since = said.health.reason, said.health.since
    if len(conditions) > 1:
        reason = f"{len(wrong)} of {len(knowing)} processes: {reason}"
    else:
        since = min(service.health.since for _, service in knowing)
    condition: Condition = said.health.condition if len(conditions) == 1 else "degraded"
    return OutsideView(
        kind=said.kind, name=said.name, place=said.place, reason=reason, since=since,
        condition=condition,
        checked_at=max(service.health.checked_at for _, service in seen),
        tools=sorted({tool for _, service in seen for tool in service.tools}),
        seen_by=[
            SeenView(
                process=row.process, role=row.role, status=service.health.condition, reason=service.health.reason,
                since=service.health.since, checked_at=service.health.checked_at,
            ) for row, service in seen
        ],
    )  # fmt: skip
