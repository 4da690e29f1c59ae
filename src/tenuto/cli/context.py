"""What a command gets: its arguments, the streams, and the server once it is wanted."""

from __future__ import annotations

from tenuto.cli.out import Out
from tenuto.cli.values import is_object, obj, seq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.client import Client
    from tenuto.cli.parse import Arguments


class Context:
    """One invocation of the command line."""

    def __init__(self, args: Arguments, out: Out) -> None:
        """Keep arguments and streams; nothing is looked up yet."""
        self.args = args
        self.out = out
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The server to talk to, found at first use.

        Raises:
            CliError: Its address cannot be settled.
        """
        if self._client is None:
            from tenuto.cli.client import Client
            from tenuto.cli.home import find_target

            self._client = Client(find_target(self.args.api_url, self.args.token))
        return self._client

    def is_interactive(self) -> bool:
        """Report whether a person can be asked: all three streams are a terminal and no program reads."""
        import sys

        ends = (sys.stdin, sys.stdout, sys.stderr)
        return self.out.is_pretty and all(end is not None and end.isatty() for end in ends)


def items(page: Any) -> list[dict[str, Any]]:
    """Return the entries of a list answer."""
    return seq(page.get("items")) if is_object(page) else seq(page)


def cursor(page: Any) -> str:
    """Return the cursor of the next part of a list, empty at its end."""
    found = obj(page)
    return str(found.get("next_cursor") or found.get("next") or "")
