"""Cuts a text into pieces of a bounded length, at paragraphs and sentences where it can, each lapping over the last."""

from __future__ import annotations

import re
from collections.abc import Iterator

_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_SENTENCE = re.compile(r"(?<=[.!?。!?…])[\"'»”)\]]*\s+|\n")
_WORD = re.compile(r"\s+")


def cut(text: str, size: int, overlap: int) -> Iterator[tuple[int, str]]:
    """Yield where each piece starts and what it says; together the pieces hold every word of the text.

    Args:
        size: Most characters of a piece.
        overlap: About how many characters of the piece before it begins with; less than half of `size`.
    """
    start = 0
    length = len(text)
    while start < length:
        end = min(start + size, length)
        if end < length:
            end = _border(text, start + size // 2, end) or end
        piece = text[start:end]
        stripped = piece.strip()
        if stripped:
            yield start + len(piece) - len(piece.lstrip()), stripped
        if end >= length:
            return
        start = max(_begin(text, end - overlap, end) if overlap else end, start + 1)


def _border(text: str, low: int, high: int) -> int:
    """Return the last good place to end between two positions; 0 when there is none."""
    for pattern in (_PARAGRAPH, _SENTENCE, _WORD):
        found = 0
        for match in pattern.finditer(text, low, high):
            found = match.end()
        if found:
            return found
    return 0


def _begin(text: str, low: int, high: int) -> int:
    """Return the first good place to begin between two positions; `high` when there is none."""
    for pattern in (_PARAGRAPH, _SENTENCE, _WORD):
        match = pattern.search(text, low, high)
        if match is not None and match.end() < high:
            return match.end()
    return high
