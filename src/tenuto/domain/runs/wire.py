"""The journal's bytes: how a record is encoded, decoded and chained. Read forever, never re-encoded.

The chain of a record is SHA-256 over the previous chain, the run, the position, the epoch and the stored body, so
any later change of a stored byte is found by whoever keeps a head elsewhere.
"""

from __future__ import annotations

from hashlib import sha256

import msgspec

from tenuto.domain.runs.events import Body
from tenuto.errors import Corrupt

ZERO = bytes(32)

encode_body = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Body).decode


class UnknownEvent(Exception):
    """The journal holds an event this version does not know; a newer worker must take the run."""


class Record(msgspec.Struct, frozen=True):
    """One row of a journal.

    Attributes:
        seq: Position, dense from 1.
        epoch: Ownership under which it was written; 0 for the creation.
        body: JSON of `events.Body`, as stored and as hashed.
        chain: 32 bytes.
    """

    seq: int
    epoch: int
    body: bytes
    chain: bytes


def link(previous: bytes, run_id: str, seq: int, epoch: int, body: bytes) -> bytes:
    """Return the chain of a record: 32 bytes that depend on every record before it."""
    return sha256(b"%b%b:%d:%d:%b" % (previous, run_id.encode(), seq, epoch, body)).digest()


def record(previous: bytes, run_id: str, seq: int, epoch: int, body: Body) -> Record:
    """Return the record that follows the one with chain `previous` (`ZERO` before the first)."""
    data = encode_body(body)
    return Record(seq, epoch, data, link(previous, run_id, seq, epoch, data))


def decode(stored: Record | bytes) -> Body:
    """Return the body of a stored record.

    Raises:
        UnknownEvent: An event has a tag this version does not know.
        Corrupt: The bytes are not a record.
    """
    body = stored if isinstance(stored, bytes) else stored.body
    try:
        return _decode(body)
    except msgspec.ValidationError as exc:
        if "Invalid value" in str(exc) and ".e`" in str(exc):
            raise UnknownEvent(str(exc)) from exc
        raise Corrupt(f"a journal record cannot be read: {exc}") from exc
    except msgspec.DecodeError as exc:
        raise Corrupt(f"a journal record is not JSON: {exc}") from exc


def verify(run_id: str, previous: bytes, records: list[Record], first: int = 1) -> bytes:
    """Check that records are dense from `first` and chained to `previous`; return the last chain.

    Raises:
        Corrupt: Naming the first record that is missing or altered.
    """
    for expected, item in enumerate(records, first):
        if item.seq != expected:
            raise Corrupt(f"run {run_id}: record {expected} is missing; found {item.seq}", run=run_id, seq=expected)
        if link(previous, run_id, item.seq, item.epoch, item.body) != item.chain:
            raise Corrupt(f"run {run_id}: record {item.seq} was altered", run=run_id, seq=item.seq)
        previous = item.chain
    return previous
