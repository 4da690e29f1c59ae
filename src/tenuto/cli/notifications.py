"""`notifications list|resend`: what people were told of questions."""

from __future__ import annotations

from typing import Any

from tenuto.cli import show
from tenuto.cli.client import path_of
from tenuto.cli.context import cursor, items
from tenuto.cli.out import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser


def args_list(parser: Parser) -> None:
    """Declare the options of `notifications list`."""
    parser.option("--state", choices=("due", "sent", "failed", "all"), default="all", help="(default: all)")
    parser.option("--ticket", metavar="TICKET", help="only those of this ticket")
    parser.option("--limit", type=int, default=50, metavar="N", help="how many (default: 50)")
    parser.option("--cursor", help="go on where another list ended")


def do_list(context: Context) -> int:
    """List messages, newest first."""
    args, out = context.args, context.out
    state = None if args.state == "all" else args.state
    query = {"state": state, "ticket": args.ticket, "limit": args.limit, "cursor": args.cursor}
    page = context.client.get("/notifications", query)

    def pretty() -> None:
        rows = [_row(context, item) for item in items(page)]
        show.table(out, ("NOTIFICATION", "STATE", "TELLS", "TICKET", "BY", "TO", "TRIES", "ERROR"), rows)
        if not rows:
            out.note("Nobody was told of anything; see the settings notify.*")
        elif any(item.get("state") == "failed" for item in items(page)):
            out.note("Send one again:  tenuto notifications resend NOTIFICATION")
        if cursor(page):
            out.note(f"More: add --cursor {cursor(page)}")

    out.result(page, pretty)
    return 0


def _row(context: Context, item: dict[str, Any]) -> tuple[str, ...]:
    return (
        clean(item.get("id")), show.status(context.out, item.get("state")), clean(item.get("event")),
        clean(item.get("ticket")), clean(item.get("channel")), clean(item.get("to") or item.get("person") or ""),
        str(item.get("attempts") or 0), show.brief(item.get("error") or "", 200),
    )  # fmt: skip


def args_resend(parser: Parser) -> None:
    """Declare the options of `notifications resend`."""
    parser.option("notification", metavar="NOTIFICATION", help="id of the message, as the list shows it")


def do_resend(context: Context) -> int:
    """Send a message again that was sent or given up."""
    args, out = context.args, context.out
    found: dict[str, Any] = context.client.post(path_of("notifications", args.notification, "resend")) or {}
    out.result(found, lambda: out.line(f"notification {clean(args.notification)}: {clean(found.get('state'))}"))
    return 0
