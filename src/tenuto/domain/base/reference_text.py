"""The grammar of references inside texts.

    text       = { literal | "$${" | "${" reference "}" } | "$nodes" path
    reference  = [ "$" ] root { "." name | "[" index "]" | "[" quoted "]" }

`$nodes.id.path` is the spelling of S2, where `nodes.id` is the node's output itself; so is `ctx.id.path`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from tenuto.domain.base.nearest import did_you_mean

Segment: TypeAlias = str | int

_OPENING = re.compile(r"(\$+)\{")
_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[\w-]+")
_SEGMENT = re.compile(
    r"""
    \.(?P<name>[\w-]+)
  | \[\s*(?: (?P<index>[0-9]+) | (?P<double>"(?:\\.|[^"\\])*") | '(?P<single>[^']*)' )\s*\]
    """,
    re.VERBOSE,
)
_S2 = re.compile(r"\$(nodes\b.*)", re.DOTALL)


class ReferenceFault(ValueError):
    """A reference cannot be read."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.column = at + 1


@dataclass(frozen=True, slots=True)
class ParsedReference:
    """A reference as it stands in a text; see `Reference`."""

    text: str
    root: str
    node: str | None
    path: tuple[Segment, ...]


def split_template(text: str, roots: Collection[str]) -> list[str | ParsedReference]:
    """Return a text's literal pieces and references in order; at least one piece.

    Raises:
        ReferenceFault: A reference cannot be read.
    """
    whole = _bare(text, roots)
    if whole is not None:
        return [whole]
    pieces: list[str | ParsedReference] = []
    literal, done = "", 0
    while opening := _OPENING.search(text, done):
        dollars = len(opening[1])
        literal += text[done : opening.start()] + "$" * (dollars // 2)  # each pair is one literal dollar
        if dollars % 2 == 0:
            literal, done = literal + "{", opening.end()
            continue
        reference, done = _braced(text, opening.end(), roots)
        if literal:
            pieces.append(literal)
        literal = ""
        pieces.append(reference)
    literal += text[done:]
    if literal or not pieces:
        pieces.append(literal)
    return pieces


def _bare(text: str, roots: Collection[str]) -> ParsedReference | None:
    """Return the reference that is the whole text in S2's spelling without braces."""
    if _S2.fullmatch(text) is None:
        return None
    reference, end = _reference(text, 0, roots)
    if end != len(text):
        raise ReferenceFault("inside text a reference needs braces, as in ${nodes.parse.output.total}", end)
    return reference


def _braced(text: str, start: int, roots: Collection[str]) -> tuple[ParsedReference, int]:
    reference, end = _reference(text, _skip(text, start), roots)
    end = _skip(text, end)
    if end >= len(text):
        raise ReferenceFault("the reference has no closing }; a literal ${ is written $${", start - 2)
    if text[end] != "}":
        hint = 'a key with other characters is written ["the key"]'
        raise ReferenceFault(f"{text[end]!r} cannot stand in a reference; {hint}", end)
    whole = ParsedReference(text[start - 2 : end + 1], reference.root, reference.node, reference.path)
    return whole, end + 1


def _reference(text: str, start: int, roots: Collection[str]) -> tuple[ParsedReference, int]:
    at = start + 1 if text.startswith("$", start) else start
    name = _NAME.match(text, at)
    if name is None:
        raise ReferenceFault("a reference is missing, as in ${input.topic}; a literal ${ is written $${", at)
    root = name[0]
    is_s2 = at > start or root == "ctx"
    if root == "ctx" and "nodes" in roots:
        root = "nodes"
    if root not in roots:
        hint = did_you_mean(root, roots) or f"; there are {', '.join(roots)}"
        raise ReferenceFault(f"{root!r} is nothing to refer to{hint}", at)
    path, end = _path(text, name.end())
    if root == "nodes":
        node, path = _node_of(path, at, is_s2=is_s2)
        return ParsedReference(text[start:end], root, node, path), end
    return ParsedReference(text[start:end], root, None, path), end


def _path(text: str, at: int) -> tuple[tuple[Segment, ...], int]:
    path: list[Segment] = []
    while segment := _SEGMENT.match(text, at):
        if segment["index"] is not None:
            path.append(int(segment["index"]))
        elif segment["double"] is not None:
            path.append(_unquoted(segment["double"], segment.start("double")))
        else:
            path.append(segment["name"] if segment["name"] is not None else segment["single"])
        at = segment.end()
    return tuple(path), at


def _unquoted(quoted: str, at: int) -> str:
    try:
        return msgspec.json.decode(quoted, type=str)
    except msgspec.DecodeError as error:
        raise ReferenceFault(f"{quoted} is no JSON text", at) from error


def _node_of(path: tuple[Segment, ...], at: int, *, is_s2: bool) -> tuple[str, tuple[Segment, ...]]:
    """Return the node and the path below its output; S2's spelling may leave `.output` out."""
    node = path[0] if path else 0
    if isinstance(node, int):
        raise ReferenceFault("a node's id is missing, as in ${nodes.parse.output}", at)
    if path[1:2] == ("output",):
        return node, path[2:]
    if is_s2:
        return node, path[1:]
    raise ReferenceFault(f"after a node's id comes .output, as in ${{nodes.{node}.output}}", at)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
