"""`cache stats|invalidate`: kept results of steps."""

from __future__ import annotations

from tenuto.cli import show
from tenuto.cli.out import clean
from tenuto.cli.values import seq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser

HEADERS = ("WORKFLOW", "NODE", "HITS", "JOINED", "MISSES", "STORED", "SAVED", "COST SAVED", "ENTRIES", "BYTES")


def args_stats(parser: Parser) -> None:
    """Declare the options of `cache stats`."""
    parser.option("--workflow", metavar="NAME", help="only this workflow")
    parser.option("--node", metavar="NODE", help="only this node")


def do_stats(context: Context) -> int:
    """Show what the cache saved, by node, and what it keeps."""
    args, out = context.args, context.out
    found = context.client.get("/cache/stats", {"workflow": args.workflow, "node": args.node})

    def pretty() -> None:
        nodes = seq(found.get("nodes"))
        rows = [_row(node) for node in nodes]
        if len(rows) > 1:
            rows.append(_row({**(found.get("totals") or {}), "workflow": "total"}))
        show.table(out, HEADERS, rows)
        if not rows:
            out.note("No step has asked for the cache. Let a pure step do so:  cache: read_through")
        if found.get("trouble"):
            out.note(clean(found["trouble"]))

    out.result(found, pretty)
    return 0


def args_invalidate(parser: Parser) -> None:
    """Declare the options of `cache invalidate`."""
    parser.option("--key", metavar="KEY", help="the result under this key, as the journal says")
    parser.option("--workflow", metavar="NAME", help="results of this workflow")
    parser.option("--node", metavar="NODE", help="results of this node")
    parser.option("--all", action="store_true", help="every result")


def do_invalidate(context: Context) -> int:
    """Forget kept results."""
    args, out = context.args, context.out
    query = {"key": args.key, "workflow": args.workflow, "node": args.node, "all": "true" if args.all else None}
    found = context.client.call("DELETE", "/cache", query=query)
    count = found.get("entries", 0)
    out.result(found, lambda: out.note(f"{count:,} result{'' if count == 1 else 's'} forgotten."))
    return 0


def _row(node: dict[str, Any]) -> tuple[str, ...]:
    usd = (node.get("saved_usd_micros") or 0) / 1_000_000
    return (
        clean(node.get("workflow")), clean(node.get("node") or ""),
        *(f"{node.get(name) or 0:,}" for name in ("hits", "joined", "misses", "stored")),
        show.duration((node.get("saved_ms") or 0) / 1000), f"${usd:,.4f}" if usd else "",
        *(f"{node.get(name) or 0:,}" for name in ("entries", "bytes")),
    )  # fmt: skip
