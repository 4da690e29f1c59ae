"""The thorough way to read arguments: `argparse`, for help, complaints and every doubtful case."""

from __future__ import annotations

import argparse

from tenuto.cli.errors import CliError, nearest
from tenuto.cli.examples import EXAMPLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise what argparse would have printed."""
        raise CliError(f"{self.prog}: {message}", hint=f"See:  {self.prog} --help")


def read_fully(
    words: str, summary: str, declared: list[tuple[tuple[str, ...], dict[str, Any]]], argv: list[str]
) -> dict[str, Any]:
    """Return the values of a command's arguments by attribute name.

    Raises:
        CliError: They do not fit; names the nearest option.
        SystemExit: Help was asked for and has been printed.
    """
    parser = _Parser(
        prog=f"tenuto {words}", description=f"{summary}.", allow_abbrev=False,
        epilog=f"example:\n  {EXAMPLES[words]}", formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    for names, settings in declared:
        parser.add_argument(*names, **settings)
    args, extra = parser.parse_known_intermixed_args(argv)
    if extra:
        known = [name for names, _ in declared for name in names if name.startswith("--")]
        close = nearest(extra[0].partition("=")[0], known) if extra[0].startswith("-") else ""
        hint = f"Did you mean {close}?" if close else f"See:  {parser.prog} --help"
        raise CliError(f"{parser.prog} does not take {extra[0]!r}.", hint=hint)
    return vars(args)
