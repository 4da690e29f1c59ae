"""What the demo shows: calm lines for a person, a bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable
from typing import TextIO

_BAR = 32
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Screen:
    """Writes the story to a stream; colours and moving lines only where somebody can see them."""

    def __init__(self, out: TextIO | None = None) -> None:
        """Look at the stream once."""
        self._out = out or sys.stdout
        self.is_terminal = self._out.isatty() and os.environ.get("TERM") != "dumb"
        self._colours = self.is_terminal and not os.environ.get("NO_COLOR")
        self._wide = (self._out.encoding or "").lower().replace("-", "") == "utf8"
        self._drawn = False
        self._fifth = 0
        self._began = time.monotonic()

    def paint(self, text: str, style: str) -> str:
        """Return text in a style, or as it is where styles do not show."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._colours else text

    def title(self, text: str, below: str) -> None:
        """Open the story."""
        self._line(f"\n  {self.paint(text, 'bold')}")
        self._line(f"  {self.paint(below, 'dim')}")

    def chapter(self, number: int, text: str) -> None:
        """Open a part."""
        self._fifth = 0
        elapsed = f"{time.monotonic() - self._began:5.1f} s"
        self._line(f"\n  {self.paint(str(number), 'cyan')}  {self.paint(text, 'bold')}  {self.paint(elapsed, 'dim')}")

    def say(self, text: str) -> None:
        """Write one line of a part."""
        self._line(f"     {text}")

    def facts(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Write names and values in two columns."""
        rows = list(pairs)
        width = max((len(name) for name, _ in rows), default=0)
        for name, value in rows:
            self._line(f"     {self.paint(name.ljust(width), 'dim')}  {value}")

    def good(self, text: str) -> None:
        """Write that something held."""
        self._line(f"     {self.paint('ok' if not self._wide else '✓', 'green')} {text}")

    def bad(self, text: str) -> None:
        """Write that something did not hold."""
        self._line(f"     {self.paint('FAIL', 'red')} {text}")

    def progress(self, done: int, total: int, what: str) -> None:
        """Show how far the work is; where nothing can be redrawn, a line for every fifth of it."""
        share = min(1.0, done / total) if total else 0.0
        if self.is_terminal:
            full = round(share * _BAR)
            marks = ("━", "─") if self._wide else ("#", ".")
            bar = self.paint(marks[0] * full, "green") + self.paint(marks[1] * (_BAR - full), "dim")
            width = shutil.get_terminal_size().columns
            text = f"{done} of {total} {what}"[: max(10, width - _BAR - 9)]
            self._out.write(f"\r\x1b[2K     {bar}  {text}")
            self._out.flush()
            self._drawn = True
        elif int(share * 5) > self._fifth:
            self._fifth = int(share * 5)
            self._line(f"     {done} of {total} {what}")

    def _line(self, text: str) -> None:
        if self._drawn:
            self._out.write("\n")
            self._drawn = False
        if not self._wide:
            text = text.replace("→", "->").encode("ascii", "replace").decode()
        self._out.write(text + "\n")
        self._out.flush()
