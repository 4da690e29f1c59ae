"""The schemas of public events, made from the one table that names them."""

from __future__ import annotations

from typing import Any

import msgspec

from tenuto.domain.runs.public import DELTA, SAID, TABLE, WITHDRAWN, Public, PublicEvent

EVENT = "Event"
_INSTANT = {"type": ["string", "null"], "format": "date-time"}
_INSTANTS = frozenset({"retry_at", "start_at", "expires_at", "until"})


def event_schemas(ref: str) -> dict[str, Any]:
    """Return a schema for each public event, what they refer to, and `Event`, which is any one of them.

    Args:
        ref: Template of references, with `{name}`.
    """
    fields = [(kind, field) for kind, entry in TABLE.items() for field in msgspec.structs.fields(kind)
              if field.name in entry.fields]  # fmt: skip
    typed = [(kind, field) for kind, field in fields if field.type is not msgspec.Raw]
    found, schemas = msgspec.json.schema_components([field.type for _, field in typed], ref_template=ref)
    known = {(kind, field.name): schema for (kind, field), schema in zip(typed, found, strict=True)}
    mapping: dict[str, str] = {}
    for kind, entry in TABLE.items():
        name = "".join(word.capitalize() for word in entry.name.replace(".", "_").split("_")) + EVENT
        data = {
            public: dict(_INSTANT) if field in _INSTANTS else known.get((kind, field), {})
            for field, public in entry.fields.items()
        }
        schemas[name] = _schema(entry, data, ref)
        mapping[entry.name] = ref.format(name=name)
    text = {"type": "string"}
    told = {"attempt": {"type": "integer"}, "provisional": {"const": True}}
    for name, entry, own in (
        ("StepLogEvent", SAID, {"level": text, "message": text}),
        ("CallDeltaEvent", DELTA, {"call": text, "text": text}),
        ("CallWithdrawnEvent", WITHDRAWN, {"call": text}),
    ):
        schemas[name] = _schema(entry, {**own, **told}, ref)
        mapping[entry.name] = ref.format(name=name)
    schemas[EVENT] = {
        "description": "One fact of a run. `type` says which.",
        "oneOf": [{"$ref": target} for target in mapping.values()],
        "discriminator": {"propertyName": "type", "mapping": mapping},
    }
    return schemas


def _schema(entry: Public, data: dict[str, Any], ref: str) -> dict[str, Any]:
    own = {
        "type": "object",
        "properties": {"type": {"const": entry.name}, "data": {"type": "object", "properties": data}},
    }
    return {"description": entry.says, "allOf": [{"$ref": ref.format(name=PublicEvent.__name__)}, own]}
