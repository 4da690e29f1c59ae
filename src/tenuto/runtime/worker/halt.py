"""Taking a run that cannot go on off its worker: it is paused with the reason, and a person is told.

What stops it stands beside the journal, on the run's row and in a ticket: a journal that is not what was written
cannot be added to. The run is tried again when somebody resumes it, or a message comes for it, which closes the
ticket; a run that cannot go on even so is stopped anew, with a new one.
"""

from __future__ import annotations

import logging

from tenuto.errors import TenutoError
from tenuto.ports.clock import Clock
from tenuto.ports.store import Claim, Commit, RowChange, Store, TicketRow
from tenuto.runtime.committer import Committer

log = logging.getLogger("tenuto.worker")
LONGEST = 500


class Exits:
    """How runs leave a worker other than by a record of their own."""

    def __init__(self, store: Store, committer: Committer, clock: Clock) -> None:
        """Serve one worker."""
        self._store = store
        self._committer = committer
        self._clock = clock

    async def halt(self, claim: Claim, error: TenutoError) -> None:
        """Stop a run until a person resumes it; nothing is repaired, and one question is open for it at a time."""
        why = error.message
        log.error("run %s is halted: %s", claim.run_id, why, extra={"run": claim.run_id})
        tickets: list[TicketRow] = []
        if not await self._asked(claim):
            tickets.append(TicketRow(
                id=f"tk-integrity-{claim.run_id}-{claim.epoch}", ns=claim.ns, run_id=claim.run_id, step="",
                kind="integrity", message=why, created_at=self._clock.now(),
            ))
        error_text = f"{error.reason}: {why}"[:LONGEST]
        row = RowChange(state="waiting", status="paused", inbox_seen=claim.inbox_seq, error=error_text)
        await self._leave(claim, row, tickets)

    async def give_back(self, claim: Claim, why: str, *, after_ms: int = 0) -> None:
        """Leave a run to another worker.

        Args:
            after_ms: Nobody takes it sooner; for runs that this worker would take again itself.
        """
        log.warning("run %s is left to another worker: %s", claim.run_id, why, extra={"run": claim.run_id})
        wake_at = self._clock.now() + after_ms if after_ms else 0
        row = RowChange(state="ready", status="queued", inbox_seen=claim.inbox_seq, wake_at=wake_at)
        await self._leave(claim, row, [])

    async def _leave(self, claim: Claim, row: RowChange, tickets: list[TicketRow]) -> None:
        """Let go of a run; one that got a message meanwhile is given to whoever reads that next."""
        while True:
            commit = Commit(run_id=claim.run_id, ns=claim.ns, epoch=claim.epoch, row=row, tickets=tickets)
            result = await self._committer.submit(commit)
            if result.outcome != "ok" or result.row_applied:
                return
            now = await self._store.get_run(claim.run_id)
            if now is None or now.epoch != claim.epoch:
                return
            row = RowChange(state="ready", status="queued", inbox_seen=now.inbox_seq, wake_at=row.wake_at)

    async def go_on(self, claim: Claim) -> None:
        """Close the questions about a run that goes on again."""
        tickets = await self._asked(claim)
        for ticket in tickets:
            ticket.state, ticket.decided_at = "closed", self._clock.now()
        if tickets:
            await self._committer.submit(
                Commit(run_id=claim.run_id, ns=claim.ns, epoch=claim.epoch, tickets=tickets)
            )

    async def _asked(self, claim: Claim) -> list[TicketRow]:
        return await self._store.tickets(claim.ns, kind="integrity", state="open", run_id=claim.run_id)
