"""Which workflows a patch would start that nobody has published."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from tenuto.domain.graph.model import Definition
from tenuto.domain.overlays.operations import Bounds, apply, read_operations
from tenuto.domain.overlays.overlay import document_of
from tenuto.ports.store import Store


async def absent_workflows(store: Store, ns: str, definition: Definition, operations: Any) -> tuple[str, ...]:
    """Return the workflows, as `name@tag`, that operations on a definition let it name and that do not exist."""
    read, problems = read_operations(operations, Bounds())
    before = document_of(definition)
    after, faults = apply(before, read) if not problems else (before, problems)
    if faults:
        return ()
    new = dict.fromkeys(pair for pair in _named(after) if pair not in set(_named(before)))
    found: list[str] = []
    for name, tag in new:
        if "\x00" in name + tag or await store.resolve_tag(ns, name, tag) is None:
            found.append(f"{name}@{tag}")
    return tuple(found)


def _named(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the workflows that sub-flows of a document name, with their tags, bodies of maps included."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        config: Any = fields.get("config")
        if fields.get("kind") == "subflow" and isinstance(config, dict):
            name, tag = (cast("dict[str, Any]", config).get(key) for key in ("workflow", "tag"))
            version: Any = cast("dict[str, Any]", config).get("version")
            if isinstance(name, str):
                yield name, version if isinstance(version, str) else tag if isinstance(tag, str) else "latest"
        for inner in fields.values():
            yield from _named(inner)
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from _named(inner)
