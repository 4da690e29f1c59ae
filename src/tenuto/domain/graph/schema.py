"""JSON Schema, the part a workflow needs: declared inputs and structured outputs.

Every keyword outside the part is refused when a schema is declared, so none is silently ignored. Annotations
(`title`, `description`, `default`, `examples`, `format`, …) are allowed and change nothing.

Source: JSON Schema 2020-12, validation vocabulary.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec

from tenuto.domain.base.expressions import ExpressionFailed, compile_condition
from tenuto.domain.graph.reading import Findings, kind_of, nearest, pointer
from tenuto.errors import Problem

Schema = dict[str, Any]

TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")
MARK = "x-sensitive"
"""Marks a value that is not shown in passing: `true` in the schema of the value."""
_REF_LIMIT = 64
_encode = msgspec.json.Encoder(order="sorted").encode

_ANNOTATIONS = {
    "title", "description", "default", "examples", "format", "deprecated", "readOnly", "writeOnly", "$schema", "$id",
    "$comment", "discriminator", "x-sensitive",
}
_COUNTS = {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}
_NUMBERS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
_LISTS = {"anyOf", "oneOf", "allOf", "prefixItems"}
_MAPS = {"properties", "$defs", "patternProperties"}
_SINGLE = {"additionalProperties", "items", "not"}
KEYWORDS = frozenset(
    _ANNOTATIONS | _COUNTS | _NUMBERS | _LISTS | _MAPS | _SINGLE
    | {"type", "enum", "const", "required", "pattern", "$ref", "uniqueItems"}
)


def matches(pattern: str, text: str) -> bool:
    """Return whether a regular expression matches somewhere in a text, in time linear in the text.

    The syntax is RE2's, which has neither look-around nor back references, so no input can make it slow.

    Raises:
        ExpressionFailed: The pattern is none.

    Source:
        https://github.com/google/re2/wiki/Syntax
    """
    return bool(compile_condition("input.matches(item)").evaluate({"input": text, "item": pattern}))


# --- is it a schema? -------------------------------------------------------------------------------------------


def check_schema(schema: Any, place: str = "") -> tuple[Problem, ...]:
    """Return every fault of a schema; an empty answer means `validate` understands all of it."""
    found = Findings()
    _check(schema, place, schema if isinstance(schema, dict) else {}, found)
    return tuple(found.items)


def _bad(found: Findings, place: str, message: str, hint: str = "") -> None:
    found.add(place, message, code="schema.invalid", hint=hint)


def _check(schema: Any, place: str, root: Any, found: Findings) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        _bad(found, place, f"a schema is an object, not {kind_of(schema)}")
        return
    for key, value in cast("Schema", schema).items():
        spot = pointer(place, key)
        if key not in KEYWORDS:
            _bad(found, spot, f"the keyword {key!r} is not supported", nearest(key, KEYWORDS))
        elif key in _MAPS:
            _check_map(value, spot, root, found)
        elif key in _LISTS:
            if not isinstance(value, list) or not value:
                _bad(found, spot, f"{key!r} is a list of at least one schema")
            else:
                for at, item in enumerate(cast("list[Any]", value)):
                    _check(item, pointer(spot, at), root, found)
        elif key in _SINGLE:
            _check(value, spot, root, found)
        else:
            _check_value(key, value, spot, root, found)


def _check_map(value: Any, spot: str, root: Any, found: Findings) -> None:
    if not isinstance(value, dict):
        _bad(found, spot, "is an object of schemas by name")
        return
    for name, item in cast("Schema", value).items():
        if spot.endswith("/patternProperties"):
            _check_pattern(name, pointer(spot, name), found)
        _check(item, pointer(spot, name), root, found)


def _check_value(key: str, value: Any, spot: str, root: Any, found: Findings) -> None:
    if key == "type":
        _check_types(value, spot, found)
    elif key == "enum" and not isinstance(value, list):
        _bad(found, spot, "'enum' is a list of values")
    elif key == "required" and not _is_texts(value):
        _bad(found, spot, "'required' is a list of property names")
    elif key == "pattern":
        _check_pattern(value, spot, found)
    elif key == "$ref":
        if not isinstance(value, str) or _resolve(root, value) is None:
            _bad(found, spot, f"{value!r} does not lead to a schema in this document; allowed: '#/$defs/NAME'")
    elif key in _COUNTS and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        _bad(found, spot, f"{key!r} is a whole number from 0")
    elif key in _NUMBERS and not _is_number(value):
        _bad(found, spot, f"{key!r} is a number")
    elif key == MARK and not isinstance(value, bool):
        _bad(found, spot, f"{key!r} is true or false")
    elif key == "multipleOf" and cast("float", value) <= 0:
        _bad(found, spot, "'multipleOf' is more than 0")


def _check_types(value: Any, spot: str, found: Findings) -> None:
    for name in cast("list[Any]", value if isinstance(value, list) else [value]):
        if name not in TYPES:
            hint = nearest(name, TYPES) if isinstance(name, str) else ""
            _bad(found, spot, f"{name!r} is no type; allowed: {', '.join(TYPES)}", hint)


def _check_pattern(value: Any, spot: str, found: Findings) -> None:
    if not isinstance(value, str):
        _bad(found, spot, "'pattern' is text")
        return
    try:
        matches(value, "")
    except ExpressionFailed as error:
        _bad(found, spot, f"{value!r} cannot be used: {error.message}")


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in cast("list[Any]", value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _resolve(root: Any, ref: str) -> Any:
    """Return the schema a reference inside the document leads to, or `None`."""
    if ref == "#":
        return root
    if not ref.startswith("#/"):
        return None
    at: Any = root
    for part in ref[2:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(at, dict) or name not in at:
            return None
        at = cast("Schema", at)[name]
    return at


# --- what is marked? -------------------------------------------------------------------------------------------

Place = Callable[[str | int], bool]


def is_marked(schema: Any) -> bool:
    """Return whether a schema marks anything as sensitive."""
    if isinstance(schema, dict):
        known = cast("Schema", schema)
        return known.get(MARK) is True or any(is_marked(item) for item in known.values())
    return isinstance(schema, list) and any(is_marked(item) for item in cast("list[Any]", schema))


def parts_of(schema: Schema, root: Any) -> Iterator[tuple[Any, Place | None]]:
    """Yield the schemas inside a schema, each with the members or items it describes; `None` is the value itself."""
    if "$ref" in schema:
        yield _resolve(root, schema["$ref"]), None
    for key in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(key, ()):
            yield part, None
    declared: Schema = schema.get("properties", {})
    patterns: Schema = schema.get("patternProperties", {})
    for name, part in declared.items():
        yield part, functools.partial(operator.eq, name)
    for pattern, part in patterns.items():
        yield part, functools.partial(_fits_name, pattern)
    if "additionalProperties" in schema:
        yield schema["additionalProperties"], functools.partial(_is_other, frozenset(declared), tuple(patterns))
    first: list[Any] = schema.get("prefixItems", [])
    for at, part in enumerate(first):
        yield part, functools.partial(operator.eq, at)
    if "items" in schema:
        yield schema["items"], functools.partial(_is_later, len(first))


def _fits_name(pattern: str, name: str | int) -> bool:
    return isinstance(name, str) and matches(pattern, name)


def _is_other(declared: frozenset[str], patterns: tuple[str, ...], name: str | int) -> bool:
    return isinstance(name, str) and name not in declared and not any(matches(one, name) for one in patterns)


def _is_later(first: int, at: str | int) -> bool:
    return isinstance(at, int) and at >= first


# --- does a value fit? -----------------------------------------------------------------------------------------


def validate(schema: Schema, value: Any, place: str = "") -> tuple[Problem, ...]:
    """Return everything in which a JSON value differs from a schema that `check_schema` accepts."""
    found = Findings()
    _Validator(schema, found).check(schema, value, place, 0)
    return tuple(found.items)


class _Validator:
    """One validation: the document for references, and what was found."""

    def __init__(self, root: Schema, found: Findings) -> None:
        self.root = root
        self.found = found

    def bad(self, place: str, message: str, code: str) -> None:
        self.found.add(place, message, code=f"schema.{code}")

    def fits(self, schema: Any, value: Any, place: str, depth: int) -> Findings:
        """Return the problems of a value with one of several schemas, apart from the others."""
        inner = _Validator(self.root, Findings())
        inner.check(schema, value, place, depth)
        return inner.found

    def check(self, schema: Any, value: Any, place: str, depth: int) -> None:
        if schema is True:
            return
        if schema is False:
            self.bad(place, "is not allowed here", "forbidden")
            return
        if depth > _REF_LIMIT:
            self.bad(place, "is nested deeper than the schema can be followed", "depth")
            return
        if "$ref" in schema:
            self.check(_resolve(self.root, schema["$ref"]), value, place, depth + 1)
        if not self._type(schema, value, place):
            return
        if "enum" in schema and not any(_same(value, item) for item in schema["enum"]):
            allowed = ", ".join(repr(item) for item in schema["enum"])
            self.found.add(
                place, f"{_shown(value)} is not allowed; allowed: {allowed}", code="schema.enum",
                hint=nearest(value, [item for item in schema["enum"] if isinstance(item, str)])
                if isinstance(value, str) else "",
            )
        if "const" in schema and not _same(value, schema["const"]):
            self.bad(place, f"{_shown(value)} is not allowed; allowed: {schema['const']!r}", "const")
        self._combined(schema, value, place, depth)
        if isinstance(value, str):
            self._text(schema, value, place)
        elif _is_number(value):
            self._number(schema, value, place)
        elif isinstance(value, dict):
            self._object(schema, cast("dict[str, Any]", value), place, depth)
        elif isinstance(value, list | tuple):
            self._array(schema, cast("list[Any]", value), place, depth)

    def _type(self, schema: Schema, value: Any, place: str) -> bool:
        wanted = schema.get("type")
        names = cast("list[str]", wanted if isinstance(wanted, list) else [wanted])
        if wanted is None or any(_IS[name](value) for name in names):
            return True
        self.bad(place, f"{_shown(value)} is {kind_of(value)}; allowed: {' or '.join(names)}", "type")
        return False

    def _combined(self, schema: Schema, value: Any, place: str, depth: int) -> None:
        for part in schema.get("allOf", ()):
            self.check(part, value, place, depth + 1)
        if "anyOf" in schema:
            tries = [self.fits(part, value, place, depth + 1) for part in schema["anyOf"]]
            self._report_none(tries, place)
        if "oneOf" in schema:
            tries = [self.fits(part, value, place, depth + 1) for part in schema["oneOf"]]
            matching = sum(not attempt.items for attempt in tries)
            if matching > 1:
                self.bad(place, f"fits {matching} of the alternatives; it must fit exactly one", "one_of")
            self._report_none(tries, place)
        if "not" in schema and not self.fits(schema["not"], value, place, depth + 1).items:
            self.bad(place, f"{_shown(value)} has a form that is not allowed", "not")

    def _report_none(self, tries: list[Findings], place: str) -> None:
        if all(attempt.items for attempt in tries):
            closest = min(tries, key=lambda attempt: (-max(len(p.place) for p in attempt.items), len(attempt.items)))
            reasons = "; ".join(str(problem) for problem in closest.items[:3])
            self.bad(place, f"fits none of the {len(tries)} alternatives; closest: {reasons}", "any_of")

    def _text(self, schema: Schema, value: str, place: str) -> None:
        self._count(schema, len(value), place, "Length", "characters")
        pattern = schema.get("pattern")
        if pattern is not None and not matches(pattern, value):
            self.bad(place, f"{_shown(value)} does not match {pattern!r}", "pattern")

    def _number(self, schema: Schema, value: float, place: str) -> None:
        for key, words, good in _BOUNDS:
            if key in schema and not good(value, schema[key]):
                self.bad(place, f"{value!r} is not allowed; allowed: {words} {schema[key]!r}", "range")
        step = schema.get("multipleOf")
        if step is not None and abs(value / step - round(value / step)) > 1e-9:
            self.bad(place, f"{value!r} is not a multiple of {step!r}", "range")

    def _count(self, schema: Schema, n: int, place: str, what: str, unit: str) -> None:
        low, high = schema.get(f"min{what}"), schema.get(f"max{what}")
        if low is not None and n < low:
            self.bad(place, f"has {n} {unit}; at least {low} are needed", "size")
        if high is not None and n > high:
            self.bad(place, f"has {n} {unit}; at most {high} are allowed", "size")

    def _object(self, schema: Schema, value: dict[str, Any], place: str, depth: int) -> None:
        self._count(schema, len(value), place, "Properties", "properties")
        declared: Schema = schema.get("properties", {})
        patterns: Schema = schema.get("patternProperties", {})
        for name in schema.get("required", ()):
            if name not in value:
                self.bad(pointer(place, name), f"{name!r} is required", "required")
        for name, item in value.items():
            spot = pointer(place, name)
            matching = [part for pattern, part in patterns.items() if matches(pattern, name)]
            for part in ([declared[name]] if name in declared else []) + matching:
                self.check(part, item, spot, depth + 1)
            if name in declared or matching or "additionalProperties" not in schema:
                continue
            if schema["additionalProperties"] is False:
                allowed = ", ".join(declared) or "nothing"
                self.found.add(
                    spot, f"{name!r} is not allowed; allowed: {allowed}", code="schema.additional",
                    hint=nearest(name, declared),
                )
            else:
                self.check(schema["additionalProperties"], item, spot, depth + 1)

    def _array(self, schema: Schema, value: list[Any], place: str, depth: int) -> None:
        self._count(schema, len(value), place, "Items", "items")
        first: list[Any] = schema.get("prefixItems", [])
        for at, item in enumerate(value):
            part = first[at] if at < len(first) else schema.get("items", True)
            self.check(part, item, pointer(place, at), depth + 1)
        if schema.get("uniqueItems") and len({_encode(item) for item in value}) < len(value):
            self.bad(place, "has items more than once", "unique")


_BOUNDS: tuple[tuple[str, str, Callable[[float, float], bool]], ...] = (
    ("minimum", "at least", lambda value, limit: value >= limit),
    ("maximum", "at most", lambda value, limit: value <= limit),
    ("exclusiveMinimum", "more than", lambda value, limit: value > limit),
    ("exclusiveMaximum", "less than", lambda value, limit: value < limit),
)


_IS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": lambda value: _is_number(value) and float(value).is_integer(),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list | tuple),
    "null": lambda value: value is None,
}


def _same(a: Any, b: Any) -> bool:
    """Return whether two JSON values are equal, true and 1 being different."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, dict | list | tuple) else "the value"
    return text if len(text) <= 60 else text[:57] + "..."
