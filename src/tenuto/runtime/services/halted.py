"""Runs the engine has stopped: what their rows and tickets say, which their journals cannot."""

from __future__ import annotations

from tenuto.domain.runs.explain import Halt, halt_wait
from tenuto.domain.runs.present import PRIORITY_NAMES
from tenuto.domain.runs.views import ErrorView, RunView, instant
from tenuto.errors import Corrupt, Halted, Shredded
from tenuto.ports.store import RunRow
from tenuto.runtime.services.context import Context

CODES = (Corrupt.code, Halted.code, Shredded.code)


async def halt_of(context: Context, row: RunRow) -> Halt | None:
    """Return what stopped a run, or `None` when only its own journal says how it stands."""
    code, _, message = row.error.partition(": ")
    if row.state != "waiting" or row.status != "paused" or code not in CODES:
        return None
    asked = await context.store.tickets(context.ns, kind="integrity", state="open", run_id=row.id, limit=1)
    if not asked:
        return Halt(code=code, message=message)
    return Halt(code=code, message=message, ticket=asked[0].id, since=asked[0].created_at)


def halted_view(row: RunRow, halt: Halt, view: RunView | None = None) -> RunView:
    """Return a stopped run as the API reads it; of a journal that cannot be read only what its row says."""
    view = view or RunView(
        id=row.id, workflow=row.workflow, version=row.digest, graph=row.digest, status=row.status, goal=row.goal,
        labels=dict(row.labels), priority=PRIORITY_NAMES[row.priority], created_at=instant(row.created_at),
        started_at=instant(row.started_at), replay_of=row.replay_of,
    )
    view.status = "paused"
    view.error = ErrorView(code=halt.code, message=halt.message)
    view.waiting_for = halt_wait(row.id, halt)
    return view
