"""Runs one stage in a process of its own, in the peer's environment, on an empty store."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import environments, measure
from bench.catalog import Entry
from bench.paths import DATA, LOGS, ROOT
from bench.postgres import Server

Row = dict[str, Any]


def process_environment() -> dict[str, str]:
    """The environment of every measured process: bytecode is cached, nothing phones home."""
    env = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TENUTO_DATABASE", "TENUTO_API"))
    }
    return {**env, "DO_NOT_TRACK": "1", "LANGSMITH_TRACING": "false", "DBOS__CLOUD": "false"}


def run_stage(
    entry: Entry, work: str, n: int, server: Server | None, *, interpreter: Path | None = None
) -> Row:
    """Return the figures of one work, or a row with `failed` and the end of the process's log.

    Args:
        interpreter: Overrides the entry's environment; used to compare two builds.
    """
    place = DATA / f"{entry.name}-{work}"
    _clear(place)
    if entry.store == "pg" and server is not None:
        server.fresh_database("bench")
    out = DATA / "row.json"
    out.unlink(missing_ok=True)
    asked = {
        "peer": entry.name,
        "module": entry.module,
        "work": work,
        "n": n,
        "store": entry.store,
        "place": str(place),
        "server": {**asdict(server), "bin": str(server.bin)} if server else None,
        "out": str(out),
    }
    log = LOGS / f"{entry.name}-{work}.log"
    command = [
        str(interpreter or environments.python(entry.environment)),
        "-m",
        "bench.harness",
        json.dumps(asked),
    ]
    failure = _wait(command, log, entry.timeout_s)
    _clear(place)
    row: Row = {"peer": entry.name, "work": work, "n": n}
    if failure or not out.exists():
        tail = " | ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
        return {**row, "failed": f"{failure or 'no row'}: {tail}"}
    return {**row, **json.loads(out.read_text())}


def take_limits(server: Server | None, seconds: float) -> Row:
    """The machine's limits just now, as one row."""
    asked = {"seconds": seconds, "directory": str(DATA), "server": None}
    if server:
        asked["server"] = {**asdict(server), "bin": str(server.bin)}
    command = [str(environments.python("bench")), "-m", "bench.limits", json.dumps(asked)]
    done = subprocess.run(
        command, cwd=ROOT, env=process_environment(), capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode != 0:
        raise RuntimeError(f"the limits could not be taken: {done.stderr.strip()[-500:]}")
    return {"peer": "limits", "work": "limits", **json.loads(done.stdout)}


def _wait(command: list[str], log: Path, timeout_s: int) -> str | None:
    """Run to the end or to the time limit, then end whatever the process left running in its own group."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=process_environment(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout_s)
            return None if code == 0 else f"exit {code}"
        except subprocess.TimeoutExpired:
            return f"no end after {timeout_s} s"
        finally:
            _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def _clear(place: Path) -> None:
    measure.fresh_file(place) if not place.is_dir() else shutil.rmtree(place)
    for lock in place.parent.glob(f"{place.name}.*"):
        lock.unlink() if lock.is_file() else shutil.rmtree(lock)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
