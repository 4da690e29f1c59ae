"""A few child processes that each execute one function at a time; one that dies or hangs takes only that call along.

Frames on the pipes are a length (4 bytes, big-endian) and JSON; nothing is pickled.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
from typing import Any

import msgspec

from tenuto.domain.base.values import MaybeRaw
from tenuto.domain.runs.events import Failure
from tenuto.domain.runs.failure import LOST
from tenuto.ports.pool import PoolFailed

MAX_ANSWER = 33 * 1024 * 1024
_LENGTH = struct.Struct(">I")


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a child sends back: a value, or how it failed."""

    ok: MaybeRaw = None
    failure: Failure | None = None


_decode = msgspec.json.Decoder(Answer).decode


class ProcessPool:
    """Up to `size` children, started when first needed and kept for the next call."""

    def __init__(self, size: int | None = None, *, module: str = "tenuto.sdk.child") -> None:
        """Allow as many children as the machine has cores, unless told otherwise."""
        self._size = size or max(1, os.cpu_count() or 1)
        self._module = module
        self._idle: list[asyncio.subprocess.Process] = []
        self._all: set[asyncio.subprocess.Process] = set()
        self._busy = 0
        self._closed = False

    @property
    def free(self) -> int:
        """Return how many more calls may be made at once."""
        return 0 if self._closed else self._size - self._busy

    async def call(self, target: str, value: Any, *, key: str, timeout_s: float | None) -> Any:
        """Run the function at `module:qualname` with a JSON input and return its JSON result.

        Raises:
            PoolFailed: It failed, died, ran out of time, or answered with too much.
        """
        self._busy += 1
        child: asyncio.subprocess.Process | None = None
        try:
            child = self._idle.pop() if self._idle else await self._start()
            async with asyncio.timeout(timeout_s):
                answer = await _ask(child, {"target": target, "value": value, "key": key})
        except TimeoutError as exc:
            await self._discard(child)
            message = f"no result within {timeout_s:g} s; its process was ended"
            failure = Failure(code="attempt.timeout", type="TimedOut", message=message, unknown=True)
            raise PoolFailed(failure) from exc
        except (asyncio.IncompleteReadError, ConnectionError) as exc:
            status = await self._discard(child)
            raise PoolFailed(_died(status)) from exc
        except BaseException:
            await self._discard(child)
            raise
        finally:
            self._busy -= 1
        self._idle.append(child)
        if answer.failure is not None:
            raise PoolFailed(answer.failure)
        return msgspec.json.decode(answer.ok or b"null")

    async def _start(self) -> asyncio.subprocess.Process:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([p for p in sys.path if p])}
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env=environment, limit=MAX_ANSWER,
        )
        self._all.add(child)
        return child

    async def _discard(self, child: asyncio.subprocess.Process | None) -> int | None:
        """End a child and return its exit status."""
        if child is None:
            return None
        self._all.discard(child)
        died = child.returncode
        if died is None:
            try:
                async with asyncio.timeout(0.2):
                    died = await child.wait()
            except TimeoutError:
                child.kill()
                await child.wait()
        return died

    async def close(self) -> None:
        """End all children at once."""
        self._closed = True
        for child in list(self._all):
            if child.returncode is None:
                child.kill()
            await child.wait()
        self._all.clear()
        self._idle.clear()


async def _ask(child: asyncio.subprocess.Process, question: dict[str, Any]) -> Answer:
    assert child.stdin is not None and child.stdout is not None
    body = msgspec.json.encode(question)
    child.stdin.write(_LENGTH.pack(len(body)) + body)
    await child.stdin.drain()
    size = _LENGTH.unpack(await child.stdout.readexactly(4))[0]
    if size > MAX_ANSWER:
        raise PoolFailed(
            Failure(code="output.invalid", type="TooLarge", retryable=False,
                    message=f"the step returned {size:,} bytes; the limit is {MAX_ANSWER:,}")
        )
    return _decode(await child.stdout.readexactly(size))


def _died(status: int | None) -> Failure:
    how = f"was killed by signal {-status}" if status is not None and status < 0 else f"exited with {status}"
    return Failure(code=LOST.code, type="ProcessDied", message=f"the step's process {how}", unknown=True)
