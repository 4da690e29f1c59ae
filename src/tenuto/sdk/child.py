"""The other end of a process pool: executes one function after another, by name, with JSON in and out."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import struct
import sys
from functools import reduce
from typing import Any, BinaryIO, cast

import msgspec

from tenuto.domain.base.values import VALUE_LIMIT, encode
from tenuto.domain.runs.events import Failure
from tenuto.errors import TenutoError
from tenuto.sdk.functions import bind_step, read_signature

_LENGTH = struct.Struct(">I")


def main() -> None:
    """Answer questions until the parent goes; what functions print goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    questions = sys.stdin.buffer
    while (frame := read_frame(questions)) is not None:
        body = answer(msgspec.json.decode(frame))
        try:
            answers.write(_LENGTH.pack(len(body)) + body)
            answers.flush()
        except BrokenPipeError:
            os._exit(1)  # the worker has died; whoever takes over asks another process


def read_frame(stream: BinaryIO) -> bytes | None:
    """Return the next frame, or `None` at the end."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    return stream.read(_LENGTH.unpack(head)[0])


def answer(question: dict[str, Any]) -> bytes:
    """Execute what a question asks for and return the encoded answer."""
    try:
        body = encode(execute(question["target"], question["value"]))
        if len(body) > VALUE_LIMIT:
            message = f"the step returned {len(body):,} bytes of JSON; the limit is {VALUE_LIMIT:,}"
            failure = Failure(code="output.invalid", type="TooLarge", message=message, retryable=False)
            return msgspec.json.encode({"failure": failure})
        return b'{"ok":' + body + b"}"
    except TenutoError as exc:
        failure = Failure(
            code=exc.reason, type=type(exc).__name__, message=exc.message[:2000], retryable=exc.retryable
        )
    except SystemExit:
        raise
    except Exception as exc:
        failure = Failure(code="step.failed", type=type(exc).__name__, message=(str(exc) or repr(exc))[:2000])
    return msgspec.json.encode({"failure": failure})


def execute(target: str, value: Any) -> Any:
    """Import a function, fill its parameters from the input, call it."""
    module, _, name = target.partition(":")
    fn: Any = reduce(getattr, name.split("."), cast("Any", importlib.import_module(module)))
    args, kwargs = bind_step(read_signature(fn, name), name)(None, value)
    result = fn(*args, **kwargs)
    if inspect.isawaitable(result):
        return asyncio.run(_await(result))
    return result


async def _await(work: Any) -> Any:
    return await work


if __name__ == "__main__":
    main()
