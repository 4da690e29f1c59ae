"""Reads JSON values as the types people annotate with, and describes those types as JSON Schema.

msgspec serves the standard types, its own structs, dataclasses and typed dictionaries; pydantic is loaded for
its own models only.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec


def takes_whole_input(hint: Any) -> bool:
    """Return whether a lone parameter of this type stands for the input itself rather than one field of it."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return takes_whole_input(typing.get_args(hint)[0])
    kind: Any = origin or hint
    if not isinstance(kind, type):
        return False
    found = cast("type[Any]", kind)
    mappings = (dict, Mapping, msgspec.Struct)
    return issubclass(found, mappings) or dataclasses.is_dataclass(kind) or typing.is_typeddict(found) or is_pydantic(found)


def is_pydantic(hint: Any) -> bool:
    """Return whether a type is a pydantic model, without loading pydantic for those that are not."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(hint, type) and issubclass(hint, pydantic.BaseModel)


def _mentions_pydantic(hint: Any) -> bool:
    return is_pydantic(hint) or any(_mentions_pydantic(part) for part in typing.get_args(hint))


def reader_of(hint: Any) -> Callable[[Any], Any]:
    """Return what turns a JSON value into this type, or raises `ValueError` with the reason.

    Raises:
        TypeError: No JSON value can become this type.
    """
    if hint is Any or hint is object:
        return lambda value: value
    if _mentions_pydantic(hint):
        return _pydantic_reader(hint)
    msgspec.json.Decoder(hint)
    _refuse_custom(hint)
    return lambda value: msgspec.convert(value, hint)


def _refuse_custom(hint: Any) -> None:
    """Refuse classes msgspec would only accept as they are, because JSON has no such values."""
    info = msgspec.inspect.type_info(hint)
    if isinstance(info, msgspec.inspect.CustomType):
        raise TypeError(f"{hint!r} has no JSON form; use a dataclass, a msgspec.Struct or a pydantic model")


def _pydantic_reader(hint: Any) -> Callable[[Any], Any]:
    pydantic = sys.modules["pydantic"]
    return pydantic.TypeAdapter(hint).validate_python


def describe_types(hints: Sequence[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the JSON Schema of each type and the definitions they share, for `#/$defs`."""
    plain = [hint for hint in hints if not _mentions_pydantic(hint)]
    described, shared = msgspec.json.schema_components(plain, ref_template="#/$defs/{name}")
    definitions = dict(shared)
    rest = iter(described)
    found: list[dict[str, Any]] = []
    for hint in hints:
        if not _mentions_pydantic(hint):
            found.append(next(rest))
            continue
        schema = cast("dict[str, Any]", sys.modules["pydantic"].TypeAdapter(hint).json_schema())
        definitions.update(schema.pop("$defs", {}))
        found.append(schema)
    return found, definitions


def schema_of_type(hint: Any) -> dict[str, Any]:
    """Return one type's JSON Schema as a document of its own."""
    (schema,), definitions = describe_types([hint])
    reference = schema.get("$ref", "")
    if reference.startswith("#/$defs/") and set(schema) == {"$ref"}:
        name = reference.removeprefix("#/$defs/")
        if reference not in str(definitions):
            schema = definitions.pop(name)
    return {**schema, "$defs": definitions} if definitions else schema
