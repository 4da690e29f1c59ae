"""`run diff`: two runs side by side."""

from __future__ import annotations

from tenuto.cli import show
from tenuto.cli.client import path_of
from tenuto.cli.out import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser


def args_diff(parser: Parser) -> None:
    """Declare the options of `run diff`."""
    parser.option("a", metavar="A", help="id of one run")
    parser.option("b", metavar="B", help="id of the other")


def do_diff(context: Context) -> int:
    """Show where two runs differ; that they do is no failure."""
    args = context.args
    found = context.client.get(path_of("runs", args.a, "diff"), {"with": args.b})
    context.out.result(found, lambda: _show(context, found))
    return 0


def _show(context: Context, found: dict[str, Any]) -> None:
    out = context.out
    n_same = found.get("n_same_steps") or 0
    if found.get("same"):
        out.line(f"The runs do not differ ({n_same} steps).")
        return
    rows = [
        (name, show.brief(pair[0], 60), show.brief(pair[1], 60))
        for name in ("status", "version", "input", "output", "duration_ms")
        if len(pair := found.get(name) or []) == 2 and pair[0] != pair[1]
    ]
    costs: dict[str, Any] = found.get("cost") or {}
    rows += [
        (cap, str(pair[0]), str(pair[1]))
        for cap, pair in costs.items()
        if len(pair) == 2 and pair[0] != pair[1]
    ]
    show.table(out, ("", f"A {clean(found.get('a', ''))}", f"B {clean(found.get('b', ''))}"), rows)
    _show_steps(context, found)
    routing: dict[str, Any] = found.get("routing") or {}
    for side, name in (("only_a", "A"), ("only_b", "B")):
        if routing.get(side):
            out.line(f"edges taken only in {name}:  {clean(', '.join(map(str, routing[side])))}")
    first = found.get("first")
    if first:
        out.line(f"first difference at step {out.paint(clean(first.get('step')), 'bold')}")
    out.line(f"{n_same} steps are the same")


def _show_steps(context: Context, found: dict[str, Any]) -> None:
    out = context.out
    steps: list[dict[str, Any]] = found.get("steps") or []
    if not steps:
        return
    rows: list[tuple[str, ...]] = []
    for step in steps:
        name = clean(step.get("step") or step.get("node"))
        fields: dict[str, Any] = step.get("fields") or {}
        if step.get("change") != "changed" or not fields:
            side = {"added": "only in B", "removed": "only in A"}.get(
                str(step.get("change")), clean(step.get("change"))
            )
            rows.append((name, side, "", ""))
        for field, pair in fields.items():
            rows.append((name, clean(field), show.brief(pair[0], 44), show.brief(pair[1], 44)))
            name = ""
    out.line()
    show.table(out, ("STEP", "WHAT", "A", "B"), rows)
    out.line()
