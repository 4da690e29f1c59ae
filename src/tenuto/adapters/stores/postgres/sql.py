"""The statements of `queries.sql` by name, parts put in place; loaded once, never built from values."""

from __future__ import annotations

import re
from importlib.resources import files

_HEAD = re.compile(r"^-- (name|part): (\w+)\n((?:--.*\n)*)", re.MULTILINE)
_SLOT = re.compile(r"\{(\w+)\}")


def parse(text: str) -> dict[str, str]:
    """Return all statements of a file.

    Raises:
        KeyError: A statement names a part that does not exist.
    """
    parts: dict[str, str] = {}
    statements: dict[str, str] = {}
    heads = list(_HEAD.finditer(text))
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        body = text[head.end() : following.start() if following else len(text)]
        body = "\n".join(line for line in body.splitlines() if not line.startswith("-- ")).strip()
        kind, name, _purpose = head.groups()
        (parts if kind == "part" else statements)[name] = body
    found: dict[str, str] = {}
    for name, body in statements.items():
        while _SLOT.search(body):
            body = _SLOT.sub(lambda slot: parts[slot[1]], body)
        found[name] = body
    return found


SQL = parse(files("tenuto.adapters.stores.postgres").joinpath("queries.sql").read_text(encoding="utf-8"))
