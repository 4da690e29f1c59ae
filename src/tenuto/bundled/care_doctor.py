"""`tenuto doctor`: looks at settings, app, database, workers and disk, and says what to do about what is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import secrets
import shutil
import tempfile
import time
from argparse import Namespace
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import msgspec

from tenuto import __version__
from tenuto.adapters.models.provider import ProviderModels
from tenuto.bundled.load import load_catalog
from tenuto.errors import InvalidSettings, TenutoError
from tenuto.ports.artifacts import Depot
from tenuto.ports.store import Store
from tenuto.sdk.configured import providers
from tenuto.sdk.toolbox import artifacts_of
from tenuto.settings import Settings
from tenuto.wiring import key_ring, model_faults, open_store, sqlite_path

PATIENCE_S = 5.0
LITTLE_BYTES = 1024**3
TOO_LITTLE_BYTES = 100 * 1024**2
SKEW_MS = 2_000
GIVE_UP_S = 2.0


class Check(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the doctor's report; `do` is the next step where there is one."""

    what: str
    verdict: Literal["ok", "warn", "fail"]
    says: str
    do: str = ""


async def examine(args: Namespace, settings: Settings) -> int:
    """Examine everything and report it; exit code 1 when something failed."""
    target = getattr(args, "app", None)
    checks = [_program(), _loop(), _settings(settings), _app(target), _models(target, settings), _disk(settings)]
    checks.append(_server(settings))
    checks.append(await _artifacts(settings))
    checks += await _database(settings)
    failed = sum(check.verdict == "fail" for check in checks)
    warned = sum(check.verdict == "warn" for check in checks)
    if args.output != "pretty":
        text = msgspec.json.encode({"ok": not failed, "checks": checks})
        print((text if args.output == "compact" else msgspec.json.format(text, indent=2)).decode())
        return 1 if failed else 0
    for check in checks:
        print(f"{check.verdict:4}  {check.what:10}  {check.says}")
        if check.do:
            print(f"{'':18}-> {check.do}")
    print(f"\n{failed} failed, {warned} to look at, {len(checks) - failed - warned} fine")
    return 1 if failed else 0


# --- this process ----------------------------------------------------------------------------------------------


def _program() -> Check:
    return Check("program", "ok", f"tenuto {__version__}, Python {platform.python_version()}, {platform.platform()}")


def _loop() -> Check:
    if find_spec("uvloop") is not None:
        return Check("uvloop", "ok", "installed; the event loop is the fast one")
    return Check("uvloop", "warn", "not installed; everything works, slower", "pip install uvloop")


def _settings(settings: Settings) -> Check:
    says = f"database {without_password(settings.database)}, directory {settings.data_dir}, lease {settings.lease_s:g} s"
    if not settings.is_loopback():
        return Check(
            "settings", "warn", f"{says}; listens on {settings.host}, beyond this machine",
            "put a proxy with TLS before it; the token travels in clear text otherwise",
        )
    if settings.no_auth:
        return Check("settings", "warn", f"{says}; every program on this machine may call the API", "drop no_auth")
    return Check("settings", "ok", says)


def _app(target: str | None) -> Check:
    try:
        catalog = load_catalog(target)
    except TenutoError as exc:
        return Check("app", "fail", str(exc), "mend what is named, then run doctor again")
    names = ", ".join(definition.name for definition in catalog.workflows) or "none"
    served = f"{len(catalog.handlers)} steps, {len(catalog.tools)} tools, workflows: {names}"
    return Check("app", "ok", f"{target or 'the bundled examples'}: {served}")


def _models(target: str | None, settings: Settings) -> Check:
    models = ProviderModels(providers(settings))
    try:
        faults = model_faults(load_catalog(target), models)
    except TenutoError:
        return Check("models", "warn", "not looked at, because the app could not be loaded")
    if faults:
        says = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
        return Check("models", "warn", says, "set what is named where workers start; steps that need it fail until then")
    return Check("models", "ok", f"every model the workflows name can be asked; providers: {', '.join(sorted(models.names))}")


def _disk(settings: Settings) -> Check:
    folder = Path(settings.data_dir)
    if settings.database.startswith("sqlite:"):
        folder = sqlite_path(settings.database).parent
    folder = _nearest(folder)
    free = shutil.disk_usage(folder).free
    says = f"{size(free)} free at {folder.resolve()}"
    if not os.access(folder, os.W_OK):
        return Check("disk", "fail", f"{folder.resolve()} cannot be written", "give this user the right to write there")
    if free < TOO_LITTLE_BYTES:
        return Check("disk", "fail", says, "make room: with a full disk all work pauses")
    if free < LITTLE_BYTES:
        return Check("disk", "warn", says, "make room, or `tenuto prune --before 30d`")
    return Check("disk", "ok", says)


async def _artifacts(settings: Settings) -> Check:
    """See that artifacts can be put where they are kept; into a bucket a few bytes are put, and taken away again."""
    do = "mend it, or name another place in artifacts.url"
    try:
        depot = artifacts_of(settings).depot
    except TenutoError as exc:
        return Check("artifacts", "fail", exc.message, do)
    if depot.url.startswith("file:"):
        folder = _nearest(Path(unquote(depot.url.removeprefix("file://"))))
        if not os.access(folder, os.W_OK):
            return Check("artifacts", "fail", f"{depot.url}: {folder} cannot be written", do)
        return Check("artifacts", "ok", f"{depot.url}, a directory that workers elsewhere have to share")
    try:
        async with asyncio.timeout(PATIENCE_S):
            same = await _comes_back(depot, f"doctor/{secrets.token_hex(16)}")
    except TenutoError as exc:
        return Check("artifacts", "fail", exc.message, do)
    except TimeoutError:
        return Check("artifacts", "fail", f"{depot.url} did not answer within {PATIENCE_S:g} s", do)
    if not same:
        return Check("artifacts", "fail", f"{depot.url} gave back other bytes than it got", do)
    return Check("artifacts", "ok", f"{depot.url} can be written, read and cleared")


async def _comes_back(depot: Depot, place: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "probe"
        await asyncio.to_thread(file.write_bytes, place.encode())
        await depot.keep("doctor", place, file)
    try:
        pieces = [piece async for piece in depot.read("doctor", place, len(place), 0, len(place))]
    finally:
        await depot.drop([place])
    return b"".join(pieces) == place.encode()


def _nearest(folder: Path) -> Path:
    """Return a directory, or the nearest one above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _server(settings: Settings) -> Check:
    try:
        note = json.loads((Path(settings.data_dir) / "server.json").read_text(encoding="utf-8"))
        pid, url = int(note["pid"]), str(note["url"])
        os.kill(pid, 0)
    except FileNotFoundError:
        return Check("server", "ok", f"none runs from {settings.data_dir}")
    except PermissionError:
        return Check("server", "ok", f"one of another user runs from {settings.data_dir}")
    except (OSError, ValueError, KeyError, TypeError):
        return Check("server", "warn", "its last process ended without a word", "start it again: tenuto serve")
    return Check("server", "ok", f"process {pid} answers at {url}")


# --- the database ----------------------------------------------------------------------------------------------


async def _database(settings: Settings) -> list[Check]:
    if settings.database.startswith("sqlite:") and not sqlite_path(settings.database).exists():
        place = sqlite_path(settings.database)
        return [Check("database", "warn", f"{place} does not exist yet", "nothing; the first start makes it")]
    try:
        store = open_store(settings.database, lease_ms=int(settings.lease_s * 1000))
    except ImportError as exc:
        return [Check("database", "fail", f"its driver is missing: {exc}", "pip install 'tenuto[postgres]'")]
    try:
        async with asyncio.timeout(PATIENCE_S):
            await store.open(migrate=False)
            return [*await _look(store), *await _encryption(store, settings)]
    except TimeoutError:
        says = store.health() or "it does not answer"
        return [Check("database", "fail", f"no answer within {PATIENCE_S:g} s: {says}", "see that it runs and is reachable")]
    except (TenutoError, OSError) as exc:
        return [Check("database", "fail", str(exc), "correct --database or TENUTO_DATABASE_URL")]
    finally:
        await _given_up(store.close)


async def _given_up(close: Callable[[], Awaitable[None]]) -> None:
    """Close, but do not wait for a database that is away."""
    try:
        async with asyncio.timeout(GIVE_UP_S):
            await close()
    except TimeoutError:
        pass


async def _look(store: Store) -> list[Check]:
    steps = await store.migrations()
    schema = _schema(steps)
    if schema.verdict == "fail":  # the rest asks tables that may not be there yet
        return [Check("database", "ok", "it answers"), schema]
    facts = await store.stats()
    return [
        _version(facts), _durability(facts), schema, await _clock(store), await _workers(store, facts),
        _backlog(facts),
    ]


async def _encryption(store: Store, settings: Settings) -> list[Check]:
    if any(not applied for _, applied in await store.migrations()):
        return []
    rows = [row for row in await store.data_keys() if not row.destroyed_at]
    references = settings.encryption.references()
    if not references:
        if rows:
            do = "set encryption.key_env or encryption.key_file; nothing starts without it"
            return [Check("encryption", "fail", "the database is encrypted, but no master key is named", do)]
        return [Check("encryption", "ok", "off; who has the files reads everything")]
    try:
        ring = key_ring(store, references)
        await ring.refresh()
    except InvalidSettings as exc:
        return [Check("encryption", "fail", exc.message, "correct the settings of `encryption`")]
    locked = ring.troubles()
    if locked:
        return [Check("encryption", "fail", locked[0], "name the former master key, then `tenuto keys rewrap`")]
    if not rows and await store.run_ids("", 1):
        return [Check("encryption", "fail", "on, but the database holds runs in the clear", "start with a new database")]
    old = sum(row.master != ring.master for row in rows)
    if old:
        says = f"{old} of {len(rows)} keys are wrapped by a former master key"
        return [Check("encryption", "warn", says, "tenuto keys rewrap")]
    return [Check("encryption", "ok", f"on, {len(rows)} keys for {len(ring.namespaces())} namespaces")]


def _version(facts: dict[str, Any]) -> Check:
    version = facts.get("version", facts.get("sqlite_version", ""))
    name = {"sqlite": "SQLite", "postgres": "PostgreSQL"}.get(facts["backend"], facts["backend"])
    held = f", {facts['runs']:,} runs, {size(int(facts['bytes']))}" if "bytes" in facts else ""
    return Check("database", "ok", f"{name} {version}".rstrip() + held)


def _durability(facts: dict[str, Any]) -> Check:
    if facts["backend"] == "memory":
        return Check("durability", "warn", "the memory store keeps nothing", "use sqlite:///FILE or postgresql://…")
    names = ("journal_mode", "synchronous", "fsync", "synchronous_commit", "full_page_writes")
    found = {name: str(facts[name]).lower() for name in names if name in facts}
    says = ", ".join(f"{name} = {value}" for name, value in found.items())
    weak = [name for name, value in found.items() if value == "off"]
    if found.get("journal_mode", "wal") != "wal":
        weak.append("journal_mode")
    if weak:
        do = f"set {' and '.join(weak)} back to the default; what is acknowledged now may be lost in a power cut"
        return Check("durability", "fail", says, do)
    return Check("durability", "ok", says)


def _schema(steps: list[tuple[str, bool]]) -> Check:
    pending = [name for name, applied in steps if not applied]
    if pending:
        return Check(
            "schema", "fail", f"{len(pending)} of {len(steps)} steps are not applied: {', '.join(pending)}",
            "tenuto migrate; servers and workers do it, too, when they start",
        )
    return Check("schema", "ok", f"{len(steps)} of {len(steps)} steps applied" + (f", last {steps[-1][0]}" if steps else ""))


async def _clock(store: Store) -> Check:
    before = time.time()
    skew = await store.now() - int((before + time.time()) / 2 * 1000)
    says = f"{abs(skew):,} ms {'ahead of' if skew > 0 else 'behind'} this machine's"
    if abs(skew) > SKEW_MS:
        return Check("clock", "warn", f"the database's is {says}", "let both machines follow a time server")
    return Check("clock", "ok", f"the database's is {says}")


async def _workers(store: Store, facts: dict[str, Any]) -> Check:
    now = await store.now()
    rows = await store.workers()
    alive = [row for row in rows if row.lease_until > now]
    if alive:
        names = ", ".join(f"{row.id} ({(row.lease_until - now) / 1000:.0f} s)" for row in alive[:5])
        return Check("workers", "ok", f"{len(alive)} alive, by the rest of their lease: {names}")
    gone = f"; {len(rows)} ended without a word" if rows else ""
    return Check("workers", "warn", f"none is alive{gone}, so no run moves", "start one: tenuto serve, or tenuto worker")


def _backlog(facts: dict[str, Any]) -> Check:
    names = ("inbox", "outbox", "tasks", "open_tickets")
    found = {name: facts[name] for name in names if name in facts}
    says = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in found.items()) or "not counted"
    if failed := facts.get("failed_notifications"):
        hint = "see tenuto notifications list --state failed, and send them again by tenuto notifications resend"
        return Check("backlog", "warn", f"{says}; people were not told of {failed:,}", hint)
    if found.get("open_tickets"):
        return Check("backlog", "warn", says, "people are asked something: tenuto tickets")
    return Check("backlog", "ok", says)


# --- words -----------------------------------------------------------------------------------------------------


def without_password(url: str) -> str:
    """Return a URL that can be shown."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def size(n_bytes: int) -> str:
    """Return a number of bytes in words."""
    amount = float(n_bytes)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TB"
