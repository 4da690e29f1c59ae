"""`budget list|set|clear|holds|settle`: caps that many runs share."""

from __future__ import annotations

from tenuto.cli import show
from tenuto.cli.client import path_of
from tenuto.cli.context import items
from tenuto.cli.errors import CliError
from tenuto.cli.out import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser

PERIODS = ("day", "month", "total")
HEADERS = ("SCOPE", "PERIOD", "LIMIT", "SPENT", "RESERVED", "UNKNOWN", "LEFT", "RESETS")


def args_list(parser: Parser) -> None:
    """Declare the options of `budget list`: none."""


def do_list(context: Context) -> int:
    """Show every cap with what counts under it."""
    return _shown(context, context.client.get("/budgets"))


def args_set(parser: Parser) -> None:
    """Declare the options of `budget set`."""
    parser.option("period", choices=PERIODS, help="day, month or total, in UTC")
    parser.option("usd", metavar="USD", help="the most that may be spent, in US dollars")
    parser.option("--project", metavar="NAME", help="only for runs labelled project=NAME")
    parser.option("--warn", type=int, metavar="PERCENT", help="when to warn (default: 80)")


def do_set(context: Context) -> int:
    """Set a cap; calls that wait for room ask again."""
    args = context.args
    body = {"scope": _scope(args.project), "period": args.period, "limit_usd_micros": micros(args.usd)}
    if args.warn is not None:
        body["warn_percent"] = args.warn
    return _shown(context, context.client.call("PUT", "/budgets", body))


def args_clear(parser: Parser) -> None:
    """Declare the options of `budget clear`."""
    parser.option("period", choices=PERIODS, help="day, month or total")
    parser.option("--project", metavar="NAME", help="the cap of this project")


def do_clear(context: Context) -> int:
    """Remove a cap."""
    args = context.args
    query = {"period": args.period, "scope": _scope(args.project)}
    return _shown(context, context.client.call("DELETE", "/budgets", query=query))


def args_holds(parser: Parser) -> None:
    """Declare the options of `budget holds`."""
    parser.option("--run", metavar="RUN", help="only this run's")
    parser.option("--lost", action="store_true", help="only calls whose outcome was lost")


def do_holds(context: Context) -> int:
    """List what is held for calls without a known outcome."""
    args, out = context.args, context.out
    page = context.client.get("/budgets/holds", {"run": args.run, "lost": "true" if args.lost else None})

    def pretty() -> None:
        rows = [
            (clean(hold.get("run")), str(hold.get("n")), clean(hold.get("step")), clean(hold.get("call")),
             usd(hold.get("usd_micros")), "lost" if hold.get("lost") else "under way", show.ago(hold.get("since")))
            for hold in items(page)
        ]  # fmt: skip
        show.table(out, ("RUN", "N", "STEP", "CALL", "HELD", "OUTCOME", "SINCE"), rows)
        out.note("Say what a lost one did cost:  tenuto budget settle RUN N USD" if rows else "Nothing is held.")

    out.result(page, pretty)
    return 0


def args_settle(parser: Parser) -> None:
    """Declare the options of `budget settle`."""
    parser.option("run", metavar="RUN", help="the run that made the call")
    parser.option("n", metavar="N", help="number of the hold")
    parser.option("usd", metavar="USD", help="what the provider's bill shows, 0 when the call was not made")


def do_settle(context: Context) -> int:
    """Say what a call with a lost outcome did cost."""
    args, out = context.args, context.out
    if not args.n.isdecimal():
        raise CliError(f"{args.n!r} is no number of a hold.", hint="See them:  tenuto budget holds")
    path = path_of("budgets", "holds", args.run, args.n, "settle")
    answer = context.client.post(path, {"cost_usd_micros": micros(args.usd)})
    out.result(answer, lambda: out.note(f"Call {args.n} of run {args.run} counts {usd(micros(args.usd))} from now on."))
    return 0


def micros(text: str) -> int:
    """Return US dollars as millionths, exactly.

    Raises:
        CliError: It is no amount, or finer than a millionth.
    """
    from decimal import Decimal, InvalidOperation

    try:
        amount = Decimal(text.removeprefix("$").replace("_", "")) * 1_000_000
    except InvalidOperation:
        raise CliError(f"{text!r} is no amount in US dollars; write 20 or 0.0125") from None
    if not amount.is_finite() or amount < 0 or amount != int(amount):
        raise CliError(f"{text!r} is not allowed; allowed: 0 or more, no finer than 0.000001")
    return int(amount)


def usd(value: Any) -> str:
    """Return millionths of a US dollar as dollars, to the last digit that counts."""
    if not isinstance(value, int):
        return show.NOTHING
    whole, _, cents = f"{value / 1_000_000:,.6f}".rstrip("0").partition(".")
    return f"${whole}.{cents.ljust(2, '0')}"


def _scope(project: str | None) -> str:
    return f"project:{project}" if project else ""


def _shown(context: Context, answer: Any) -> int:
    out = context.out

    def pretty() -> None:
        caps = [cap for cap in items(answer) if cap.get("limit") is not None or cap.get("spent") or cap.get("reserved")]
        show.table(out, HEADERS, [_row(cap) for cap in caps])
        waiting: list[dict[str, Any]] = answer.get("waiting") or []
        if waiting:
            out.note(f"{len(waiting)} calls wait for room, the first in run {clean(waiting[0].get('run'))}.")
        if not any(cap.get("limit") is not None for cap in caps):
            out.note("No caps are set.  Set one:  tenuto budget set day 20")

    out.result(answer, pretty)
    return 0


def _count(value: Any) -> str:
    return show.NOTHING if value is None else str(value)


def _row(cap: dict[str, Any]) -> tuple[str, ...]:
    amount = _count if cap.get("period") == "now" else usd
    return (
        clean(cap.get("scope") or "all runs"), clean(cap.get("period")), amount(cap.get("limit")), amount(cap.get("spent")),
        amount(cap.get("reserved")), amount(cap.get("unknown")), amount(cap.get("remaining")),
        show.ago(cap.get("resets_at")),
    )  # fmt: skip
