"""JSON values as the journal keeps them: small ones inline, large ones by digest.

A value is a `msgspec.Raw` holding canonical-enough JSON bytes. A value over `INLINE_LIMIT` is replaced by
`{"$blob":"sha256:…","size":n}` and its bytes are stored beside the record that names them, in the same
transaction. An object of the user's own that starts with the key `$blob` is always stored as a blob, so the
two can never be confused.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec

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


class TooLarge(ValueError):
    """The value's JSON form is over `VALUE_LIMIT` bytes."""


def encode(value: Any) -> bytes:
    """Return the JSON bytes of a value.

    Raises:
        TypeError: The value, or something inside it, has no JSON form.
        ValueError: A float is not finite, or a dictionary key is not text.
    """
    return _encode(value)


def pack(value: Any) -> tuple[msgspec.Raw, bytes | None]:
    """Return the journal form of a value and, when it is large, the bytes to store under its digest.

    Raises:
        TypeError: The value, or something inside it, has no JSON form.
        TooLarge: The value is over `VALUE_LIMIT` bytes.
    """
    return pack_bytes(_encode(value))


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
