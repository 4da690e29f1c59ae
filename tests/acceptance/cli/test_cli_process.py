"""The command line as a process of its own: what it loads, what it prints, how it ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

HEAVY = {
    "asyncio",
    "pydantic",
    "httpx",
    "msgspec",
    "fastapi",
    "http.client",
    "typing",
    "yaml",
    "ssl",
    "urllib.parse",
}
ANSWER = b'{"items": [], "next_cursor": null}'


def run(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the module as a person would."""
    env = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, *argv], capture_output=True, text=True, env=env, timeout=30, check=False
    )


@pytest.fixture
def url() -> Iterator[str]:
    """A server that gives one answer to whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)
                connection.sendall(head + ANSWER)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_help_needs_nothing_but_the_table() -> None:
    """`tenuto --help` loads neither argparse nor json."""
    code = "import sys; before=set(sys.modules); from tenuto.cli.main import main; main(['--help']);"
    done = run("-c", f"{code} print(*set(sys.modules) - before, file=sys.stderr)")
    own = {"tenuto", "tenuto.cli", "tenuto.cli.main", "tenuto.cli.errors", "tenuto.cli.table"}
    assert set(done.stderr.split()) - {"__future__"} == own
    assert "usage: tenuto COMMAND" in done.stdout


def test_a_list_loads_nothing_heavy(url: str) -> None:
    """A client command stays within the standard library's light part."""
    code = "import sys; from tenuto.cli.main import main; c = main(['run', 'list', '--output', 'json']);"
    done = run("-c", f"{code} print(' '.join(sys.modules), file=sys.stderr); sys.exit(c)", TENUTO_API_URL=url)
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stderr.split())
    assert '"items": []' in done.stdout


def test_the_module_runs_like_the_script() -> None:
    """`python -m tenuto` is the same command, with the same exit codes."""
    assert run("-m", "tenuto", "--version").stdout.startswith("tenuto ")
    assert run("-m", "tenuto", "rnu").returncode == 1
    assert run("-m", "tenuto", "run", "list", TENUTO_API_URL="http://127.0.0.1:1").returncode == 2


def test_a_closed_pipe_is_no_crash() -> None:
    """`tenuto --help | head -0` says nothing on standard error."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tenuto", "--help"], stdout=writer, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writer)
    assert done.stderr == b""
