"""A `tenuto serve` of the benchmark's own, for the works that talk HTTP and the CLI."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import environments, measure
from bench.paths import DATA, LOGS, ROOT
from bench.ports import free_ports

APP = "bench.tenuto_app:app"
TOKEN = "bench-token-that-guards-nothing-but-loopback"
READY_S = 30.0


class ServerFailed(RuntimeError):
    """`tenuto serve` ended, or did not answer in time; the message ends with its log's last lines."""


@contextmanager
def serving(url: str, program: Path) -> Iterator[tuple[int, int]]:
    """Run `tenuto serve` on a free loopback port; yield its port and process id, and stop it at the end.

    Raises:
        ServerFailed: It did not become healthy.
    """
    port = free_ports(1)[0]
    log = LOGS / "tenuto-serve.log"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    env |= {"TENUTO_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
    if _limits_starts(program):
        env["TENUTO_START_RATES"] = '{"simple": 0, "standard": 0, "heavy": 0}'
    command = [str(program), "serve", APP, "--host", "127.0.0.1", "--port", str(port), "--database", url]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        _wait_until_healthy(process, port, log)
        yield port, process.pid
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _limits_starts(program: Path) -> bool:
    """Say whether a build limits how often runs are started; an older one refuses the setting."""
    asked = [str(program.parent / "python"), "-c", "import tenuto.settings.starts"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


@contextmanager
def tenuto_commands() -> Iterator[dict[str, tuple[list[str], dict[str, str]]]]:
    """Yield the CLI commands that need a server, with it running; none when there is no Tenuto to run."""
    program = environments.python("tenuto").parent / "tenuto"
    if not program.exists():
        yield {}
        return
    place = measure.fresh_file(DATA / "cli.db")
    with ExitStack() as stack:
        more: dict[str, tuple[list[str], dict[str, str]]] = {}
        try:
            port, _ = stack.enter_context(serving(f"sqlite:///{place}", program))
            env = {"TENUTO_API_URL": f"http://127.0.0.1:{port}", "TENUTO_TOKEN": TOKEN}
            more["tenuto run list"] = ([str(program), "run", "list"], env)
        except ServerFailed as error:
            print(f"bench: left out: tenuto run list: {error}", file=sys.stderr)
        yield more


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    tail = " | ".join(log.read_text(errors="replace").strip().splitlines()[-4:])
    raise ServerFailed(f"`tenuto serve` is not healthy after {READY_S:.0f} s (exit {process.poll()}): {tail}")
