"""A PostgreSQL server of one's own, from a package, for tests, benchmarks and the demo.

The binaries come from the extra `local-postgres`; nothing of the system's PostgreSQL is used or touched. The
server listens on loopback only, asks for a password, never runs as root, and ends with the process that
started it, even when that one is killed. Not for production data.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote, unquote

from tenuto.bundled import postgres_process as process

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_PORT_ATTEMPTS = 8
_STOP_SIGNALS: dict[str, signal.Signals] = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}

LocalPostgresError = process.LocalPostgresError


class LocalPostgres:
    """A running private server; leaving the `with` block stops it and removes what it made up itself.

    Attributes:
        version: The server's version, as in `18.6`.
        port: The loopback port; the same over restarts.
        home: Folder with the cluster (`data`), its password and `server.log`.
    """

    def __init__(self, home: Path, *, options: Mapping[str, str], temporary: bool) -> None:
        self.home = home
        self.port = 0
        self._options = dict(options)
        self._temporary = temporary
        self._owner_pid = os.getpid()
        self._account = process.unprivileged_account()
        self._tools = process.Tools.locate(self._account, spare_place=home)
        self.version = self._tools.version()
        self._server: process.ServerProcess | None = None
        self._password = ""

    @classmethod
    def start(cls, data_dir: Path | None = None, *, options: Mapping[str, str] | None = None) -> Self:
        """Return a server that accepts connections.

        Args:
            data_dir: Folder to keep the cluster in, made when absent and reused when it holds one; `None`
                takes a temporary folder that `stop` removes. When root, everyone must be able to enter it.
            options: Server settings, such as `{"fsync": "off"}`. Without any the server is as durable as
                PostgreSQL's defaults make it.

        Raises:
            LocalPostgresError: The extra is missing or the server did not come up; its log's tail is told.
        """
        temporary = data_dir is None
        home = Path(tempfile.mkdtemp(prefix="tenuto-pg-")) if data_dir is None else data_dir.resolve()
        try:
            if temporary:
                home.chmod(0o755)  # the server's account must get through to its data
            home.mkdir(parents=True, exist_ok=True)
            server = cls(home, options=options or {}, temporary=temporary)
            server._initialise()
            server._launch_on_free_port()
        except BaseException:
            if temporary:
                shutil.rmtree(home, ignore_errors=True)
            raise
        atexit.register(server._stop_at_exit)
        return server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the running postmaster.

        Raises:
            LocalPostgresError: The server is stopped.
        """
        return self._running().pid

    def url(self, database: str = "postgres") -> str:
        """Return the DSN of a database, password included."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def create_database(self, name: str | None = None, template: str | None = None) -> str:
        """Create a database and return its DSN.

        Args:
            name: `None` makes up a fresh one.
            template: Database to copy; nobody may be connected to it.
        """
        chosen = name or f"tenuto_{secrets.token_hex(6)}"
        source = f" TEMPLATE {_identifier(template)}" if template else ""
        self._sql(f"CREATE DATABASE {_identifier(chosen)}{source}")
        return self.url(chosen)

    def drop_database(self, name_or_url: str) -> None:
        """Remove a database, throwing out whoever is connected; one that does not exist is no error."""
        name = unquote(name_or_url.rsplit("/", 1)[-1]) if "://" in name_or_url else name_or_url
        self._sql(f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE)")

    def restart(self, mode: Literal["fast", "immediate"] = "immediate") -> None:
        """Stop the server and start it on the same port and data.

        Args:
            mode: `immediate` drops every connection and leaves recovery to the next start, as a crash would;
                `fast` ends sessions and writes a checkpoint.
        """
        self._halt(mode)
        self._launch(self.port)

    def stop(self) -> None:
        """Stop the server, and remove its folder when that was temporary. Safe to call twice."""
        self._halt("fast")
        atexit.unregister(self._stop_at_exit)
        if self._temporary:
            shutil.rmtree(self.home, ignore_errors=True)

    def _stop_at_exit(self) -> None:
        if os.getpid() == self._owner_pid:  # a forked child must not end its parent's server
            self.stop()

    def _running(self) -> process.ServerProcess:
        if self._server is None:
            raise LocalPostgresError("the packaged PostgreSQL server is stopped; start a new one")
        return self._server

    def _halt(self, mode: str) -> None:
        if self._server is not None:
            self._server.halt(_STOP_SIGNALS[mode], timeout_s=_STOP_TIMEOUT_S)
            self._server = None

    def _initialise(self) -> None:
        """Make the cluster unless the folder holds one, and learn its password."""
        data, password_file = self.home / "data", self.home / "password"
        if (data / "PG_VERSION").exists():
            self._password = password_file.read_text(encoding="ascii").strip()
            return
        data.mkdir(mode=0o700, exist_ok=True)
        password_file.touch(mode=0o600)
        self._password = secrets.token_hex(16)
        password_file.write_text(self._password, encoding="ascii")
        if self._account is not None:
            for path in (data, password_file):
                os.chown(path, self._account.uid, self._account.gid)
        arguments = ["-D", str(data), "-U", "postgres", "-A", "scram-sha-256", f"--pwfile={password_file}"]
        # The password is random: slow hashing would only cost connection time.
        arguments += ["-E", "UTF8", "--locale=C", "--set=scram_iterations=64"]
        if self._temporary:
            arguments.append("--no-sync")  # nobody reads this cluster after a power cut
        self._tools.run("initdb", *arguments)

    def _launch_on_free_port(self) -> None:
        """Start on a free port; another process may take it in between, so try a few."""
        for attempt in range(_PORT_ATTEMPTS):
            try:
                self._launch(_free_port())
                return
            except LocalPostgresError as error:
                if "Address already in use" not in str(error) or attempt == _PORT_ATTEMPTS - 1:
                    raise

    def _launch(self, port: int) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            **self._options,
            "port": str(port),
        }
        arguments = ["-D", str(self.home / "data")]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        server = process.ServerProcess(self._tools, arguments, log=self.home / "server.log")
        server.wait_ready(port, timeout_s=_START_TIMEOUT_S)
        self._server, self.port = server, port

    def _sql(self, statement: str) -> None:
        self._running()
        connection = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", "postgres"]
        self._tools.run("psql", "-X", "-q", *connection, "-c", statement, password=self._password)


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


__all__ = ["LocalPostgres", "LocalPostgresError"]
