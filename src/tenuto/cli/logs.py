"""`logs stream`, and the line an event reads as."""

from __future__ import annotations

import json
import sys

from tenuto.cli import show
from tenuto.cli.follow import Follower, concerns, is_error
from tenuto.cli.out import clean
from tenuto.cli.runs import exit_code
from tenuto.cli.values import obj

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from tenuto.cli.context import Context
    from tenuto.cli.out import Out
    from tenuto.cli.parse import Parser

_COLOUR = {
    "completed": "green", "failed": "red", "dead_lettered": "red", "budget_exceeded": "red", "retrying": "yellow",
    "lost": "red", "diverged": "red", "unknown": "red", "waiting": "yellow", "opened": "yellow", "paused": "yellow",
    "skipped": "dim", "cancelled": "dim", "claimed": "dim", "started": "cyan", "lease_taken": "yellow",
    "applied": "green", "proposed": "yellow", "rejected": "red",
}  # fmt: skip
_TOLD = (
    "output",
    "message",
    "decision",
    "name",
    "reason",
    "worker",
    "kind",
    "workflow",
    "replay_of",
    "cap",
    "child",
    "count",
)
_LOG_FIELDS = ("level", "message", "attempt", "provisional", "logger")


def args_stream(parser: Parser) -> None:
    """Declare the options of `logs stream`."""
    parser.option("run", metavar="RUN", help="id of the run")
    parser.option("--node", metavar="N", help="only this node's steps")
    parser.option("--filter", choices=("all", "errors"), default="all", help="all, or only what went wrong")
    parser.option("--after", default="", metavar="ID", help="only what follows this event")


def do_stream(context: Context) -> int:
    """Follow a run to its end; exit code 1 unless it completed."""
    args = context.args

    def wanted(event: dict[str, Any]) -> bool:
        return (not args.node or concerns(event, args.node)) and (args.filter == "all" or is_error(event))

    writer = EventWriter(context.out)
    with writer:
        run = follow(
            context,
            args.run,
            after=args.after,
            tell=lambda event: writer.write(event) if wanted(event) else None,
        )
    if context.out.is_pretty:
        context.out.note(f"run {clean(run.get('status'))}")
    return exit_code(run)


def follow(
    context: Context, run_id: str, *, after: str = "", tell: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Give every event of a run to `tell` until the run has ended; return the run.

    Raises:
        KeyboardInterrupt: As pressed, after saying that the run itself goes on.
    """
    from time import sleep

    follower = Follower(context.client, run_id, after=after, notify=context.out.note, sleep=sleep)
    try:
        for event in follower:
            tell(event)
    except KeyboardInterrupt:
        context.out.note(f"\nNo longer following; the run goes on. Stop it:  tenuto run cancel {run_id}")
        raise
    return follower.run


def follow_to_end(context: Context, run_id: str) -> dict[str, Any]:
    """Show a run's events until it ends: a person reads them as the result, a program finds them on standard error."""
    out = context.out
    write = out.line if out.is_pretty else out.note
    return follow(context, run_id, tell=lambda event: write(line(out, event)))


class EventWriter:
    """Writes events as they come: lines, one JSON array, or one JSON object a line (compact)."""

    def __init__(self, out: Out) -> None:
        """Write nothing yet."""
        self._out = out
        self._is_first = True

    def __enter__(self) -> Self:
        """Open the array."""
        if self._out.mode == "json":
            self._put("[")
        return self

    def __exit__(self, *_: object) -> None:
        """Close the array, also when following was interrupted, so that what was written is valid."""
        if self._out.mode == "json":
            self._put("\n]\n" if not self._is_first else "]\n")

    def write(self, event: dict[str, Any]) -> None:
        """Write one event at once."""
        if self._out.is_pretty:
            self._out.line(line(self._out, event))
        elif self._out.mode == "compact":
            self._put(json.dumps(event, separators=(",", ":")) + "\n")
        else:
            self._put(("\n" if self._is_first else ",\n") + json.dumps(event))
        self._is_first = False

    def _put(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def line(out: Out, event: dict[str, Any]) -> str:
    """Return an event as one line: time, what, which step, and what is worth knowing."""
    kind = str(event.get("type", ""))
    data = obj(event.get("data"))
    colour = _COLOUR.get(kind.rpartition(".")[2])
    when = out.paint(show.clock(event.get("at") or event.get("time")), "dim")
    what = out.paint(f"{clean(kind):<20}", *((colour,) if colour else ()))
    step = clean(event.get("name") or event.get("step") or event.get("node") or "")
    return f"{when}  {what}  {step:<14}  {_about(kind, data)}".rstrip()


def _about(kind: str, data: dict[str, Any]) -> str:
    parts: list[str] = []
    if kind == "ticket.opened":
        return clean(
            f"{data.get('message') or data.get('kind', '')}  Decide:  tenuto approve {data.get('ticket')}"
        )
    if kind.startswith("patch."):
        from tenuto.cli.patch_show import summary

        parts = [clean(data.get("patch")), summary(data), show.brief(data.get("reason") or "", 70)]
        return "  ".join(part for part in parts if part)
    if kind == "call.delta":
        return clean(data.get("text"))
    if kind == "call.withdrawn":
        return clean(f"{data.get('call')}: what was said so far does not count")
    if kind == "step.log":
        level = "" if data.get("level") == "info" else f"{data.get('level')}: "
        rest = {name: value for name, value in data.items() if name not in _LOG_FIELDS}
        return clean(f"{level}{data.get('message')}") + "".join(f"  {clean(k)}={show.brief(v, 40)}" for k, v in rest.items())
    if data.get("error"):
        parts.append(show.failure(data["error"]))
    else:
        parts += [show.brief(data[name], 70) for name in _TOLD if data.get(name) not in (None, "", {}, [])][
            :2
        ]
    if kind == "step.retrying" and data.get("retry_at"):
        parts.append(f"again at {show.clock(data['retry_at'])}")
    if data.get("cache"):
        parts.append(show.cached(data["cache"]))
    if (data.get("attempt") or 1) > 1:
        parts.append(f"attempt {data['attempt']}")
    if data.get("took_ms"):
        parts.append(show.duration(data["took_ms"] / 1000))
    return "  ".join(part for part in parts if part)
