"""Finds what looks like a secret in a patch: secrets go by the names of environment variables, never by their values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from tenuto.domain.graph.analysis.secrets import secret_in
from tenuto.domain.graph.reading import DEPTH_LIMIT, pointer
from tenuto.errors import Problem

_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-auth-token"})
_NAMES = re.compile(
    r"(?:.*[_-])?(?:password|passwd|secret|api[_-]?key|access[_-]?token|auth[_-]?token|private[_-]?key)", re.IGNORECASE
)


def secrets_in(value: Any, place: str = "", depth: int = 0) -> Iterator[Problem]:
    """Yield a problem for each text of a document that looks like a secret; the text itself is never repeated."""
    if depth > DEPTH_LIMIT:
        return  # such a document is refused for its depth
    if isinstance(value, dict):
        for key, inner in cast("dict[str, Any]", value).items():
            spot = pointer(place, key)
            if isinstance(inner, str) and _names_one(key) and inner and "${" not in inner:
                yield _problem(spot)
            else:
                yield from secrets_in(inner, spot, depth + 1)
    elif isinstance(value, list):
        for at, inner in enumerate(cast("list[Any]", value)):
            yield from secrets_in(inner, pointer(place, at), depth + 1)
    elif isinstance(value, str) and secret_in(value):
        yield _problem(place)


def _names_one(key: str) -> bool:
    return key.lower() in _HEADERS or _NAMES.fullmatch(key) is not None


def _problem(place: str) -> Problem:
    hint = "let a tool or a handler read it from the environment; the patch was not kept with it"
    return Problem(place, "this looks like a secret; secrets have no place in a graph", hint, code="patch.secret")
