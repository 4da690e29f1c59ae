"""How an error reads: to a person what, where and what next; to a program one JSON object on standard error."""

from __future__ import annotations

from tenuto.cli.errors import ApiError, CliError
from tenuto.cli.out import Out, clean
from tenuto.cli.values import is_list, is_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def complain(out: Out, error: CliError) -> None:
    """Write an error to standard error in the form the invocation asked for."""
    if out.is_pretty:
        for line in _lines(out, error):
            out.note(line)
        return
    import json

    told: dict[str, Any] = {"title": error.message}
    if isinstance(error, ApiError):
        told = {**error.problem, "status": error.status}
    if error.hint:
        told["hint"] = error.hint
    out.note(json.dumps({"error": told}))


def _lines(out: Out, error: CliError) -> list[str]:
    lines: list[str] = []
    label = out.paint_note("error:", "red", "bold")
    if not isinstance(error, ApiError):
        lines.append(f"{label} {clean(error.message)}")
    else:
        problem = error.problem
        code = problem.get("code")
        tail = f"({error.status}{f' {code}' if code else ''})"
        lines.append(f"{label} {clean(error.message)} {out.paint_note(clean(tail), 'dim')}")
        entries: list[Any] = problem.get("errors") or problem.get("problems") or []
        if problem.get("detail") and not entries:
            lines.append(f"  {clean(problem['detail'])}")
        lines += [line for entry in entries for line in entry_lines(entry)]
        close = problem.get("nearest") or problem.get("nearest_match")
        if close and "did you mean" not in error.message:
            close = ", ".join(map(str, close)) if is_list(close) else close
            lines.append(f"  Did you mean {clean(close)}?")
        if error.status >= 500 and problem.get("request_id"):
            lines.append(f"  request {clean(problem['request_id'])}")
    if error.hint:
        lines.append(f"  {clean(error.hint)}")
    return lines


def entry_lines(entry: Any) -> list[str]:
    """Return one fault of a document as lines: its place, what is wrong, what to do."""
    if not is_object(entry):
        return [f"  - {clean(entry)}"]
    fault = entry
    place = fault.get("place") or fault.get("path") or "/"
    lines = [f"  - {clean(place)}: {clean(fault.get('message', ''))}"]
    if fault.get("hint"):
        lines.append(f"      {clean(fault['hint'])}")
    return lines
