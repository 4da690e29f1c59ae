"""`optimizer list|show|add|remove|enable|disable|new`: the optimizers that are asked."""

from __future__ import annotations

from tenuto.cli import show
from tenuto.cli.client import path_of
from tenuto.cli.context import items
from tenuto.cli.errors import CliError
from tenuto.cli.out import clean
from tenuto.cli.values import obj

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser

WASM = "application/wasm"


def args_list(parser: Parser) -> None:
    """Declare the options of `optimizer list`."""


def do_list(context: Context) -> int:
    """List the optimizers, those that come with Tenuto first."""
    out = context.out
    page = context.client.get("/optimizers")

    def pretty() -> None:
        rows = [
            (clean(one.get("name")), clean(one.get("kind")), show.status(out, one.get("status")),
             str(one.get("failures") or show.NOTHING), clean(one.get("error") or one.get("description") or ""))
            for one in items(page)
        ]  # fmt: skip
        show.table(out, ("OPTIMIZER", "KIND", "STATUS", "FAILURES", ""), rows)
        if not rows:
            out.note("No optimizers.  Add one:  tenuto optimizer add FILE")

    out.result(page, pretty)
    return 0


def _one(parser: Parser) -> None:
    parser.option("name", metavar="NAME", help="name of the optimizer")


def args_show(parser: Parser) -> None:
    """Declare the options of `optimizer show`."""
    _one(parser)


def do_show(context: Context) -> int:
    """Show an optimizer, and what went wrong with it."""
    return _told(context, context.client.get(path_of("optimizers", context.args.name)))


def args_add(parser: Parser) -> None:
    """Declare the options of `optimizer add`."""
    parser.option("file", metavar="FILE", help="a WebAssembly module (.wasm)")
    parser.option("--name", metavar="NAME", help="how it is called (default: the file's name)")


def do_add(context: Context) -> int:
    """Add a module; exit code 2 when it can be no optimizer, with the reason."""
    args = context.args
    try:
        with open(args.file, "rb") as file:
            module = file.read()
    except OSError as error:
        raise CliError(f"Cannot read {args.file}: {error.strerror}.") from error
    name = args.name or args.file.replace("\\", "/").rpartition("/")[2].partition(".")[0]
    return _told(context, context.client.call("PUT", path_of("optimizers", name), module, kind=WASM))


def args_remove(parser: Parser) -> None:
    """Declare the options of `optimizer remove`."""
    _one(parser)


def do_remove(context: Context) -> int:
    """Forget a module that was added; what it has proposed stays."""
    name = context.args.name
    context.client.call("DELETE", path_of("optimizers", name))
    context.out.result({"name": name, "removed": True}, lambda: context.out.line(clean(f"optimizer {name} removed")))
    return 0


def args_enable(parser: Parser) -> None:
    """Declare the options of `optimizer enable`."""
    _one(parser)


def do_enable(context: Context) -> int:
    """Let an added optimizer be asked again, its failures forgotten."""
    return _told(context, context.client.post(path_of("optimizers", context.args.name, "enable")))


def args_disable(parser: Parser) -> None:
    """Declare the options of `optimizer disable`."""
    _one(parser)


def do_disable(context: Context) -> int:
    """Let an added optimizer be asked no more."""
    return _told(context, context.client.post(path_of("optimizers", context.args.name, "disable")))


def _told(context: Context, found: Any) -> int:
    out, one = context.out, obj(found)

    def pretty() -> None:
        size = f"{one.get('size'):,} bytes" if one.get("size") else ""
        since = f"since {show.ago(one.get('quarantined_at'))}" if one.get("quarantined_at") else ""
        pairs = [
            ("optimizer", clean(one.get("name"))), ("kind", clean(one.get("kind"))),
            ("status", f"{show.status(out, one.get('status'))} {since}".strip()),
            ("what it does", clean(one.get("description") or "")), ("digest", clean(one.get("digest") or "")), ("size", size),
            ("added", clean(f"{show.ago(one.get('added_at'))} by {one.get('by') or 'somebody'}") if one.get("added_at") else ""),
            ("failures in a row", str(one.get("failures") or "")), ("the last", clean(one.get("error") or "")),
        ]
        show.fields(out, pairs)
        if one.get("status") == "quarantined":
            out.note(f"\nAsk it again:  tenuto optimizer enable {clean(one.get('name'))}")

    out.result(found, pretty)
    return 0


def args_new(parser: Parser) -> None:
    """Declare the options of `optimizer new`."""
    parser.option("directory", metavar="DIRECTORY", help="a new or empty folder")


def do_new(context: Context) -> int:
    """Write a template of an optimizer into a folder; one command there builds it."""
    from importlib import import_module

    from tenuto.errors import TenutoError

    directory = context.args.directory
    try:
        written = import_module("tenuto.bundled.optimizers").write_template(directory)
    except TenutoError as error:
        raise CliError(f"{error.message[:1].upper()}{error.message[1:]}.") from error

    def pretty() -> None:
        for name in written:
            context.out.line(clean(f"{directory}/{name}"))
        context.out.note(f"\nBuild it:  make -C {clean(directory)}")

    context.out.result({"directory": directory, "files": list(written)}, pretty)
    return 0
