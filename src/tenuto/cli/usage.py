"""`usage`: what was spent, by day, model, project and more."""

from __future__ import annotations

from tenuto.cli import inputs, show
from tenuto.cli.context import Context, cursor, items
from tenuto.cli.out import clean
from tenuto.cli.values import seq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.parse import Parser

GROUPS = ("day", "model", "provider", "workflow", "project", "agent", "purpose", "tool", "kind", "run")
_FILTERS = ("run", "workflow", "project", "provider", "model", "agent", "purpose", "tool")
_NONE = "(none)"
_LIST_LIMIT = 50


def args_usage(parser: Parser) -> None:
    """Declare the options of `usage`."""
    parser.option("--by", choices=GROUPS, default="model", help="what to add up by (default: model)")
    parser.option("--since", metavar="WHEN", help="count from here: a date such as 2030-01-31, or an age such as 7d")
    parser.option("--until", metavar="WHEN", help="count up to here; an age such as 1d, or a date that still counts")
    for name in _FILTERS:
        parser.option(f"--{name}", metavar=name.upper(), help=f"only calls of this {name}")
    parser.option("--calls", action="store_true", help="list single calls instead, newest first")
    parser.option("--limit", type=int, metavar="N", help="how many groups, or calls (default: all groups, 50 calls)")
    parser.option("--cursor", metavar="CURSOR", help="go on where another list of calls ended")


def do_usage(context: Context) -> int:
    """Show what was spent."""
    args, out = context.args, context.out
    query: dict[str, Any] = {name: getattr(args, name) for name in _FILTERS}
    query |= {"from": _moment(args.since, "--since"), "to": _moment(args.until, "--until"), "limit": args.limit}
    if args.calls:
        query |= {"limit": args.limit or _LIST_LIMIT, "cursor": args.cursor}
        page = context.client.get("/usage/calls", query)
        out.result(page, lambda: _show_calls(context, page))
        return 0
    found = context.client.get("/usage", {**query, "group_by": args.by})
    out.result(found, lambda: _show_groups(context, found))
    return 0


def _moment(text: str | None, option: str) -> str | None:
    """Return a moment for the server, which reads dates as days in UTC itself."""
    if text is None or (len(text) == 10 and text.count("-") == 2):
        return text
    return inputs.instant(text, option, sign=-1)


def _show_groups(context: Context, found: dict[str, Any]) -> None:
    out = context.out
    totals: dict[str, Any] = found.get("totals") or {}
    if not totals.get("calls"):
        out.note("Nothing was used." if not found.get("lag") else "Nothing was used, as far as is counted yet.")
    else:
        rows = [_row(group, group.get("key") or _NONE) for group in seq(found.get("groups"))]
        rows.append(_row(totals, "total"))
        shown = [n for n in range(len(_HEADS)) if n in _ALWAYS or any(row[n] for row in rows)]
        heads = [context.args.by.upper(), *_HEADS[1:]]
        first, *rest = _aligned([[row[n] for n in shown] for row in (heads, *rows)])
        show.table(out, first, rest)
    if found.get("complete") is False:
        out.note("There are more groups than are shown; the total counts all. Show more with --limit.")
    if found.get("lag"):
        out.note(f"{found['lag']:,} groups of records are not counted yet.")


_HEADS = ("", "CALLS", "FAILED", "INPUT", "CACHED", "OUTPUT", "REASONING", "TOKENS", "COST", "UNKNOWN")
_ALWAYS = (0, 1, 7, 8)


def _row(group: dict[str, Any], name: str) -> list[str]:
    counts = ("calls", "failed", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "tokens")
    lost = group.get("unknown") or 0
    return [
        clean(name),
        *(f"{value:,}" if (value := group.get(count) or 0) or count in ("calls", "tokens") else "" for count in counts),
        f"${group.get('cost_usd', '0')}",
        f"{lost:,} calls, up to ${group.get('unknown_cost_usd', '0')}" if lost else "",
    ]


def _aligned(rows: list[list[str]]) -> list[list[str]]:
    """Put figures under each other by their last digit; the first column, and one that holds words, stay as they are."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    for n, column in enumerate(columns[1:], 1):
        if not any(" " in cell for cell in column):
            width = max(map(len, column))
            columns[n] = [cell.rjust(width) for cell in column]
    return [list(row) for row in zip(*columns, strict=True)]


def _show_calls(context: Context, page: Any) -> None:
    out, calls = context.out, items(page)
    if not calls:
        out.note("No calls.")
        return
    rows = [
        (
            show.ago(call.get("at")), clean(call.get("run")), clean(call.get("step")),
            clean(call.get("tool") or ":".join(filter(None, (call.get("provider"), call.get("model")))) or call.get("call")),
            clean(call.get("purpose") or show.NOTHING), clean(call.get("state")), f"{call.get('tokens') or 0:,}",
            f"${call.get('cost_usd', '0')}",
        )
        for call in calls
    ]  # fmt: skip
    show.table(out, ("WHEN", "RUN", "STEP", "CALLED", "PURPOSE", "STATE", "TOKENS", "COST"), rows)
    if cursor(page):
        out.note(f"More:  tenuto usage --calls --cursor {cursor(page)}")
