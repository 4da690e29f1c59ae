"""`workflow propose`, and the part of `patch list|show|approve|reject` that is about the runs to come."""

from __future__ import annotations

from tenuto.cli import show
from tenuto.cli.client import path_of
from tenuto.cli.context import items
from tenuto.cli.control import given
from tenuto.cli.out import clean
from tenuto.cli.patch_show import patch_lines, saving, summary
from tenuto.cli.values import is_object, obj

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser

PREFIX = "pp-"


def is_meant(args: Any) -> bool:
    """Return whether the arguments name a proposal."""
    return not args.patch and str(args.run).startswith(PREFIX)


def listed(context: Context) -> int:
    """List proposals for the runs to come, newest first."""
    args, out = context.args, context.out
    path = path_of("workflows", args.workflow, "proposals") if args.workflow else "/proposals"
    page = context.client.get(path, {"status": args.status})

    def pretty() -> None:
        rows = [
            (clean(one.get("id")), show.status(out, one.get("status")), clean(f"{one.get('workflow')}@{one.get('tag')}"),
             clean(one.get("by") or one.get("author")), show.ago(one.get("at")), saving(one.get("expected")) or show.NOTHING,
             clean(one.get("title") or "") or summary(one))
            for one in items(page)
        ]  # fmt: skip
        show.table(out, ("PROPOSAL", "STATUS", "WORKFLOW", "BY", "WHEN", "SAVES", "WHAT"), rows)
        out.note("Look at one:  tenuto patch show PROPOSAL" if rows else "No proposals.")

    out.result(page, pretty)
    return 0


def shown(context: Context) -> int:
    """Show a proposal: who, why, what it changes, what it is expected to save, and what it does."""
    args, out = context.args, context.out
    found = context.client.get(path_of("proposals", args.run))

    def pretty() -> None:
        for line in patch_lines(out, found):
            out.line(line)
        if found.get("status") == "proposed":
            out.note(f"\nDecide it:  tenuto patch approve|reject {args.run}")

    out.result(found, pretty)
    return 0


def decided(context: Context, decision: str, reason: str | None) -> int:
    """Decide a proposal."""
    args = context.args
    body = given(reason=reason, by=args.person, digest=args.digest)
    return told(context, context.client.post(path_of("proposals", args.run, decision), body))


def args_propose(parser: Parser) -> None:
    """Declare the options of `workflow propose`."""
    parser.option("name", metavar="NAME", help="name of the workflow")
    parser.option("file", metavar="FILE", help="JSON Patch operations as .json or .yaml (- for standard input)")
    parser.option("--base", metavar="VERSION", help="tag or digest it is made for (default: latest)")
    parser.option("--tag", metavar="TAG", help="the tag to move (default: latest)")
    parser.option("--title", help="what it is about, in a line")
    parser.option("--reason", help="why, for whoever decides")


def do_propose(context: Context) -> int:
    """Propose a change for the runs to come; exit code 2 when it cannot be applied, with every reason."""
    from tenuto.cli import inputs

    args = context.args
    document = inputs.read_document(args.file)
    parts: dict[str, Any] = dict(document) if is_object(document) else {"operations": document}
    parts.update(given(reason=args.reason, base=args.base, tag=args.tag, title=args.title))
    payload, kind = inputs.encode(parts)
    return told(context, context.client.post(path_of("workflows", args.name, "proposals"), payload, kind=kind))


def told(context: Context, found: Any) -> int:
    """Give a proposal as the result of a command: what it changes, and what comes next."""
    out, one = context.out, obj(found)
    name, status = clean(one.get("id")), one.get("status")

    def pretty() -> None:
        what = summary(one)
        out.line(f"proposal {name}: {show.status(out, status)}" + (f"  {what}" if what else ""))
        if status == "applied":
            out.note(clean(f"{one.get('workflow')}@{one.get('tag')} is {one.get('digest')}; runs started from now on go by it."))
        elif status == "proposed":
            out.note(f"A person decides it: {clean(one.get('asks'))}.\nDecide it:  tenuto patch approve|reject {name}")

    out.result(found, pretty)
    return 0
