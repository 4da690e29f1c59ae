"""One spelling for each JSON value, so that equal values have equal digests.

RFC 8785 but for numbers: integers of any size are exact, and a float keeps a float's spelling (`1.0`, never
`1`), so that the canonical form still tells the two apart and reads back as the same value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, cast

import msgspec

from tenuto.domain.base.pointers import pointer
from tenuto.errors import Unserialisable

_encode = msgspec.json.Encoder(order="sorted").encode
_encode_as_given = msgspec.json.Encoder().encode
_ASTRAL = re.compile(rb"[\xf0-\xf4]").search


def canonical_json(value: Any) -> bytes:
    """Return the one JSON text of a value: keys sorted by UTF-16 code units, no spaces, shortest floats.

    Raises:
        Unserialisable: Something in the value has no JSON form; the text has its place.

    Source:
        RFC 8785 §3.2 for strings and order; https://www.rfc-editor.org/rfc/rfc8785
    """
    try:
        encoded = _encode(value)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise Unserialisable(_reason(value, error)) from error
    if b"null" in encoded:  # how the encoder spells NaN and infinity
        _refuse_non_finite(value, ())
    if not encoded.isascii() and _ASTRAL(encoded):  # only then UTF-16 order differs from the encoder's
        return _encode_as_given(_sorted_utf16(msgspec.to_builtins(value)))
    return encoded


def digest(value: Any) -> str:
    """Return `sha256:` and the hexadecimal SHA-256 of the canonical JSON of a value.

    Raises:
        Unserialisable: Something in the value has no JSON form.
    """
    return "sha256:" + sha256(canonical_json(value)).hexdigest()


def _refuse_non_finite(value: Any, path: tuple[str | int, ...]) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            where = pointer(path) or "the top"
            raise Unserialisable(f"{value!r} at {where} has no JSON form; use null or text")
    elif isinstance(value, dict):
        for key, member in cast("dict[Any, Any]", value).items():
            _refuse_non_finite(member, (*path, key))
    elif isinstance(value, list | tuple | set | frozenset):
        for index, member in enumerate(cast("list[Any]", value)):
            _refuse_non_finite(member, (*path, index))
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            _refuse_non_finite(getattr(value, name), (*path, name))


def _sorted_utf16(value: Any) -> Any:
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {key: _sorted_utf16(members[key]) for key in sorted(members, key=_utf16)}
    if isinstance(value, list | tuple):
        return [_sorted_utf16(member) for member in cast("list[Any]", value)]
    return value


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be")


def _reason(value: Any, error: Exception) -> str:
    """Say where the encoder stumbled; it does not tell itself."""
    if isinstance(error, RecursionError):
        return "the value is nested too deeply, or contains itself"
    path, culprit = _culprit(value, ())
    where = pointer(path) or "the top"
    if isinstance(culprit, str):
        return f"the text at {where} has half of a surrogate pair, which JSON in UTF-8 cannot hold"
    if isinstance(culprit, Mapping):
        return f"an object at {where} has a key that is not text"
    return f"a value of type {type(culprit).__name__} at {where} has no JSON form"


def _culprit(value: Any, path: tuple[str | int, ...]) -> tuple[tuple[str | int, ...], Any]:
    """Return the innermost place that fails on its own."""
    whole: object = value
    members: Any = ()
    if isinstance(value, dict):
        members = cast("dict[Any, Any]", value).items()
    elif isinstance(value, list | tuple):
        members = enumerate(cast("list[Any]", value))
    for key, member in members:
        try:
            _encode(member)
        except (TypeError, ValueError, OverflowError):
            return _culprit(member, (*path, key))
    return path, whole
