"""`replay`: an old run done again from one of its steps, with edits if wanted."""

from __future__ import annotations

import os

from tenuto.cli import inputs
from tenuto.cli.client import path_of
from tenuto.cli.errors import CliError
from tenuto.cli.inputs import Yaml
from tenuto.cli.start import after_start
from tenuto.cli.values import is_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser


def args_replay(parser: Parser) -> None:
    """Declare the options of `replay`."""
    parser.option("run", metavar="RUN", help="id of the run to do again")
    parser.option(
        "--from", dest="start", metavar="NODE|STEP", help="a node, a step's id, or how many steps to keep"
    )
    parser.option("--at", type=int, metavar="SEQ", help="keep everything up to this record")
    parser.option(
        "--mode", choices=("live", "freeze", "shadow"), help="live, recorded outcomes, or without effects"
    )
    parser.option(
        "--with",
        dest="config",
        action="append",
        metavar="K=V",
        help="other config for the --from node (NODE:K=V for another)",
    )
    parser.option("--input", metavar="JSON|@FILE|-", help="another input for the run")
    parser.option(
        "--edits",
        metavar="JSON|@FILE|-",
        help="edits as the API takes them: input, nodes, budget, definition",
    )
    parser.option("--label", action="append", metavar="K=V", help="label of the new run; may be repeated")
    parser.option("--idempotency-key", metavar="KEY", help="the same key and request start one run only")
    parser.option("-f", "--follow", action="store_true", help="show what happens until the run ends")
    parser.option("--wait", action="store_true", help="wait for the end and show the result")


def do_replay(context: Context) -> int:
    """Start the new run; the old one is never changed."""
    args = context.args
    if args.start is not None and args.at is not None:
        raise CliError(
            "--from and --at exclude each other.", hint="--at keeps whole records, --from starts at a step."
        )
    body: dict[str, Any] = {
        name: value for name, value in (("at", args.at), ("mode", args.mode)) if value is not None
    }
    body |= cut(args.start)
    edits = _edits(args, body.get("from_node"))
    if edits:
        body["edits"] = edits
    if args.label:
        body["labels"] = inputs.pairs(args.label, "--label")
    key = args.idempotency_key or os.urandom(16).hex()
    return after_start(context, context.client.post(path_of("runs", args.run, "replay"), body, key=key))


def cut(start: str | None) -> dict[str, Any]:
    """Return where a replay begins: a count of steps, a step of a loop pass or map item, or a node."""
    if start is None:
        return {}
    if start.lstrip("-").isdigit():
        return {"from_step": int(start)}
    return {"from_step" if "~" in start else "from_node": start}


def _edits(args: Any, from_node: str | None) -> dict[str, Any]:
    edits: Any = _value(args.edits, "--edits") if args.edits is not None else {}
    if not is_object(edits):
        raise CliError(
            "--edits is not an object.", hint='For example --edits \'{"nodes": {"parse": {"config": {}}}}\''
        )
    if args.input is not None:
        edits["input"] = _value(args.input, "--input")
    given: list[str] = args.config or []
    for pair in given:
        key, _, value = pair.partition("=")
        node, mark, field = key.partition(":")
        if not mark:
            node, field = from_node or "", key
        if not node:
            raise CliError(
                f"--with {pair!r} names no node.", hint="Give --from NODE, or --with NODE:KEY=VALUE"
            )
        config: dict[str, Any] = edits.setdefault("nodes", {}).setdefault(node, {}).setdefault("config", {})
        inputs.merge(config, inputs.nested([f"{field}={value}" if "=" in pair else field], "--with"))
    return edits


def _value(text: str, option: str) -> Any:
    value = inputs.value_of(text, option)
    if isinstance(value, Yaml):
        raise CliError(f"{option} takes JSON, not YAML.")
    return value
