"""A form of a question as fields of a page, and what was filled in as data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from tenuto.errors import Invalid, Problem

WHOLE = "data"
FIELD = "data."


class Field(msgspec.Struct, frozen=True):
    """One field.

    Attributes:
        kind: `text`, `number`, `choice`, `json`.
        choices: What may be chosen.
        value: What was filled in before.
    """

    name: str
    title: str
    kind: str
    needed: bool = False
    choices: list[str] = []
    hint: str = ""
    value: str = ""


def fields_of(form: Mapping[str, Any] | None, given: Mapping[str, str]) -> list[Field]:
    """Return the fields of a form: of an object every property by itself, of anything else one for all of it."""
    if form is None:
        return []
    properties = form.get("properties")
    if not isinstance(properties, dict):
        return [_field(WHOLE, "Data", form, True, given)]
    needed = cast("list[str]", form.get("required") or [])
    return [
        _field(FIELD + name, name, cast("dict[str, Any]", schema) if isinstance(schema, dict) else {}, name in needed, given)
        for name, schema in cast("dict[str, Any]", properties).items()
    ]


def _field(name: str, title: str, schema: Mapping[str, Any], needed: bool, given: Mapping[str, str]) -> Field:
    kind = {"string": "text", "number": "number", "integer": "number", "boolean": "choice"}.get(str(schema.get("type")), "json")
    choices = ["yes", "no"] if kind == "choice" else []
    if schema.get("enum") and kind in ("text", "number"):
        kind, choices = "choice", [str(item) for item in schema["enum"]]
    return Field(
        name=name, title=str(schema.get("title") or title), kind=kind, needed=needed, choices=choices,
        hint=str(schema.get("description") or ("JSON" if kind == "json" else "")), value=given.get(name, ""),
    )


def data_of(form: Mapping[str, Any] | None, given: Mapping[str, str]) -> Any:
    """Return what was filled in, of the types that the form asks for; a field left empty is not there.

    Raises:
        Invalid: A number or JSON is none; with every such field.
    """
    if form is None:
        return None
    problems: list[Problem] = []
    properties = form.get("properties")
    if not isinstance(properties, dict):
        found = _value(given.get(WHOLE, ""), form, "/data", problems)
    else:
        found = {
            name: _value(given[FIELD + name], cast("Any", schema if isinstance(schema, dict) else {}), f"/data/{name}", problems)
            for name, schema in cast("dict[str, Any]", properties).items() if given.get(FIELD + name, "").strip()
        }  # fmt: skip
    if problems:
        raise Invalid("what was filled in does not fit", problems=tuple(problems), code="ticket.data")
    return found


def _value(typed: str, schema: Mapping[str, Any], place: str, problems: list[Problem]) -> Any:
    kind, typed = schema.get("type"), typed.strip()
    if kind == "string":
        return typed
    if kind == "boolean" and typed in ("yes", "no"):
        return typed == "yes"
    try:
        return json.loads(typed)
    except (ValueError, RecursionError):
        wanted = {"integer": "a whole number", "number": "a number", "boolean": "yes or no"}.get(str(kind), "JSON")
        problems.append(Problem(place, f"{typed[:80]!r} is not {wanted}", code="ticket.data"))
        return None
