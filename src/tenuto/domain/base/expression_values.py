"""Values on their way into and out of expressions: only what is read goes in, only JSON comes out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeAlias, cast

Wanted: TypeAlias = dict[str, "Wanted"]
"""A tree of keys; an empty branch means the whole value."""


def wanted_of(paths: Iterable[tuple[str, ...]]) -> Wanted:
    """Return the tree of paths that are read, where a path covers all longer ones."""
    tree: Wanted = {}
    whole: set[tuple[str, ...]] = set()
    for path in sorted(paths, key=len):
        if any(path[:length] in whole for length in range(1, len(path) + 1)):
            continue
        whole.add(path)
        branch = tree
        for key in path:
            branch = branch.setdefault(key, {})
    return tree


def trim(value: Any, wanted: Wanted) -> Any:
    """Return a value with only the keys that are read, so the conversion does not grow with the rest."""
    if not isinstance(value, dict):
        return value
    members = cast("dict[str, Any]", value)
    return {
        key: trim(members[key], inner) if inner else members[key]
        for key, inner in wanted.items()
        if key in members
    }


def to_json(value: Any) -> Any:
    """Return a result as JSON with sorted keys.

    Raises:
        ValueError: Something in it has no JSON form; the message says what to do.
    """
    kind = cast("type[Any]", type(value))
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        if not math.isfinite(value):
            raise ValueError(f"the value contains {value!r}, which JSON does not have; guard the arithmetic")
        return value
    if kind is list:
        return [to_json(member) for member in value]
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise ValueError(f"the value has an object with the key {key!r}; JSON keys are text")
        return {key: to_json(value[key]) for key in sorted(value)}
    name = _NAMES.get(kind.__name__, kind.__name__)
    raise ValueError(f"the value contains a {name}; convert it with string(...)")


_NAMES = {"bytearray": "bytes value", "datetime": "timestamp", "timedelta": "duration", "Type": "type"}
