"""JSON as it comes from outside: read without the import of `json`, taken apart without trusting its shape."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeGuard


class _Rules:
    """How the scanner reads, exactly as `json.loads` does."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


def loads(raw: bytes) -> Any:
    """Return a JSON document's value.

    `json` brings in `re` and half a dozen more modules, a third of a whole start, for the C scanner that does
    the work; where an interpreter has that scanner it is used alone.

    Raises:
        ValueError: It is not JSON in UTF-8.
    """
    try:
        from _json import make_scanner
    except ImportError:
        import json

        return json.loads(raw)
    text = raw.decode().strip(" \t\r\n")
    rules: Any = _Rules
    scan: Any = make_scanner(rules)
    try:
        value, end = scan(text, 0)
    except StopIteration as stop:
        raise ValueError(f"no JSON value at character {stop.value}") from None
    if end != len(text):
        raise ValueError(f"more than one JSON value (character {end})")
    return value


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Report whether a JSON value is an object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Report whether a JSON value is a list."""
    return isinstance(value, list)


def obj(value: object) -> dict[str, Any]:
    """Return an object; anything else counts as an empty one."""
    return value if is_object(value) else {}


def seq(value: object) -> list[Any]:
    """Return a list; anything else counts as an empty one."""
    return value if is_list(value) else []
