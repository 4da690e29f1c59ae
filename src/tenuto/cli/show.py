"""How values read to a person: tables, ages, durations, states in colour."""

from __future__ import annotations

from tenuto.cli.out import Out, clean
from tenuto.cli.values import is_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import Any

NOTHING = "-"
_COLOURS = {
    "completed": "green", "approved": "green", "applied": "green", "ready": "blue", "published": "green",
    "running": "cyan", "queued": "blue", "retrying": "yellow", "waiting": "yellow", "paused": "yellow", "open": "yellow",
    "failed": "red", "dead_letter": "red", "dead_lettered": "red", "budget_exceeded": "red", "rejected": "red", "invalid": "red",
    "online": "green", "degraded": "yellow", "offline": "red", "unknown": "dim",
    "cancelled": "dim", "skipped": "dim", "blocked": "dim", "retired": "dim", "reused": "dim",
}  # fmt: skip


def colour_of(status: object) -> tuple[str, ...]:
    """Return the colour a status is shown in, if it has one."""
    colour = _COLOURS.get(str(status))
    return (colour,) if colour else ()


def status(out: Out, value: object) -> str:
    """Return a status in its colour."""
    return out.paint(clean(value or NOTHING), *colour_of(value))


def moment(value: Any) -> datetime | None:
    """Read a time as the API writes it: ISO 8601 text, or milliseconds since 1970."""
    from datetime import UTC, datetime

    if isinstance(value, int | float) and value:
        return datetime.fromtimestamp(value / 1000, UTC)
    if not isinstance(value, str) or not value:
        return None
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def ago(value: Any, now: datetime | None = None) -> str:
    """Return how long ago, or in how long, a time is; `-` when there is none."""
    from datetime import UTC, datetime

    at = moment(value)
    if at is None:
        return clean(value) if value else NOTHING
    seconds = ((now or datetime.now(UTC)) - at).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{rough(seconds)} ago" if seconds > 0 else f"in {rough(-seconds)}"


def rough(seconds: float) -> str:
    """Return a span in its largest unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def span(start: Any, end: Any) -> str:
    """Return how long something took, or an empty string while either end is unknown."""
    first, last = moment(start), moment(end)
    if first is None or last is None:
        return ""
    return duration((last - first).total_seconds())


def duration(seconds: float) -> str:
    """Return a duration to about three digits."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m"


def clock(value: Any) -> str:
    """Return the local time of day of an event."""
    at = moment(value)
    return at.astimezone().strftime("%H:%M:%S") if at else "--:--:--"


def brief(value: Any, width: int = 80) -> str:
    """Return any JSON value on one line of at most `width` characters."""
    text = value if isinstance(value, str) else _dumps(value)
    flat = clean(" ".join(text.split()))
    return flat if len(flat) <= width else flat[: max(1, width - 3)] + "..."


def _dumps(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)


def failure(error: Any) -> str:
    """Return what an error says, whatever form the API gave it."""
    if is_object(error):
        fields = error
        told = fields.get("message") or fields.get("detail") or fields.get("title")
        named = fields.get("type") or fields.get("code")
        if told:
            return clean(f"{named}: {told}" if named and str(named) not in str(told) else told)
        return brief(fields, 200)
    return clean(error) if error else ""


def cells(text: str) -> int:
    """Return the terminal columns a text takes, colour codes not counted."""
    if "\x1b" in text:
        parts = text.split("\x1b[")
        text = parts[0] + "".join(part.partition("m")[2] for part in parts[1:])
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def table(out: Out, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; only the last one is cut to the terminal, so ids stay whole."""
    if not rows:
        return
    widths = [max(cells(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
    limit = out.width()
    before = sum(widths[:-1]) + 2 * (len(widths) - 1)
    room = max(10, limit - before) if limit else 0
    heads = [head.ljust(width) for head, width in zip(headers, widths, strict=True)]
    out.line(out.paint("  ".join(heads).rstrip(), "bold"))
    for row in rows:
        padded = [cell + " " * (width - cells(cell)) for cell, width in zip(row[:-1], widths, strict=False)]
        last = row[-1]
        if room and cells(last) > room and "\x1b" not in last:
            last = last[: room - 3] + "..."
        out.line("  ".join([*padded, last]).rstrip())


def fields(out: Out, pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values in two columns, leaving out those without a value."""
    shown = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        out.line(f"{out.paint(name.ljust(width), 'dim')}  {value}")


def block(out: Out, title: str, value: Any) -> None:
    """Print a JSON value under a title: on the same line when short, indented when not."""
    import json

    one_line = brief(value, 100)
    if not one_line.endswith("..."):
        out.line(f"{out.paint(title, 'dim')}  {one_line}")
        return
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    out.line(out.paint(title, "dim"))
    out.line("\n".join(f"  {clean(line)}" for line in text.splitlines()))


def cached(cache: Any) -> str:
    """Return what was taken from the cache, as `cached, saved 1.2s`; nothing for what was computed."""
    if not cache or cache.get("how") not in ("hit", "joined"):
        return ""
    saved = cache.get("saved_ms") or 0
    return f"cached, saved {duration(saved / 1000)}" if saved else "cached"
