"""JSON pointers: how every message names a place in a document."""

from __future__ import annotations

from collections.abc import Iterable


def pointer(path: Iterable[str | int]) -> str:
    """Return the JSON pointer of a path; empty for the document itself.

    Source:
        RFC 6901; https://www.rfc-editor.org/rfc/rfc6901
    """
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
