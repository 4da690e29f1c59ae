"""Looking after a database from the command line: migrate it, verify its journals, export them; see also `doctor`."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import msgspec

from tenuto.bundled.care_doctor import examine
from tenuto.domain.runs.check import Violation
from tenuto.errors import Invalid, Missing
from tenuto.runtime.projector import Projector
from tenuto.runtime.services.audit import verify_export
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.results import Verification
from tenuto.runtime.tools.catalog import Catalog
from tenuto.runtime.usage import NAME as STEPS
from tenuto.settings import Settings
from tenuto.wiring import Runtime, open_store, running, sqlite_path

__all__ = ["audit_store", "examine", "migrate_store", "rebuild_store"]

VIOLATIONS_SHOWN = 50


class NoDatabase(Missing):
    """The settings name a database file that does not exist, and the command must not make one."""

    code = "store.missing"


# --- migrate ---------------------------------------------------------------------------------------------------


async def migrate_store(args: Namespace, settings: Settings) -> int:
    """Bring the schema up to date, or print the SQL of all its steps without connecting."""
    if args.plan:
        _print_plan(settings.database)
        return 0
    store = open_store(settings.database, lease_ms=int(settings.lease_s * 1000))
    await store.open()
    try:
        steps = await store.migrations()
    finally:
        await store.close()
    pending = [name for name, applied in steps if not applied]
    if args.output != "pretty":
        print_json({"steps": [{"name": name, "applied": applied} for name, applied in steps]}, args.output)
    else:
        for name, applied in steps:
            print(f"{'applied' if applied else 'pending'}  {name}")
        print("the schema is up to date" if not pending else f"{len(pending)} steps are pending")
    return 1 if pending else 0


def _print_plan(url: str) -> None:
    """Print every schema step of the store a URL names."""
    scheme = url.partition(":")[0]
    backend = {"sqlite": "sqlite", "postgres": "postgres", "postgresql": "postgres"}.get(scheme)
    if backend is None:
        print(f"-- a {scheme} store has no schema")
        return
    folder = files("tenuto").joinpath("adapters", "stores", backend, "migrations")
    for item in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if item.name.endswith(".sql"):
            print(f"-- {item.name}\n{item.read_text(encoding='utf-8').rstrip()}\n")


# --- rebuild ---------------------------------------------------------------------------------------------------


async def rebuild_store(args: Namespace, settings: Settings) -> int:
    """Drop the lists across runs (steps, usage) and build them anew from the journals; workers may go on meanwhile.

    Raises:
        NoDatabase: There is no database to look at.
    """
    async with opened(settings) as runtime:
        projector = Projector(runtime.store, runtime.engine.context.definitions)
        await projector.rebuild()
        behind = await projector.lag()
    if args.output != "pretty":
        print_json({"projection": STEPS, "behind": behind}, args.output)
    else:
        since = f"; {behind} groups came since" if behind else ""
        print(f"the lists across runs were built anew from the journals{since}")
    return 0


# --- audit -----------------------------------------------------------------------------------------------------


async def audit_store(args: Namespace, settings: Settings) -> int:
    """Verify or export journals, as the command says.

    Raises:
        NoDatabase: There is no database to look at.
        RunMissing: One of the runs does not exist.
        Invalid: A file is not an export, or not a list of heads.
    """
    names: list[str] = args.run or []
    if args.action == "export":
        async with opened(settings) as runtime:
            return await _export(runtime.engine, names, args.out)
    heads = _heads(args.heads) if args.heads else None
    exports = [name for name in names if Path(name).is_file()]
    runs = [name for name in names if name not in exports]
    found = [_verify_file(name, heads) for name in exports]
    if runs or not names:
        async with opened(settings) as runtime:
            found += [await runtime.engine.audit.verify(run, heads=heads) for run in runs or [None]]
    return _tell(_together(found), args.output)


def opened(settings: Settings) -> AbstractAsyncContextManager[Runtime]:
    """Open the database of the settings without working on it and without making one.

    Raises:
        NoDatabase: It is a file that does not exist.
    """
    existing(settings)
    return running(settings.database, Catalog(), worker=False, master_keys=settings.encryption.references())


def existing(settings: Settings) -> None:
    """See that the database of the settings is there.

    Raises:
        NoDatabase: It is a file that does not exist.
    """
    if settings.database.startswith("sqlite:"):
        path = sqlite_path(settings.database)
        if not path.exists():
            raise NoDatabase(f"there is no database at {path}; name one with --database or TENUTO_DATABASE_URL")


async def _export(engine: Engine, runs: list[str], out: str | None) -> int:
    lines = 0
    target = open(out, "wb") if out and out != "-" else sys.stdout.buffer  # noqa: SIM115
    try:
        for run in runs or [None]:
            async for line in engine.audit.export(run):
                target.write(line)
                lines += 1
        target.flush()
    finally:
        if target is not sys.stdout.buffer:
            target.close()
    print(f"{lines:,} records exported" + (f" to {out}" if out else ""), file=sys.stderr)
    return 0


def _heads(file: str) -> dict[str, str]:
    """Return run -> chain from a file: that alone, or the whole answer of an earlier verification.

    Raises:
        Invalid: It cannot be read as one.
    """
    try:
        kept: Any = msgspec.json.decode(Path(file).read_bytes())
    except (OSError, msgspec.DecodeError) as exc:
        raise Invalid(f"{file} holds no chain heads: {exc}", code="audit.heads") from exc
    heads: dict[str, str] = {}
    if isinstance(kept, dict):
        document = cast("dict[str, Any]", kept)
        for run, head in cast("dict[str, Any]", document.get("heads", document)).items():
            heads[run] = head if isinstance(head, str) else str(head.get("chain", ""))
    if not heads:
        hint = "keep the output of `tenuto audit verify --output json`"
        raise Invalid(f"{file} holds no chain heads; {hint}", code="audit.heads")
    return heads


def _verify_file(name: str, heads: dict[str, str] | None) -> Verification:
    with open(name, "rb") as lines:
        found = verify_export(lines)
        for run in found.heads.keys() & (heads or {}).keys():
            lines.seek(0)
            if heads and not _holds(lines, run, heads[run]):
                message = f"no record has the chain {heads[run]} kept elsewhere"
                found.violations.append(Violation(run, 0, "head", message))
    found.ok = not found.violations
    return found


def _holds(lines: Iterable[bytes], run: str, chain: str) -> bool:
    return any(run.encode() in line and chain.encode() in line for line in lines)


def _together(found: list[Verification]) -> Verification:
    whole = Verification(runs=0, records=0, ok=True)
    for part in found:
        whole.runs += part.runs
        whole.records += part.records
        whole.violations.extend(part.violations)
        whole.heads.update(part.heads)
    whole.ok = not whole.violations
    return whole


def _tell(found: Verification, output: str) -> int:
    if output != "pretty":
        print_json(msgspec.to_builtins(found), output)
        return 0 if found.ok else 1
    for item in found.violations[:VIOLATIONS_SHOWN]:
        print(f"FAIL  run {item.run}, record {item.seq}: {item.message} ({item.rule})")
    if len(found.violations) > VIOLATIONS_SHOWN:
        print(f"      and {len(found.violations) - VIOLATIONS_SHOWN:,} more")
    counted = f"{found.runs:,} runs, {found.records:,} records"
    if found.ok:
        print(f"ok    {counted}: every chain and invariant holds")
        print("      keep the heads elsewhere to notice a rewritten journal: tenuto audit verify --output json")
    else:
        print(f"FAIL  {counted}: what is listed was not written by the engine; restore it from a backup")
    return 0 if found.ok else 1


def print_json(value: Any, output: str) -> None:
    """Print a value as JSON: on one line in the compact form."""
    text = msgspec.json.encode(value)
    print((text if output == "compact" else msgspec.json.format(text, indent=2)).decode())
