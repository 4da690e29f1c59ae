"""`optimize`: ask optimizers about a workflow or a run; `--gains` and `workflow stats` say what runs took and saved."""

from __future__ import annotations

from tenuto.cli import show
from tenuto.cli.client import path_of
from tenuto.cli.complain import entry_lines
from tenuto.cli.context import items
from tenuto.cli.control import given
from tenuto.cli.errors import CliError
from tenuto.cli.out import clean
from tenuto.cli.patch_show import difference_lines, gain_lines, saving
from tenuto.cli.values import is_object, obj, seq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tenuto.cli.context import Context
    from tenuto.cli.out import Out
    from tenuto.cli.parse import Parser

_BAD = ("stopped", "faulty")


def args_optimize(parser: Parser) -> None:
    """Declare the options of `optimize`."""
    parser.option("workflow", metavar="WORKFLOW", nargs="?", help="name of the workflow")
    parser.option("--run", metavar="RUN", help="ask about this run that goes on, instead of the runs to come")
    parser.option("--tag", metavar="TAG", help="which version, and the tag that proposals are to move (default: latest)")
    parser.option("--dry-run", action="store_true", help="only show what they suggest; nothing is stored")
    parser.option("--optimizer", action="append", metavar="NAME", help="only this one; may be repeated")
    parser.option("--gains", action="store_true", help="show what applied changes saved, and ask nobody")


def do_optimize(context: Context) -> int:
    """Ask optimizers and show what they suggest; exit code 1 when one of them failed."""
    args = context.args
    if bool(args.workflow) == bool(args.run):
        raise CliError("Name a workflow, or a run with --run.", hint="For example  tenuto optimize refund --dry-run")
    if args.gains:
        return _gains(context)
    body = given(dry_run=args.dry_run or None, optimizers=args.optimizer)
    if args.run:
        if args.tag:
            raise CliError("A run has one graph; --tag is for workflows.", hint="Leave --tag out.")
        found = context.client.post(path_of("runs", args.run, "optimize"), body)
    else:
        found = context.client.post(path_of("workflows", args.workflow, "optimize"), {**body, **given(tag=args.tag)})

    def pretty() -> None:
        for line in _said(context.out, obj(found)):
            context.out.line(line)
        _next(context, obj(found))

    context.out.result(found, pretty)
    return 1 if found.get("faults") else 0


def _said(out: Out, found: dict[str, Any]) -> Iterator[str]:
    own = found.get("observed") == found.get("version")
    what = "run" if found.get("run") else "workflow"
    yield clean(f"{what} {found.get('run') or found.get('workflow')}  {found.get('version')}")
    runs = found.get("runs") or 0
    of = "" if own or not runs else f" of its former version {clean(found.get('observed'))}"
    yield out.paint(f"{runs} ended run{'s' if runs != 1 else ''}{of} looked at", "dim")
    for one in map(obj, seq(found.get("suggestions"))):
        yield ""
        status = str(one.get("status"))
        title = clean(one.get("title") or one.get("rule"))
        yield f"{out.paint(title, 'bold')}  {show.status(out, status)}  {out.paint(clean(one.get('optimizer')), 'dim')}"
        if one.get("reason"):
            yield f"  {clean(one['reason'])}"
        yield f"  expected to save {saving(one.get('expected')) or 'nothing that is known'}"
        if one.get("evidence"):
            yield f"  evidence {show.brief(one['evidence'], 500)}"
        if one.get("note"):
            yield f"  {clean(one['note'])}"
        if one.get("asks"):
            yield f"  a person approves it: {clean(one['asks'])}"
        if is_object(one.get("difference")):
            yield from (f"  {line}" for line in difference_lines(out, obj(one["difference"])))
        for finding in seq(one.get("findings")):
            yield from (f"  {line}" for line in entry_lines(finding))
    faults = [one for one in map(obj, seq(found.get("optimizers"))) if one.get("status") != "answered"]
    for one in faults:
        yield ""
        colour = "red" if one.get("status") in _BAD else "yellow"
        why = f" ({clean(one['why'])})" if one.get("why") else ""
        head = f"optimizer {clean(one.get('name'))}: {clean(one.get('status'))}{why}"
        yield f"{out.paint(head, colour)}  {clean(one.get('message'))}"


def _next(context: Context, found: dict[str, Any]) -> None:
    """Say what comes next."""
    out, all_of = context.out, [obj(one) for one in seq(found.get("suggestions"))]
    waiting = [one for one in all_of if one.get("status") in ("proposed", "open")]
    if not all_of:
        out.note("\nNothing to improve was found.")
    elif found.get("dry_run"):
        again = f"--run {clean(found['run'])}" if found.get("run") else clean(found.get("workflow"))
        out.note(f"\nNothing was stored.  Propose it:  tenuto optimize {again}")
    elif waiting:
        name = clean(waiting[0].get("proposal"))
        out.note(f"\nDecide it:  tenuto patch approve|reject {name}")


def _gains(context: Context) -> int:
    """Show what applied changes of optimizers were expected to save, and what they do."""
    args, out = context.args, context.out
    if not args.workflow:
        raise CliError("Gains are those of a workflow.", hint="For example  tenuto optimize refund --gains")
    page = context.client.get(path_of("workflows", args.workflow, "gains"), {"tag": args.tag})

    def pretty() -> None:
        for at, gain in enumerate(items(page)):
            if at:
                out.line()
            out.line(f"{out.paint(clean(gain.get('title') or gain.get('rule')), 'bold')}  {clean(gain.get('proposal'))}")
            for line in gain_lines(out, gain):
                out.line(f"  {line}")
        if not items(page):
            out.note(f"No change of an optimizer was applied yet.  Ask them:  tenuto optimize {clean(args.workflow)} --dry-run")

    out.result(page, pretty)
    return 0


def args_stats(parser: Parser) -> None:
    """Declare the options of `workflow stats`."""
    parser.option("name", metavar="NAME", help="name of the workflow")
    parser.option("--version", metavar="VERSION", help="a tag or a digest (default: latest)")


def do_stats(context: Context) -> int:
    """Show what the newest ended runs of a version took, by node."""
    args, out = context.args, context.out
    found = context.client.get(path_of("workflows", args.name, "statistics"), {"version": args.version})

    def pretty() -> None:
        ended = (found.get("runs") or 0) + (found.get("failed") or 0)
        pairs = [
            ("workflow", clean(f"{found.get('workflow')} {found.get('number')}")), ("version", clean(found.get("version"))),
            ("runs", f"{found.get('runs')} completed, {found.get('failed')} failed (the newest {found.get('window')} at most)"),
            ("a run takes", f"{_ms(found.get('p50_ms'))} by the median, {_ms(found.get('p95_ms'))} at the 95th percentile"),
            ("steps a run", f"{found.get('steps'):.3g}"),
            ("requests a run", "" if found.get("requests") is None else f"{found['requests']:.3g}"),
            ("cost a run", f"{(found.get('cost_usd_micros') or 0) / 1_000_000:.6f} USD"),
        ]
        show.fields(out, pairs if ended else pairs[:3])
        rows = [
            (clean(one.get("node")), clean(one.get("kind") or show.NOTHING),
             *(str(one.get(name)) for name in ("completed", "reused", "failed", "skipped", "retried")),
             _ms(one.get("p50_ms")), _ms(one.get("p95_ms")), f"{(one.get('cost_usd_micros') or 0) / 1_000_000:.6f}")
            for one in map(obj, seq(found.get("nodes")))
        ]  # fmt: skip
        if rows:
            out.line()
            head = ("NODE", "KIND", "DONE", "CACHED", "FAILED", "SKIPPED", "RETRIED", "MEDIAN", "95 %", "USD")
            show.table(out, head, rows)

    out.result(found, pretty)
    return 0


def _ms(value: Any) -> str:
    return f"{value:.0f} ms" if isinstance(value, int | float) else show.NOTHING
