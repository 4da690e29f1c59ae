"""Commands that work on this machine instead of through the API: arguments are read here, the work is elsewhere.

An option that was not given is `None` (or an empty list), so that environment and settings file still count.
"""

from __future__ import annotations

from tenuto.cli.parse import load_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser

# Command -> "module:function", called with the parsed arguments and returning the exit code.
ENTRIES = {
    "serve": "tenuto.bundled.entry:serve",
    "worker": "tenuto.bundled.entry:worker",
    "demo": "tenuto.bundled.entry:demo",
    "migrate": "tenuto.bundled.entry:migrate",
    "rebuild": "tenuto.bundled.entry:rebuild",
    "doctor": "tenuto.bundled.entry:doctor",
    "chaos": "tenuto.bundled.entry:chaos",
    "audit": "tenuto.bundled.entry:audit",
    "mcp": "tenuto.bundled.entry:mcp",
    "keys": "tenuto.bundled.entry:keys",
}


def hand_over(context: Context, command: str) -> int:
    """Load what does the work and let it."""
    module, _, function = ENTRIES[command].partition(":")
    result = getattr(load_module(module), function)(context.args)
    return int(result or 0)


def _database(parser: Parser) -> None:
    parser.option("--database", metavar="URL", help="SQLite file or postgresql:// URL (TENUTO_DATABASE_URL)")


def _logging(parser: Parser) -> None:
    parser.option("--log-format", choices=("text", "json"), help="form of the log (default: text)")
    parser.option("--log-level", choices=("debug", "info", "warning", "error"), help="(default: info)")


def args_serve(parser: Parser) -> None:
    """Declare the options of `serve`."""
    parser.option(
        "app", nargs="?", metavar="MODULE:APP", help="your workflows (default: the bundled examples)"
    )
    parser.option("--host", help="address to listen on (default: 127.0.0.1)")
    parser.option("--port", type=int, help="port to listen on (default: 8321; 0 takes a free one)")
    _database(parser)
    parser.option("--no-auth", action="store_true", help="ask for no token; on loopback only")
    parser.option(
        "--workers", type=int, metavar="N",
        help="1 works in this process (default), more are processes of their own, 0 only serves",
    )
    parser.option("--concurrency", type=int, metavar="N", help="steps at a time for each worker")
    _logging(parser)
    parser.option(
        "--cors-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="allow a browser origin; may be repeated",
    )


def do_serve(context: Context) -> int:
    """Serve until stopped."""
    return hand_over(context, "serve")


def args_worker(parser: Parser) -> None:
    """Declare the options of `worker`."""
    parser.option(
        "app", nargs="?", metavar="MODULE:APP", help="your workflows (default: the bundled examples)"
    )
    _database(parser)
    parser.option("--processes", type=int, metavar="N", help="worker processes (default: 1)")
    parser.option("--concurrency", type=int, metavar="N", help="steps at a time for each process")
    _logging(parser)


def do_worker(context: Context) -> int:
    """Work until stopped."""
    return hand_over(context, "worker")


def args_demo(parser: Parser) -> None:
    """Declare the options of `demo`."""
    parser.option("--exit", action="store_true", help="end after the story instead of serving on")
    parser.option("--postgres", action="store_true", help="on a packaged PostgreSQL instead of SQLite")
    parser.option("--port", type=int, help="port of the page (default: 8321, or a free one)")
    _database(parser)


def do_demo(context: Context) -> int:
    """Play the demo."""
    return hand_over(context, "demo")


def args_migrate(parser: Parser) -> None:
    """Declare the options of `migrate`."""
    parser.option("--plan", action="store_true", help="print the SQL without connecting")
    _database(parser)


def do_migrate(context: Context) -> int:
    """Migrate a database."""
    return hand_over(context, "migrate")


def args_rebuild(parser: Parser) -> None:
    """Declare the options of `rebuild`."""
    _database(parser)


def do_rebuild(context: Context) -> int:
    """Build the lists across runs anew."""
    return hand_over(context, "rebuild")


def args_doctor(parser: Parser) -> None:
    """Declare the options of `doctor`."""
    parser.option("app", nargs="?", metavar="MODULE:APP", help="check that this loads, too")
    _database(parser)


def do_doctor(context: Context) -> int:
    """Check database, workers and settings."""
    return hand_over(context, "doctor")


def args_chaos(parser: Parser) -> None:
    """Declare the options of `chaos`."""
    parser.option("--runs", type=int, metavar="N", help="runs to submit (default: 500)")
    parser.option("--workers", type=int, metavar="N", help="worker processes (default: 3)")
    parser.option("--store", choices=("sqlite", "postgres"), help="store to start for it (default: sqlite)")
    _database(parser)
    parser.option(
        "--failures",
        type=float,
        metavar="SHARE",
        help="share of attempts that fail for a while (default: 0.4)",
    )
    parser.option("--seconds", type=float, metavar="S", help="longest duration")
    parser.option("--seed", type=int, metavar="N", help="seed of the choices made")
    parser.option("--report", metavar="FILE", help="write the report as JSON, too")


def do_chaos(context: Context) -> int:
    """Do harm and check; exit code 1 unless everything held."""
    return hand_over(context, "chaos")


def args_audit_verify(parser: Parser) -> None:
    """Declare the options of `audit verify`."""
    parser.option("run", nargs="*", metavar="RUN|FILE", help="runs, or an exported file (default: every run)")
    parser.option("--heads", metavar="FILE", help="chain heads kept elsewhere, to check against")
    _database(parser)


def do_audit_verify(context: Context) -> int:
    """Verify journals; exit code 1 when one was altered."""
    context.args.action = "verify"
    return hand_over(context, "audit")


def args_audit_export(parser: Parser) -> None:
    """Declare the options of `audit export`."""
    parser.option("run", nargs="*", metavar="RUN", help="runs (default: every run)")
    parser.option("-o", "--out", metavar="FILE", help="file to write (default: standard output)")
    _database(parser)


def do_audit_export(context: Context) -> int:
    """Export journals so that they can be verified without the database."""
    context.args.action = "export"
    return hand_over(context, "audit")


def args_mcp(parser: Parser) -> None:
    """Declare the options of `mcp`."""
    parser.option(
        "--http", metavar="HOST:PORT", help="serve over streamable HTTP at /mcp; each caller brings a token (default: stdio)"
    )


def do_mcp(context: Context) -> int:
    """Offer the server at the API's address over MCP, with the rights of the token found here."""
    target = context.client.target
    context.args.__dict__.update(url=target.url, own_token=target.token)
    return hand_over(context, "mcp")


def args_keys_generate(parser: Parser) -> None:
    """Declare the options of `keys generate`."""


def do_keys_generate(context: Context) -> int:
    """Print a new master key."""
    return _keys(context, "generate")


def args_keys_list(parser: Parser) -> None:
    """Declare the options of `keys list`."""
    _database(parser)


def do_keys_list(context: Context) -> int:
    """List the keys of an encrypted database, never the keys themselves."""
    return _keys(context, "list")


def args_keys_rotate(parser: Parser) -> None:
    """Declare the options of `keys rotate`."""
    parser.option("namespace", nargs="*", metavar="NAMESPACE", help="namespaces (default: all)")
    _database(parser)


def do_keys_rotate(context: Context) -> int:
    """Let new keys seal what is written from now on; workers learn of them within a second."""
    return _keys(context, "rotate")


def args_keys_rewrap(parser: Parser) -> None:
    """Declare the options of `keys rewrap`."""
    _database(parser)


def do_keys_rewrap(context: Context) -> int:
    """Wrap all keys with the master key in force, so that former ones can be dropped from the settings."""
    return _keys(context, "rewrap")


def args_keys_shred(parser: Parser) -> None:
    """Declare the options of `keys shred`."""
    parser.option("namespace", metavar="NAMESPACE", help="the namespace whose contents nobody shall read again")
    parser.option("--confirm", metavar="NAMESPACE", help="its name once more")
    _database(parser)


def do_keys_shred(context: Context) -> int:
    """Destroy the keys of a namespace, and with them all it has stored."""
    return _keys(context, "shred")


def _keys(context: Context, action: str) -> int:
    context.args.action = action
    return hand_over(context, "keys")
