"""`services`, `prune` and `version`."""

from __future__ import annotations

from tenuto import __version__
from tenuto.cli import inputs, show
from tenuto.cli.errors import CliError
from tenuto.cli.out import clean
from tenuto.cli.values import loads, obj

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.context import Context
    from tenuto.cli.out import Out
    from tenuto.cli.parse import Parser


def args_services(parser: Parser) -> None:
    """Declare the options of `services`."""
    parser.option("--refresh", action="store_true", help="look at everything outside now")


def do_services(context: Context) -> int:
    """Show the store, the workers and what they reach outside: its state, the reason, and who saw it when.

    Where processes see it differently, each has a line.
    """
    out = context.out
    found = context.client.post("/services/refresh") if context.args.refresh else context.client.get("/services")

    def pretty() -> None:
        rows = [row for item in map(obj, found.get("items") or []) for row in _service_rows(out, item)]
        show.table(out, ("KIND", "NAME", "STATUS", "CHECKED", "BY", "REASON"), rows)
        late = list(map(clean, found.get("unanswered") or []))
        if late:
            out.line(f"asked to look again, and not done yet: {', '.join(late)}")

    out.result(found, pretty)
    return 0


def _service_rows(out: Out, item: dict[str, Any]) -> list[tuple[str, ...]]:
    details = obj(item.get("details"))
    kind, name = clean(item.get("category")), clean(item.get("name"))
    seen = list(map(obj, details.get("seen_by") or []))
    if not seen:
        why = clean(details.get("problem") or "")
        return [(kind, name, show.status(out, item.get("status")), show.NOTHING, show.NOTHING, why)]
    if len({str(one.get("status")) for one in seen}) > 1:
        return [
            (
                kind, name, show.status(out, one.get("status")), show.ago(one.get("checked_at")),
                clean(one.get("process")), clean(one.get("reason") or ""),
            ) for one in seen
        ]  # fmt: skip
    by = clean(seen[0].get("process")) if len(seen) == 1 else f"{len(seen)} processes"
    return [(
        kind, name, show.status(out, item.get("status")), show.ago(details.get("checked_at")), by,
        clean(details.get("reason") or ""),
    )]  # fmt: skip


def args_prune(parser: Parser) -> None:
    """Declare the options of `prune`."""
    parser.option(
        "--before", required=True, metavar="WHEN", help="a date such as 2030-01-31, or an age such as 30d"
    )


def do_prune(context: Context) -> int:
    """Delete runs that ended before a moment, until none is left."""
    out = context.out
    before = inputs.instant(context.args.before, "--before", sign=-1)
    total = 0
    while True:  # the server deletes a part at a time, so that no request takes long
        answer = context.client.post("/runs/prune", {"before": before})
        deleted = int(obj(answer).get("deleted") or 0)
        total += deleted
        if not deleted:
            break
    done = f"{total:,} runs that ended before {before} deleted"
    out.result({"deleted": total, "before": before}, lambda: out.line(done))
    return 0


def args_version(parser: Parser) -> None:
    """Declare the options of `version`: there are none of its own."""
    del parser


def do_version(context: Context) -> int:
    """Show this version, and the server's where one answers."""
    out = context.out
    versions: dict[str, Any] = {"cli": __version__, "server": None}
    try:
        answer = context.client.open("GET", "/openapi.json", timeout_s=5)
        versions["server"] = obj(obj(loads(answer.read())).get("info")).get("version")
    except (CliError, ValueError):
        pass  # which version this is can be told without a server
    out.result(versions, lambda: _show_version(context, versions))
    return 0


def _show_version(context: Context, versions: dict[str, Any]) -> None:
    context.out.line(f"tenuto {versions['cli']}")
    if versions["server"]:
        context.out.line(f"server {clean(versions['server'])}")
