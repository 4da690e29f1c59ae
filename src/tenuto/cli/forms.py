"""Asks a person for what a form wants, one line a field."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

from tenuto.cli.out import clean

_PLAIN = ("string", "number", "integer", "boolean")


def ask_form(form: dict[str, Any], line: Callable[[str], str], note: Callable[[str], None]) -> Any:
    """Return the data a form asks for: of an object every property by itself, of anything else one JSON value."""
    properties = form.get("properties")
    if not isinstance(properties, dict):
        return _ask("Data", form, True, line, note)
    needed = cast("list[str]", form.get("required") or [])
    found: dict[str, Any] = {}
    for name, schema in cast("dict[str, Any]", properties).items():
        value = _ask(name, cast("dict[str, Any]", schema) if isinstance(schema, dict) else {}, name in needed, line, note)
        if value is not None:
            found[name] = value
    return found


def _ask(name: str, schema: dict[str, Any], needed: bool, line: Callable[[str], str], note: Callable[[str], None]) -> Any:
    kind = schema.get("type")
    words = [clean(str(schema.get("title") or name))]
    if schema.get("enum"):
        words.append("one of " + ", ".join(clean(str(item)) for item in schema["enum"]))
    elif kind in _PLAIN:
        words.append({"boolean": "yes or no", "string": "text"}.get(kind, kind))
    else:
        words.append("JSON")
    prompt = f"{words[0]} ({words[1]}{'' if needed else ', may be empty'}): "
    while True:
        typed = line(prompt)
        if not typed and not needed:
            return None
        try:
            return _value(typed, kind)
        except ValueError:
            note(f"That is not {'a number' if kind in ('number', 'integer') else words[1]}; Ctrl-C leaves the ticket open.")


def _value(typed: str, kind: Any) -> Any:
    if kind == "string":
        return typed
    if kind == "boolean":
        meant = {"yes": True, "y": True, "true": True, "no": False, "n": False, "false": False}
        if typed.lower() not in meant:
            raise ValueError(typed)
        return meant[typed.lower()]
    if kind == "integer":
        return int(typed)
    value = json.loads(typed)
    if kind == "number" and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(typed)
    return value
