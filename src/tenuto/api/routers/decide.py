"""The page behind a link: it shows what would be decided, and decides when its button is pressed.

Reading it changes nothing, so that whatever looks into mails before people do decides nothing. The link's token is the
credential of both; the page works without scripts and loads nothing but the style sheet of this server.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from fastapi import APIRouter
from jinja2 import Environment, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from tenuto.api.forms import data_of, fields_of
from tenuto.api.params import engine_of
from tenuto.domain.runs.people import shown_digest
from tenuto.errors import AlreadyDecided, Conflict, Denied, Invalid, RunTerminal, TenutoError, TicketStale
from tenuto.ports.store import TicketRow
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.hiding import hidden_in_run
from tenuto.runtime.services.links import Claim, LinkInvalid, Links
from tenuto.runtime.services.tickets import NEEDS_REASON, ticket_view, votes_of

router = APIRouter(include_in_schema=False)
MOST_TOKEN = 4096
MOST_FIELDS = 1000
CSP = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": CSP,
    "Referrer-Policy": "same-origin",  # with none a browser would not say where the form was sent from
    "X-Robots-Tag": "noindex",
}
DONE = {"approve": "approved", "reject": "rejected"}
_PAGE = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
    files("tenuto.api").joinpath("templates/decide.html").read_text(encoding="utf-8")
)


class _Turned(Exception):
    """The link does not decide; says why, and with which status."""

    def __init__(self, status: int, title: str, *lines: str) -> None:
        super().__init__(title)
        self.status, self.title, self.lines = status, title, lines


@router.get("/decide")
@router.head("/decide")
async def show(request: Request) -> Response:
    """Return what a link would decide."""
    token = request.query_params.get("token", "")
    try:
        claim, row = await _asked(request, token)
        return await _form(engine_of(request), claim, row, token)
    except _Turned as turned:
        return _answer(turned.status, turned.title, turned.lines)
    except TenutoError as error:
        return _answer(503, "It cannot be shown just now", [f"{error.message}. Nothing was changed; try the link again."])


@router.post("/decide")
async def decide(request: Request) -> Response:
    """Decide what a link decides, for the person it was made for."""
    sent = (await request.body()).decode("utf-8", "replace")
    try:
        given = dict(parse_qsl(sent, keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError:
        return _answer(422, "It was not decided", [f"More than {MOST_FIELDS} fields were sent. Nothing was changed."])
    engine, token = engine_of(request), given.get("token", "")
    try:
        claim, row = await _asked(request, token)
        reason, form = given.get("reason", "").strip(), ticket_view(row).form
        try:
            decided = await engine.tickets.decide(
                row.id, claim.decision, reason=reason, by=claim.person, once=True,
                data=data_of(form, given) if claim.decision == "approve" else None,
                digest=shown_digest(row.kind, row.message, row.body),
            )  # fmt: skip
        except Invalid as error:
            problems = [f"{one.place.removeprefix('/data/')}: {one.message}" for one in error.problems]
            return await _form(engine, claim, row, token, given, problems or [error.message])
        except AlreadyDecided as error:
            raise _Turned(409, "This was decided already", f"{error.message}. Nothing was changed.") from None
        except TicketStale:
            raise _Turned(409, "The question has changed", "It changed while you read it. Ask for it anew.") from None
        except (RunTerminal, Conflict) as error:
            raise _Turned(409, "The question is closed", f"{error.message}. Nothing was changed.") from None
        except Denied as error:
            raise _Turned(403, "This is not yours to decide", f"{error.message}. Nothing was changed.") from None
    except _Turned as turned:
        return _answer(turned.status, turned.title, turned.lines)
    except TenutoError as error:
        return _answer(503, "It was not decided", [f"{error.message}. Nothing is known to have changed; try the link again."])
    said = DONE.get(claim.decision, claim.decision)
    lines = [f"Thank you, {claim.person}. Your answer is kept with the run."]
    if decided.state == "open":
        needed = f"{decided.quorum} people have to approve, or {decided.reject_quorum} to reject"
        lines.append(f"Others have to answer too: {needed}; {len(decided.votes)} have answered.")
    return _answer(200, f"You answered: {said}", lines)


async def _asked(request: Request, token: str) -> tuple[Claim, TicketRow]:
    """Return what a link is good for and the question it is about.

    Raises:
        _Turned: It decides nothing, or nothing any more.
    """
    links: Links | None = request.app.state.links
    engine = engine_of(request)
    if links is None or not token or len(token) > MOST_TOKEN:
        raise _Turned(404, "There is no such link", "Open the whole link, as it was sent to you.")
    try:
        claim = links.read(token)
    except (LinkInvalid, ValueError):
        raise _Turned(403, "This link is not valid", "It was not made by this server, or was altered on its way.") from None
    row = await engine.store.get_ticket(claim.ns, claim.ticket) if claim.ns == engine.context.ns else None
    if row is None:
        raise _Turned(410, "The question is gone", f"The run that asked it was deleted ({claim.ticket}).")
    own = next((vote for vote in votes_of(row) if vote.by == claim.person), None)
    if row.created_at == claim.asked and (own is not None or row.state == "decided"):
        view = ticket_view(row)
        said = f"{own.decision}, by you" if own is not None else f"{view.decision}, by {view.by or 'somebody'}"
        raise _Turned(409, "This was decided already", f"The answer was: {said}. A link is good for one decision.")
    if row.state != "open":
        raise _Turned(410, "The question is closed", "It lost its point before it was answered: its run ended or went on.")
    if claim.until <= await engine.store.now():
        raise _Turned(410, "This link has expired", "The question may still be open: see tenuto approve " + row.id)
    if changed := links.changed(claim, row):
        raise _Turned(409, "The question has changed", "Since the link was made, this changed: " + "; ".join(changed) + ".",
                      "Nothing was decided. See what is asked now: tenuto approve " + row.id)  # fmt: skip
    return claim, row


async def _form(
    engine: Engine, claim: Claim, row: TicketRow, token: str, given: dict[str, str] | None = None,
    problems: list[str] | None = None,
) -> Response:
    view, given = ticket_view(row), given or {}
    hide = await hidden_in_run(engine.context, row.run_id)
    run = await engine.store.get_run(row.run_id)
    shown = msgspec.json.format(msgspec.json.encode(view.data), indent=2).decode() if view.data else ""
    return _page(
        422 if problems else 200, title="Your decision", lines=[], problems=problems or [], token=token, view=view, claim=claim,
        workflow=run.workflow if run is not None else "", message=hide(view.message), data=hide(shown),
        fields=fields_of(view.form, given) if claim.decision == "approve" else [], reason=given.get("reason", ""),
        needs_reason=claim.decision in NEEDS_REASON,
    )


def _answer(status: int, title: str, lines: Any) -> Response:
    return _page(status, title=title, lines=list(lines), problems=[], token="")


def _page(status: int, **values: Any) -> Response:
    return Response(_PAGE.render(values), status_code=status, headers=HEADERS, media_type="text/html")
