"""`tickets list` and `approve`: questions a run asks people."""

from __future__ import annotations

from typing import Any

from tenuto.cli import inputs, show
from tenuto.cli.client import path_of
from tenuto.cli.context import cursor, items
from tenuto.cli.control import given
from tenuto.cli.errors import CliError
from tenuto.cli.forms import ask_form
from tenuto.cli.out import clean
from tenuto.cli.values import obj

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser

_DEFAULT_CHOICES = ["approve", "reject"]
_NOTHING: Any = object()


def args_list(parser: Parser) -> None:
    """Declare the options of `tickets list`."""
    parser.option(
        "--state", choices=("open", "decided", "closed", "all"), default="open", help="(default: open)"
    )
    parser.option("--kind", metavar="KIND", help="such as approval, patch, escalation, budget, breaker")
    parser.option("--run", metavar="RUN", help="only this run's")
    parser.option("--limit", type=int, default=50, metavar="N", help="how many (default: 50)")
    parser.option("--cursor", help="go on where another list ended")


def do_list(context: Context) -> int:
    """List tickets, by default the open ones."""
    args, out = context.args, context.out
    state = None if args.state == "all" else args.state
    query = {"state": state, "kind": args.kind, "run": args.run, "limit": args.limit, "cursor": args.cursor}
    page = context.client.get("/tickets", query)

    def pretty() -> None:
        rows = [_row(context, ticket) for ticket in items(page)]
        show.table(out, ("TICKET", "KIND", "STATE", "OPENED", "RUN", "STEP", "QUESTION"), rows)
        if not rows:
            out.note("Nothing waits for a decision." if args.state == "open" else "No tickets match.")
        elif args.state == "open":
            out.note("Decide one:  tenuto approve TICKET")
        if cursor(page):
            out.note(f"More: add --cursor {cursor(page)}")

    out.result(page, pretty)
    return 0


def _row(context: Context, ticket: dict[str, Any]) -> tuple[str, ...]:
    state = ticket.get("decision") or ticket.get("state")
    return (
        clean(ticket.get("id")),
        clean(ticket.get("kind") or ""),
        show.status(context.out, state),
        show.ago(ticket.get("created_at")),
        clean(ticket.get("run") or ""),
        clean(ticket.get("step") or ""),
        show.brief(ticket.get("message") or "", 200),
    )


def args_approve(parser: Parser) -> None:
    """Declare the options of `approve`."""
    parser.option("ticket", metavar="TICKET", help="id of the ticket")
    parser.option(
        "decision", nargs="?", metavar="DECISION", help="approve, reject, or another choice of the ticket"
    )
    parser.option("--reason", help="why, for the journal")
    parser.option("--data", metavar="JSON|@FILE|-", help="an answer for the step")
    parser.option("--as", dest="person", metavar="NAME", help="decide as this person, where certain people have to")
    parser.option("--to", metavar="STEP", help="for push_back: the earlier step to go back to, where there are several")
    parser.option("--digest", help="digest of what was shown; refused when the ticket asks something else by now")


def do_approve(context: Context) -> int:
    """Decide a ticket; without a decision, and on a terminal, show it and ask."""
    args = context.args
    decision, reason, data = args.decision, args.reason, _NOTHING
    if args.data is not None:
        data = inputs.value_of(args.data, "--data")
    digest = args.digest
    if decision is None:
        if not context.is_interactive():
            raise CliError(
                "No decision was given.", hint=f"Give one:  tenuto approve {args.ticket} approve|reject"
            )
        ticket = context.client.get(path_of("tickets", args.ticket))
        _show(context, ticket)
        if ticket.get("state") not in (None, "open"):
            return 0
        digest = digest or ticket.get("digest")
        decision, reason = _ask(context, ticket, reason)
        if data is _NOTHING and decision == "approve" and ticket.get("form"):
            data = ask_form(obj(ticket["form"]), _line, context.out.note)
    body: dict[str, Any] = {"decision": decision, **given(reason=reason or None, digest=digest, by=args.person, to=args.to)}
    if data is not _NOTHING:
        body["data"] = data
    payload, kind = inputs.encode(body)
    decided = context.client.post(path_of("tickets", args.ticket, "decision"), payload, kind=kind)
    answer: dict[str, Any] = decided or {"id": args.ticket, "decision": decision}

    def pretty() -> None:
        run = answer.get("run")
        if args.decision is not None:
            _show_patch(context, answer)
        if answer.get("state") == "open":
            context.out.line(f"ticket {clean(args.ticket)}: {clean(decision)} counted, {_still_needed(answer)}")
            return
        context.out.line(f"ticket {clean(args.ticket)}: {clean(answer.get('decision') or decision)}")
        if run:
            context.out.note(f"The run goes on:  tenuto logs stream {clean(run)}")

    context.out.result(answer, pretty)
    return 0


def _votes(ticket: dict[str, Any]) -> list[dict[str, Any]]:
    return ticket.get("votes") or []


def _still_needed(ticket: dict[str, Any]) -> str:
    said = [vote.get("decision") for vote in _votes(ticket)]
    for_, against = int(ticket.get("quorum") or 1), int(ticket.get("reject_quorum") or 1)
    return f"{said.count('approve')} of {for_} to approve, {said.count('reject')} of {against} to reject"


def _show(context: Context, ticket: dict[str, Any]) -> None:
    out = context.out
    out.line(out.paint(clean(ticket.get("message") or f"Ticket {ticket.get('id')}"), "bold"))
    asked = show.ago(ticket.get("created_at"))
    show.fields(
        out,
        [
            ("ticket", clean(ticket.get("id") or "")),
            ("kind", clean(ticket.get("kind") or "")),
            ("run", clean(ticket.get("run") or "")),
            ("step", clean(ticket.get("step") or "")),
            ("asked", "" if asked == show.NOTHING else asked),
            ("expires", show.ago(ticket["expires_at"]) if ticket.get("expires_at") else ""),
            ("then", clean(ticket.get("on_timeout") or "")),
            ("for", clean(", ".join(ticket.get("approvers") or []))),
            ("not by", clean(ticket.get("not_by") or "")),
            ("answers", _answers(ticket)),
            ("decision", clean(ticket.get("decision") or "")),
            ("by", clean(ticket.get("by") or "")),
            ("reason", clean(ticket.get("reason") or "")),
        ],
    )
    if not _show_patch(context, ticket) and ticket.get("data"):
        show.block(out, "data", ticket["data"])


def _answers(ticket: dict[str, Any]) -> str:
    """Return who has said what, where several people have to answer."""
    if int(ticket.get("quorum") or 1) == int(ticket.get("reject_quorum") or 1) == 1:
        return ""
    votes = [f"{vote.get('by')}: {vote.get('decision')}" for vote in _votes(ticket)]
    return clean("; ".join([_still_needed(ticket), *votes]))


def _show_patch(context: Context, ticket: dict[str, Any]) -> bool:
    """Show the difference a ticket is about, if it is about a patch."""
    name = obj(ticket.get("data")).get("patch")
    if ticket.get("kind") != "patch" or not name:
        return False
    from tenuto.cli.patch_show import patch_lines

    for line in patch_lines(context.out, context.client.get(path_of("runs", ticket.get("run"), "patches", name))):
        context.out.line(line)
    context.out.line()
    return True


def _ask(context: Context, ticket: dict[str, Any], reason: str | None) -> tuple[str, str]:
    """Return the decision and reason a person types; the start of a choice is enough when it is clear."""
    choices: list[str] = [str(choice) for choice in ticket.get("choices") or _DEFAULT_CHOICES]
    while True:
        typed = _line(f"Decision ({'/'.join(choices)}): ").lower()
        meant = [choice for choice in choices if typed and choice.startswith(typed)]
        if typed in choices or len(meant) == 1:
            decision = typed if typed in choices else meant[0]
            needed = decision in ("reject", "push_back")
            while reason is None or (needed and not reason):
                reason = _line("Reason: " if needed else "Reason (may be empty): ")
            return decision, reason
        context.out.note(f"Type one of {', '.join(choices)}; Ctrl-C leaves the ticket open.")


def _line(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except EOFError:
        raise CliError("No decision was made; the ticket stays open.") from None
