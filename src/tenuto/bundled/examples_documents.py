"""The documents that come with the package, and tools that read and search them offline."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

from tenuto.domain.base.nearest import nearest
from tenuto.errors import Permanent

_WORD = re.compile(r"[a-z0-9]{3,}")
_FIELD = re.compile(r"^(\w+): *(.*)$")


class DocumentMissing(Permanent):
    """There is no such document."""

    code = "example.document_unknown"


@cache
def library() -> dict[str, str]:
    """Return every document's text by name, in order."""
    folder = files("tenuto.bundled").joinpath("documents")
    found = {item.name.removesuffix(".txt"): item for item in folder.iterdir() if item.name.endswith(".txt")}
    return {name: found[name].read_text(encoding="utf-8") for name in sorted(found)}


def document(name: str) -> str:
    """Return a document's text.

    Raises:
        DocumentMissing: There is none of this name; names the nearest.
    """
    text = library().get(name)
    if text is None:
        hint = nearest(name, library())
        raise DocumentMissing(f"there is no document {name!r}" + (f"; did you mean {hint!r}?" if hint else ""))
    return text


def fields_of(text: str) -> dict[str, str]:
    """Return the lines `Name: value` at the top of a document, by lower-case name."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _FIELD.match(line)
        if match is None:
            break
        found[match[1].lower()] = match[2]
    return found


def search(query: str, limit: int) -> list[dict[str, Any]]:
    """Return the documents that share most words with a query, best first, each with the sentence that fits."""
    wanted = set(_WORD.findall(query.lower()))
    scored = [(len(wanted & set(_WORD.findall(text.lower()))), name) for name, text in library().items()]
    best = sorted(((score, name) for score, name in scored if score), key=lambda pair: (-pair[0], pair[1]))
    return [
        {"document": name, "title": fields_of(library()[name])["title"], "snippet": _snippet(library()[name], wanted)}
        for _, name in best[:limit]
    ]


def _snippet(text: str, wanted: set[str]) -> str:
    body = " ".join(text.partition("\n\n")[2].split())
    sentences = re.split(r"(?<=[.;]) ", body)
    return max(sentences, key=lambda sentence: len(wanted & set(_WORD.findall(sentence.lower()))))
