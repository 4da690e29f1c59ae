"""`run list` and `run status`, and how a run reads to a person."""

from __future__ import annotations

from tenuto.cli import show
from tenuto.cli.client import path_of
from tenuto.cli.context import Context, cursor, items
from tenuto.cli.out import clean
from tenuto.cli.values import is_object, obj

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.client import Client
    from tenuto.cli.parse import Parser

TERMINAL = ("completed", "failed", "cancelled", "budget_exceeded")
STATUSES = ("queued", "running", "waiting", "paused", *TERMINAL)
_WAIT_S = 25
_STEPS_SHOWN = 50


def args_list(parser: Parser) -> None:
    """Declare the options of `run list`."""
    parser.option("--status", action="append", choices=STATUSES, help="only these; may be repeated")
    parser.option("--workflow", metavar="NAME", help="only runs of this workflow")
    parser.option(
        "--label", action="append", metavar="K=V", help="only runs with this label; may be repeated"
    )
    parser.option("--replay-of", metavar="RUN", help="only replays of this run")
    parser.option("--search", metavar="TEXT", help="only runs whose goal or name has this text")
    parser.option("--limit", type=int, default=20, metavar="N", help="how many (default: 20)")
    parser.option("--cursor", metavar="CURSOR", help="go on where another list ended")


def do_list(context: Context) -> int:
    """List runs, newest first."""
    args, out = context.args, context.out
    query = {
        "status": args.status, "workflow": args.workflow, "replay_of": args.replay_of, "q": args.search,
        "label": args.label, "limit": args.limit, "cursor": args.cursor,
    }  # fmt: skip
    page = context.client.get("/runs", query)
    out.result(page, lambda: _show_list(context, page))
    return 0


def _show_list(context: Context, page: Any) -> None:
    args, out, runs = context.args, context.out, items(page)
    if not runs:
        if args.status or args.workflow or args.label or args.replay_of or args.search or args.cursor:
            out.note("No runs match.")
        else:
            out.note('No runs yet. Start one:\n  tenuto run start triage --input \'{"intent": "refund"}\'')
        return
    rows = [_row(context, run) for run in runs]
    show.table(out, ("RUN", "STATUS", "WORKFLOW", "CREATED", "TOOK", "ABOUT"), rows)
    if cursor(page):
        out.note(f"More:  tenuto run list --cursor {cursor(page)}")


def _row(context: Context, run: dict[str, Any]) -> tuple[str, ...]:
    labels = " ".join(f"{key}={value}" for key, value in obj(run.get("labels")).items())
    about = (
        run.get("error")
        or run.get("goal")
        or (f"replay of {run['replay_of']}" if run.get("replay_of") else labels)
    )
    return (
        clean(run["id"]),
        show.status(context.out, run.get("status")),
        clean(run.get("workflow") or show.NOTHING),
        show.ago(run.get("created_at")),
        show.span(run.get("started_at"), run.get("finished_at")) or show.NOTHING,
        show.brief(show.failure(about)) if about else "",
    )


def args_status(parser: Parser) -> None:
    """Declare the options of `run status`."""
    parser.option("run", metavar="RUN", help="id of the run")
    parser.option("--wait", action="store_true", help="wait until it ends; exit code 1 if it fails")


def do_status(context: Context) -> int:
    """Show one run; after `--wait` the exit code is the run's."""
    args = context.args
    if args.wait:
        run = wait_for_end(context, args.run)
        show_run(context, run)
        return exit_code(run)
    show_run(context, context.client.get(path_of("runs", args.run)))
    return 0


def wait_for_end(context: Context, run_id: str) -> dict[str, Any]:
    """Return the run once it has ended; tells once when it waits for somebody."""
    told = False
    while True:
        run = context.client.get(path_of("runs", run_id), {"wait": _WAIT_S})
        if run.get("status") in TERMINAL:
            return run
        if run.get("status") in ("waiting", "paused") and not told:
            told = True
            context.out.note(f"{run['status']}; see:  tenuto run why {run_id}")


def current(client: Client, run_id: str) -> dict[str, Any]:
    """Return a run as it stands."""
    return client.get(path_of("runs", run_id))


def exit_code(run: dict[str, Any]) -> int:
    """Return 0 for a run that completed and 1 for any other end."""
    return 0 if run.get("status") == "completed" else 1


def show_run(context: Context, run: dict[str, Any]) -> None:
    """Give a run as the result."""
    context.out.result(run, lambda: _show_run(context, run))


def _show_run(context: Context, run: dict[str, Any]) -> None:
    out = context.out
    version = clean(run.get("version") or "")
    labels = ", ".join(f"{key}={value}" for key, value in obj(run.get("labels")).items())
    origin = run.get("replay_of") or ""
    if origin and run.get("from_step") not in (None, ""):
        origin = f"{origin} from {run['from_step']}"
    pairs = [
        ("run", clean(run["id"])),
        ("status", show.status(out, run.get("status"))),
        (
            "workflow",
            f"{clean(run.get('workflow') or show.NOTHING)} {out.paint(version[:19], 'dim')}".rstrip(),
        ),
        ("goal", clean(run.get("goal") or "")),
        ("replay of", clean(origin)),
        ("mode", clean(run.get("mode") or "")),
        ("labels", clean(labels)),
        ("created", show.ago(run.get("created_at"))),
        ("took", show.span(run.get("started_at"), run.get("finished_at"))),
        ("budget", budget_text(obj(run.get("budget")))),
        ("waits for", waiting_text(run.get("waiting_for"))),
        ("error", out.paint(show.failure(run.get("error")), "red")),
    ]
    show.fields(out, pairs)
    steps: list[dict[str, Any]] = run.get("steps") or []
    if steps:
        out.line()
        show.table(
            out,
            ("STEP", "STATUS", "TRY", "TOOK", "RESULT"),
            [step_row(context, s) for s in steps[:_STEPS_SHOWN]],
        )
        total = max(run.get("n_steps") or 0, len(steps))
        if total > _STEPS_SHOWN:
            out.line(f"{total - _STEPS_SHOWN} more:  tenuto run steps {run['id']}")
    if run.get("output") is not None:
        out.line()
        show.block(out, "output", run["output"])
    _show_next(context, run)


def step_row(context: Context, step: dict[str, Any]) -> tuple[str, ...]:
    """Return a step as a row of a table."""
    result = show.failure(step.get("error")) or waiting_text(step.get("waiting_for"))
    counts = step.get("items")
    if not result and counts:
        result = f"{counts.get('done', 0)} of {counts.get('count', 0)} items"
    if not result and step.get("output") is not None:
        result = show.brief(step["output"], 60)
    took = show.duration(step["took_ms"] / 1000) if step.get("took_ms") else ""
    state, known = show.status(context.out, step.get("status")), show.cached(step.get("cache"))
    return (
        clean(step.get("name") or step.get("id") or step.get("node")),
        f"{state} (reused)" if step.get("reused") else f"{state} ({known})" if known else state,
        str(step.get("attempt") or show.NOTHING),
        took or show.span(step.get("started_at"), step.get("finished_at")) or show.NOTHING,
        result,
    )


def waiting_text(wait: Any) -> str:
    """Return in a few words what is waited for."""
    if not is_object(wait):
        return clean(wait) if wait else ""
    fields = wait
    text = fields.get("message") or " ".join(
        str(fields[part]) for part in ("kind", "name") if fields.get(part)
    )
    until = f", until {show.ago(fields['until'])}" if fields.get("until") else ""
    return clean(f"{text}{until}")


def budget_text(budget: dict[str, Any]) -> str:
    """Return what was spent of each cap."""
    limits, spent = obj(budget.get("limits")), obj(budget.get("spent"))
    parts: list[str] = []
    for cap in ("tokens", "tool_calls", "cost_usd_micros", "wall_clock_s"):
        limit, used = limits.get(cap), spent.get(cap) or 0
        if limit is None and (not used or cap == "wall_clock_s"):
            continue
        of = f" of {amount(cap, limit)}" if limit is not None else ""
        name = "" if cap == "cost_usd_micros" else f" {cap_name(cap)}"
        parts.append(f"{amount(cap, used)}{of}{name}")
    return ", ".join(parts)


def cap_name(cap: str) -> str:
    """Return a cap's name as a person says it."""
    names = {"cost_usd_micros": "cost", "wall_clock_s": "seconds"}
    return names.get(cap) or clean(cap).replace("_", " ")


def amount(cap: str, value: Any) -> str:
    """Return an amount of a budget as a person writes it."""
    if cap == "cost_usd_micros":
        return f"${value / 1_000_000:,.4f}"
    return f"{value:,.0f}" if isinstance(value, int | float) else clean(value)


def _show_next(context: Context, run: dict[str, Any]) -> None:
    run_id, status = run["id"], run.get("status")
    hints = {
        "waiting": f"Why:  tenuto run why {run_id}",
        "paused": f"Go on:  tenuto run resume {run_id}",
        "failed": f"Failed steps:  tenuto deadletter list --run {run_id}",
        "budget_exceeded": f"Raise the cap:  tenuto run resume {run_id} --budget tokens=...",
    }
    if status in hints:
        context.out.note(f"\n{hints[status]}")
