"""Sending commands to runs: one message a request, however often the request is made.

A command under an idempotency key is kept with its answer in the transaction that takes it. Whoever asks again gets that
answer, whatever has become of the run since; whoever asks something else under the key is told so.
"""

from __future__ import annotations

import secrets

import msgspec

from tenuto.domain.base.canonical import digest
from tenuto.domain.runs import messages as msg
from tenuto.errors import KeyReused, RunMissing, RunTerminal
from tenuto.ports.store import Once
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.results import Accepted


async def send(
    context: Context, run_id: str, what: str, message: msg.Messages, key: str, *, reopens: bool = False
) -> Accepted:
    """Put a message in a run's inbox.

    Args:
        what: The command, with the signal or step it is about; keys of different commands are different keys.
        key: The request's idempotency key; empty makes every request one of its own.

    Raises:
        RunMissing: There is no such run.
        RunTerminal: It has ended and takes no such message.
        KeyReused: The key came with another message before.
    """
    row = await context.row(run_id)
    once = _once(context, run_id, what, message, key, row.status) if key else None
    name = f"{what}/{key or secrets.token_hex(16)}"
    outcome = await context.store.send(run_id, name, msg.encode_message(message), reopens=reopens, once=once)
    if outcome == "missing":
        raise RunMissing(f"there is no run {run_id!r}", run=run_id)
    if outcome == "terminal":
        status = (await context.row(run_id)).status
        raise RunTerminal(f"run {run_id} is {status} and takes no more messages", run=run_id, status=status)
    if outcome == "duplicate":
        known = await repeated(context, run_id, what, message, key)
        if known is not None:
            return known
    return Accepted(id=run_id, status=row.status)


async def repeated(context: Context, run_id: str, what: str, message: msg.Messages, key: str) -> Accepted | None:
    """Return what a command was answered when it came under this key before; `None` when it is new.

    Raises:
        KeyReused: The key came with another message.
    """
    if not key:
        return None
    once = _once(context, run_id, what, message, key, "")
    known = await context.store.answered(once.ns, once.key)
    if known is None:
        return None
    if known.digest != once.digest:
        raise KeyReused(f"the idempotency key {key!r} was used before with another request body")
    return Accepted(id=run_id, status=known.answer, replayed=True)


async def is_known(context: Context, run_id: str, what: str, key: str) -> bool:
    """Return whether a command came under this key before, with whatever message."""
    return bool(key) and await context.store.answered(context.ns, _name(run_id, what, key)) is not None


def _once(context: Context, run_id: str, what: str, message: msg.Messages, key: str, answer: str) -> Once:
    """Return what is kept under a key; who sent the command, and what was found out about it, is no part of what was asked."""
    bare = msgspec.structs.replace(message, by="")
    if isinstance(bare, msg.ProposePatch):
        bare = msgspec.structs.replace(bare, absent=())
    asked = msgspec.json.decode(msg.encode_message(bare))
    return Once(context.ns, _name(run_id, what, key), digest(asked), answer)


def _name(run_id: str, what: str, key: str) -> str:
    return f"POST /runs/{run_id}/{what} {key}"
