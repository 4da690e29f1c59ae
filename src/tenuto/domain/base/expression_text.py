"""What an expression's text alone tells: S2's `$`, and which values it reads.

The library compiles and evaluates; it does not say what an expression reads. This reading errs on the safe
side: a value may be listed that is not needed, never the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
    (?P<space>   \s+ | //[^\n]* )
  | (?P<string>  [rR]?[bB]?[rR]?
                 (?: \"\"\".*?\"\"\" | '''.*?''' | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' ) )
  | (?P<number>  0[xX][0-9a-fA-F]+[uU]? | (?:\d+(?:\.\d+)?|(?<![\w)\]}`"'])\.\d+)(?:[eE][+-]?\d+)?[uU]? )
  | (?P<name>    [A-Za-z_]\w* )
  | (?P<quoted>  `[^`\n]*` )
  | (?P<mark>    \.\? | \[\? | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_PLAIN_STRING = re.compile(r"""(["'])([^"'\\]*)\1""")
_MACROS = frozenset(
    ("all", "exists", "exists_one", "existsOne", "map", "filter", "optMap", "optFlatMap", "sortBy")
)
_KEYWORDS = frozenset(("true", "false", "null", "in"))


class Token(NamedTuple):
    """A piece of an expression's text."""

    kind: str
    text: str
    at: int


@dataclass(slots=True)
class Reads:
    """What an expression reads.

    Attributes:
        paths: For each path read, its keys, the variable's name first; `()`-free.
        is_path: The whole expression is one such path and nothing else.
    """

    paths: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    is_path: bool = False


def tokens(text: str) -> list[Token]:
    """Return the pieces of a text, without spaces and comments."""
    found = (Token(match.lastgroup or "", match[0], match.start()) for match in _TOKEN.finditer(text))
    return [token for token in found if token.kind != "space"]


def without_dollar(text: str) -> str:
    """Return a text where S2's `$` reads `output`, but not inside strings.

    Raises:
        ValueError: A `$` begins a template's reference; the message says what to write.
    """
    if "$" not in text:
        return text
    pieces: list[str] = []
    done = 0
    for token in tokens(text):
        if token.text != "$":
            continue
        following = text[token.at + 1 : token.at + 2]
        if following == "{" or following.isalnum() or following == "_":
            raise ValueError(
                f"column {token.at + 1}: references with `$` belong in templates; "
                "an expression takes the bare name, as in nodes.parse.output.total"
            )
        pieces += (text[done : token.at], "output")
        done = token.at + 1
    return "".join(pieces) + text[done:]


def reads_of(text: str, variables: Collection[str]) -> Reads:
    """Return the paths of the variables that an expression reads; names bound by macros are not variables."""
    found = Reads()
    parts = tokens(text)
    hidden: list[tuple[int, str]] = []  # macro names with the depth of the bracket that binds them
    depth = 0
    for index, token in enumerate(parts):
        if token.text in ("(", "[", "[?", "{"):
            depth += 1
            name = _bound_name(parts, index)
            if name:
                hidden.append((depth, name))
        elif token.text in (")", "]", "}"):
            while hidden and hidden[-1][0] >= depth:
                hidden.pop()
            depth -= 1
        elif token.kind == "name" and _is_variable(parts, index, variables):
            if any(token.text == name for _, name in hidden):
                continue
            path, end = _path(parts, index)
            found.paths.append(path)
            found.is_path = index == 0 and end == len(parts)
    return found


def _at(parts: list[Token], index: int) -> str:
    return parts[index].text if 0 <= index < len(parts) else ""


def _bound_name(parts: list[Token], index: int) -> str:
    """Return the name that a macro's opening bracket binds, if it is one."""
    is_macro = _at(parts, index) == "(" and _at(parts, index - 1) in _MACROS and _at(parts, index - 2) == "."
    if is_macro and _at(parts, index + 2) == "," and parts[index + 1].kind == "name":
        return _at(parts, index + 1)
    return ""


def _is_variable(parts: list[Token], index: int, variables: Collection[str]) -> bool:
    name = parts[index].text
    if name not in variables or name in _KEYWORDS or _at(parts, index + 1) == "(":
        return False
    if _at(parts, index - 1) not in (".", ".?"):
        return True
    if index < 2:
        return True  # `.name` with nothing before it is the variable too
    before = parts[index - 2]
    return before.kind not in ("name", "string", "number", "quoted") and before.text not in (")", "]", "}")


def _path(parts: list[Token], index: int) -> tuple[tuple[str, ...], int]:
    """Return the keys selected one after the other from a variable, and where they end."""
    path = [parts[index].text]
    index += 1
    for keys, end in _selections(parts, index):
        path.append(keys)
        index = end
    return tuple(path), index


def _selections(parts: list[Token], index: int) -> Iterator[tuple[str, int]]:
    while True:
        if _at(parts, index) == "." and index + 1 < len(parts) and _at(parts, index + 2) != "(":
            key = parts[index + 1]
            if key.kind not in ("name", "quoted"):
                return
            index += 2
            yield key.text.strip("`"), index
        elif _at(parts, index) == "[" and _at(parts, index + 2) == "]":
            plain = _PLAIN_STRING.fullmatch(parts[index + 1].text)
            if plain is None:
                return
            index += 3
            yield plain[2], index
        else:
            return
