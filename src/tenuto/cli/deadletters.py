"""`deadletter list|redrive`: steps that failed for good and that nothing handled."""

from __future__ import annotations

from tenuto.cli import show
from tenuto.cli.client import path_of
from tenuto.cli.context import cursor, items
from tenuto.cli.control import redrive_body, redrive_options, tell
from tenuto.cli.out import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser


def args_list(parser: Parser) -> None:
    """Declare the options of `deadletter list`."""
    parser.option("--state", choices=("open", "decided", "closed", "all"), help="(default: open)")
    parser.option("--run", metavar="RUN", help="only this run's")
    parser.option("--limit", type=int, default=50, metavar="N", help="how many (default: 50)")
    parser.option("--cursor", help="go on where another list ended")


def do_list(context: Context) -> int:
    """List dead letters, newest first."""
    args, out = context.args, context.out
    query = {"state": args.state, "run": args.run, "limit": args.limit, "cursor": args.cursor}
    page = context.client.get("/dead-letters", query)

    def pretty() -> None:
        rows = [_row(letter) for letter in items(page)]
        show.table(out, ("DEAD LETTER", "RUN", "STEP", "TRIES", "SINCE", "ERROR"), rows)
        out.note("Send one round again:  tenuto deadletter redrive ID" if rows else "No dead letters.")
        if cursor(page):
            out.note(f"More: add --cursor {cursor(page)}")

    out.result(page, pretty)
    return 0


def _row(letter: dict[str, Any]) -> tuple[str, ...]:
    return (
        clean(letter.get("id")),
        clean(letter.get("run") or ""),
        clean(letter.get("step") or letter.get("node") or ""),
        str(letter.get("attempt") or show.NOTHING),
        show.ago(letter.get("created_at")),
        show.brief(letter.get("message") or show.failure(letter.get("error")), 200),
    )


def args_redrive(parser: Parser) -> None:
    """Declare the options of `deadletter redrive`."""
    parser.option("id", metavar="ID", help="id of the dead letter")
    redrive_options(parser)


def do_redrive(context: Context) -> int:
    """Send the step of a dead letter round again; a run it had stopped goes on."""
    args = context.args
    answer = context.client.post(path_of("dead-letters", args.id, "redrive"), redrive_body(args))
    return tell(context, answer, f"dead letter {args.id} goes round again")
