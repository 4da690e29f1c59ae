"""The words for what goes wrong in an expression, from the library's own, which are for its developers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any, cast

from tenuto.domain.base.expression_values import Wanted
from tenuto.domain.base.nearest import did_you_mean

_STATUS = re.compile(r"^(?:[A-Z]+_?[A-Z]*): (?P<told>.*?)(?: \[[A-Z_]+\])?$", re.DOTALL)
_PLACE = re.compile(r"^ERROR: <input>:(-?\d+):(-?\d+): ")
_EXPECTING = re.compile(r" expecting \{.*\}")
_UNDECLARED = re.compile(r"undeclared reference to '([^'.]*)([^']*)' \(in container ''\)")
_NO_OVERLOAD = re.compile(r"found no matching overload for '(.*?)' applied to '(.*)'")
_NO_RUNTIME_OVERLOAD = re.compile(r"No matching overloads? found : (.*?)\((.*)\)$")
_NO_KEY = re.compile(r'Key not found in map : "(.*)"$', re.DOTALL)
_NO_VARIABLE = re.compile(r'No value with name "(.*)" found')
_TOO_LARGE = re.compile(r"Integer value '(-?\d+)' out of range")
_SHOWN = 10


def _told(raw: str) -> str:
    """Return a message without the status words around it."""
    found = _STATUS.match(raw.strip())
    return found["told"] if found else raw.strip()


def of_compiler(error: Exception, text: str, variables: Collection[str]) -> str:
    """Return the compiler's complaints, each with its place, and the nearest name for an unknown one."""
    told = _told(str(error))
    if "recursion" in told:
        return "the expression is nested too deeply (32 levels are allowed); use fewer brackets or two steps"
    lines = [_complaint(line, text, variables) for line in told.splitlines()]
    return "\n".join(lines)


def _complaint(line: str, text: str, variables: Collection[str]) -> str:
    place = _PLACE.match(line)
    if place is None:
        return line.rstrip()
    message = _EXPECTING.sub("", line[place.end() :]).replace("'<EOF>'", "end of text")
    message = message.replace("Syntax error: ", "")
    unknown = _UNDECLARED.search(message)
    if unknown:
        message = _undeclared(unknown[1], text, variables)
    mixed = _NO_OVERLOAD.search(message)
    if mixed:
        message = f"{_operator(mixed[1])} cannot take {mixed[2]}"
    return f"line {place[1]}, column {place[2]}: {message}"


def _undeclared(name: str, text: str, variables: Collection[str]) -> str:
    dashed = re.search(r"\b(nodes|ctx)\.([\w]+(?:-\w+)*-" + re.escape(name) + r"(?:-\w+)*)", text)
    if dashed:
        return f'{name!r} is not declared; a name with dashes is written {dashed[1]}["{dashed[2]}"]'
    hint = did_you_mean(name, variables) or f"; there are {', '.join(sorted(variables))}"
    return f"{name!r} is not declared{hint}"


def _operator(name: str) -> str:
    return name.replace("_", "").replace("@", "") or name


def of_exception(error: Exception) -> str:
    """Return why an evaluation broke off."""
    told = _told(str(error))
    if isinstance(error, RecursionError):
        return "a value it reads is nested too deeply"
    if isinstance(error, UnicodeEncodeError):
        return "a text it reads has half of a surrogate pair, which is no Unicode text"
    if "Iteration budget" in told:
        return "it took 10,000 loop iterations or more; use a map, filter or aggregate node, or a Python step"
    if "convert function return value" in told:
        return "its value is an optional; end it with .orValue(...)"
    return told


def of_value(told: str, data: dict[str, Any], wanted: Wanted) -> str:
    """Return the words for an error that the library returned as a value."""
    told = _told(told)
    if found := _NO_KEY.search(told):
        return _no_key(found[1], data, wanted)
    if found := _NO_VARIABLE.search(told):
        return f"{found[1]!r} has no value here"
    if found := _NO_RUNTIME_OVERLOAD.search(told):
        return f"{_operator(found[1])} cannot take ({found[2].replace('int64', 'int')})"
    if "<jump_condition>" in told:
        return "the part before ? is not true or false"
    if found := _TOO_LARGE.search(told):
        return f"the integer {found[1]} is over 64 bits, which expressions cannot take"
    return told


def _no_key(key: str, data: dict[str, Any], wanted: Wanted) -> str:
    """Name the place when it is a plain path, which is the usual case."""
    for path in _paths(wanted, ()):
        value: Any = data
        for depth, part in enumerate(path):
            if not isinstance(value, dict):
                break
            members = cast("dict[str, Any]", value)
            if part not in members:
                if part == key:
                    return missing(path, depth, None)
                break
            value = members[part]
    return f"there is no key {key!r}"


def _paths(wanted: Wanted, start: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    for key, inner in wanted.items():
        if inner:
            yield from _paths(inner, (*start, key))
        else:
            yield (*start, key)


def missing(path: tuple[str, ...], depth: int, value: Any) -> str:
    """Return the words for a path that ends early.

    Args:
        path: The variable's name and the keys below it.
        depth: How many parts of the path exist.
        value: What is there instead of an object; an object or `None` when only the key is missing.
    """
    if depth == 0:
        return f"{path[0]!r} has no value here"
    if depth == 1 and path[0] in ("nodes", "ctx"):
        return f"node {path[1]!r} has no output here: it was skipped, has not run, or does not exist"
    parent = ".".join(path[:depth])
    if value is None or isinstance(value, dict):
        return f"{parent} has no key {path[depth]!r}"
    return f"{parent} is {kind_of(value)}, so it has no key {path[depth]!r}"


def not_bool(value: Any) -> str:
    """Return the words for a condition of another type."""
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:60] + "…"
    return f"its value is {kind_of(value)}, {shown}; a condition must be true or false: compare it"


def kind_of(value: Any) -> str:
    """Return a JSON value's type in words."""
    if isinstance(value, bool):
        return "a boolean"
    names: dict[type, str] = {int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(cast("type[Any]", type(value)), f"a {type(value).__name__}")


def refuse_nul(value: Any) -> None:
    """Fail when a text holds a NUL character: the library would cut it there.

    Raises:
        ValueError: A text or key does.
    """
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("a text it reads contains a NUL character, which expressions cannot take")
    elif isinstance(value, dict):
        for key, member in cast("dict[str, Any]", value).items():
            refuse_nul(key)
            refuse_nul(member)
    elif isinstance(value, list):
        for member in cast("list[Any]", value):
            refuse_nul(member)
