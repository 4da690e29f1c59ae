"""Templates: JSON whose texts may refer to a run's values, as in `${nodes.parse.output.total}`.

A text that is one reference keeps the value's type; inside other text the value is written out. `$${` stands
for a literal `${`. What a template refers to is known before it is rendered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeAlias, cast

import msgspec

from tenuto.domain.base.canonical import canonical_json
from tenuto.domain.base.pointers import pointer
from tenuto.domain.base.reference_text import ReferenceFault, Segment, split_template
from tenuto.errors import InputMissing, Invalid

REQUESTS = "requests"
REFERENCE_ROOTS = ("input", "nodes", "run", "item", "index", "iteration", "error", "output", REQUESTS)
_KEYS_SHOWN = 10


class ReferenceSyntaxError(Invalid):
    """A template has a reference that cannot be read; the text has its place and column."""

    code = "reference.invalid"


class Reference(msgspec.Struct, frozen=True):
    """One reference in a template.

    Attributes:
        text: As the author wrote it, braces included.
        root: `input`, `nodes`, `run`, `item`, `index`, `iteration`, `error`, `output` or, within a node that makes several,
            `requests`.
        node: The node whose output is meant when the root is `nodes`, else `None`.
        path: Keys and list indexes below the root's value; for `nodes` below the node's output.
        place: JSON pointer of the text that holds it.
    """

    text: str
    root: str
    node: str | None
    path: tuple[Segment, ...]
    place: str

    def __str__(self) -> str:
        return self.text

    def resolve(self, base: Any) -> Any:
        """Return what the path leads to from the root's value.

        Raises:
            ReferenceMissing: The path ends early.
        """
        value = base
        for depth, key in enumerate(self.path):
            if isinstance(value, dict):
                members = cast("dict[str, Any]", value)
                if key not in members:
                    raise ReferenceMissing(self, depth, members)
                value = members[key]
            elif isinstance(value, list):
                items = cast("list[Any]", value)
                index = int(key) if isinstance(key, str) and key.isascii() and key.isdigit() else key
                if not isinstance(index, int) or index >= len(items):
                    raise ReferenceMissing(self, depth, items)
                value = items[index]
            else:
                raise ReferenceMissing(self, depth, value)
        return value


class ReferenceMissing(InputMissing):
    """A reference leads nowhere: names it whole, the part of it that exists, and what is there."""

    code = "reference.missing"

    def __init__(self, reference: Reference, depth: int, found: Any) -> None:
        """Say how far the path goes.

        Args:
            reference: The one that leads nowhere.
            depth: How many parts of the path exist; below 0 not even the root has a value.
            found: The value where the path ends.
        """
        self.reference = reference
        if depth < 0:
            super().__init__(f"{reference.text} has no value here: there is no {_root(reference)}")
            return
        reached = _root(reference) + "".join(_spelled(key) for key in reference.path[:depth])
        missing = reference.path[depth]
        super().__init__(f"{reference.text} does not exist: {reached} {_lack(found, missing)}")


Lookup: TypeAlias = Callable[[Reference], Any]


class _Constant(msgspec.Struct, frozen=True):
    value: Any

    def render(self, lookup: Lookup) -> Any:
        return self.value


class _Whole(msgspec.Struct, frozen=True):
    reference: Reference

    def render(self, lookup: Lookup) -> Any:
        return _value(self.reference, lookup)


class _Text(msgspec.Struct, frozen=True):
    parts: tuple[str | Reference, ...]

    def render(self, lookup: Lookup) -> Any:
        return "".join([part if isinstance(part, str) else _as_text(part, lookup) for part in self.parts])


class _Object(msgspec.Struct, frozen=True):
    members: tuple[tuple[str, Any], ...]

    def render(self, lookup: Lookup) -> Any:
        return {key: part.render(lookup) for key, part in self.members}


class _List(msgspec.Struct, frozen=True):
    members: tuple[Any, ...]

    def render(self, lookup: Lookup) -> Any:
        return [part.render(lookup) for part in self.members]


class Template:
    """A parsed template; rendering it any number of times never parses again.

    Attributes:
        references: Every reference in it, in document order, repeated as often as written.
    """

    __slots__ = ("_root", "references")

    def __init__(self, root: Any, references: tuple[Reference, ...]) -> None:
        self._root = root
        self.references = references

    @property
    def is_constant(self) -> bool:
        """Whether rendering needs no values."""
        return not self.references

    def render(self, lookup: Lookup) -> Any:
        """Return the value with every reference filled in. Constant parts are the parsed ones, not copies.

        Args:
            lookup: Returns the value of a reference's root, of its node's output for `nodes`; the path below
                is followed here. It raises `LookupError` when there is none. Asked once for each reference.

        Raises:
            ReferenceMissing: A reference leads nowhere.
        """
        return self._root.render(lookup)


def parse_template(value: Any, *, roots: Collection[str] = REFERENCE_ROOTS) -> Template:
    """Return the parsed form of a JSON value whose texts may hold references; keys are taken as they are.

    Raises:
        ReferenceSyntaxError: A reference cannot be read, or its root is none of `roots`.
    """
    references: list[Reference] = []
    return Template(_parse(value, (), references, roots), tuple(references))


def _parse(value: Any, path: tuple[str | int, ...], found: list[Reference], roots: Collection[str]) -> Any:
    if isinstance(value, str):
        return _parse_text(value, path, found, roots) if "$" in value else _Constant(value)
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        parts = [(key, _parse(member, (*path, key), found, roots)) for key, member in members.items()]
        constant = all(isinstance(part, _Constant) and part.value is members[key] for key, part in parts)
        return _Constant(members) if constant else _Object(tuple(parts))
    if isinstance(value, list):
        items = cast("list[Any]", value)
        inner = [_parse(member, (*path, index), found, roots) for index, member in enumerate(items)]
        pairs = zip(inner, items, strict=True)
        constant = all(isinstance(part, _Constant) and part.value is item for part, item in pairs)
        return _Constant(items) if constant else _List(tuple(inner))
    return _Constant(value)


def _parse_text(
    text: str, path: tuple[str | int, ...], found: list[Reference], roots: Collection[str]
) -> Any:
    place = pointer(path)
    try:
        pieces = split_template(text, roots)
    except ReferenceFault as fault:
        message = f"{place or 'the template'}, column {fault.column}: {fault}"
        raise ReferenceSyntaxError(message, place=place, column=fault.column) from fault
    parts: list[str | Reference] = []
    for piece in pieces:
        if isinstance(piece, str):
            parts.append(piece)
        else:
            parts.append(Reference(piece.text, piece.root, piece.node, piece.path, place))
    found.extend(part for part in parts if isinstance(part, Reference))
    if len(parts) == 1:
        only = parts[0]
        return _Whole(only) if isinstance(only, Reference) else _Constant(text if only == text else only)
    return _Text(tuple(parts))


def _value(reference: Reference, lookup: Lookup) -> Any:
    try:
        base = lookup(reference)
    except LookupError as error:
        raise ReferenceMissing(reference, -1, None) from error
    return reference.resolve(base) if reference.path else base


def _as_text(reference: Reference, lookup: Lookup) -> str:
    value = _value(reference, lookup)
    return value if isinstance(value, str) else canonical_json(value).decode()


def _root(reference: Reference) -> str:
    if reference.node is None:
        return reference.root
    return f"nodes{_spelled(reference.node)}.output"


def _spelled(key: Segment) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    plain = key.replace("-", "_").isidentifier() or key.isdigit()
    return f".{key}" if plain else f"[{msgspec.json.encode(key).decode()}]"


def _lack(found: Any, key: Segment) -> str:
    if isinstance(found, dict):
        keys = list(cast("dict[str, Any]", found))
        shown = ", ".join(repr(name) for name in keys[:_KEYS_SHOWN])
        more = f", and {len(keys) - _KEYS_SHOWN} more" if len(keys) > _KEYS_SHOWN else ""
        return f"has no key {key!r}; it has {shown}{more}" if keys else f"has no key {key!r}; it is empty"
    if isinstance(found, list):
        count = len(cast("list[Any]", found))
        return f"has no element {key!r}; it is a list of {count}"
    kind = cast("type[Any]", type(found))
    return f"is {_KINDS.get(kind, 'no object')}, so it has no {key!r}"


_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a text",
}
