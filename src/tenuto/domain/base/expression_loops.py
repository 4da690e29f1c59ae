"""Long lists in transforms: `list.map(x, …)` and `list.filter(x, …)` in linear time.

The library copies the list built so far for every element it appends, and stops after 10,000 iterations.
"""

from __future__ import annotations

from dataclasses import dataclass

from tenuto.domain.base.expression_text import Token, tokens

_OPEN, _CLOSE = ("(", "[", "[?", "{"), (")", "]", "}")
_LOOPS = (("filter", 1), ("map", 1), ("map", 2))  # the macro and how many commas it has


@dataclass(frozen=True, slots=True)
class Loop:
    """An expression that is one loop over a list, taken apart.

    Attributes:
        source: The expression of the list.
        name: What an element is called in the parts.
        guard: The condition for an element to be kept; empty keeps all.
        body: What becomes of an element; empty leaves it as it is.
    """

    source: str
    name: str
    guard: str
    body: str


def loop_of(text: str) -> Loop | None:
    """Return the parts of an expression that is nothing but a loop over a list, else `None`."""
    parts = tokens(text)
    if any(part.text == "uint" or (part.kind == "number" and part.text[-1] in "uU") for part in parts):
        return None  # unsigned integers are no JSON type: between the parts they would become signed
    opening = _last_opening(parts)
    if opening < 3 or parts[opening - 2].text != "." or not _is_operand(parts[: opening - 2]):
        return None
    commas = _commas(parts, opening)
    macro = parts[opening - 1].text
    if (macro, len(commas)) not in _LOOPS or commas[0] != opening + 2 or parts[opening + 1].kind != "name":
        return None
    ends = [*commas[1:], len(parts) - 1]
    pieces = [text[parts[start].at + 1 : parts[end].at] for start, end in zip(commas, ends, strict=True)]
    source, name = text[: parts[opening - 2].at], parts[opening + 1].text
    if macro == "filter":
        return Loop(source, name, pieces[0], "")
    return Loop(source, name, pieces[0] if len(pieces) == 2 else "", pieces[-1])


def _last_opening(parts: list[Token]) -> int:
    """Return the index of the bracket that the text's last character closes, or -1."""
    if not parts or parts[-1].text != ")":
        return -1
    depth = 0
    for index in range(len(parts) - 1, -1, -1):
        if parts[index].text in _CLOSE:
            depth += 1
        elif parts[index].text in _OPEN:
            depth -= 1
            if depth == 0:
                return index if parts[index].text == "(" else -1
    return -1


def _is_operand(parts: list[Token]) -> bool:
    """Tell whether what is before the dot is one operand, so that the loop is the whole expression."""
    depth = 0
    for index, token in enumerate(parts):
        if token.text in _OPEN:
            depth += 1
        elif token.text in _CLOSE:
            depth -= 1
        elif depth == 0:
            if token.text in ("in", "-", "!") or (token.kind == "mark" and token.text != "."):
                return False
            if index and token.kind != "mark" and parts[index - 1].text != ".":
                return False
    return True


def _commas(parts: list[Token], opening: int) -> list[int]:
    depth, found = 0, list[int]()
    for index in range(opening, len(parts)):
        if parts[index].text in _OPEN:
            depth += 1
        elif parts[index].text in _CLOSE:
            depth -= 1
        elif parts[index].text == "," and depth == 1:
            found.append(index)
    return found
