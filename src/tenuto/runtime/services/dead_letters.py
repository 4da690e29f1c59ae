"""Steps that failed for good: list them and send them round again."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from tenuto.domain.base.nearest import did_you_mean
from tenuto.domain.graph.plan import split_key
from tenuto.domain.runs.views import instant
from tenuto.errors import Conflict, TicketMissing
from tenuto.ports.store import TicketRow
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.results import Accepted, DeadLetterView, Page
from tenuto.runtime.services.runs import Runs
from tenuto.runtime.services.sending import is_known
from tenuto.runtime.services.tickets import DEAD_LETTER


class DeadLetters:
    """Every use case of dead letters, for one namespace."""

    def __init__(self, context: Context, runs: Runs) -> None:
        """Use the store of an engine, and its runs to send steps round again."""
        self._c = context
        self._runs = runs

    async def list(
        self, *, state: str | None = "open", run: str | None = None, after: str = "", limit: int = 100
    ) -> Page[DeadLetterView]:
        """Return dead letters, newest first."""
        rows = await self._c.store.tickets(
            self._c.ns, kind=DEAD_LETTER, state=state, run_id=run, after=after, limit=limit + 1
        )
        more = len(rows) > limit
        return Page(items=[_view(row) for row in rows[:limit]], next=rows[limit - 1].id if more else None)

    async def redrive(
        self, letter: str, *, fresh: bool = False, guidance: str = "", config: dict[str, Any] | None = None,
        reason: str = "", by: str = "", key: str = "",
    ) -> Accepted:
        """Send the step of a dead letter round again; its run is reopened if it had stopped.

        Raises:
            TicketMissing: There is no such dead letter.
            Conflict: It was redriven or closed before.
        """
        row = await self._c.store.get_ticket(self._c.ns, letter)
        if row is None or row.kind != DEAD_LETTER:
            known = await self._c.store.tickets(self._c.ns, kind=DEAD_LETTER, state="open", limit=200)
            hint = did_you_mean(letter, [item.id for item in known])
            raise TicketMissing(f"there is no dead letter {letter!r}{hint}", ticket=letter)
        what = f"retry/{row.step}" if row.step else "resume"
        if row.state != "open" and not await is_known(self._c, row.run_id, what, key):
            raise Conflict(
                f"dead letter {letter!r} is {row.state}: its step was sent round again before", code="dead_letter.closed"
            )
        if not row.step:
            return await self._runs.resume(row.run_id, by=by, key=key)
        return await self._runs.retry(
            row.run_id, row.step, fresh=fresh, guidance=guidance, config=config, reason=reason, by=by, key=key
        )


def _view(row: TicketRow) -> DeadLetterView:
    body = cast("dict[str, Any]", msgspec.json.decode(row.body)) if row.body else {}
    return DeadLetterView(
        id=row.id, state=row.state, run=row.run_id, step=row.step, node=split_key(row.step)[0], message=row.message,
        error=body.get("failure", {}), attempt=body.get("attempt", 0), created_at=instant(row.created_at),
    )
