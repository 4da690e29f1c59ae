"""From words to arguments: find the command first, then build the parser of that one command only."""

from __future__ import annotations

import argparse

from tenuto.cli.errors import CliError, nearest
from tenuto.cli.table import COMMANDS, GROUPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

OUTPUTS = ("pretty", "json", "compact")
_WITH_VALUE = ("--output", "--api-url", "--token")
_FLAGS = ("-h", "--help", "-V", "--version")


def find_command(argv: list[str]) -> tuple[str, list[str]]:
    """Return the command's words and the other arguments; options for everywhere may stand before the command.

    Returns:
        The words may be a group's name, or empty, when no whole command was given.

    Raises:
        CliError: There is no such command, or another option stands before it.
    """
    words, others, index = "", list[str](), 0
    while index < len(argv):
        argument = argv[index]
        index += 1
        if argument.startswith("-") and argument != "-":
            others.append(argument)
            name, separator, _ = argument.partition("=")
            if name in _WITH_VALUE and not separator:
                others += argv[index : index + 1]
                index += 1
            elif name not in (*_WITH_VALUE, *_FLAGS):
                raise CliError(f"The option {name} must come after the command.", hint="See:  tenuto --help")
            continue
        words = f"{words} {argument}".strip()
        if words in COMMANDS:
            return words, others + argv[index:]
        if words not in GROUPS:
            raise _unknown(words, argv[index - 1 :])
    return words, others


def _unknown(words: str, rest: list[str]) -> CliError:
    group, _, last = words.rpartition(" ")
    if group:
        known = [name.partition(" ")[2] for name in COMMANDS if name.startswith(f"{group} ")]
        close = nearest(last, known)
        if not close and len(known) == 1:
            guess = f"tenuto {group} {known[0]} {' '.join(rest)}"
            return CliError(f"Unknown command: {words}", hint=f"Did you mean:  {guess}")
        close = close and f"{group} {close}"
    else:
        close = nearest(last, sorted({name.partition(" ")[0] for name in COMMANDS}))
        same_verb = [name for name in COMMANDS if name.endswith(f" {last}")]
        close = same_verb[0] if same_verb else close
    see = f"tenuto {group} --help" if group else "tenuto --help"
    return CliError(
        f"Unknown command: {words}", hint=f"Did you mean:  tenuto {close}" if close else f"See:  {see}"
    )


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are errors like any other, with the nearest option named."""

    def __init__(self, words: str) -> None:
        """Make the parser of one command with the options that work everywhere."""
        super().__init__(
            prog=f"tenuto {words}", description=f"{COMMANDS[words][2]}.", allow_abbrev=False, add_help=True
        )
        self._names: list[str] = []

    def option(self, *names: str, **settings: Any) -> None:
        """Add an option or a positional argument."""
        self._names += [name for name in names if name.startswith("--")]
        self.add_argument(*names, **settings)

    def everywhere(self) -> None:
        """Add the options every command has."""
        self.option(
            "--output", choices=OUTPUTS, default="pretty", help="form of the result (default: pretty)"
        )
        self.option("--api-url", metavar="URL", help="server to talk to (TENUTO_API_URL)")
        self.option("--token", help="token to show there (TENUTO_TOKEN)")

    def read(self, argv: list[str]) -> argparse.Namespace:
        """Return the arguments.

        Raises:
            CliError: They do not fit.
        """
        args, extra = self.parse_known_intermixed_args(argv)
        if extra:
            close = nearest(extra[0].partition("=")[0], self._names) if extra[0].startswith("-") else ""
            hint = f"Did you mean {close}?" if close else f"See:  {self.prog} --help"
            raise CliError(f"{self.prog} does not take {extra[0]!r}.", hint=hint)
        return args

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would have printed."""
        raise CliError(f"{self.prog}: {message}", hint=f"See:  {self.prog} --help")


def load(words: str) -> tuple[Callable[[Parser], None], Callable[[Any], int]]:
    """Return the functions of a command that declare its options and carry it out."""
    module, suffix, _ = COMMANDS[words]
    loaded = load_module(f"tenuto.cli.{module}")
    return getattr(loaded, f"args_{suffix}"), getattr(loaded, f"do_{suffix}")


def load_module(name: str) -> Any:
    """Import a module by name; `importlib` itself is one import too many for a start."""
    return __import__(name, fromlist=["_"])
