"""`tenuto demo`: shows on real processes what the engine promises, then serves the page to look around in.

Everything happens offline, in a directory of its own. It leaves no process behind, however it ends.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import sys
from argparse import Namespace
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from tenuto import settings as settings_
from tenuto.api.server import NOTE, serve
from tenuto.bundled import examples_ledger as ledger
from tenuto.bundled.demo_screen import Screen
from tenuto.bundled.demo_story import LEASE_S, Story
from tenuto.bundled.load import load_catalog
from tenuto.logs import configure
from tenuto.sdk.configured import worker_options
from tenuto.sdk.running import run as run_loop
from tenuto.settings import Settings
from tenuto.wiring import running

_HOME = Path(".tenuto") / "demo"
_MOST_HOMES = 100


def play(args: Namespace) -> int:
    """Tell the story, then serve its runs until stopped, unless told to exit.

    Raises:
        TenutoError: The story came to a halt, or a setting is wrong.
    """
    screen = Screen()
    with _ends_on_sigterm(), _home() as home, ExitStack() as stack:
        os.environ["TENUTO_HOME"] = str(home)
        url, where = _database(args, home, stack)
        screen.title("Tenuto demo", f"agents review the papers of a ferry line, offline, on {where}; files in {home}")
        workers = stack.enter_context(ExitStack())
        settings = _settings(args, home, url)
        configure(Settings(log_level="warning"))
        run_loop(_tell(screen, args, home, settings, workers))
        workers.close()
        if args.exit:
            return 0
        return run_loop(_look_around(screen, settings))


async def _tell(screen: Screen, args: Namespace, home: Path, settings: Settings, workers: ExitStack) -> int:
    options = worker_options(settings)
    async with running(settings.database, load_catalog(None), worker=False, options=options) as runtime:
        story = Story(runtime, screen, home, settings.database, workers)
        await story.tell()
        _next(screen, home, story, serves=not args.exit, on_file=settings.database.startswith("sqlite:"))
    return 0


async def _look_around(screen: Screen, settings: Settings) -> int:
    async with running(settings.database, load_catalog(None), options=worker_options(settings)) as runtime:
        await serve(runtime.engine, settings, out=sys.stdout)
    return 0


def _next(screen: Screen, home: Path, story: Story, *, serves: bool, on_file: bool) -> None:
    """Say what to look at and what to try; commands are whole, to be copied."""
    command = _command()
    screen.chapter(7, "Look around, and try it yourself")
    screen.facts([
        ("look at", "both runs, and LeaseTaken among the events of the first"),
        ("", f"the ledger of effects, {home / ledger.FILE_NAME}"),
    ])
    if not serves and not on_file:
        return
    lines = [f"export TENUTO_HOME={home}"]
    if not serves:
        lines.append(f"{command} serve &")
    lines += [
        f"{command} run status {story.run_id}",
        f"{command} run diff {story.run_id} {story.fork_id}",
        f"{command} replay {story.run_id} --from panel",
        f"{command} run start triage --input '{{\"intent\": \"refund\"}}' -f",
    ]
    if on_file:
        lines.append(f"{command} audit verify {story.run_id}")
    screen.say("in another terminal, while the page is served:" if serves else "to go on from here:")
    for line in lines:
        screen.say(f"  {screen.paint(line, 'cyan')}")


def _command() -> str:
    """Return how this program is called from here."""
    if shutil.which("tenuto"):
        return "tenuto"
    beside = Path(sys.executable).parent / "tenuto"
    if not beside.exists():
        return f"{sys.executable} -m tenuto"
    return str(beside.relative_to(Path.cwd())) if beside.is_relative_to(Path.cwd()) else str(beside)


# --- where it happens ------------------------------------------------------------------------------------------


@contextmanager
def _home() -> Generator[Path]:
    """Give a fresh directory: that of the last demo, unless a server still runs there."""
    for n in range(1, _MOST_HOMES):
        home = _HOME if n == 1 else _HOME.with_name(f"demo-{n}")
        if _is_served(home):
            continue
        shutil.rmtree(home, ignore_errors=True)
        break
    else:
        home = _HOME.with_name(f"demo-{os.getpid()}")
    home.mkdir(parents=True)
    yield home


def _is_served(home: Path) -> bool:
    try:
        pid = int(json.loads((home / NOTE).read_text(encoding="utf-8"))["pid"])
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def _database(args: Namespace, home: Path, stack: ExitStack) -> tuple[str, str]:
    """Return the URL of the store and its name for a person; a packaged server is stopped with the stack."""
    if args.database:
        return args.database, args.database.partition(":")[0]
    if not args.postgres:
        return f"sqlite:///{home / 'tenuto.db'}", "one SQLite file"
    from tenuto.bundled.postgres import LocalPostgres

    server = stack.enter_context(LocalPostgres.start())
    return server.create_database(), f"PostgreSQL {server.version}, from a package"


def _settings(args: Namespace, home: Path, url: str) -> Settings:
    flags = {"database": url, "data_dir": str(home), "port": args.port, "lease_s": LEASE_S}
    loaded = settings_.load(flags)
    if args.port is None and not _is_free(loaded):
        return dataclasses.replace(loaded, port=0)
    return loaded


def _is_free(settings: Settings) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError:
            return False
    return True


@contextmanager
def _ends_on_sigterm() -> Generator[None]:
    """Let SIGTERM unwind like Ctrl-C, so that the workers are ended with us."""

    def unwind(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
