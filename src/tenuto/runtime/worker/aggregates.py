"""How an `aggregate` node makes one value of many, with or without a value to begin with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from msgspec import UNSET

from tenuto.domain.base.canonical import canonical_json


def aggregate(op: str, values: list[Any], initial: Any = UNSET) -> Any:
    """Return what an operation makes of some values.

    Args:
        initial: What `sum`, `count`, `collect`, `concat`, `merge`, `unique`, `min` and `max` begin with; what the
            others yield when there are no values. Unset, those that have nothing to yield yield `None`.

    Raises:
        TypeError: A value, or `initial`, is not of a kind the operation works on.
    """
    return OPERATIONS[op](values, initial)


def _collect(values: list[Any], initial: Any) -> list[Any]:
    return [*_list(initial), *values]


def _count(values: list[Any], initial: Any) -> Any:
    return _number(initial) + len(values)


def _sum(values: list[Any], initial: Any) -> Any:
    return sum(values, _number(initial))


def _min(values: list[Any], initial: Any) -> Any:
    found = values if initial is UNSET else [initial, *values]
    return min(found) if found else None


def _max(values: list[Any], initial: Any) -> Any:
    found = values if initial is UNSET else [initial, *values]
    return max(found) if found else None


def _avg(values: list[Any], initial: Any) -> Any:
    return sum(values) / len(values) if values else _or_none(initial)


def _first(values: list[Any], initial: Any) -> Any:
    return values[0] if values else _or_none(initial)


def _last(values: list[Any], initial: Any) -> Any:
    return values[-1] if values else _or_none(initial)


def _merge(values: list[Any], initial: Any) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for value in values if initial is UNSET else [initial, *values]:
        if not isinstance(value, dict):
            raise TypeError(f"an object is needed, not {type(value).__name__}")
        merged.update(cast("dict[str, Any]", value))
    return merged


def _concat(values: list[Any], initial: Any) -> list[Any]:
    return [item for value in [initial, *values] for item in _list(value)]


def _unique(values: list[Any], initial: Any) -> list[Any]:
    """Return each value once, where it stood first; values are the same when their canonical JSON is."""
    found: dict[bytes, Any] = {}
    for value in [*_list(initial), *values]:
        found.setdefault(canonical_json(value), value)
    return list(found.values())


def _or_none(initial: Any) -> Any:
    return None if initial is UNSET else initial


def _number(initial: Any) -> Any:
    if initial is UNSET:
        return 0
    if isinstance(initial, bool) or not isinstance(initial, int | float):
        raise TypeError(f"'initial' must be a number here, not {type(initial).__name__}")
    return initial


def _list(value: Any) -> list[Any]:
    if value is UNSET:
        return []
    if not isinstance(value, list):
        raise TypeError(f"a list is needed, not {type(value).__name__}")
    return cast("list[Any]", value)


OPERATIONS: dict[str, Callable[[list[Any], Any], Any]] = {
    "collect": _collect,
    "count": _count,
    "sum": _sum,
    "min": _min,
    "max": _max,
    "avg": _avg,
    "first": _first,
    "last": _last,
    "merge": _merge,
    "concat": _concat,
    "unique": _unique,
}
