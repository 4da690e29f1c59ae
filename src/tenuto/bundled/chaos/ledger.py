"""A process of its own that remembers every effect: the world outside, as far as the chaos run is concerned.

One JSON object a line comes in over loopback, one goes out. What a worker asks for is written down before it is
answered, so an effect whose worker dies while it waits for the answer has happened all the same.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec


class Entry(msgspec.Struct, kw_only=True):
    """One execution of a step, call or effect, as the outside saw it.

    Attributes:
        seq: Position in the ledger.
        what: `step`, `call` or `effect`.
        key: Idempotency key of an effect; names the execution otherwise.
        attempt: Number of the try, 0 where the code does not know it.
        pid: The process that asked.
        times: How often this key has been seen, this entry included.
    """

    seq: int
    t: int
    what: str
    key: str
    run: str = ""
    step: str = ""
    call: str = ""
    attempt: int = 0
    pid: int = 0
    times: int = 1


class Ledger:
    """The entries, on the disk as soon as they exist."""

    def __init__(self, path: Path) -> None:
        """Begin an empty ledger."""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._seq = 0
        self._times: Counter[str] = Counter()
        self._tries: Counter[str] = Counter()
        self._first: dict[str, int] = {}
        self._waiting: Counter[int] = Counter()
        self._mended: set[str] = set()

    async def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Do what a line asks for."""
        match asked["op"]:
            case "record":
                return await self._record(asked)
            case "try":
                self._tries[asked["key"]] += 1
                return {"tries": self._tries[asked["key"]]}
            case "status":
                return {"times": self._times[asked["key"]], "seq": self._first.get(asked["key"], 0)}
            case "waiting":
                return {"pids": {str(pid): count for pid, count in self._waiting.items() if count}}
            case "mend":
                self._mended.add(asked["run"])
                return {}
            case "mended":
                return {"mended": asked["run"] in self._mended}
            case other:
                return {"error": f"the ledger knows no {other!r}"}

    async def _record(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._seq += 1
        key, pid = asked["key"], asked["pid"]
        self._times[key] += 1
        self._first.setdefault(key, self._seq)
        facts = {name: asked[name] for name in ("what", "key", "run", "step", "call", "attempt", "pid")}
        entry = Entry(seq=self._seq, t=time.time_ns() // 1_000_000, times=self._times[key], **facts)
        os.write(self._file, msgspec.json.encode(entry) + b"\n")
        self._waiting[pid] += entry.what == "effect"
        try:
            await asyncio.sleep(asked["hold_ms"] / 1000)
        finally:
            self._waiting[pid] -= entry.what == "effect"
        return {"seq": entry.seq, "times": entry.times}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a client until it goes."""
        try:
            while line := await reader.readline():
                answer = await self.answer(msgspec.json.decode(line))
                writer.write(msgspec.json.encode(answer) + b"\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


def read_entries(path: Path) -> list[Entry]:
    """Return everything a ledger has seen."""
    decoder = msgspec.json.Decoder(Entry)
    return [decoder.decode(line) for line in path.read_bytes().splitlines() if line]


async def main(path: Path) -> None:
    """Serve until the standard input ends, which it does with the process that started us."""
    ledger = Ledger(path)
    server = await asyncio.start_server(ledger.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
