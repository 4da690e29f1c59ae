"""How a setting is declared and its raw value read: from text of the environment, or typed, from a file or a flag.

A setting is a field of a frozen dataclass made by `key`. A field made by `section` holds one such dataclass, a field
made by `table` several by name: tables in the file, JSON in the environment.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from difflib import get_close_matches
from typing import Any, TypeVar, cast

from tenuto.errors import Problem

T = TypeVar("T")


def key(
    default: Any, help_: str, check: Callable[[Any], str] | None = None, *, env: Sequence[str] = (), secret: bool = False
) -> Any:
    """Declare a setting: its default, what it does, a check that returns what is wrong, its other variables."""
    metadata = {"help": help_, "check": check, "env": tuple(env)}
    return field(default=default, metadata=metadata, repr=not secret)


def between(low: float, high: float, unit: str = "") -> Callable[[Any], str]:
    """Return a check that a number lies in a range, ends included."""

    def check(value: float) -> str:
        return "" if low <= value <= high else f"must be {low:,} to {high:,}{unit}"

    return check


def one_of(*allowed: str) -> Callable[[Any], str]:
    """Return a check that a text is one of those allowed."""

    def check(value: str) -> str:
        if value in allowed:
            return ""
        return f"must be one of {', '.join(allowed)}" + meant(value, allowed)

    return check


def section(of: type[Any], help_: str) -> Any:
    """Declare a setting that is a section of its own: a table of the file, made of the keys of a dataclass."""
    return field(default_factory=of, metadata={"help": help_, "check": None, "env": (), "section": of})


def table(of: type[Any], help_: str) -> Any:
    """Declare a setting that holds several sections of one sort, by the names an operator gives them."""
    return field(default_factory=dict[str, Any], metadata={"help": help_, "check": None, "env": (), "table": of})



def meant(word: str, known: Sequence[str]) -> str:
    """Return a question for the nearest known word, led by a semicolon; empty when none is near."""
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def read(item: dataclasses.Field[Any], where: str, raw: Any, problems: list[Problem]) -> Any:
    """Return a setting's value from what was given for it; what is wrong is added to `problems`.

    Args:
        where: The variable, flag or place in the file it comes from, for messages.
    """
    of = item.metadata.get("section") or item.metadata.get("table")
    if of is not None:
        given = _as_table(raw, where, problems)
        if given is None:
            return default_of(item)
        if "section" in item.metadata:
            return _read_section(of, where, given, problems)
        return {
            name: _read_section(of, f"{where}.{name}", one, problems)
            for name, value in given.items()
            if (one := _as_table(value, f"{where}.{name}", problems)) is not None
        }
    return _read_plain(item, where, raw, problems)


def described(name: str, item: dataclasses.Field[Any], variables: list[str]) -> list[dict[str, Any]]:
    """Return name, variables, default and help of a setting, or of every key of a section or table."""
    of = item.metadata.get("section") or item.metadata.get("table")
    if of is None:
        default = default_of(item)
        return [{"name": name, "variables": variables, "default": default, "help": item.metadata["help"]}]
    inner = f"{name}.NAME" if "table" in item.metadata else name
    found: list[dict[str, Any]] = []
    for part in dataclasses.fields(of):
        found += described(f"{inner}.{part.name}", part, [])
    return found


def default_of(item: dataclasses.Field[Any]) -> Any:
    """Return what a setting is when nobody says."""
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default


def as_text(value: Any) -> str:
    """Return a value as the text from which `read` makes it again."""
    if isinstance(value, tuple):
        return ",".join(cast("tuple[str, ...]", value))
    if isinstance(value, Mapping) or dataclasses.is_dataclass(value):
        return json.dumps(_plain(value))
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in cast("Mapping[str, Any]", value).items()}
    if dataclasses.is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    return value


def _as_table(raw: Any, where: str, problems: list[Problem]) -> Mapping[str, Any] | None:
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except ValueError:
            raw = None
    if isinstance(raw, Mapping):
        return cast("Mapping[str, Any]", raw)
    problems.append(Problem(where, "is not a table", hint="a variable holds JSON: {…}", code="settings.type"))
    return None


def _read_section(of: type[Any], where: str, given: Mapping[str, Any], problems: list[Problem]) -> Any:
    items = {item.name: item for item in dataclasses.fields(of)}
    values: dict[str, Any] = {}
    for name, raw in given.items():
        if name in items:
            values[name] = read(items[name], f"{where}.{name}", raw, problems)
        else:
            hint = meant(name, tuple(items)).lstrip("; ") or f"keys are {', '.join(items)}"
            problems.append(Problem(f"{where}.{name}", "is no setting of this version", hint=hint, code="settings.unknown"))
    missing = [name for name, item in items.items() if name not in values and default_of(item) is dataclasses.MISSING]
    for name in missing:
        problems.append(Problem(f"{where}.{name}", "is missing", code="settings.missing"))
        values[name] = None
    return of(**values)


def _read_plain(item: dataclasses.Field[Any], where: str, raw: Any, problems: list[Problem]) -> Any:
    try:
        value = _convert(str(item.type), raw)
    except ValueError as error:
        shown = "the value" if not item.repr else repr(raw)
        problems.append(Problem(where, f"{shown} is not {error}", code="settings.type"))
        return item.default
    check = cast("Callable[[Any], str] | None", item.metadata["check"])
    if check is not None and (wrong := check(value)):
        shown = "the value" if not item.repr else repr(raw)
        problems.append(Problem(where, f"{shown} {wrong}", code="settings.value"))
    return value


def _convert(kind: str, raw: Any) -> Any:
    """Return a raw value as the setting's type; text from the environment is read, other types must fit."""
    match kind:
        case "bool":
            return _as_bool(raw)
        case "int":
            return _as_number(raw, int, "a whole number")
        case "float":
            return _as_number(raw, float, "a number")
        case "str":
            if isinstance(raw, str | os.PathLike):
                return str(cast("object", raw))
            raise ValueError("text")
        case "Mapping[str, Any]":
            if isinstance(raw, Mapping):
                return cast("Mapping[str, Any]", raw)
            raise ValueError("a table")
        case _:
            return _as_texts(raw)


def _as_bool(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if isinstance(raw, str) and raw.lower() in words:
        return words[raw.lower()]
    raise ValueError("true or false")


def _as_number(raw: Any, number: Callable[[Any], T], name: str) -> T:
    fits = isinstance(raw, str | int) or (number is float and isinstance(raw, float))
    if isinstance(raw, bool) or not fits:
        raise ValueError(name)
    try:
        value = number(raw)
    except ValueError:
        raise ValueError(name) from None
    if not math.isfinite(cast("float", value)):
        raise ValueError(f"{name} with an end")
    return value


def _as_texts(raw: Any) -> tuple[str, ...]:
    if isinstance(raw, str):
        return tuple(part.strip() for part in raw.split(",") if part.strip())
    if isinstance(raw, list | tuple):
        items = cast("Sequence[Any]", raw)
        if all(isinstance(item, str) for item in items):
            return tuple(items)
    raise ValueError("a list of texts")
