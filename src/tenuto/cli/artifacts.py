"""`artifact list|get|put`: stored content by the digest of its bytes."""

from __future__ import annotations

import os
import sys

from tenuto.cli import show, wire
from tenuto.cli.client import path_of
from tenuto.cli.context import items
from tenuto.cli.errors import CliError
from tenuto.cli.out import clean
from tenuto.cli.values import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser

DEFAULT_TYPE = "application/octet-stream"


def args_list(parser: Parser) -> None:
    """Declare the options of `artifact list`."""
    parser.option("run", nargs="?", metavar="RUN", help="id of a run (default: everything that was put, newest first)")
    parser.option("--limit", type=int, default=100, metavar="N", help="how many, without RUN (default: 100)")


def do_list(context: Context) -> int:
    """List the content a run refers to, or what was put."""
    out, run = context.out, context.args.run
    if run:
        page = context.client.get(path_of("runs", run, "artifacts"))
    else:
        page = context.client.get("/artifacts", {"limit": context.args.limit})

    def pretty() -> None:
        rows = [
            (
                clean(a.get("digest")),
                f"{a.get('size', 0):,}",
                clean(a.get("media_type") or ""),
                *((clean(a.get("step") or ""), clean(a.get("role") or "")) if run else ()),
            )
            for a in items(page)
        ]
        show.table(out, ("DIGEST", "BYTES", "TYPE", *(("STEP", "ROLE") if run else ())), rows)
        none = "The run has no stored values or artifacts." if run else "Nothing was put. Store a file:  tenuto artifact put FILE"
        out.note("Fetch one:  tenuto artifact get DIGEST" if rows else none)

    out.result(page, pretty)
    return 0


def args_get(parser: Parser) -> None:
    """Declare the options of `artifact get`."""
    parser.option("digest", metavar="DIGEST", help="digest of the content")
    parser.option("-o", "--out", metavar="FILE", help="write it to a file (default: standard output)")


def do_get(context: Context) -> int:
    """Fetch content, byte for byte; a file is whole or not there."""
    args = context.args
    response = context.client.open("GET", path_of("artifacts", args.digest), headers=["Accept: */*"])
    if args.out is None:
        sys.stdout.flush()
        for piece in response.pieces():
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return 0
    size, part = 0, f"{args.out}.part"
    try:
        try:
            with open(part, "wb") as file:
                for piece in response.pieces():
                    size += file.write(piece)
            os.replace(part, args.out)
        except BaseException:
            if os.path.exists(part):
                os.unlink(part)
            raise
    except OSError as error:
        raise CliError(f"Cannot write {args.out}: {error.strerror}.") from error
    context.out.note(f"{size:,} bytes in {args.out}")
    return 0


def args_put(parser: Parser) -> None:
    """Declare the options of `artifact put`."""
    parser.option("file", metavar="FILE", help="file to store")
    parser.option("--type", metavar="TYPE", help="media type (default: by the ending of the file's name)")


def do_put(context: Context) -> int:
    """Store a file and print its digest."""
    out, name = context.out, context.args.file
    try:
        with open(name, "rb") as file:
            stored = _sent(context, file, os.fstat(file.fileno()).st_size, context.args.type or _type_of(name))
    except OSError as error:
        raise CliError(f"Cannot read {name}: {error.strerror}.") from error

    def pretty() -> None:
        out.line(clean(stored.get("digest")))
        out.note(f"{stored.get('size', 0):,} bytes. It is kept while a run names it, and for a day until one does.")

    out.result(stored, pretty)
    return 0


def _sent(context: Context, file: BinaryIO, size: int, kind: str) -> dict[str, Any]:
    response = context.client.open("POST", "/artifacts", headers=[f"Content-Type: {kind}"], body=wire.File(file, size))
    return loads(response.read())


def _type_of(name: str) -> str:
    from mimetypes import guess_type

    return guess_type(name)[0] or DEFAULT_TYPE
