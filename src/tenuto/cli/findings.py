"""`findings list|delete`: what agents found out, and what later ones shall not be told."""

from __future__ import annotations

from tenuto.cli import show
from tenuto.cli.client import path_of
from tenuto.cli.context import cursor, items
from tenuto.cli.out import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser

_FILTERS = ("run", "workflow", "node", "category", "text", "state")


def args_list(parser: Parser) -> None:
    """Declare the options of `findings list`."""
    parser.option("--run", metavar="RUN", help="only this run's, in the order they were found")
    parser.option("--workflow", metavar="NAME", help="only of runs of this workflow")
    parser.option("--node", metavar="NODE", help="only what this agent found")
    parser.option("--category", metavar="NAME", help="only of this category, such as decision or gotcha")
    parser.option("--text", metavar="WORDS", help="only those that hold these words")
    parser.option("--state", choices=("kept", "deleted", "all"), help="(default: kept)")
    parser.option("--limit", type=int, default=50, metavar="N", help="how many (default: 50)")
    parser.option("--cursor", help="go on where another list ended")


def do_list(context: Context) -> int:
    """List findings, newest first; those of one run in the order they were found."""
    args, out = context.args, context.out
    query: dict[str, Any] = {name: getattr(args, name) for name in _FILTERS}
    found: list[dict[str, Any]] = []
    after = args.cursor
    while True:  # a part may be empty although there is more: the server looks into so much at a time
        page = context.client.get("/findings", {**query, "limit": args.limit - len(found), "cursor": after})
        found += items(page)
        after = cursor(page)
        if not after or len(found) >= args.limit:
            break

    def pretty() -> None:
        show.table(out, ("FINDING", "CATEGORY", "FOUND BY", "WHEN", "WHAT"), [_row(item) for item in found])
        out.note("Let later prompts leave one out:  tenuto findings delete ID" if found else "No findings.")
        if after:
            out.note(f"More: add --cursor {after}")

    out.result({"items": found, "next": after or None}, pretty)
    return 0


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    gone = f" (deleted {show.ago(item.get('deleted_at'))}: {item.get('reason') or 'no reason given'})"
    return (
        clean(item.get("id")), clean(item.get("category") or show.NOTHING), clean(item.get("node")),
        show.ago(item.get("found_at")), clean(item.get("text")) + (clean(gone) if item.get("deleted_at") else ""),
    )  # fmt: skip


def args_delete(parser: Parser) -> None:
    """Declare the options of `findings delete`."""
    parser.option("id", metavar="ID", help="id of the finding, as the list shows it")
    parser.option("--reason", metavar="WORDS", help="why")


def do_delete(context: Context) -> int:
    """Let later prompts of its run, and of replays of it, leave a finding out."""
    args, out = context.args, context.out
    found = context.client.call("DELETE", path_of("findings", args.id), query={"reason": args.reason or ""})
    out.result(found, lambda: out.line(f"later prompts leave it out: {clean(found.get('text'))}"))
    return 0
