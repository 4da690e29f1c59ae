"""What the command line's local commands do: serve, work, show the demo, look after the database."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Coroutine
from typing import Any

from tenuto import settings as settings_
from tenuto.errors import InvalidSettings, TenutoError
from tenuto.logs import configure
from tenuto.settings import Settings


def run_loop(main: Coroutine[Any, Any, int]) -> int:
    """Run a coroutine on the fastest event loop there is."""
    from tenuto.sdk.running import run

    return run(main)


def told(work: Callable[[], int]) -> int:
    """Do something, and tell a person in one message what went wrong with it."""
    try:
        return work()
    except TenutoError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def read(args: Namespace, *names: str) -> Settings:
    """Return the settings in force, given the flags of a command."""
    flags = {name: getattr(args, name, None) for name in ("database", "log_format", "log_level", *names)}
    flags = {name: value for name, value in flags.items() if value is not None and value is not False and value != []}
    loaded = settings_.load(flags)
    configure(loaded)
    return loaded


def serve(args: Namespace) -> int:
    """Serve the API, with workers inside unless told otherwise."""

    def work() -> int:
        from tenuto.bundled.load import load_catalog
        from tenuto.bundled.serving import serve_app

        args.cors_origins = tuple(getattr(args, "cors_origin", None) or ()) or None
        loaded = read(args, "host", "port", "no_auth", "workers", "concurrency", "cors_origins")
        return run_loop(serve_app(loaded, load_catalog(args.app), app=args.app))

    return told(work)


def worker(args: Namespace) -> int:
    """Work without serving: one process, or several under one parent."""

    def work() -> int:
        from tenuto.bundled.load import load_catalog
        from tenuto.bundled.serving import supervise, work_app

        loaded, catalog = read(args, "concurrency"), load_catalog(args.app)
        processes = 1 if args.processes is None else args.processes
        if processes < 1:
            raise InvalidSettings(f"--processes {processes} starts no worker; give 1 or more")
        if processes > 1:
            return run_loop(supervise(loaded, args.app, processes))
        return run_loop(work_app(loaded, catalog))

    return told(work)


def demo(args: Namespace) -> int:
    """Play the demo."""

    def work() -> int:
        from tenuto.bundled.demo import play

        return play(args)

    return told(work)


def migrate(args: Namespace) -> int:
    """Bring a database's schema up to date, or print what that would do."""

    def work() -> int:
        from tenuto.bundled.care import migrate_store

        return run_loop(migrate_store(args, read(args)))

    return told(work)


def rebuild(args: Namespace) -> int:
    """Drop what is derived from the journals, and derive it again."""

    def work() -> int:
        from tenuto.bundled.care import rebuild_store

        return run_loop(rebuild_store(args, read(args)))

    return told(work)


def doctor(args: Namespace) -> int:
    """Check settings, database, workers and app, and say what to do about what is wrong."""

    def work() -> int:
        from tenuto.bundled.care import examine

        return run_loop(examine(args, read(args)))

    return told(work)


def chaos(args: Namespace) -> int:
    """Do harm and check; exit code 1 unless everything held."""

    def work() -> int:
        from tenuto.bundled.chaos.command import run_chaos

        return run_chaos(args)

    return told(work)


def keys(args: Namespace) -> int:
    """Look after the keys of an encrypted database."""

    def work() -> int:
        from tenuto.bundled.care_keys import keep_keys

        return run_loop(keep_keys(args, read(args)))

    return told(work)


def audit(args: Namespace) -> int:
    """Verify or export journals."""

    def work() -> int:
        from tenuto.bundled.care import audit_store

        return run_loop(audit_store(args, read(args)))

    return told(work)


def mcp(args: Namespace) -> int:
    """Offer a server's workflows, runs and tickets over MCP."""

    def work() -> int:
        try:
            from tenuto.mcp_server import serve_http, serve_stdio
        except ImportError as exc:
            raise InvalidSettings("`tenuto mcp` needs the MCP SDK: pip install 'tenuto[mcp]'") from exc
        if args.http is None:
            serve_stdio(args.url, args.own_token)
            return 0
        host, _, port = str(args.http).rpartition(":")
        if not port.isdigit():
            raise InvalidSettings(f"--http {args.http!r} is no address; give HOST:PORT, such as 127.0.0.1:8330")
        serve_http(args.url, host.strip("[]") or "127.0.0.1", int(port))
        return 0

    return told(work)
