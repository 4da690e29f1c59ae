"""Where the server is and which token opens it, without asking the person when a server runs here."""

from __future__ import annotations

import os

from tenuto.cli.errors import CliError, Unreachable

DEFAULT_URL = "http://127.0.0.1:8321"
START_HINT = "Start one:  tenuto serve      (or name a running one with --api-url or TENUTO_API_URL)"


class Target:
    """The address to call and the token to show there; `token` is empty when none is known."""

    __slots__ = ("token", "url")

    def __init__(self, url: str, token: str) -> None:
        """Keep the base address without a trailing slash."""
        self.url = url.rstrip("/")
        self.token = token


def data_dir() -> str:
    """Return the directory that holds the default database, its token and the running server's address."""
    return os.environ.get("TENUTO_HOME") or os.path.join(".", ".tenuto")


def find_target(url: str | None, token: str | None) -> Target:
    """Settle address and token: flags, then environment, then what the server that runs here left behind.

    The token file belongs to the server on this machine, so it is never sent to another host.

    Raises:
        Unreachable: The server that left its address here is no longer running.
    """
    chosen = url or os.environ.get("TENUTO_API_URL")
    found = "" if chosen else _running_server()
    address = chosen or found or DEFAULT_URL
    secret = token or os.environ.get("TENUTO_TOKEN") or ""
    if not secret and (found or _is_loopback(address)):
        secret = _read(os.path.join(data_dir(), "token")).strip()
    return Target(address, secret)


def _running_server() -> str:
    """Return the address of the server that runs here, or an empty string when none left one."""
    path = os.path.join(data_dir(), "server.json")
    text = _read(path)
    if not text:
        return ""
    import json

    try:
        note = json.loads(text)
        url, pid = str(note["url"]), int(note["pid"])
    except (ValueError, KeyError, TypeError):
        raise CliError(
            f"{path} does not read as {{url, pid}}", hint="Remove the file, or give --api-url."
        ) from None
    if not _is_alive(pid):
        raise Unreachable(f"The server that ran here (process {pid}, {url}) has stopped.", hint=START_HINT)
    for wildcard in ("//0.0.0.0", "//[::]"):
        url = url.replace(wildcard, "//127.0.0.1")
    return url


def _is_alive(pid: int) -> bool:
    """Report whether a process exists; where that cannot be asked harmlessly, assume it does."""
    if os.name == "nt":  # signal 0 is Ctrl-C there
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _is_loopback(url: str) -> bool:
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    return host.startswith(("127.", "localhost", "[::1]")) and not host.startswith("localhost.")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise CliError(f"Cannot read {path}: {error.strerror}") from error
