"""What is told of a ticket: the same facts for a webhook's body and an e-mail's templates.

Facts about the question are always there. What was asked, shown, answered and why is content of the run: it is there for
templates that ask for it, and in webhooks where the channel says so; sensitive values are hidden in it as everywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tenuto.domain.runs.sensitive import HIDDEN
from tenuto.domain.runs.views import instant
from tenuto.errors import Corrupt, Gone, RunMissing
from tenuto.ports.notifications import NotificationRow
from tenuto.ports.store import TicketRow
from tenuto.runtime.notifications.channels import SHOWN, Channel
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.hiding import hidden_of
from tenuto.runtime.services.links import Link
from tenuto.runtime.services.results import TicketView
from tenuto.runtime.services.tickets import ticket_view


async def facts_of(context: Context, row: TicketRow) -> dict[str, Any]:
    """Return what there is to know of a ticket, without what is sensitive."""
    view, hide = ticket_view(row), await _hiding(context, row.run_id)
    run = await context.store.get_run(row.run_id)
    return {
        "id": view.id, "kind": view.kind, "state": view.state, "run": view.run, "step": view.step,
        "workflow": run.workflow if run is not None else "", "approvers": view.approvers, "quorum": view.quorum,
        "reject_quorum": view.reject_quorum, "choices": view.choices, "on_timeout": view.on_timeout,
        "decision": view.decision, "by": view.by, "created_at": _moment(view.created_at),
        "expires_at": _moment(view.expires_at), "decided_at": _moment(view.decided_at), **hide(_contents(view)),
    }  # fmt: skip


def _contents(view: TicketView) -> dict[str, Any]:
    return {"message": view.message, "data": view.data, "reason": view.reason, "answer": view.answer}


async def _hiding(context: Context, run_id: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what takes sensitive values out of contents; what cannot be looked through is not told at all."""
    try:
        row = await context.row(run_id)
        hidden = await hidden_of(context, run_id, await context.definitions.plan(context.ns, row.digest))
    except (RunMissing, Corrupt, Gone):
        return lambda contents: {name: HIDDEN if value else value for name, value in contents.items()}
    return hidden.value if hidden is not None else dict


def payload(row: NotificationRow, facts: dict[str, Any], channel: Channel, links: Sequence[Link], page: str, at_ms: int) -> bytes:
    """Return the body of a webhook."""
    told = {name: value for name, value in facts.items() if name not in SHOWN or name in channel.show}
    data: dict[str, Any] = {"ticket": told}
    if links:
        data["links"] = links
    if page:
        data["page"] = page
    return msgspec.json.encode({"type": f"ticket.{row.event}", "timestamp": _moment(instant(at_ms)), "id": row.id, "data": data})


def values(
    row: NotificationRow, facts: dict[str, Any], channel: Channel, person: str, links: Sequence[Link], page: str
) -> dict[str, Any]:
    """Return what templates may ask for."""
    return {
        "event": row.event, "ticket": facts, "person": person, "show": list(channel.show),
        "links": [msgspec.to_builtins(link) for link in links], "page": page,
    }  # fmt: skip


def _moment(value: Any) -> str | None:
    return msgspec.to_builtins(value) if value is not None else None
