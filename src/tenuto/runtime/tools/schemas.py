"""Schemas that others wrote: brought to the part of JSON Schema that is checked here.

What is left out only makes a schema milder; whoever serves the tool checks its arguments again.
"""

from __future__ import annotations

from typing import Any, cast

from tenuto.domain.graph.schema import KEYWORDS, check_schema

Schema = dict[str, Any]
_MAPS = frozenset({"properties", "$defs", "definitions", "patternProperties"})
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SINGLE = frozenset({"additionalProperties", "items", "not"})


def understood(schema: Any) -> Schema:
    """Return a schema of an object without what is not checked here; any object where nothing can be made of it."""
    found = _prune(schema)
    if not isinstance(found, dict):
        return {"type": "object"}
    found = cast("Schema", found)
    found.setdefault("type", "object")
    return {"type": "object"} if check_schema(found) else found


def _prune(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    found: Schema = {}
    for key, value in cast("Schema", schema).items():
        name = "$defs" if key == "definitions" else key
        if key in _MAPS and isinstance(value, dict):
            found.setdefault(name, {}).update({k: _prune(v) for k, v in cast("Schema", value).items()})
        elif key in _LISTS and isinstance(value, list):
            found[name] = [_prune(item) for item in cast("list[Any]", value)]
        elif key in _SINGLE:
            found[name] = _prune(value)
        elif key == "$ref" and isinstance(value, str):
            found[name] = value.replace("#/definitions/", "#/$defs/")
        elif key in KEYWORDS:
            found[name] = value
    return found
