"""The entry of the command line: finds the command, runs it, and turns what went wrong into words and an exit code."""

from __future__ import annotations

import sys

from tenuto.cli.errors import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tenuto.cli.out import Out


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 API error, 130 interrupted."""
    words = sys.argv[1:] if argv is None else argv
    try:
        if not words or words in (["--help"], ["-h"], ["help"]):  # nothing but the table is needed
            from tenuto.cli.table import overview

            print(overview(), flush=True)
            return EXIT_OK
        return _guarded(words)
    except BrokenPipeError:
        return _leave_pipe()


def _guarded(argv: list[str]) -> int:
    from tenuto.cli.out import Out

    out = Out(_wanted_output(argv))
    _tolerate_any_text()
    try:
        code = _run(argv, out)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        out.note("Interrupted.")
        return EXIT_INTERRUPTED
    except CliError as error:
        from tenuto.cli.complain import complain

        complain(out, error)
        return error.exit_code


def _run(argv: list[str], out: Out) -> int:
    from tenuto.cli import parse
    from tenuto.cli.context import Context

    if argv[0] == "help":
        argv = [*argv[1:], "--help"]
    words, rest = parse.find_command(argv)
    if words not in parse.COMMANDS:
        return _without_command(words, rest, out)
    declare, carry_out = parse.load(words)
    parser = parse.Parser(words)
    declare(parser)
    parser.everywhere()
    try:
        args = parser.read(rest)
    except SystemExit:  # --help has been printed
        return EXIT_OK
    out.mode = args.output
    return carry_out(Context(args, out))


def _without_command(group: str, rest: list[str], out: Out) -> int:
    from tenuto.cli.table import group_overview, overview

    wants_help = any(flag in rest for flag in ("-h", "--help"))
    if not group and any(flag in rest for flag in ("-V", "--version")):
        from tenuto import __version__

        out.line(f"tenuto {__version__}")
        return EXIT_OK
    text = group_overview(group) if group else overview()
    if wants_help:
        out.line(text)
        return EXIT_OK
    out.note(text)
    return EXIT_FAILURE


def _wanted_output(argv: list[str]) -> str:
    """Return the form asked for, as far as it can be told before the arguments are understood."""
    for index, word in enumerate(argv):
        value = (
            argv[index + 1]
            if word == "--output" and index + 1 < len(argv)
            else word.removeprefix("--output=")
        )
        if value in ("json", "compact") and word.startswith("--output"):
            return value
    return "pretty"


def _tolerate_any_text() -> None:
    """Show a replacement where a terminal's encoding lacks a character, instead of failing half-way."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def _leave_pipe() -> int:
    """End quietly when the reader of a pipe has gone; Python must not complain at exit either."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_FAILURE


if __name__ == "__main__":
    sys.exit(main())
