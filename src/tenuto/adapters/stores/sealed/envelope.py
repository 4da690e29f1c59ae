"""Sealed bytes: which key opens them stands in front, and they open only where they were put.

`tse1 KEY NAMES` and a line feed, then the nonce and what AES-256-GCM made of the text. KEY is 16 hexadecimal digits.
NAMES are those under which the store keeps the values the text speaks of, so that values nothing names can be found
without a key. All of this, the namespace and the place (run, position, kind, …) are authenticated.
"""

from __future__ import annotations

import base64
import binascii
import os
import re

from cryptography.exceptions import InvalidTag

from tenuto.adapters.stores.sealed.ring import DataKey, KeyRing
from tenuto.errors import Corrupt, Shredded, TenutoError

MAGIC = b"tse1 "
TEXT = "tse1:"
NONCE = 12
OVERHEAD = len(MAGIC) + 16 + len(b" \n") + NONCE + 16
"""Key id and tag are 16 bytes each."""
UNREADABLE = "(unreadable: {})"

_named = re.compile(rb"sha256:[0-9a-f]{64}").findall
_head = re.compile(rb"tse1 ([0-9a-f]{16}) ([^\n]*)\n").match

Place = tuple[str | int, ...]


class Envelopes:
    """Seals and opens with the keys of a ring.

    Attributes:
        missed: Whether a key was asked for that the ring does not know; another process may just have made it.
    """

    def __init__(self, ring: KeyRing) -> None:
        """Use these keys; namespaces written to have been made ready."""
        self._ring = ring
        self.missed = False

    def name(self, ns: str, digest: str) -> str:
        """Return under which name the store keeps a value of a namespace; without the key it says nothing of it."""
        return _name(self._ring.index(ns), digest.encode())

    def mask(self, ns: str, chain: bytes) -> bytes:
        """Return what stands for a chain in the store, for a chain alone would let a body be guessed."""
        return self._ring.index(ns).digest(b"chain", chain)

    def seal(self, ns: str, text: bytes, *place: str | int) -> bytes:
        """Seal bytes for one place, with the namespace's newest key."""
        names = b""
        if b"sha256:" in text:
            index = self._ring.index(ns)
            names = b",".join(_name(index, digest).encode() for digest in dict.fromkeys(_named(text)))
        return _sealed(self._ring.data(ns), os.urandom(NONCE), names, text, place)

    def seal_piece(self, ns: str, text: bytes, *place: str | int) -> bytes:
        """Seal a piece of something longer, always `OVERHEAD` bytes longer than it; it names nothing."""
        return _sealed(self._ring.data(ns), os.urandom(NONCE), b"", text, place)

    def seal_same(self, ns: str, text: bytes, *place: str | int) -> bytes:
        """Seal bytes so that the same make the same, as long as the namespace lives: they can be compared unread."""
        key = self._ring.index(ns)
        nonce = key.digest(b"nonce", _bound(key, place) + b"\0" + text)[:NONCE]
        return _sealed(key, nonce, b"", text, place)

    def open(self, sealed: bytes, *place: str | int, ns: str | None = None) -> bytes:
        """Return what was sealed for a place.

        Args:
            ns: The namespace it must belong to; `None` takes that of its key.

        Raises:
            Shredded: Its key was destroyed.
            Corrupt: It was never sealed, or not for this place, or it was altered, or its key is unknown.
        """
        head = _head(sealed)
        where = " ".join(map(str, place))
        if head is None:
            raise Corrupt(f"{where}: the store holds it unsealed although encryption is on; it is refused")
        name = head[1].decode()
        key = self._ring.key(name)
        self.missed = self.missed or key is None
        if key is None or (ns is not None and key.ns != ns):
            raise Corrupt(f"{where}: it is sealed by the key {name}, which is not one of this place")
        if key.aead is None:
            if key.destroyed_at:
                raise Shredded(f"{where}: the keys of namespace {key.ns!r} were destroyed; nobody can read it any more")
            raise Corrupt(f"{where}: {key.trouble}")
        start = head.end()
        try:
            return key.aead.decrypt(
                sealed[start : start + NONCE], sealed[start + NONCE :], sealed[:start] + _bound(key, place)
            )
        except (InvalidTag, ValueError):
            raise Corrupt(f"{where}: it was altered, or sealed for another place; it is refused") from None

    # --- texts ------------------------------------------------------------------------------------------------

    def seal_text(self, ns: str, text: str, *place: str | int) -> str:
        """Seal a text for a text column; an empty one stays empty."""
        return _texted(self.seal(ns, text.encode(), *place)) if text else ""

    def seal_same_text(self, ns: str, text: str, *place: str | int) -> str:
        """Seal a text so that it can be compared unread; an empty one stays empty."""
        return _texted(self.seal_same(ns, text.encode(), *place)) if text else ""

    def open_text(self, sealed: str, *place: str | int, ns: str | None = None) -> str:
        """Return a text that was sealed.

        Raises:
            Shredded: Its key was destroyed.
            Corrupt: As `open`.
        """
        if not sealed:
            return ""
        try:
            data = base64.urlsafe_b64decode(sealed.removeprefix(TEXT)) if sealed.startswith(TEXT) else b""
        except (ValueError, binascii.Error):
            data = b""
        return self.open(data, *place, ns=ns).decode()

    def show(self, sealed: str, *place: str | int, ns: str | None = None) -> str:
        """Return a text to show in a list, which must not fail for one of its rows."""
        try:
            return self.open_text(sealed, *place, ns=ns)
        except TenutoError as error:
            return UNREADABLE.format("its key was destroyed" if isinstance(error, Shredded) else "not as it was sealed")


def key_of(sealed: bytes) -> str:
    """Return the id of the key bytes are sealed with; empty when they are not sealed."""
    head = _head(sealed)
    return head[1].decode() if head is not None else ""


def _name(index: DataKey, digest: bytes) -> str:
    return "sha256:" + index.digest(b"name", digest).hex()


def _bound(key: DataKey, place: Place) -> bytes:
    """Return what says where sealed bytes belong; parts are numbered by their length, so that none runs into another."""
    parts = (key.ns, *map(str, place))
    return "".join(f"{len(part)}:{part}" for part in parts).encode()


def _sealed(key: DataKey, nonce: bytes, names: bytes, text: bytes, place: Place) -> bytes:
    assert key.aead is not None
    head = b"%b%b %b\n" % (MAGIC, key.id.encode(), names)
    return head + nonce + key.aead.encrypt(nonce, text, head + _bound(key, place))


def _texted(sealed: bytes) -> str:
    return TEXT + base64.urlsafe_b64encode(sealed).decode()
