"""The outside world of the examples: a file that effects are written to, and that the engine never reads.

Every line is one effect that really happened, with the idempotency key it happened under. It stands for a bank
or a registry that does not notice repeats, so a repeated effect would show.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

FILE_NAME = "ledger.jsonl"
_OF_THE_LINE = frozenset({"kind", "key", "at", "pid"})


def path() -> Path:
    """Return the ledger's file, beside the token and the default database."""
    return Path(os.environ.get("TENUTO_HOME") or ".tenuto") / FILE_NAME


def write(kind: str, key: str, facts: dict[str, Any] | None = None) -> dict[str, Any]:
    """Append one effect and return its receipt; a line is written whole or not at all, by any number of processes."""
    place = path()
    place.parent.mkdir(parents=True, exist_ok=True)
    entry = {"kind": kind, "key": key, "at": int(time.time() * 1000), "pid": os.getpid(), **(facts or {})}
    line = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
    handle = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, line)
        os.fsync(handle)
    finally:
        os.close(handle)
    return receipt(entry)


def read(place: Path | None = None) -> list[dict[str, Any]]:
    """Return every effect so far, oldest first; none when nothing was written."""
    try:
        text = (place or path()).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def find(key: str) -> dict[str, Any] | None:
    """Return the first effect made under a key, as the far side would tell it when asked."""
    return next((entry for entry in read() if entry["key"] == key), None)


def outcome(key: str) -> str | tuple[str, dict[str, Any]]:
    """Say what became of a call whose answer was lost: it succeeded, with this result, or it never happened."""
    entry = find(key)
    return "retry" if entry is None else ("succeeded", receipt(entry))


def receipt(entry: dict[str, Any]) -> dict[str, Any]:
    """Return what the far side answers to an effect: the same when it is made as whenever it is asked later.

    A caller whose answer was lost goes on with what its status hook is told, so the two must never differ.
    """
    facts = {name: value for name, value in entry.items() if name not in _OF_THE_LINE}
    return {"entry": entry["kind"], "key": entry["key"], **facts}
