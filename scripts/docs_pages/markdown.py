"""Small pieces of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def opening(title: str, source: str, *lines: str) -> str:
    """Return how every generated page begins."""
    return "\n".join(
        [
            f"<!-- generated: from {source}; edit that and run scripts/generate_docs.py -->",
            f"# {title}",
            "",
            *lines,
            "",
        ]
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; `|` in cells is escaped."""
    lines = [_row(heads), _row(["---"] * len(heads)), *(_row(row) for row in rows)]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def code(text: str) -> str:
    """Return text as inline code, or nothing for nothing."""
    return f"`{text}`" if text else ""
