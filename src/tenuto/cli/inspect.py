"""`run why|steps|events|state|graph`: what a run is, was, and waits for."""

from __future__ import annotations

from tenuto.cli import logs, show
from tenuto.cli.client import path_of
from tenuto.cli.context import cursor, items
from tenuto.cli.out import clean
from tenuto.cli.runs import step_row
from tenuto.cli.values import obj, seq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser


def args_why(parser: Parser) -> None:
    """Declare the options of `run why`."""
    parser.option("run", metavar="RUN", help="id of the run")


def do_why(context: Context) -> int:
    """Say what a run waits for, since when, and who can move it."""
    found = context.client.get(path_of("runs", context.args.run, "why"))
    context.out.result(found, lambda: _show_why(context, found))
    return 0


def _show_why(context: Context, found: dict[str, Any]) -> None:
    out = context.out
    out.line(f"{show.status(out, found.get('status'))}  {clean(found.get('summary') or '')}".rstrip())
    if found.get("owner"):
        lease = f", lease ends {show.ago(found['lease_until'])}" if found.get("lease_until") else ""
        out.line(f"owned by {clean(found['owner'])}{lease}")
    if found.get("running"):
        out.line(f"running  {clean(', '.join(map(str, found['running'])))}")
    waits: list[dict[str, Any]] = found.get("waits") or found.get("waiting") or []
    for wait in waits:
        kind = wait.get("kind") or wait.get("what") or ""
        out.line()
        heading = " ".join(str(part) for part in (wait.get("title") or wait.get("step"), kind, wait.get("name")) if part)
        out.line(out.paint(clean(heading), "bold"))
        show.fields(
            out,
            [
                ("  what", clean(wait.get("message") or "")),
                ("  since", show.ago(wait["since"]) if wait.get("since") else ""),
                ("  until", show.ago(wait["until"]) if wait.get("until") else ""),
                ("  who", clean(wait.get("who") or "")),
                ("  next", clean(wait.get("hint") or _way_out(kind, wait, context.args.run))),
            ],
        )
    if not waits and not found.get("running") and not found.get("summary"):
        out.line("It waits for nothing.")


def _way_out(kind: str, wait: dict[str, Any], run_id: str) -> str:
    name = wait.get("name") or "NAME"
    return {
        "approval": f"tenuto approve {name}",
        "escalation": f"tenuto approve {name}",
        "review": f"tenuto approve {name}",
        "unknown_outcome": f"tenuto approve {name}",
        "funds": "tenuto budget set PERIOD USD",
        "signal": f"tenuto run signal {run_id} {name}",
        "paused": f"tenuto run resume {run_id}",
        "budget": f"tenuto run resume {run_id} --budget CAP=N",
        "dead_letter": f"tenuto deadletter list --run {run_id}",
        "child": f"tenuto run why {name}",
        "worker": "tenuto worker module:app",
    }.get(kind, "")


def args_steps(parser: Parser) -> None:
    """Declare the options of `run steps`."""
    parser.option("run", metavar="RUN", help="id of the run")
    parser.option("--node", metavar="N", help="only this node's steps")
    parser.option("--status", action="append", metavar="STATUS", help="only these; may be repeated")
    parser.option("--limit", type=int, default=100, metavar="N", help="how many (default: 100)")
    parser.option("--cursor", help="go on where another list ended")


def do_steps(context: Context) -> int:
    """List a run's steps."""
    args, out = context.args, context.out
    query = {"node": args.node, "status": args.status, "limit": args.limit, "cursor": args.cursor}
    page = context.client.get(path_of("runs", args.run, "steps"), query)

    def pretty() -> None:
        rows = [step_row(context, step) for step in items(page)]
        show.table(out, ("STEP", "STATUS", "TRY", "TOOK", "RESULT"), rows)
        _end_of_list(context, page, "No steps." if not rows else "")

    out.result(page, pretty)
    return 0


def args_events(parser: Parser) -> None:
    """Declare the options of `run events`."""
    parser.option("run", metavar="RUN", help="id of the run")
    parser.option("--after", metavar="ID", help="only what follows this event")
    parser.option("--node", metavar="N", help="only this node's steps")
    parser.option("--filter", choices=("all", "errors"), default="all", help="all, or only what went wrong")
    parser.option("--limit", type=int, default=100, metavar="N", help="how many (default: 100)")


def do_events(context: Context) -> int:
    """List what happened in a run so far, oldest first."""
    args, out = context.args, context.out
    errors = True if args.filter == "errors" else None
    query = {"after": args.after, "node": args.node, "errors": errors, "limit": args.limit}
    page = context.client.get(path_of("runs", args.run, "events"), query)

    def pretty() -> None:
        for event in items(page):
            out.line(f"{out.paint(clean(event.get('id', '')).ljust(6), 'dim')}  {logs.line(out, event)}")
        if cursor(page):
            out.note(f"More:  tenuto run events {args.run} --after {cursor(page)}")

    out.result(page, pretty)
    return 0


def args_state(parser: Parser) -> None:
    """Declare the options of `run state`."""
    parser.option("run", metavar="RUN", help="id of the run")
    parser.option("--at", type=int, metavar="SEQ", help="as of this record (default: the last)")


def do_state(context: Context) -> int:
    """Show a run's state as of a record."""
    args, out = context.args, context.out
    found = context.client.get(path_of("runs", args.run, "state"), {"at": args.at})
    out.result(found, lambda: out.json(found))
    return 0


def args_graph(parser: Parser) -> None:
    """Declare the options of `run graph`."""
    args_state(parser)


def do_graph(context: Context) -> int:
    """Show a run's graph with the states of its nodes."""
    args, out = context.args, context.out
    found = context.client.get(path_of("runs", args.run, "graph"), {"at": args.at})
    out.result(found, lambda: show_graph(context, found))
    return 0


def show_graph(context: Context, graph: dict[str, Any]) -> None:
    """Print a graph as a list of nodes, each with where its edges lead."""
    out = context.out
    nodes: list[dict[str, Any]] = graph.get("nodes") or []
    names = {node.get("id"): node.get("name") for node in nodes}
    ways: dict[str, list[str]] = {}
    for edge in map(obj, seq(graph.get("edges"))):
        condition = f" if {edge['when']}" if edge.get("when") else ""
        on = f" on {edge['on']}" if edge.get("on") not in (None, "", "success") else ""
        loop = " (back)" if edge.get("back") else ""
        to = names.get(edge.get("to")) or edge.get("to")
        ways.setdefault(str(edge.get("from")), []).append(clean(f"{to}{on}{condition}{loop}"))
    is_of_run = bool(graph.get("run"))
    rows = [
        (
            clean(node.get("name") or node.get("id")),
            clean(node.get("kind") or "function"),
            show.status(out, node.get("status")) if is_of_run else show.NOTHING,
            "; ".join(ways.get(str(node.get("id")), [])) or "(end)",
        )
        for node in nodes
    ]
    show.table(out, ("NODE", "KIND", "STATUS", "THEN"), rows)


def _end_of_list(context: Context, page: Any, empty: str) -> None:
    if empty:
        context.out.note(empty)
    if cursor(page):
        context.out.note(f"More: add --cursor {cursor(page)}")
