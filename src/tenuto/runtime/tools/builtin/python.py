"""`python`: a short program in a process that can only compute; off unless an operator switches it on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tenuto.errors import Permanent
from tenuto.runtime.tools.builtin.kit import Kit, PythonLimits, ToolNotSetUp, declare, text
from tenuto.runtime.tools.catalog import CallInfo

JAIL = Path(__file__).with_name("jail.py")
MEBIBYTE = 1024 * 1024


class PythonFailed(Permanent):
    """The program took more than it may have, or could not be confined and so did not run."""

    code = "python.failed"


async def _python(kit: Kit, info: CallInfo, code: str, input: Any = None) -> dict[str, Any]:
    limits = kit.python
    if limits is None:
        raise ToolNotSetUp("the tool python is off; set python.enabled in the settings to let workflows run programs")
    job = {
        "code": code, "input": input, "memory_bytes": limits.memory_mb * MEBIBYTE, "cpu_s": math.ceil(limits.timeout_s) + 1,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-B", "-X", "utf8", str(JAIL), stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={}, cwd="/", start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(limits.timeout_s):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(json.dumps(job).encode())
                await process.stdin.drain()
            process.stdin.close()
            said, told = await asyncio.gather(
                _read(process, process.stdout, limits.output_bytes), _read(process, process.stderr, limits.output_bytes)
            )
            await process.wait()
    except TimeoutError:
        raise PythonFailed(f"the program did not end within {limits.timeout_s:g} s (python.timeout_s)") from None
    finally:
        _kill(process)
        await asyncio.shield(_reap(process, process.stdout, process.stderr))
    if max(len(said), len(told)) > limits.output_bytes:
        raise PythonFailed(f"the program wrote more than {limits.output_bytes:,} bytes (python.output_bytes)")
    return _answer(process.returncode, said, told, limits)


async def _read(process: asyncio.subprocess.Process, stream: asyncio.StreamReader, most: int) -> bytes:
    """Return what a stream holds, or a little more than `most` of it, in which case the program is ended."""
    found = bytearray()
    while part := await stream.read(65_536):
        if len(found) <= most:
            found += part
        if len(found) > most:
            _kill(process)
    return bytes(found)


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def _reap(process: asyncio.subprocess.Process, *streams: asyncio.StreamReader) -> None:
    """Wait for a killed program; its pipes are read to their ends, without which it would be waited for in vain."""
    for stream in streams:
        await stream.read()
    await process.wait()


def _answer(status: int | None, said: bytes, told: bytes, limits: PythonLimits) -> dict[str, Any]:
    stdout = said.decode("utf-8", "replace")
    try:
        answer: Any = json.loads(told)
        if "refused" in answer:
            raise PythonFailed(f"the program was not run, because it cannot be confined here: {answer['refused']}")
        if "error" in answer:
            return {"stdout": stdout, "error": str(answer["error"])}
        return {"stdout": stdout, "result": json.loads(answer["result"])}
    except (ValueError, KeyError, TypeError):
        pass
    if status is not None and status < 0:
        how = signal.Signals(-status).name
        more = f": it used more than {limits.timeout_s:g} s of processor time" if -status == signal.SIGXCPU else ""
        raise PythonFailed(f"the program was ended by {how}{more}")
    raise PythonFailed(f"the program ended without a result (status {status}); python.memory_mb may be too small")


TOOLS = (
    declare(
        _python, "python",
        "Run a Python program that computes: standard library only, no files, no network, no other programs. It finds "
        "`input`, sets `result` to JSON, and may print.",
        {"code": text("The program.", maxLength=200_000), "input": {"description": "What it finds as `input`."}},
        required=("code",),
    ),
)
