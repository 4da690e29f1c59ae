"""`run start`: a registered workflow by name, or whatever a file holds: a definition, a step list, a request."""

from __future__ import annotations

import os
import re

from tenuto.cli import inputs, show
from tenuto.cli.errors import CliError
from tenuto.cli.inputs import YAML_ENDINGS, YAML_TYPE, Yaml
from tenuto.cli.out import clean
from tenuto.cli.values import is_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser


def args_start(parser: Parser) -> None:
    """Declare the options of `run start`."""
    parser.option(
        "what", metavar="FILE|NAME", help="a .json/.yaml file (- for standard input), or a workflow's name"
    )
    parser.option("--input", metavar="JSON|@FILE|-", help="input of the run")
    parser.option("--inputs", metavar="FILE", help="file that holds the input")
    parser.option("--tag", help="version of the workflow: a tag or a digest (default: latest)")
    parser.option("--goal", help="what the run is for, in words")
    parser.option("--label", action="append", metavar="K=V", help="label; may be repeated")
    parser.option("--priority", choices=("low", "medium", "high"))
    parser.option(
        "--budget",
        action="append",
        metavar="CAP=N",
        help="tokens, tool_calls, per_tool.TOOL, usd, wall_clock_s",
    )
    parser.option("--idempotency-key", metavar="KEY", help="the same key and request start one run only")
    parser.option("--business-key", metavar="KEY", help="attach to the unfinished run that has this key")
    parser.option("--start-at", metavar="WHEN", help="not before: 2030-01-31T08:00, or a span such as 10m")
    parser.option("-f", "--follow", action="store_true", help="show what happens until the run ends")
    parser.option("--wait", action="store_true", help="wait for the end and show the result")


def do_start(context: Context) -> int:
    """Start a run; with `--follow` or `--wait` the exit code is the run's."""
    body, kind = request_body(context)
    key = context.args.idempotency_key or os.urandom(16).hex()
    started = context.client.post("/runs", body, key=key, kind=kind)
    return after_start(context, started)


def after_start(context: Context, started: dict[str, Any]) -> int:
    """Tell of a new run, and follow or await it when asked to."""
    args, out, run_id = context.args, context.out, started["id"]
    if args.follow or getattr(args, "wait", False):
        from tenuto.cli import runs

        out.note(f"run {clean(run_id)}")
        if args.follow:
            from tenuto.cli.logs import follow_to_end

            run = follow_to_end(context, run_id)
        else:
            run = runs.wait_for_end(context, run_id)
        if out.is_pretty and args.follow:
            show_end(context, run)
        else:
            runs.show_run(context, run)
        return runs.exit_code(run)
    out.result(started, lambda: _show_started(context, started))
    return 0


def show_end(context: Context, run: dict[str, Any]) -> None:
    """Tell how a followed run ended."""
    out = context.out
    out.line()
    out.line(f"{show.status(out, run.get('status'))}  {clean(run['id'])}")
    if run.get("error"):
        out.line(out.paint(show.failure(run["error"]), "red"))
    if run.get("output") is not None:
        show.block(out, "output", run["output"])


def _show_started(context: Context, started: dict[str, Any]) -> None:
    out, run_id = context.out, clean(started["id"])
    how = "exists already for this key" if started.get("replayed") or started.get("attached") else "started"
    out.line(f"run {run_id} {how} ({show.status(out, started.get('status'))})")
    out.note(f"Follow it:  tenuto logs stream {run_id}")


def request_body(context: Context) -> tuple[bytes, str]:
    """Return the request's body and content type.

    Raises:
        CliError: A file or an option cannot be read.
    """
    what, extra = context.args.what, _options(context)
    if not is_file(what):
        return inputs.encode({"workflow": what, **extra})
    document = inputs.read_document(what)
    if isinstance(document, Yaml):
        if not re.search(r"^(workflow|definition|steps|graph)[ \t]*:", document, re.MULTILINE) or is_graph(
            document
        ):
            return inputs.encode({"definition": str(document), **extra})
        return _merged_yaml(document, extra), YAML_TYPE
    if not is_object(document):
        raise CliError(
            f"{what} holds no workflow: it is not an object.", hint="See:  tenuto workflow validate FILE"
        )
    parts = document
    is_request = (
        any(name in parts for name in ("workflow", "definition", "steps", "graph")) and "nodes" not in parts
    )
    return inputs.encode({**parts, **extra} if is_request else {"definition": parts, **extra})


def is_file(what: str) -> bool:
    """Report whether an argument means a file rather than a workflow's name.

    Raises:
        CliError: It is named like a file and there is none.
    """
    if what == "-" or os.path.isfile(what):
        return True
    if what.endswith((".json", *YAML_ENDINGS)) or os.sep in what:
        raise CliError(f"There is no file {what}.", hint="Registered workflows:  tenuto workflow list")
    return False


def is_graph(text: str) -> bool:
    """Report whether YAML is a definition: it has nodes at its top."""
    return re.search(r"^nodes[ \t]*:", text, re.MULTILINE) is not None


def _options(context: Context) -> dict[str, Any]:
    args = context.args
    given: dict[str, Any] = {
        "goal": args.goal, "tag": args.tag, "priority": args.priority, "business_key": args.business_key,
        "labels": inputs.pairs(args.label, "--label"), "budget": inputs.budget(args.budget),
        "start_at": inputs.instant(args.start_at, "--start-at", sign=1) if args.start_at else None,
    }  # fmt: skip
    extra = {name: value for name, value in given.items() if value not in (None, {})}
    if args.input is not None and args.inputs is not None:
        raise CliError("--input and --inputs exclude each other.")
    if args.input is not None:
        extra["input"] = inputs.value_of(args.input, "--input")
    elif args.inputs is not None:
        extra["input"] = inputs.read_document(args.inputs)
    return extra


def _merged_yaml(text: str, extra: dict[str, Any]) -> bytes:
    """Return a YAML request with the options in place of its own entries of those names."""
    kept: list[str] = []
    is_replaced = False
    for line in inputs.yaml_lines(text):
        entry = re.match(r"([A-Za-z_]+)[ \t]*:", line)
        if entry:
            is_replaced = entry[1] in extra
        if not is_replaced:
            kept.append(line)
    added, _ = inputs.encode(extra)
    if not any(isinstance(value, Yaml) for value in extra.values()):
        added = "\n".join(f"{name}: {inputs.json.dumps(value)}" for name, value in extra.items()).encode()
    return "\n".join([*kept, ""]).encode() + added + b"\n"
