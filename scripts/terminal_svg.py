"""Draws what a program wrote to a terminal as an SVG: `script -qc CMD log; python scripts/terminal_svg.py log out.svg`.

Lines that were redrawn are shown as they ended. Nothing is changed or added but colours and a frame.
"""

from __future__ import annotations

import argparse
import re
from html import escape
from pathlib import Path

CELL, LINE, PAD, BAR = 8.4, 20, 18, 34
STYLES = {
    "1": "font-weight:700;fill:#f4f4f5", "2": "fill:#8b8b95", "31": "fill:#f87171", "32": "fill:#4ade80",
    "33": "fill:#facc15", "36": "fill:#67e8f9",
}  # fmt: skip
_CODE = re.compile(r"\x1b\[([0-9;]*)m")
_OTHER = re.compile(r"\x1b\[[0-9;]*[A-LN-Za-ln-z]")


def screen_lines(text: str) -> list[str]:
    """Return the lines as they stood at the end; colour codes stay in."""
    lines: list[str] = []
    for raw in re.sub(r"\r+\n", "\n", text).split("\n"):
        if raw.startswith(("Script started", "Script done")):
            continue
        lines.append(_OTHER.sub("", raw.rpartition("\r")[2]).rstrip())
    while lines and not lines[-1]:
        lines.pop()
    return lines


def spans(line: str) -> str:
    """Return one line as SVG text spans."""
    found: list[str] = []
    style, at = "", 0
    for mark in [*_CODE.finditer(line), None]:
        end = mark.start() if mark else len(line)
        if end > at:
            chosen = f' style="{style}"' if style else ""
            found.append(f"<tspan{chosen}>{escape(line[at:end])}</tspan>")
        if mark:
            style, at = STYLES.get(mark[1], ""), mark.end()
    return "".join(found)


def draw(lines: list[str], title: str) -> str:
    """Return the picture."""
    width = max((len(_CODE.sub("", line)) for line in lines), default=1) * CELL + 2 * PAD
    height = len(lines) * LINE + BAR + PAD
    rows = "\n".join(
        f'<text x="{PAD}" y="{BAR + (n + 1) * LINE - 5}" xml:space="preserve">{spans(line)}</text>'
        for n, line in enumerate(lines)
        if line
    )
    dots = "".join(f'<circle cx="{PAD + 18 * n}" cy="17" r="5.5" fill="#3f3f46"/>' for n in range(3))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
        f'viewBox="0 0 {width:.0f} {height}" role="img" aria-label="{escape(title)}">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="100%" height="100%" rx="10" fill="#18181b"/>{dots}\n'
        '<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,monospace" font-size="14" fill="#d4d4d8">\n'
        f"{rows}\n</g>\n</svg>\n"
    )


def main() -> None:
    """Read a log, write a picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--title", default="A terminal")
    parser.add_argument("--until", default="", help="stop before the line that holds this text")
    args = parser.parse_args()
    lines = screen_lines(args.log.read_bytes().decode())
    if args.until:
        lines = lines[: next(n for n, line in enumerate(lines) if args.until in line)]
        while lines and not lines[-1].strip():
            lines.pop()
    while lines and not lines[0].strip():
        lines.pop(0)
    args.out.write_text(draw(lines, args.title), encoding="utf-8")


if __name__ == "__main__":
    main()
