"""Reads untrusted JSON into frozen structs, collecting every problem instead of stopping at the first.

Places are JSON pointers (RFC 6901) into what the author wrote.
"""

from __future__ import annotations

import datetime
import math
import types
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, TypeVar, cast

import msgspec

from tenuto.domain.base.nearest import nearest as nearest_choice
from tenuto.errors import Problem

DEPTH_LIMIT = 64
"""Nesting of a document beyond this is refused, so no later walk can exhaust the stack."""

T = TypeVar("T", bound=msgspec.Struct)


class Findings:
    """The problems met so far, in the order they were met."""

    def __init__(self) -> None:
        """Start without problems."""
        self.items: list[Problem] = []

    def add(self, place: str, message: str, *, code: str, hint: str = "") -> None:
        """Keep one more problem."""
        self.items.append(Problem(place=place, message=message, hint=hint, code=code))

    def unknown_field(self, place: str, key: str, allowed: Iterable[str], owner: str) -> None:
        """Keep the problem that a field does not exist, with the nearest one that does."""
        names = sorted(allowed)
        self.add(
            pointer(place, key),
            f"{owner} has no field {key!r}; it may have {', '.join(names)}",
            hint=nearest(key, names),
            code="graph.unknown_field",
        )


def pointer(place: str, *keys: str | int) -> str:
    """Return the JSON pointer of something inside the thing at a place."""
    for key in keys:
        place += "/" + str(key).replace("~", "~0").replace("/", "~1")
    return place


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return a hint naming the allowed word a person most likely meant, or nothing."""
    found = nearest_choice(word, allowed)
    return f"did you mean {found!r}?" if found else ""


def kind_of(value: Any) -> str:
    """Return what a JSON value is, in words for a message."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case Mapping():
            return "an object"
        case list() | tuple():
            return "a list"
        case _:
            return type(cast("object", value)).__name__


def json_copy(value: Any, place: str, found: Findings, depth: int = 0) -> Any:
    """Return a deep copy with JSON types only, so the caller's later changes cannot reach a definition.

    Dates, which YAML reads unasked, become ISO 8601 text, and the YAML 1.1 key `on` (read as true) becomes text again.
    """
    if depth > DEPTH_LIMIT:
        found.add(place, f"nested deeper than {DEPTH_LIMIT} levels", code="graph.depth")
        return None
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            if math.isfinite(value):
                return value
            found.add(place, f"{value!r} has no JSON form", code="graph.type")
            return None
        case datetime.date() | datetime.time():
            return value.isoformat()
        case Mapping():
            return _copy_object(cast("Mapping[Any, Any]", value), place, found, depth)
        case list() | tuple():
            items = cast("list[Any]", value)
            return [json_copy(item, pointer(place, at), found, depth + 1) for at, item in enumerate(items)]
        case _:
            found.add(place, f"{kind_of(value)} has no JSON form", code="graph.type")
            return None


def _copy_object(value: Mapping[Any, Any], place: str, found: Findings, depth: int) -> dict[str, Any]:
    copy: dict[str, Any] = {}
    for key, item in value.items():
        name = "on" if key is True else key
        if not isinstance(name, str):
            found.add(place, f"the key {key!r} is {kind_of(key)}; keys are text", code="graph.type")
            continue
        copy[name] = json_copy(item, pointer(place, name), found, depth + 1)
    return copy


def read_struct(cls: type[T], data: dict[str, Any], place: str, found: Findings, *, owner: str) -> T | None:
    """Return the struct an object describes, or `None` after noting everything wrong with it.

    Args:
        owner: What the object is, for messages, such as `a node`.
    """
    before = len(found.items)
    names = _fields_of(cls)
    for key in data:
        if key not in names:
            found.unknown_field(place, key, names, owner)
    values: dict[str, Any] = {}
    for key, field in names.items():
        if key in data:
            values[field.name] = read_field(field.type, data[key], pointer(place, key), found)
        elif field.required:
            found.add(place, f"{owner} needs {key!r}", code="graph.missing_field")
    return cls(**values) if len(found.items) == before else None


@cache
def _fields_of(cls: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(cls)}


def read_field(hint: Any, value: Any, place: str, found: Findings) -> Any:
    """Return a value as the type it should have, or `None` after noting that it does not fit."""
    struct = _struct_in(hint)
    if struct is not None and isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return read_struct(struct, fields, place, found, owner=f"{struct.__name__.lower()!r}")
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        found.add(place, _explain(hint, value, str(error)), hint=_nearest_choice(hint, value), code="graph.type")
        return None


def _struct_in(hint: Any) -> type[msgspec.Struct] | None:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        if isinstance(option, type) and issubclass(option, msgspec.Struct):
            return option
    return None


def _choices(hint: Any) -> list[str]:
    if typing.get_origin(hint) is Literal:
        return [str(choice) for choice in typing.get_args(hint)]
    return [choice for option in typing.get_args(hint) for choice in _choices(option)]


def _words(hint: Any) -> list[str]:
    """Return what a type allows, in words; choices are named one by one."""
    if choices := _choices(hint):
        rest = [option for option in typing.get_args(hint) if option is int]
        return [repr(choice) for choice in choices] + (["a whole number"] if rest else [])
    if hint is type(None):
        return []
    named = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    if hint in named:
        return [named[hint]]
    origin = typing.get_origin(hint) or hint
    if origin is dict or _struct_in(hint) is not None:
        return ["an object"]
    if origin in (tuple, list):
        return ["a list"]
    return [word for option in typing.get_args(hint) for word in _words(option)]


def _explain(hint: Any, value: Any, said: str) -> str:
    words = _words(hint)
    shown = f"{value!r} " if isinstance(value, str | int | float | bool) else ""
    inner = said.partition(" - at `$")[2].rstrip("`")
    if inner and not words:
        return said
    where = f" (at {inner})" if inner else ""
    if _choices(hint):
        return f"{shown or kind_of(value) + ' '}is not allowed; allowed: {', '.join(words)}"
    return f"{shown}is {kind_of(value)}{where}; allowed: {', '.join(words)}"


def _nearest_choice(hint: Any, value: Any) -> str:
    return nearest(value, _choices(hint)) if isinstance(value, str) else ""
