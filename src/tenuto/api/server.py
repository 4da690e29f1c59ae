"""Serves the API until told to stop: socket, ready line, the note other programs find it by, graceful end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import uvicorn
from fastapi import FastAPI

from tenuto.api.app import auth_of, create_app
from tenuto.api.auth import CODE_TTL_S, Auth
from tenuto.errors import InvalidSettings, Problem
from tenuto.runtime.services.engine import Engine
from tenuto.settings import Settings

NOTE = "server.json"
_STREAMS_END_S = 5


class Server(uvicorn.Server):
    """Stops streams before connections, and leaves signals to whoever runs it."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        """Prepare; nothing listens yet."""
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, lifespan="off", ws="websockets-sansio",
            ws_max_size=64 * 1024, timeout_graceful_shutdown=int(settings.stop_grace_s) or 1, proxy_headers=False,
            h11_max_incomplete_event_size=64 * 1024,
        )  # fmt: skip
        super().__init__(config)
        self._app = app

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone."""
        yield

    def stop(self) -> None:
        """End streams now, let other requests finish; a second call ends them too."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._app.state.stopping.set()


async def serve(
    engine: Engine,
    settings: Settings,
    *,
    stop: asyncio.Event | None = None,
    ready: Callable[[str], None] | None = None,
    out: TextIO | None = None,
) -> None:
    """Serve until `stop` is set, or without one until SIGINT or SIGTERM; the engine stays open.

    Args:
        engine: Open already.
        settings: Checked by `settings.load`.
        stop: Set it to end; `None` waits for a signal instead.
        ready: Called with the base URL once requests are taken.
        out: Where the ready line goes; standard error when `None`, so that output for programs stays clean.

    Raises:
        InvalidSettings: The address cannot be listened on, or the kept token is not usable.
    """
    auth = auth_of(settings)
    app = create_app(engine, settings, auth=auth)
    listener = listen(settings)
    url = base_url(settings.host, listener.getsockname()[1])
    server = Server(app, settings)
    with _noted(settings, url):
        async with asyncio.TaskGroup() as group:
            running = group.create_task(server.serve([listener]))
            waiting = group.create_task(_until_told(server, stop))
            started = group.create_task(_announce(server, running, url, auth, ready, out or sys.stderr))
            await running
            waiting.cancel()
            started.cancel()


def listen(settings: Settings) -> socket.socket:
    """Return a socket that takes connections at the address of the settings.

    Raises:
        InvalidSettings: Somebody else has the port, or the address is not this machine's.
    """
    host = settings.host.strip("[]")
    listener: socket.socket | None = None
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
        listener.setblocking(False)
    except OSError as error:
        if listener is not None:
            listener.close()
        hint = "another server may be running; stop it, or choose another with --port (0 takes a free one)"
        problem = Problem(f"{settings.host}:{settings.port}", str(error.strerror or error), hint, "settings.address")
        raise InvalidSettings("the server cannot listen", problems=(problem,)) from error
    return listener


def base_url(host: str, port: int) -> str:
    """Return the address a person on this machine opens."""
    name = host.strip("[]")
    if name in ("0.0.0.0", "::", ""):
        name = "127.0.0.1"
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def link(url: str, auth: Auth) -> str:
    """Return a link that signs one browser in within ten minutes."""
    return f"{url}/#code={auth.new_code()}" if auth.required else f"{url}/"


async def _until_told(server: Server, stop: asyncio.Event | None) -> None:
    if stop is not None:
        await stop.wait()
        server.stop()
        return
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        with suppress(NotImplementedError, RuntimeError, ValueError):  # not everywhere, and main thread only
            loop.add_signal_handler(number, server.stop)
    try:
        await asyncio.Event().wait()
    finally:
        for number in numbers:
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(number)


async def _announce(
    server: Server, running: asyncio.Task[None], url: str, auth: Auth,
    ready: Callable[[str], None] | None, out: TextIO,
) -> None:  # fmt: skip
    while not server.started and not running.done():
        await asyncio.sleep(0.01)
    if not server.started:
        return
    lines = ["", "  Tenuto is ready.", "", f"    open    {link(url, auth)}"]
    if auth.required:
        lines.append(f"            signs this browser in; good once, for {CODE_TTL_S // 60} minutes")
    lines += [f"    API     {url}/api/v1", "    stop    Ctrl-C", ""]
    print("\n".join(lines), file=out, flush=True)
    if ready is not None:
        ready(url)


@contextmanager
def _noted(settings: Settings, url: str) -> Generator[None]:
    """Leave address and process id in the data directory while the server runs."""
    path = Path(settings.data_dir) / NOTE
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{NOTE}.{os.getpid()}")
    note = json.dumps({"url": url, "pid": os.getpid()})
    draft.write_text(note + "\n", encoding="utf-8")
    os.replace(draft, path)
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            if json.loads(path.read_text(encoding="utf-8")) == json.loads(note):  # else another server's
                path.unlink()
