"""What can go wrong in a command, each with the exit code it ends with."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_API = 2
EXIT_INTERRUPTED = 130


class CliError(Exception):
    """A local problem: bad usage, an unreadable file, a run that failed. Exit code 1."""

    exit_code = EXIT_FAILURE

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep what is wrong and what the person can do next."""
        super().__init__(message)
        self.message = message
        self.hint = hint


class ApiError(CliError):
    """The server refused the request; carries its problem details. Exit code 2."""

    exit_code = EXIT_API

    def __init__(self, status: int, problem: dict[str, Any], *, hint: str = "") -> None:
        """Keep the problem as sent; its title is the message."""
        super().__init__(str(problem.get("title") or f"The server answered {status}"), hint=hint)
        self.status = status
        self.problem = problem


class Unreachable(CliError):
    """No answer came: nothing listens, the name is unknown, or the connection broke. Exit code 2."""

    exit_code = EXIT_API

    def __init__(self, message: str, *, hint: str = "", sent: bool = False) -> None:
        """Keep whether the request may have reached the server."""
        super().__init__(message, hint=hint)
        self.sent = sent


def nearest(word: str, known: list[str]) -> str:
    """Return the known word most like `word`, or an empty string when none is close."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, known, n=1, cutoff=0.6)), "")
