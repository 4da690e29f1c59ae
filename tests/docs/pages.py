"""Finds the code blocks of the documentation, and what each of them is for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```[ ]*$", re.MULTILINE | re.DOTALL
)
_REASON = re.compile(r"<!-- not run: (?P<reason>.+?) -->\s*\Z")
_TITLE = re.compile(r'title="(?P<title>[^"]+)"')


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        title: The file it is to be written to; empty when it is not a file.
        reason: Why it is not run; empty when it is.
    """

    language: str
    title: str
    text: str
    line: int
    reason: str


def pages() -> list[Path]:
    """Return every page a person reads, generated ones left out."""
    found = [
        ROOT / name
        for name in ("README.md", "ARCHITECTURE.md", "AGENTS.md", "CONTRIBUTING.md", "SECURITY.md")
    ]
    found += sorted((ROOT / "docs").rglob("*.md"))
    return [
        path
        for path in found
        if path.is_file() and "<!-- generated:" not in path.read_text(encoding="utf-8")[:200]
    ]


def blocks(page: Path) -> list[Block]:
    """Return a page's blocks in order."""
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    for match in _BLOCK.finditer(text):
        info = match["info"].strip()
        title = _TITLE.search(info)
        reason = _REASON.search(text[: match.start()])
        found.append(
            Block(
                language=info.split(" ")[0],
                title=title["title"] if title else "",
                reason=reason["reason"] if reason else "",
                text=re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE),
                line=text.count("\n", 0, match.start()) + 1,
            )
        )
    return found


def name_of(page: Path) -> str:
    """Return a page's path for a person."""
    return page.relative_to(ROOT).as_posix()
