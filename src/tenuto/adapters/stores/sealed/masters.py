"""Master keys, which never reach the store: read from variables or files, known by a fingerprint."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tenuto.errors import InvalidSettings
from tenuto.ports.data_keys import DataKeyRow

KEY_BYTES = 32
_NONCE = 12


def new_master() -> str:
    """Return a new master key as text."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def read_key(reference: str) -> bytes:
    """Return the key that `env:NAME` or `file:PATH` refers to.

    Raises:
        InvalidSettings: There is none, or it is not 32 bytes in base64 or hexadecimal digits.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        place, text = f"the environment variable {name}", os.environ.get(name, "")
        if not text:
            raise InvalidSettings(f"{place} holds no master key; set it, or correct the settings of `encryption`")
    else:
        place = f"the file {name}"
        try:
            text = Path(name).read_text(encoding="ascii", errors="replace")
        except OSError as error:
            raise InvalidSettings(f"{place} with a master key cannot be read: {error.strerror}") from error
    key = _decoded(text.strip())
    if len(key) != KEY_BYTES:
        raise InvalidSettings(
            f"{place} holds no master key: 32 random bytes in base64 are needed; `tenuto keys generate` makes one"
        )
    return key


def _decoded(text: str) -> bytes:
    try:
        if len(text) == 2 * KEY_BYTES:
            return bytes.fromhex(text)
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return b""


class Masters:
    """The master key in force, and former ones that still open what they wrapped.

    Args:
        references: `env:NAME` or `file:PATH`; the first is in force. Files are read again when an unknown key turns up.
    """

    def __init__(self, references: Sequence[str]) -> None:
        self._references = tuple(references)
        self._keys: dict[str, AESGCM] = {}
        self.current = ""
        self.read()

    def read(self) -> None:
        """Read the keys as they are now.

        Raises:
            InvalidSettings: One of them is missing or malformed.
        """
        keys = {fingerprint(key): AESGCM(key) for key in map(read_key, self._references)}
        self._keys, self.current = keys, next(iter(keys))

    def wrap(self, row: DataKeyRow, key: bytes) -> None:
        """Seal a data key into its row, with the master key in force."""
        nonce = os.urandom(_NONCE)
        row.master = self.current
        row.wrapped = nonce + self._keys[self.current].encrypt(nonce, key, _bound(row))

    def unwrap(self, row: DataKeyRow) -> bytes:
        """Return the data key of a row.

        Raises:
            InvalidSettings: Its master key is not among ours, or it is not what was wrapped.
        """
        if row.master not in self._keys:
            self.read()
        master = self._keys.get(row.master)
        if master is None:
            raise InvalidSettings(
                f"key {row.id} of namespace {row.ns!r} is wrapped by the master key {row.master}, which the settings do not "
                "name; add it to encryption.previous_env or encryption.previous_file"
            )
        try:
            return master.decrypt(row.wrapped[:_NONCE], row.wrapped[_NONCE:], _bound(row))
        except (InvalidTag, ValueError):
            raise InvalidSettings(
                f"key {row.id} of namespace {row.ns!r} is not what was stored; restore it from a backup"
            ) from None


def fingerprint(key: bytes) -> str:
    """Return the id of a master key, which says nothing about it."""
    return sha256(b"tenuto master key\0" + key).hexdigest()[:16]


def _bound(row: DataKeyRow) -> bytes:
    return f"tenuto data key\0{row.ns}\0{row.use}\0{row.id}".encode()
