"""`artifact list|get`: stored values by the digest of their bytes."""

from __future__ import annotations

import sys

from tenuto.cli import show
from tenuto.cli.client import path_of
from tenuto.cli.context import items
from tenuto.cli.errors import CliError
from tenuto.cli.out import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser


def args_list(parser: Parser) -> None:
    """Declare the options of `artifact list`."""
    parser.option("run", metavar="RUN", help="id of the run")


def do_list(context: Context) -> int:
    """List the stored values a run refers to."""
    out = context.out
    page = context.client.get(path_of("runs", context.args.run, "artifacts"))

    def pretty() -> None:
        rows = [
            (
                clean(a.get("digest")),
                f"{a.get('size', 0):,}",
                clean(a.get("step") or ""),
                clean(a.get("role") or ""),
            )
            for a in items(page)
        ]
        show.table(out, ("DIGEST", "BYTES", "STEP", "ROLE"), rows)
        out.note("Fetch one:  tenuto artifact get DIGEST" if rows else "The run has no stored values.")

    out.result(page, pretty)
    return 0


def args_get(parser: Parser) -> None:
    """Declare the options of `artifact get`."""
    parser.option("digest", metavar="DIGEST", help="digest of the value")
    parser.option("-o", "--out", metavar="FILE", help="write it to a file (default: standard output)")


def do_get(context: Context) -> int:
    """Fetch a stored value, byte for byte."""
    args = context.args
    response = context.client.open("GET", path_of("artifacts", args.digest), headers=["Accept: */*"])
    raw = response.read()
    if args.out is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()
        return 0
    try:
        with open(args.out, "wb") as file:
            file.write(raw)
    except OSError as error:
        raise CliError(f"Cannot write {args.out}: {error.strerror}.") from error
    context.out.note(f"{len(raw):,} bytes in {args.out}")
    return 0
