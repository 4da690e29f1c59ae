"""How code that runs in a worker reaches the ledger, and when it fails on purpose."""

from __future__ import annotations

import asyncio
import os
import socket
from hashlib import sha256
from typing import Any

import msgspec

from tenuto.runtime.worker.context import Context

LEDGER = "TENUTO_CHAOS_LEDGER"
FAILURES = "TENUTO_CHAOS_FAILURES"
LATEST_FAILURE = 4
"""Attempts after this one succeed: the trouble is transient."""


class Transient(RuntimeError):
    """A failure that passes when the work is tried again."""


def _address() -> tuple[str, int]:
    host, _, port = os.environ[LEDGER].rpartition(":")
    return host, int(port)


async def ask(**question: Any) -> dict[str, Any]:
    """Ask the ledger, on the loop."""
    reader, writer = await asyncio.open_connection(*_address())
    try:
        writer.write(msgspec.json.encode(question) + b"\n")
        line = await reader.readline()
    finally:
        writer.close()
    return msgspec.json.decode(line)


def ask_blocking(**question: Any) -> dict[str, Any]:
    """Ask the ledger from a thread, or from a process of its own."""
    with socket.create_connection(_address()) as link, link.makefile("rb") as answers:
        link.sendall(msgspec.json.encode(question) + b"\n")
        return msgspec.json.decode(answers.readline())


def facts(what: str, key: str, *, run: str = "", step: str = "", call: str = "", attempt: int = 0,
          hold_ms: int = 20) -> dict[str, Any]:
    """Return what the ledger wants to know of an execution."""
    return {
        "op": "record", "what": what, "key": key, "run": run, "step": step, "call": call, "attempt": attempt,
        "pid": os.getpid(), "hold_ms": hold_ms,
    }


async def record(ctx: Context, what: str, call: str = "", hold_ms: int = 20) -> int:
    """Let the ledger note an execution of a step or of a call in it; return its position there."""
    key = ctx.key if not call else f"{ctx.key}/{call}"
    found = await ask(**facts(
        what, key, run=ctx.run_id, step=ctx.step, call=call, attempt=ctx.attempt, hold_ms=hold_ms,
    ))
    return int(found["seq"])


def share(*parts: object) -> float:
    """Return a number in [0, 1) that depends on the parts alone."""
    return int.from_bytes(sha256("/".join(map(str, parts)).encode()).digest()[:6], "big") / (1 << 48)


def stumble(attempt: int, *parts: object) -> None:
    """Fail a share of the first attempts.

    Raises:
        Transient: This attempt is one of them.
    """
    if attempt <= LATEST_FAILURE and share("stumble", attempt, *parts) < float(os.environ.get(FAILURES, "0")):
        raise Transient(f"attempt {attempt} fails on purpose")


def stumble_in(ctx: Context) -> None:
    """Fail a share of the attempts of a step.

    Raises:
        Transient: This attempt is one of them.
    """
    stumble(ctx.attempt, ctx.run_id, ctx.step)
