"""JSON values as the journal keeps them: small ones inline, large ones by digest.

A value is a `msgspec.Raw` holding canonical-enough JSON bytes. A value over `INLINE_LIMIT` is replaced by
`{"$blob":"sha256:…","size":n}` and its bytes are stored beside the record that names them, in the same
transaction. An object of the user's own that starts with the key `$blob` is always stored as a blob, so the
two can never be confused.
"""

from __future__ import annotations

import re
from hashlib import sha256
from math import isfinite
from typing import TYPE_CHECKING, Any, cast

import msgspec

from tenuto.domain.base.pointers import pointer

INLINE_LIMIT = 8 * 1024
VALUE_LIMIT = 32 * 1024 * 1024
_MARK = b'{"$blob":'
NULL = msgspec.Raw(b"null")

if TYPE_CHECKING:
    MaybeRaw = msgspec.Raw | None
else:
    # msgspec cannot decode a union with Raw. A field of this type defaults to None, which is left out when
    # encoding, so whatever is there when decoding is a value.
    MaybeRaw = msgspec.Raw

_encode = msgspec.json.Encoder(decimal_format="string", uuid_format="canonical").encode
_decode = msgspec.json.Decoder().decode
_NUMERIC_KEY = re.compile(rb'"-?[0-9][0-9.eE+-]*":').search
"""Finds keys that may have been numbers; like `null`, most values have none, and are looked at no further."""
_PLAIN = frozenset({str, int, bool, type(None), bytes})


class TooLarge(ValueError):
    """The value's JSON form is over `VALUE_LIMIT` bytes."""


def encode(value: Any) -> bytes:
    """Return the JSON bytes of a value.

    Raises:
        TypeError: The value, or something inside it, has no JSON form.
        ValueError: A float is not finite, or a dictionary key is a number; the text has its place.
    """
    body = _encode(value)
    if (b"null" in body or _NUMERIC_KEY(body) is not None) and _is_lossy(value):
        _refuse_losses(value, ())
    return body


def _is_lossy(value: Any) -> bool:
    """Say whether a value may hold something that `_refuse_losses` refuses; quick, because most do not."""
    kind = cast("type[Any]", type(value))
    if kind is dict:
        return any(
            type(key) is not str or (type(member) not in _PLAIN and _is_lossy(member)) for key, member in value.items()
        )
    if kind is list or kind is tuple:
        return any(type(member) not in _PLAIN and _is_lossy(member) for member in value)
    return not isfinite(value) if kind is float else kind not in _PLAIN


def _refuse_losses(value: Any, path: tuple[str | int, ...]) -> None:
    """Refuse what the encoder would change without a word: NaN and infinity become null, numeric keys text."""
    kind = cast("type[Any]", type(value))
    if kind is float:
        if not isfinite(value):
            raise ValueError(f"{value!r} at {_place(path)} has no JSON form; use null or text")
    elif kind is dict:
        for key, member in value.items():
            if not isinstance(key, str) and isinstance(key, int | float):
                raise ValueError(f"the key {key!r} of the object at {_place(path)} is not text")
            _refuse_losses(member, (*path, key))
    elif kind is list or kind is tuple:
        for index, member in enumerate(value):
            _refuse_losses(member, (*path, index))
    elif kind not in _PLAIN:
        plain = msgspec.to_builtins(value)
        if type(plain) in (dict, list, tuple, float):
            _refuse_losses(plain, path)


def _place(path: tuple[str | int, ...]) -> str:
    return pointer(path) or "the top"


def pack(value: Any) -> tuple[msgspec.Raw, bytes | None]:
    """Return the journal form of a value and, when it is large, the bytes to store under its digest.

    Raises:
        TypeError: The value, or something inside it, has no JSON form.
        ValueError: A float is not finite, or a dictionary key is a number.
        TooLarge: The value is over `VALUE_LIMIT` bytes.
    """
    return pack_bytes(encode(value))


def pack_bytes(body: bytes) -> tuple[msgspec.Raw, bytes | None]:
    """Return the journal form of JSON bytes and, when they are large, the bytes to store."""
    if len(body) <= INLINE_LIMIT and not body.startswith(_MARK):
        return msgspec.Raw(body), None
    if len(body) > VALUE_LIMIT:
        raise TooLarge(f"the value has {len(body):,} bytes of JSON; the limit is {VALUE_LIMIT:,}")
    return msgspec.Raw(_MARK + b'"' + blob_digest(body).encode() + b'","size":%d}' % len(body)), body


def blob_digest(body: bytes) -> str:
    """Return the content address of stored bytes: `sha256:` and 64 hex digits."""
    return "sha256:" + sha256(body).hexdigest()


def digest_of(value: msgspec.Raw | bytes) -> str | None:
    """Return the digest a stored value points at, or `None` for an inline value."""
    body = bytes(value)
    if not body.startswith(_MARK):
        return None
    return _decode(body)["$blob"]


def unpack(value: msgspec.Raw | bytes) -> Any:
    """Return an inline value as Python objects; the caller has resolved blobs before."""
    return _decode(value)
