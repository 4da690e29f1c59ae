"""Where words go: results to standard output, everything else to standard error, colours only on a terminal."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
# A server's text must not move the cursor or change the terminal: every control character but the line's end.
_HARMLESS = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)
}


def clean(text: object) -> str:
    """Return text a terminal can show without acting on it."""
    plain = str(text)
    return plain if plain.isprintable() else plain.translate(_HARMLESS)


class Out:
    """The two output streams in one of the forms `pretty`, `json` or `compact`."""

    def __init__(self, mode: str = "pretty") -> None:
        """Look at the streams once; they decide about colours."""
        self.mode = mode
        self.is_terminal = _is_terminal(sys.stdout)
        self._paint_out = self.is_terminal and _wants_colour()
        self._paint_err = _is_terminal(sys.stderr) and _wants_colour()

    @property
    def is_pretty(self) -> bool:
        """Whether a person reads the result."""
        return self.mode == "pretty"

    def width(self) -> int:
        """Return the columns a line may take; 0 means any number."""
        if not self.is_terminal:
            return 0
        try:
            return os.get_terminal_size(sys.stdout.fileno()).columns
        except (OSError, ValueError):
            return 0

    def result(self, value: Any, pretty: Callable[[], None]) -> None:
        """Give the result once: as JSON to a program, by `pretty` to a person."""
        if self.is_pretty:
            pretty()
        else:
            self.json(value)

    def json(self, value: Any) -> None:
        """Print one JSON value: indented, or on a single line in the compact form."""
        import json

        indent = None if self.mode == "compact" else 2
        ascii_only = (getattr(sys.stdout, "encoding", "") or "").lower() not in ("utf-8", "utf8")
        separators = (",", ":") if indent is None else None
        print(json.dumps(value, indent=indent, separators=separators, ensure_ascii=ascii_only))

    def line(self, text: str = "") -> None:
        """Print a line of the result for a person; shown at once, also through a pipe."""
        print(text, flush=True)

    def note(self, text: str) -> None:
        """Tell the person something that is not the result."""
        print(text, file=sys.stderr, flush=True)

    def paint(self, text: str, *names: str) -> str:
        """Colour text meant for standard output, when that is wanted."""
        return _paint(text, names) if self._paint_out else text

    def paint_note(self, text: str, *names: str) -> str:
        """Colour text meant for standard error, when that is wanted."""
        return _paint(text, names) if self._paint_err else text


def _paint(text: str, names: tuple[str, ...]) -> str:
    codes = ";".join(_CODES[name] for name in names)
    return f"\x1b[{codes}m{text}\x1b[0m" if codes and text else text


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _wants_colour() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
