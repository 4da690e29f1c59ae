"""Writes the pages that follow from the code; `--check` only says which are out of date.

A page is a function here, so that nothing the code says has to be said twice. Tests compare what is committed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.docs_pages import commands, definition, errors, events, findings, http, machine, settings, sql

ROOT = Path(__file__).resolve().parents[1]

PAGES: dict[str, Callable[[], str]] = {
    "docs/concepts/state-machine.md": machine.page,
    "docs/reference/cli.md": commands.page,
    "docs/reference/definition.md": definition.page,
    "docs/reference/errors.md": errors.page,
    "docs/reference/events.md": events.page,
    "docs/reference/findings.md": findings.page,
    "docs/reference/settings.md": settings.page,
    "docs/reference/http.md": http.page,
    "docs/reference/sql.md": sql.page,
    "docs/reference/openapi.json": http.document_text,
}


def outdated() -> list[str]:
    """Return the pages whose committed text is not what the code says."""
    found: list[str] = []
    for name, make in PAGES.items():
        path = ROOT / name
        if not path.is_file() or path.read_text(encoding="utf-8") != make():
            found.append(name)
    return found


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 when a page is out of date"
    )
    args = parser.parse_args()
    stale = outdated()
    for name in stale:
        if args.check:
            print(f"out of date: {name}")
        else:
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / name).write_text(PAGES[name](), encoding="utf-8")
            print(f"written: {name}")
    return 1 if stale and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
