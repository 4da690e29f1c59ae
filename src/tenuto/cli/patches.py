"""`patch propose|list|show|approve|reject|undo|redo|graph`: changes of a run's graph while it runs.

Proposals for the runs to come are listed, shown and decided by the same words (`proposals`); ids say which is which.
"""

from __future__ import annotations

from tenuto.cli import proposals, show
from tenuto.cli.client import path_of
from tenuto.cli.context import items
from tenuto.cli.control import given
from tenuto.cli.errors import CliError
from tenuto.cli.out import clean
from tenuto.cli.patch_show import patch_lines, summary
from tenuto.cli.values import is_object, obj, seq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser


def args_propose(parser: Parser) -> None:
    """Declare the options of `patch propose`."""
    parser.option("run", metavar="RUN", help="id of the run")
    parser.option("file", metavar="FILE", help="JSON Patch operations as .json or .yaml (- for standard input)")
    parser.option("--reason", help="why, for whoever looks at it")
    parser.option("--base", metavar="DIGEST", help="graph it is made for (default: the newest)")
    parser.option("--idempotency-key", metavar="KEY", help="the same key proposes once only")


def do_propose(context: Context) -> int:
    """Propose a change of a run's graph; exit code 2 when it cannot be applied, with every reason."""
    from tenuto.cli import inputs

    args = context.args
    document = inputs.read_document(args.file)
    parts: dict[str, Any] = dict(document) if is_object(document) else {"operations": document}
    parts.update(given(reason=args.reason, base_digest=args.base))
    if "base_digest" not in parts:
        parts["base_digest"] = context.client.get(path_of("runs", args.run, "patches", "graph"))["digest"]
    payload, kind = inputs.encode(parts)
    made = context.client.post(path_of("runs", args.run, "patches"), payload, key=args.idempotency_key, kind=kind)
    return _told(context, made)


def args_list(parser: Parser) -> None:
    """Declare the options of `patch list`."""
    parser.option("run", metavar="RUN", nargs="?", help="id of the run; without it, proposals for the runs to come")
    parser.option("--workflow", metavar="NAME", help="proposals for the runs to come of this workflow")
    parser.option("--status", action="append", metavar="STATUS",
                  help="open, invalid, applied or rejected; of proposals: proposed, stale, …; may be repeated")


def do_list(context: Context) -> int:
    """List the patches of a run, oldest first, refused ones too; or proposals for the runs to come, newest first."""
    args, out = context.args, context.out
    if not args.run:
        return proposals.listed(context)
    if args.workflow:
        raise CliError("A run and --workflow exclude each other.", hint="Name one of the two.")
    page = context.client.get(path_of("runs", args.run, "patches"), {"status": args.status})

    def pretty() -> None:
        rows = [
            (clean(patch.get("id")), show.status(out, patch.get("status")), clean(patch.get("number") or show.NOTHING),
             clean(patch.get("by") or patch.get("author")), show.ago(patch.get("at")), summary(patch))
            for patch in items(page)
        ]  # fmt: skip
        show.table(out, ("PATCH", "STATUS", "GRAPH", "BY", "WHEN", "WHAT"), rows)
        out.note(f"Look at one:  tenuto patch show {args.run} PATCH" if rows else "No patches.")

    out.result(page, pretty)
    return 0


def _one(parser: Parser) -> None:
    parser.option("run", metavar="RUN", help="id of the run; not needed for a proposal (pp-…), nor for a patch that is open")
    parser.option("patch", metavar="PATCH", nargs="?", help="id of the patch or proposal")


def _place(context: Context) -> tuple[str, str]:
    """Return the run and the patch that are meant; the run of an open patch is found by its ticket.

    Raises:
        CliError: Nobody is asked about a patch of that name.
    """
    args = context.args
    if args.patch:
        return args.run, args.patch
    page = context.client.get("/tickets", {"kind": "patch", "state": "open", "limit": 1000})
    for ticket in map(obj, items(page)):
        if obj(ticket.get("data")).get("patch") == args.run:
            return str(ticket.get("run")), str(args.run)
    raise CliError(f"No open patch has the id {args.run}.", hint=f"Name its run too:  RUN {args.run}")


def args_show(parser: Parser) -> None:
    """Declare the options of `patch show`."""
    _one(parser)


def do_show(context: Context) -> int:
    """Show a patch: who, why, what it changes, and what is wrong with it."""
    args, out = context.args, context.out
    if proposals.is_meant(args):
        return proposals.shown(context)
    run, name = _place(context)
    patch = context.client.get(path_of("runs", run, "patches", name))

    def pretty() -> None:
        for line in patch_lines(out, patch):
            out.line(line)
        if patch.get("status") in ("open", "invalid"):
            out.note(f"\nDecide it:  tenuto patch approve|reject {run} {name}")

    out.result(patch, pretty)
    return 0


def args_approve(parser: Parser) -> None:
    """Declare the options of `patch approve`."""
    _one(parser)
    parser.option("--reason", help="why, for the journal")
    parser.option("--as", dest="person", metavar="NAME", help="decide as this person")
    parser.option("--digest", metavar="DIGEST", help="of proposals: the version it was seen to lead to; refused if elsewhere")


def do_approve(context: Context) -> int:
    """Approve a patch; exit code 1 when the run has overtaken it meanwhile."""
    return _decided(context, "approve", context.args.reason)


def args_reject(parser: Parser) -> None:
    """Declare the options of `patch reject`."""
    args_approve(parser)


def do_reject(context: Context) -> int:
    """Turn a patch down; it has no effect."""
    args = context.args
    if not (args.reason or "").strip():
        words = f"{args.run} {args.patch}" if args.patch else args.run
        hint = f'For example  tenuto patch reject {words} --reason "too much at once"'
        raise CliError("A rejection needs a reason.", hint=hint)
    return _decided(context, "reject", args.reason)


def _decided(context: Context, decision: str, reason: str | None) -> int:
    args = context.args
    if proposals.is_meant(args):
        return proposals.decided(context, decision, reason)
    run, name = _place(context)
    body = {"decision": decision, **given(reason=reason, by=args.person)}
    patch = context.client.post(path_of("runs", run, "patches", name, "decision"), body)
    code = _told(context, patch)
    return 1 if decision == "approve" and obj(patch).get("status") == "rejected" else code


def _back(parser: Parser) -> None:
    parser.option("run", metavar="RUN", help="id of the run")
    parser.option("--reason", help="why, for the journal")


def args_undo(parser: Parser) -> None:
    """Declare the options of `patch undo`."""
    _back(parser)


def do_undo(context: Context) -> int:
    """Take back the newest patch in force."""
    args = context.args
    return _told(context, context.client.post(path_of("runs", args.run, "patches", "undo"), given(reason=args.reason)))


def args_redo(parser: Parser) -> None:
    """Declare the options of `patch redo`."""
    _back(parser)


def do_redo(context: Context) -> int:
    """Bring back the patch taken back last."""
    args = context.args
    return _told(context, context.client.post(path_of("runs", args.run, "patches", "redo"), given(reason=args.reason)))


def _told(context: Context, patch: dict[str, Any]) -> int:
    """Give a patch as the result of a command: what it changes, and what comes next."""
    out = context.out
    run, name, status = patch.get("run"), clean(patch.get("id")), patch.get("status")

    def pretty() -> None:
        what = summary(patch)
        out.line(f"patch {name}: {show.status(out, status)}" + (f"  {what}" if what else ""))
        if status == "applied" and patch.get("number"):
            out.note(f"The run goes by graph {clean(patch['number'])} from here on.")
        elif status == "open":
            out.note(f"A person decides it: {clean(patch.get('asks'))}.\nDecide it:  tenuto patch approve {clean(run)} {name}")
        elif status == "sent":
            out.note(f"The run has not looked at it yet.  See:  tenuto patch show {clean(run)} {name}")

    out.result(patch, pretty)
    return 0


def args_graph(parser: Parser) -> None:
    """Declare the options of `patch graph`."""
    parser.option("run", metavar="RUN", help="id of the run")


def do_graph(context: Context) -> int:
    """Show what of a run's graph may be patched."""
    args, out = context.args, context.out
    found = context.client.get(path_of("runs", args.run, "patches", "graph"))

    def pretty() -> None:
        left = obj(found.get("left"))
        limits = ", ".join(f"{left[name]} {name}" for name in ("agents", "nodes", "patches") if name in left)
        pairs = [("graph", f"{clean(found.get('number'))}  {clean(found.get('digest'))}"), ("may be added", clean(limits))]
        show.fields(out, pairs)
        out.line()
        over, begun = set(map(str, seq(found.get("over")))), set(map(str, seq(found.get("begun"))))
        rows = [_node(found, obj(node), over, begun) for node in seq(found.get("nodes"))]
        show.table(out, ("NODE", "KIND", "OPEN", "THEN"), rows)
        out.note(f"Change it:  tenuto patch propose {args.run} FILE")

    out.result(found, pretty)
    return 0


def _node(found: dict[str, Any], node: dict[str, Any], over: set[str], begun: set[str]) -> tuple[str, ...]:
    name = str(node.get("id"))
    fixed = "nothing: it is over" if name in over else "edges from it" if name in begun else "all"
    then = [str(edge.get("to")) for edge in map(obj, seq(found.get("edges"))) if edge.get("from") == name]
    return clean(name), clean(node.get("kind")), fixed, clean("; ".join(then)) or "(end)"
