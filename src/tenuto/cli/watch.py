"""`watch`: a run's steps in a table that changes as they do, drawn from its events without polling."""

from __future__ import annotations

from tenuto.cli import logs, show
from tenuto.cli.out import clean
from tenuto.cli.runs import current, exit_code, show_run, step_row
from tenuto.cli.values import obj, seq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser

# What an event says about its step's status; events not named here change nothing in the table.
STEP_STATUS = {
    "step.started": "running", "step.completed": "completed", "step.replayed": "completed", "step.failed": "failed",
    "step.retrying": "retrying", "step.dead_lettered": "dead_letter", "step.skipped": "skipped",
    "step.cancelled": "cancelled", "step.waiting": "waiting", "step.wait_ended": "running", "step.lost": "retrying",
    "step.interrupted": "ready", "step.redriven": "ready", "step.map_opened": "running", "ticket.opened": "waiting",
}  # fmt: skip
RUN_STATUS = {
    "run.started": "running", "run.paused": "paused", "run.resumed": "running", "run.reopened": "running",
    "run.completed": "completed", "run.failed": "failed", "run.cancelled": "cancelled",
    "run.budget_exceeded": "budget_exceeded",
}  # fmt: skip


def args_watch(parser: Parser) -> None:
    """Declare the options of `watch`."""
    parser.option("run", metavar="RUN", help="id of the run")


def do_watch(context: Context) -> int:
    """Watch a run to its end; without a terminal, print its events as lines and the run at the end."""
    out, run_id = context.out, context.args.run
    if not out.is_terminal or not out.is_pretty:
        run = logs.follow_to_end(context, run_id)
        show_run(context, run)
        return exit_code(run)
    board = Board(context, current(context.client, run_id))
    board.draw()
    run = logs.follow(context, run_id, after=board.after, tell=board.take)
    board.erase()
    show_run(context, run)
    return exit_code(run)


class Board:
    """The table on the screen and the steps it shows."""

    def __init__(self, context: Context, run: dict[str, Any]) -> None:
        """Begin with a run as it reads now."""
        self._context = context
        self._run = run
        self._steps: dict[str, dict[str, Any]] = {
            str(step["id"]): step for step in map(obj, seq(run.get("steps")))
        }
        self._news = ""
        self._n_drawn = 0
        head = run.get("seq")
        # Everything up to the record the run was read at is on the board already. A run that has ended is
        # followed from its start instead, because its last record will not come again.
        self.after = str(head) if isinstance(head, int) and head and not run.get("finished_at") else ""

    def take(self, event: dict[str, Any]) -> None:
        """Change what an event changes, and draw."""
        kind, data = str(event.get("type", "")), obj(event.get("data"))
        self._run["status"] = RUN_STATUS.get(kind, self._run.get("status"))
        step_id = str(event.get("step") or "")
        if step_id and kind in STEP_STATUS:
            step = self._steps.setdefault(step_id, {"id": step_id, "name": event.get("name")})
            step["status"] = STEP_STATUS[kind]
            step["waiting_for"] = data if STEP_STATUS[kind] == "waiting" else None
            for name in ("error", "output", "attempt", "took_ms"):
                if name in data:
                    step[name] = data[name]
        self._news = fitted(logs.line(self._context.out, event), self._context.out.width())
        self.draw()

    def lines(self, height: int) -> list[str]:
        """Return what to show on a screen of that many lines: the steps that began last, when not all fit."""
        out, steps = self._context.out, list(self._steps.values())
        room = max(1, height - 6)
        counts = show.status(out, self._run.get("status"))
        head = f"{clean(self._run.get('workflow') or '')}  {clean(self._run.get('id') or '')}  {counts}"
        rows = [step_row(self._context, step) for step in steps[-room:]]
        hidden = [f"({len(steps) - room} earlier steps not shown)"] if len(steps) > room else []
        return [fitted(head, out.width()), "", *hidden, *_aligned(rows, out.width()), "", self._news]

    def draw(self) -> None:
        """Put the table in place of the one before."""
        import os

        out = self._context.out
        try:
            height = os.get_terminal_size().lines
        except OSError:
            height = 24
        lines = self.lines(height)
        self.erase()
        out.line("\n".join(lines))
        self._n_drawn = len(lines)

    def erase(self) -> None:
        """Take the table off the screen."""
        if self._n_drawn:
            print(f"\x1b[{self._n_drawn}A\x1b[J", end="", flush=True)
        self._n_drawn = 0


def fitted(text: str, width: int) -> str:
    """Return a line cut to the screen, colours kept: one that wraps would be one more to erase."""
    if not width or show.cells(text) < width:
        return text
    kept = ""
    for n, part in enumerate(text.split("\x1b[")):
        code, mark, words = part.partition("m") if n else ("", "", part)
        room = width - 1 - show.cells(kept)
        while words and show.cells(words) > room:
            words = words[: max(0, min(len(words) - 1, room))]
        kept += (f"\x1b[{code}{mark}" if n else "") + words
    return kept


def _aligned(rows: list[tuple[str, ...]], width: int) -> list[str]:
    if not rows:
        return ["no step has begun"]
    widths = [max(show.cells(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines: list[str] = []
    for row in rows:
        cells = [cell + " " * (wide - show.cells(cell)) for cell, wide in zip(row[:-1], widths, strict=True)]
        # A line that wraps would be one more line to erase.
        room = max(0, (width or 200) - sum(widths) - 2 * len(widths) - 1)
        lines.append("  ".join([*cells, row[-1][:room]]))
    return lines
