"""Reads the operations of a patch and applies them to a definition's document.

A patch is a JSON Patch on `/nodes` and `/edges`. Nodes may be named by id instead of by their place in the list, edges
as `from->to`; such names are translated to places just before each operation, because every operation moves places.

Source:
    RFC 6902 for operations, RFC 6901 for pointers; https://www.rfc-editor.org/rfc/rfc6902
"""

from __future__ import annotations

import copy
from typing import Any, cast

import msgspec
from jsonpatch import JsonPatch, JsonPatchException, JsonPatchTestFailed, make_patch
from jsonpointer import JsonPointerException

from tenuto.domain.base.nearest import did_you_mean
from tenuto.domain.graph.model import Edge, Node
from tenuto.domain.graph.reading import Findings, json_copy, kind_of
from tenuto.errors import Problem

Operation = dict[str, Any]
COPIED_BYTES = 65_536
"""The most that the copies of one patch may add: each may double what is there."""
NAMES = ("add", "remove", "replace", "move", "copy", "test")
ROOTS = ("nodes", "edges")
_FIELDS = {
    "add": ("op", "path", "value"), "remove": ("op", "path"), "replace": ("op", "path", "value"),
    "move": ("op", "path", "from"), "copy": ("op", "path", "from"), "test": ("op", "path", "value"),
}
_ARROW = "->"
_DEFAULTED = {"nodes": frozenset(Node.__struct_encode_fields__), "edges": frozenset(Edge.__struct_encode_fields__)}


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How large a patch may be: operations, and bytes of its JSON."""

    operations: int = 50
    bytes: int = 65_536


def read_operations(document: Any, bounds: Bounds) -> tuple[list[Operation], tuple[Problem, ...]]:
    """Return the operations a document lists and every fault in it; with faults, the operations mean nothing.

    Args:
        document: A list of JSON Patch operations as a JSON or YAML reader gives it.
    """
    found = Findings()
    data: Any = json_copy(document, "", found)
    if not isinstance(data, list):
        found.add("", f"a patch is a list of operations, not {kind_of(data)}", code="patch.type")
        return [], tuple(found.items)
    items = cast("list[Any]", data)
    size = len(msgspec.json.encode(items))
    if not items:
        found.add("", "the patch has no operations; give at least one", code="patch.empty")
    if len(items) > bounds.operations:
        found.add("", f"the patch has {len(items)} operations; at most {bounds.operations} are allowed", code="patch.size",
                  hint="propose it in parts")
    if size > bounds.bytes:
        found.add("", f"the patch is {size:,} bytes; at most {bounds.bytes:,} are allowed", code="patch.size",
                  hint="keep large values outside of the graph")
    if not found.items:
        for at, item in enumerate(items):
            _check(item, f"/{at}", found)
    return cast("list[Operation]", items), tuple(found.items)


def _check(item: Any, place: str, found: Findings) -> None:
    if not isinstance(item, dict):
        found.add(place, f"an operation is an object with 'op' and 'path', not {kind_of(item)}", code="patch.type")
        return
    fields = cast("Operation", item)
    name = fields.get("op")
    if name not in NAMES:
        found.add(f"{place}/op", f"{name!r} is not an operation; allowed: {', '.join(NAMES)}", code="patch.operation")
        return
    for field in _FIELDS[name]:
        if field not in fields:
            found.add(place, f"the operation {name!r} needs {field!r}", code="patch.operation")
    for field in fields:
        if field not in _FIELDS[name]:
            found.add(f"{place}/{field}", f"the operation {name!r} has no field {field!r}", code="patch.operation")
    for field in ("path", "from"):
        if field in _FIELDS[name] and field in fields:
            _check_path(fields[field], f"{place}/{field}", found)


def _check_path(path: Any, place: str, found: Findings) -> None:
    if not isinstance(path, str) or not path.startswith("/"):
        found.add(place, f"{path!r} is no JSON pointer; write '/nodes/-', '/nodes/ID/config/…' or '/edges/FROM->TO'",
                  code="patch.path")
        return
    parts = path.split("/")[1:]
    if parts[0] not in ROOTS:
        found.add(place, f"{path!r} is outside of what a patch may change; allowed: paths below /nodes and /edges",
                  code="patch.path")
    elif len(parts) == 1 or not parts[1]:
        found.add(place, f"{path!r} is the whole list; name one entry, as in '/{parts[0]}/-' to add at the end",
                  code="patch.path")


def apply(document: dict[str, Any], operations: list[Operation]) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """Return the document after the operations, and the fault of the first one that cannot be applied.

    Args:
        document: A definition's canonical JSON; it is not changed.
        operations: As `read_operations` returned them without faults.
    """
    made = copy.deepcopy(document)
    for name in ROOTS:
        made.setdefault(name, [])
    found, copied = Findings(), 0
    for at, operation in enumerate(operations):
        if (step := _translated(made, operation, f"/{at}", found)) is None:
            break
        copied += _copies(made, step)
        if copied > COPIED_BYTES:
            found.add(f"/{at}", f"the patch copies more than {COPIED_BYTES:,} bytes", code="patch.size")
            break
        try:
            made = JsonPatch([step]).apply(made, in_place=True)
        except JsonPatchTestFailed:
            found.add(f"/{at}", f"the value at {operation['path']!r} is not the one that was tested for", code="patch.test")
            break
        except (JsonPatchException, JsonPointerException) as exc:
            found.add(f"/{at}", f"{operation['op']} {operation['path']!r} is not possible: {exc}", code="patch.conflict")
            break
    return made, tuple(found.items)


def _copies(document: dict[str, Any], step: Operation) -> int:
    """Return how many bytes of JSON an operation copies; nothing when it is none that can be made."""
    if step["op"] != "copy":
        return 0
    here: Any = document
    for part in step["from"].split("/")[1:]:
        here = _inside(here, part)
    return len(msgspec.json.encode(here))


def between(before: dict[str, Any], after: dict[str, Any]) -> list[Operation]:
    """Return operations that make one document of the other, by places in lists."""
    return make_patch(before, after).patch


# --- names instead of places -----------------------------------------------------------------------------------


def _translated(document: dict[str, Any], operation: Operation, place: str, found: Findings) -> Operation | None:
    made = dict(operation)
    for field in ("from", "path"):
        if field in operation:
            path = _located(document, operation[field], f"{place}/{field}", found)
            if path is None:
                return None
            made[field] = path
    if "value" in made:
        made["value"] = copy.deepcopy(made["value"])
    if made["op"] == "replace" and _is_default(document, made["path"]):
        made["op"] = "add"  # the canonical form leaves out what has its default
    return made


def _is_default(document: dict[str, Any], path: str) -> bool:
    """Say whether a path is that of a field of a node or an edge that the document leaves out."""
    *above, last = path.split("/")[1:]
    here: Any = document
    for part in above:
        here = _inside(here, part)
    owner = above[-2] if len(above) > 1 else ""
    return isinstance(here, dict) and last not in here and last in _DEFAULTED.get(owner, ())


def _located(document: dict[str, Any], path: str, place: str, found: Findings) -> str | None:
    """Return a pointer with the names of nodes and edges in it turned to places, bodies of maps included."""
    parts = path.split("/")[1:]
    here: Any = document
    for at, part in enumerate(parts):
        if isinstance(here, dict):
            fields = cast("dict[str, Any]", here)
            if part == "config" and at < len(parts) - 1 and "id" in fields:
                fields.setdefault("config", {})  # the canonical form leaves out what is empty
            here = _inside(fields, part)
            continue
        if not isinstance(here, list):
            break
        items = cast("list[Any]", here)
        owner = parts[at - 1]
        if owner in ROOTS and part != "-" and not part.isdecimal():
            index = _index(items, owner, _plain(part))
            if index is None:
                _unknown(items, owner, _plain(part), place, found)
                return None
            parts[at] = part = str(index)
        here = _inside(items, part)
    return "/" + "/".join(parts)


def _inside(here: Any, part: str) -> Any:
    if isinstance(here, dict):
        return cast("dict[str, Any]", here).get(_plain(part))
    items = cast("list[Any]", here) if isinstance(here, list) else []
    return items[int(part)] if part.isdecimal() and int(part) < len(items) else None


def _plain(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def _index(items: list[Any], owner: str, name: str) -> int | None:
    for at, item in enumerate(items):
        if isinstance(item, dict) and _name(cast("dict[str, Any]", item), owner) == name:
            return at
    return None


def _name(item: dict[str, Any], owner: str) -> str:
    return str(item.get("id")) if owner == "nodes" else f"{item.get('from')}{_ARROW}{item.get('to')}"


def _unknown(items: list[Any], owner: str, name: str, place: str, found: Findings) -> None:
    names = [_name(cast("dict[str, Any]", item), owner) for item in items if isinstance(item, dict)]
    what = "node" if owner == "nodes" else "edge"
    found.add(place, f"there is no {what} {name!r}{did_you_mean(name, names)}", code=f"patch.unknown_{what}")
