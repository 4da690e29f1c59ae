"""`run cancel|pause|resume|retry|signal|delete`: commands that a run answers in its own time."""

from __future__ import annotations

from tenuto.cli import inputs, show
from tenuto.cli.client import path_of
from tenuto.cli.out import clean
from tenuto.cli.values import obj

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser


def _run_and_reason(parser: Parser) -> None:
    parser.option("run", metavar="RUN", help="id of the run")
    parser.option("--reason", help="why, for the journal")


def _command(context: Context, *parts: str, body: Any = None, done: str) -> int:
    answer = context.client.post(path_of("runs", context.args.run, *parts), body)
    return tell(context, answer, done)


def tell(context: Context, answer: Any, done: str) -> int:
    """Give the answer to a command as the result."""
    out = context.out
    state = obj(answer).get("status")
    tail = f" ({show.status(out, state)})" if state else ""
    out.result(answer or {}, lambda: out.line(f"{clean(done)}{tail}"))
    return 0


def given(**values: Any) -> dict[str, Any]:
    """Return the values that were given."""
    return {name: value for name, value in values.items() if value not in (None, "", False, {})}


def args_cancel(parser: Parser) -> None:
    """Declare the options of `run cancel`."""
    _run_and_reason(parser)


def do_cancel(context: Context) -> int:
    """Ask a run to stop, work in flight included."""
    args = context.args
    return _command(
        context, "cancel", body=given(reason=args.reason), done=f"run {args.run} is being cancelled"
    )


def args_pause(parser: Parser) -> None:
    """Declare the options of `run pause`."""
    _run_and_reason(parser)


def do_pause(context: Context) -> int:
    """Let a run start nothing new."""
    args = context.args
    done = f"run {args.run} pauses; go on with:  tenuto run resume {args.run}"
    return _command(context, "pause", body=given(reason=args.reason), done=done)


def args_resume(parser: Parser) -> None:
    """Declare the options of `run resume`."""
    parser.option("run", metavar="RUN", help="id of the run")
    parser.option("--budget", action="append", metavar="CAP=N", help="raise a cap; may be repeated")


def do_resume(context: Context) -> int:
    """Let a paused, failed or halted run go on from where it stood."""
    args = context.args
    body = given(budget=inputs.budget(args.budget))
    return _command(context, "resume", body=body, done=f"run {args.run} goes on")


def args_retry(parser: Parser) -> None:
    """Declare the options of `run retry`."""
    parser.option("run", metavar="RUN", help="id of the run")
    parser.option("step", metavar="STEP", help="id of the failed step")
    redrive_options(parser)


def redrive_options(parser: Parser) -> None:
    """Declare how a failed step goes round again."""
    parser.option("--fresh", action="store_true", help="give its effects a new idempotency key")
    parser.option(
        "--with", dest="config", action="append", metavar="K=V", help="other config, for this run only"
    )
    parser.option("--guidance", metavar="TEXT", help="a word for the step, such as what to do otherwise")
    parser.option("--reason", help="why, for the journal")


def redrive_body(args: Any) -> dict[str, Any]:
    """Return the request that `redrive_options` describe."""
    config = inputs.nested(args.config, "--with")
    return given(fresh=args.fresh, config=config, guidance=args.guidance, reason=args.reason)


def do_retry(context: Context) -> int:
    """Send a failed step round again."""
    args = context.args
    done = f"step {args.step} goes round again"
    return _command(context, "steps", args.step, "retry", body=redrive_body(args), done=done)


def args_signal(parser: Parser) -> None:
    """Declare the options of `run signal`."""
    parser.option("run", metavar="RUN", help="id of the run")
    parser.option("name", metavar="NAME", help="name of the signal")
    parser.option("--data", metavar="JSON|@FILE|-", help="payload")
    parser.option("--idempotency-key", metavar="KEY", help="the same key delivers one signal only")


def do_signal(context: Context) -> int:
    """Send a named signal to a run."""
    args = context.args
    body = inputs.value_of(args.data, "--data") if args.data is not None else None
    kind = ""
    if isinstance(body, inputs.Yaml):
        body, kind = body.encode(), inputs.YAML_TYPE
    path = path_of("runs", args.run, "signals", args.name)
    answer = context.client.post(path, body, key=args.idempotency_key, kind=kind)
    return tell(context, answer, f"signal {args.name} sent to run {args.run}")


def args_delete(parser: Parser) -> None:
    """Declare the options of `run delete`."""
    parser.option("run", metavar="RUN", help="id of the run")


def do_delete(context: Context) -> int:
    """Delete an ended run and its journal."""
    run_id = context.args.run
    answer = context.client.call("DELETE", path_of("runs", run_id))
    return tell(context, answer, f"run {run_id} deleted")
