"""What the machine and its stores can do right now, with no engine: taken before and after every peer.

Runs in the bench environment: `python -m bench.limits`, with the server and a directory as its JSON argument.
"""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.measure import fresh_file
from bench.postgres import Server

ROW = ("run", 1, b"x" * 100)
MANY = (["run"] * 1_000, list(range(1_000)), [b"x" * 100] * 1_000)


def rate(act: Callable[[], Any], seconds: float, each: int = 1) -> float:
    n, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        act()
        n += each
    return n / (time.perf_counter() - start)


def python_loop_mps(n: int = 2_000_000) -> float:
    """Million passes a second of a plain loop: shows when a neighbour slows the processor."""
    total, start = 0, time.perf_counter()
    for i in range(n):
        total += i
    return n / 1e6 / (time.perf_counter() - start)


def fdatasync_ps(directory: Path, seconds: float) -> float:
    """8 KiB writes made durable one by one, in a file whose space is already there."""
    path = fresh_file(directory / "fsync.limit")
    file = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    block, n = b"x" * 8_192, 0

    def write() -> None:
        nonlocal n
        os.pwrite(file, block, n % 8_000 * 8_192)
        os.fdatasync(file)
        n += 1

    try:
        os.posix_fallocate(file, 0, 64 << 20)
        os.fsync(file)
        return rate(write, seconds)
    finally:
        os.close(file)
        path.unlink()


def sqlite_limits(directory: Path, seconds: float) -> dict[str, float]:
    """SQLite in WAL mode with synchronous FULL: one row a transaction, and a thousand."""
    path = fresh_file(directory / "sqlite.limit")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, run TEXT, step INT, out BLOB)")
    insert = "INSERT INTO t (run, step, out) VALUES (?, ?, ?)"
    rows = list(zip(*MANY, strict=True))

    def batch() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(insert, rows)
        connection.execute("COMMIT")

    try:
        return {
            "sqlite_full_1row_ps": rate(lambda: connection.execute(insert, ROW), seconds),
            "sqlite_full_batch1000_rows_ps": rate(batch, seconds, 1_000),
        }
    finally:
        connection.close()
        fresh_file(path)


async def postgres_limits(server: Server, seconds: float) -> dict[str, float]:
    """Postgres from one asyncpg connection: one row a transaction, and a thousand by unnest."""
    import asyncpg

    async def paced(act: Callable[[], Awaitable[Any]], each: int) -> float:
        n, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            await act()
            n += each
        return n / (time.perf_counter() - start)

    connection = await asyncpg.connect(server.fresh_database("limits"))
    try:
        await connection.execute("CREATE TABLE t (id bigserial PRIMARY KEY, run text, step int, out bytea)")
        one = await connection.prepare("INSERT INTO t (run, step, out) VALUES ($1, $2, $3)")
        sql = "INSERT INTO t (run, step, out) SELECT * FROM unnest($1::text[], $2::int[], $3::bytea[])"
        many = await connection.prepare(sql)
        return {
            "pg_1row_ps": await paced(lambda: one.fetch(*ROW), 1),
            "pg_batch1000_rows_ps": await paced(lambda: many.fetch(*MANY), 1_000),
        }
    finally:
        await connection.close()


def pgbench_ps(server: Server, clients: int, seconds: int) -> float:
    """One-row transactions a second from `pgbench`, which is C: no Python on the way."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("INSERT INTO t (run, step, out) VALUES ('run', 1, repeat('x', 100)::bytea);\n")
        script.flush()
        command = [server.bin / "pgbench", "-h", "127.0.0.1", "-p", server.port, "-U", "postgres", "-n"]
        command += [
            "-M",
            "prepared",
            "-c",
            clients,
            "-j",
            min(2, clients),
            "-T",
            seconds,
            "-f",
            script.name,
            "limits",
        ]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    found = re.search(r"tps = ([0-9.]+)", done.stdout)
    if found is None:
        raise RuntimeError(f"pgbench printed no rate: {done.stdout!r}")
    return float(found.group(1))


def main() -> None:
    """Print every limit as one JSON object."""
    asked = json.loads(sys.argv[1])
    seconds, directory = float(asked["seconds"]), Path(asked["directory"])
    figures = {
        "python_loop_mps": python_loop_mps(),
        "fdatasync_ps": fdatasync_ps(directory, seconds),
        **sqlite_limits(directory, seconds / 2),
    }
    if asked["server"]:
        server = Server(**{**asked["server"], "bin": Path(asked["server"]["bin"])})
        figures |= asyncio.run(postgres_limits(server, seconds))
        figures |= {f"pgbench_c{c}_ps": pgbench_ps(server, c, max(1, round(seconds))) for c in (1, 8)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
