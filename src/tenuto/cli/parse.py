"""From words to arguments: find the command first, then read what that one command declares."""

from __future__ import annotations

from tenuto.cli.errors import CliError, nearest
from tenuto.cli.table import COMMANDS, GROUPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

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


class Parser:
    """The declared options of one command; what fits them is read at once, anything else goes to `argparse`.

    `argparse` decides every doubtful case and writes help and complaints; the quick way only takes arguments that
    mean the same to both, and spares the import.
    """

    def __init__(self, words: str) -> None:
        """Declare nothing yet."""
        self._words = words
        self._declared: list[tuple[tuple[str, ...], dict[str, Any]]] = []

    def option(self, *names: str, **settings: Any) -> None:
        """Declare an option or a positional argument, in the words of `argparse.ArgumentParser.add_argument`."""
        self._declared.append((names, settings))

    def everywhere(self) -> None:
        """Declare the options every command has."""
        self.option(
            "--output", choices=OUTPUTS, default="pretty", help="form of the result (default: pretty)"
        )
        self.option("--api-url", metavar="URL", help="server to talk to (TENUTO_API_URL)")
        self.option("--token", help="token to show there (TENUTO_TOKEN)")

    def read(self, argv: list[str]) -> Any:
        """Return the arguments as attributes.

        Raises:
            CliError: They do not fit.
            SystemExit: Help was asked for and has been printed.
        """
        values = read_plainly(self._declared, argv)
        if values is None:
            from tenuto.cli.arguments import read_fully

            values = read_fully(self._words, COMMANDS[self._words][2], self._declared, argv)
        return Arguments(values)


class Arguments:
    """Arguments as attributes, by the names `argparse` gives them."""

    action: str

    def __init__(self, values: dict[str, Any]) -> None:
        """Take the values over."""
        self.__dict__.update(values)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def read_plainly(
    declared: list[tuple[tuple[str, ...], dict[str, Any]]], argv: list[str]
) -> dict[str, Any] | None:
    """Return the values of arguments that are plainly right, or `None` when somebody has to look closer."""
    options = {name: entry for entry in declared for name in entry[0] if name.startswith("-")}
    values = {destination(*entry): entry[1].get("default") for entry in declared}
    words: list[str] = []
    left = iter(argv)
    for word in left:
        if not word.startswith("-") or word == "-":
            words.append(word)
            continue
        name, mark, value = word.partition("=")
        entry = options.get(name)
        if entry is None or (mark and not name.startswith("--")):
            return None
        action = entry[1].get("action")
        if action == "store_true":
            if mark:
                return None
            values[destination(*entry)] = True
            continue
        text = value if mark else next(left, "-")
        read = None if text.startswith("-") and not mark else _converted(text, entry[1])
        if read is None:
            return None
        known = values[destination(*entry)]
        values[destination(*entry)] = [*(known or []), read] if action == "append" else read
    for entry in declared:
        if entry[1].get("action") == "store_true":
            values[destination(*entry)] = values[destination(*entry)] or False
    if any(entry[1].get("required") and values[destination(*entry)] is None for entry in declared):
        return None
    return (
        values
        if _place([entry for entry in declared if not entry[0][0].startswith("-")], words, values)
        else None
    )


def _place(
    wanted: list[tuple[tuple[str, ...], dict[str, Any]]], words: list[str], values: dict[str, Any]
) -> bool:
    """Give positional arguments their words in order; report whether they fit."""
    for names, settings in wanted:
        if settings.get("nargs") == "*":
            values[names[0]], words = words, []
        elif words:
            values[names[0]], *words = words
        elif settings.get("nargs") != "?":
            return False
    return not words


def _converted(text: str, settings: dict[str, Any]) -> Any:
    try:
        value = settings["type"](text) if "type" in settings else text
    except ValueError:
        return None
    return value if value in settings.get("choices", (value,)) else None


def destination(names: tuple[str, ...], settings: dict[str, Any]) -> str:
    """Return the attribute an option's value is kept under, as `argparse` names it."""
    long = next((name for name in names if name.startswith("--")), names[0])
    return settings.get("dest") or long.lstrip("-").replace("-", "_")


def load(words: str) -> tuple[Callable[[Parser], None], Callable[[Any], int]]:
    """Return the functions of a command that declare its options and carry it out."""
    module, suffix, _ = COMMANDS[words]
    loaded = load_module(f"tenuto.cli.{module}")
    return getattr(loaded, f"args_{suffix}"), getattr(loaded, f"do_{suffix}")


def load_module(name: str) -> Any:
    """Import a module by name; `importlib` itself is one import too many for a start."""
    return __import__(name, fromlist=["_"])
