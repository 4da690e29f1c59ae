"""What the command line's local commands do: serve, work, show the demo, look after the database."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Coroutine
from typing import Any

from tenuto import settings as settings_
from tenuto.errors import TenutoError
from tenuto.logs import configure
from tenuto.settings import Settings

log = logging.getLogger("tenuto")


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
        return run_loop(serve_app(loaded, load_catalog(args.app)))

    return told(work)


def worker(args: Namespace) -> int:
    """Work without serving: one process, or several under one parent."""

    def work() -> int:
        from tenuto.bundled.load import load_catalog
        from tenuto.bundled.serving import work_app

        loaded = read(args, "concurrency")
        processes = args.processes or 1
        if processes > 1:
            return _many(args, processes)
        return run_loop(work_app(loaded, load_catalog(args.app)))

    return told(work)


def _many(args: Namespace, processes: int) -> int:
    """Start worker processes and stop them together; one that dies is started again."""
    command = [sys.executable, "-m", "tenuto", "worker", "--processes", "1"]
    if args.app:
        command.insert(4, args.app)
    for flag in ("database", "concurrency", "log_format", "log_level"):
        value = getattr(args, flag, None)
        if value is not None:
            command += [f"--{flag.replace('_', '-')}", str(value)]
    running = [subprocess.Popen(command) for _ in range(processes)]
    print(f"{processes} workers: {', '.join(str(child.pid) for child in running)}", file=sys.stderr)
    stopping: list[int] = []

    def stop(number: int, _frame: object) -> None:
        # The wait below is resumed after a signal, so the children's ends are what wakes it.
        stopping.append(number)
        for child in running:
            child.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    while not stopping:
        pid, _status = _wait_child()
        for index, child in enumerate(running):
            if child.pid == pid and not stopping:
                log.warning("worker process %d ended; starting another", pid)
                running[index] = subprocess.Popen(command)
    for child in running:
        child.terminate()
    # A child that had not yet learnt to stop by itself is ended by the signal, which is as asked.
    asked = (0, -signal.SIGTERM, -signal.SIGINT)
    return int(any(child.wait() not in asked for child in running))


def _wait_child() -> tuple[int, int]:
    try:
        return os.waitpid(-1, 0)
    except (InterruptedError, ChildProcessError):
        return 0, 0


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


def audit(args: Namespace) -> int:
    """Verify or export journals."""

    def work() -> int:
        from tenuto.bundled.care import audit_store

        return run_loop(audit_store(args, read(args)))

    return told(work)
