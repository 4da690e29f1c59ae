"""CLI start-up, beside a bare Python and a bare argparse script: one warm-up each, then ten times."""

from __future__ import annotations

import platform
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from bench import environments
from bench.paths import DATA, ENVIRONMENTS
from bench.stages import process_environment

ROUNDS = 10

BARE = """\
import argparse
import sys

def main():
    parser = argparse.ArgumentParser(prog="bare")
    commands = parser.add_subparsers(dest="command")
    for name in ("serve", "worker", "run", "logs", "approve"):
        commands.add_parser(name).add_argument("--output", choices=["pretty", "json", "compact"])
    parser.parse_args()

if __name__ == "__main__":
    sys.exit(main())
"""


def commands() -> dict[str, list[str]]:
    """Label to command line, of what is installed now."""
    bare = DATA / "bare_argparse.py"
    bare.write_text(BARE)
    interpreter = str(next(p for p in map(environments.python, ("tenuto", "bench")) if p.exists()))
    node = ENVIRONMENTS / "restate" / "node" / "node_modules" / "@restatedev"
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), "x64")
    wanted = {
        "python -c pass": [interpreter, "-c", "pass"],
        "bare argparse script --help": [interpreter, str(bare), "--help"],
        "tenuto --help": [_script("tenuto", "tenuto"), "--help"],
        "dbos --help": [_script("dbos", "dbos"), "--help"],
        "langgraph --help": [_script("langgraph", "langgraph"), "--help"],
        "absurdctl --help": [_script("absurd", "absurdctl"), "--help"],
        "pgq --help": [_script("pgqueuer", "pgq"), "--help"],
        "procrastinate --help": [_script("procrastinate", "procrastinate"), "--help"],
        "restate --help": [str(node / f"restate-linux-{machine}" / "bin" / "restate"), "--help"],
    }
    return {label: command for label, command in wanted.items() if Path(command[0]).exists()}


def measure_commands(more: dict[str, tuple[list[str], dict[str, str]]] | None = None) -> list[dict[str, Any]]:
    """Time every command, interleaved, and return one row each.

    Args:
        more: Label to command and extra environment, for commands that need a server that is running.
    """
    every = {label: (command, dict[str, str]()) for label, command in commands().items()} | (more or {})
    times: dict[str, list[float]] = {label: [] for label in every}
    codes: dict[str, int] = {}
    for round_number in range(ROUNDS + 1):
        for label, (command, extra) in every.items():
            start = time.perf_counter()
            done = subprocess.run(
                command,
                env={**process_environment(), **extra},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
            if round_number:
                times[label].append((time.perf_counter() - start) * 1e3)
            codes[label] = done.returncode
    return [
        {
            "peer": "cli",
            "work": label,
            "median_ms": statistics.median(taken),
            "min_ms": min(taken),
            "max_ms": max(taken),
            "exit": codes[label],
        }
        for label, taken in times.items()
    ]


def _script(environment: str, name: str) -> str:
    return str(ENVIRONMENTS / environment / "bin" / name)
