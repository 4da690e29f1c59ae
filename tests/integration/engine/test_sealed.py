"""Encryption of what is stored: nothing readable in the files, keys that turn, rows that are refused."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tenuto import App, Context, Permanent
from tenuto.adapters.stores.sqlite import SqliteStore
from tenuto.errors import Corrupt, InvalidSettings, Shredded
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.requests import ListRuns
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.wiring import Runtime, key_ring, open_store, running

CANARY = "canary-7f3a"
KEYS = ("env:TENUTO_TEST_KEY",)
OPTIONS = WorkerOptions(lease_ms=2000, idle_s=0.05)


def key(first: int) -> str:
    return base64.b64encode(bytes(range(first, first + 32))).decode()


@pytest.fixture(autouse=True)
def master(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENUTO_TEST_KEY", key(0))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "t.db"


def app() -> App:
    made = App("t")

    @made.step
    async def say(ctx: Context, text: str) -> dict[str, str]:
        heard = await ctx.wait_signal("go")
        return {"text": text, "heard": heard, "long": text * 2000}

    @made.step
    async def fail(text: str) -> None:
        raise Permanent(f"cannot do {text}")

    @made.step
    async def pass_on(value: Any) -> Any:
        return value

    flow = made.workflow("talk")
    flow.step(say, id="say", input={"text": "${input.text}"})
    flow.approval("ask", message=f"may it be {CANARY}?", after="say")
    flow.step(fail, id="fail", input={"text": "${input.text}"}, after="ask")
    made.workflow("w").step(pass_on, id="a", input={"value": "${input}"}).step(
        pass_on, id="b", input={"value": "${nodes.a.output}"}, after="a"
    )
    return made


def sealed(file: Path, keys: tuple[str, ...] = KEYS, **rest: Any) -> Any:
    return running(f"sqlite:///{file}", app().catalog(), master_keys=keys, options=OPTIONS, **rest)


def stolen(file: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(file.parent.iterdir()) if path.name.startswith(file.name))


async def until(engine: Engine, run: str, *statuses: str) -> Any:
    async with asyncio.timeout(15):
        while (view := await engine.runs.get(run, wait_s=1)).status not in statuses:
            pass
    return view


async def test_a_stolen_database_shows_no_payload(file: Path) -> None:
    """Inputs, outputs, goals, labels, messages, questions, decisions, errors, prompts and keys of runs are unreadable."""
    async with sealed(file) as runtime:
        engine = runtime.engine
        run = (await engine.runs.start(
            "talk", {"text": CANARY}, goal=f"say {CANARY}", labels={"who": CANARY}, business_key=f"order {CANARY}"
        )).id  # fmt: skip
        await until(engine, run, "waiting")
        await engine.runs.signal(run, "go", f"now {CANARY}")
        async with asyncio.timeout(15):
            while not (tickets := (await engine.tickets.list()).items):
                await asyncio.sleep(0.01)
        assert CANARY in tickets[0].message
        await engine.tickets.decide(tickets[0].id, "approve", reason=f"because {CANARY}")
        view = await until(engine, run, "failed")
        assert CANARY in str(view.error) and CANARY in view.goal and view.labels == {"who": CANARY}
        assert [row.id for row in (await engine.runs.list(ListRuns(labels={"who": CANARY}))).items] == [run]
        assert [row.id for row in (await engine.runs.list(ListRuns(text="SAY CANARY"))).items] == [run]
        assert (await engine.audit.verify()).ok
        found = stolen(file)
        assert run.replace("-", "") in found.hex(), "the search looks at the right files"
        assert CANARY.encode() not in found
        assert base64.b64encode(CANARY.encode())[:14] not in found
        exported = b"".join([line async for line in engine.audit.export(run)])
        assert CANARY.encode() in exported
    assert CANARY.encode() not in stolen(file)


async def test_every_store_keeps_sealed_runs(url: str) -> None:
    """The same run goes through on each store; takeover included."""
    async with running(url, app().catalog(), master_keys=KEYS, options=OPTIONS) as runtime:
        view = await runtime.engine.runs.execute("w", {"x": 1})
        assert view.output == {"b": {"x": 1}}
        assert (await runtime.engine.audit.verify()).ok


async def test_keys_turn_while_runs_go_on(file: Path) -> None:
    """New writes use the new key at once here and soon elsewhere, old ones stay readable, also under a new master key."""
    async with sealed(file) as runtime, sealed(file) as other:
        engine = runtime.engine
        before = await engine.runs.execute("w", "before")
        turning = [asyncio.ensure_future(engine.runs.execute("w", n)) for n in range(40)]
        made: list[str] = []
        while not all(task.done() for task in turning):
            made.append(await ring_of(runtime).rotate("default"))
            await asyncio.sleep(0)
        assert [task.result().output for task in turning] == [{"b": n} for n in range(40)]
        async with asyncio.timeout(10):
            while True:
                run = (await other.engine.runs.execute("w", "after")).id
                if key_used(file, run) == made[-1]:
                    break
        assert (await other.engine.runs.get(before.id)).output == {"b": "before"}
        assert (await engine.audit.verify()).ok


async def test_a_new_master_key_takes_over(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both keys all is read; after rewrapping the old one is needed no more; without any the store is refused."""
    monkeypatch.setenv("TENUTO_TEST_NEW", key(7))
    async with sealed(file) as runtime:
        run = (await runtime.engine.runs.execute("w", "x")).id
    both = ("env:TENUTO_TEST_NEW", *KEYS)
    async with sealed(file, both) as runtime:
        assert await ring_of(runtime).rewrap() >= 2
        assert await ring_of(runtime).rewrap() == 0
    monkeypatch.delenv("TENUTO_TEST_KEY")
    async with sealed(file, both[:1]) as runtime:
        assert (await runtime.engine.runs.get(run)).output == {"b": "x"}
    with pytest.raises(InvalidSettings, match="TENUTO_TEST_KEY holds no master key"):
        await sealed(file).__aenter__()
    with pytest.raises(InvalidSettings, match="the database is encrypted"):
        await sealed(file, ()).__aenter__()


async def test_encryption_is_for_new_databases(file: Path) -> None:
    """A database with runs in the clear is refused instead of half encrypted."""
    async with sealed(file, ()) as runtime:
        await runtime.engine.runs.execute("w", "x")
    with pytest.raises(InvalidSettings, match="stored without it"):
        await sealed(file).__aenter__()


@pytest.fixture
def parked(file: Path) -> list[str]:
    """Two runs that wait for a signal, in a database nobody works on."""

    async def start() -> list[str]:
        async with sealed(file) as runtime:
            runs = [(await runtime.engine.runs.start("talk", {"text": str(n)})).id for n in range(2)]
            for run in runs:
                await until(runtime.engine, run, "waiting")
            return runs

    return asyncio.run(start())


def meddle(file: Path, statement: str, *values: Any) -> None:
    with sqlite3.connect(file) as db:
        assert db.execute(statement, values).rowcount


def raw(run: str) -> bytes:
    return bytes.fromhex(run.replace("-", ""))


def swap(file: Path, runs: list[str]) -> None:
    with sqlite3.connect(file) as db:
        rows = [db.execute("select body, chain from rec where run_id = ? and seq = 1", (raw(run),)).fetchone() for run in runs]
    for run, row in zip(runs, reversed(rows), strict=True):
        meddle(file, "update rec set body = ?, chain = ? where run_id = ? and seq = 1", *row, raw(run))


def plaintext(file: Path, runs: list[str]) -> None:
    meddle(file, "update rec set body = ? where run_id = ? and seq = 1", b'{"t":1,"ev":[]}', raw(runs[0]))


def other_position(file: Path, runs: list[str]) -> None:
    meddle(
        file, "update rec set body = (select body from rec r where r.run_id = rec.run_id and r.seq = 1) where run_id = ? and seq = 2",
        raw(runs[0]),
    )  # fmt: skip


def one_bit(file: Path, runs: list[str]) -> None:
    with sqlite3.connect(file) as db:
        (body,) = db.execute("select body from rec where run_id = ? and seq = 1", (raw(runs[0]),)).fetchone()
    meddle(file, "update rec set body = ? where run_id = ? and seq = 1", body[:-1] + bytes([body[-1] ^ 1]), raw(runs[0]))


@pytest.mark.parametrize("harm", [swap, plaintext, other_position, one_bit])
async def test_a_row_that_is_not_what_was_sealed_stops_its_run(file: Path, parked: list[str], harm: Any) -> None:
    """The run is halted with a ticket as for a broken chain, reads say why, and other runs go on."""
    await asyncio.to_thread(harm, file, parked)
    async with sealed(file) as runtime:
        engine = runtime.engine
        await engine.runs.signal(parked[0], "go", 1)
        async with asyncio.timeout(15):
            while not (tickets := (await engine.tickets.list(kind="integrity")).items):
                await asyncio.sleep(0.01)
        assert tickets[0].run == parked[0]
        assert "refused" in tickets[0].message or "unsealed" in tickets[0].message
        view = await engine.runs.get(parked[0])
        assert view.status == "paused" and view.error is not None and view.error.code == "journal.corrupt"
        with pytest.raises(Corrupt):
            await runtime.store.records(parked[0])
        assert not (await engine.audit.verify()).ok
        assert (await engine.runs.execute("w", 1)).status == "completed"


async def test_a_message_in_the_clear_stops_its_run(file: Path, parked: list[str]) -> None:
    """What was not sealed by us is not delivered, not even to a run in somebody's hands."""
    async with sealed(file) as runtime:
        store = SqliteStore(file)
        await store.open()
        assert await store.send(parked[0], "forged", b'{"type":"signal","name":"go","payload":1}') == "accepted"
        await store.close()
        async with asyncio.timeout(15):
            while not (tickets := (await runtime.engine.tickets.list(kind="integrity")).items):
                await asyncio.sleep(0.01)
        assert tickets[0].run == parked[0] and "unsealed" in tickets[0].message


async def test_a_shredded_namespace_is_gone_and_says_so(file: Path) -> None:
    """Its runs answer that their keys were destroyed, the key's bytes leave the file, and others are untouched."""
    async with sealed(file, ns="tenant") as tenant, sealed(file, ns="other") as other:
        gone = (await tenant.engine.runs.execute("w", "x")).id
        kept = (await other.engine.runs.execute("w", "y")).id
        rows = [row for row in await other.store.data_keys() if row.ns == "tenant"]
        assert await other.store.destroy_data_keys("tenant") == len(rows) >= 2
        await ring_of(tenant).refresh()
        assert (await other.engine.runs.get(kept)).output == {"b": "y"}
        with pytest.raises(Shredded, match="keys of namespace 'tenant' were destroyed"):
            await tenant.engine.runs.get(gone)
        assert not any(row.wrapped in stolen(file) for row in rows)
        again = await tenant.engine.runs.execute("w", "anew")
        assert again.output == {"b": "anew"}, "the namespace can be used again, with new keys"


def ring_of(runtime: Runtime) -> Any:
    return runtime.store.ring  # type: ignore[attr-defined]


def key_used(file: Path, run: str) -> str:
    with sqlite3.connect(file) as db:
        return db.execute("select body from rec where run_id = ? order by seq limit 1", (raw(run),)).fetchone()[0][5:21].decode()


async def test_the_ring_opens_a_store_by_itself(file: Path) -> None:
    """`tenuto keys` works on the store as it is, beside running workers."""
    async with sealed(file) as runtime:
        await runtime.engine.runs.execute("w", "x")
        store = open_store(f"sqlite:///{file}")
        await store.open()
        ring = key_ring(store, KEYS)
        await ring.refresh()
        made = await ring.rotate("default")
        await store.close()
        await ring_of(runtime).refresh()
        run = (await runtime.engine.runs.execute("w", "x")).id
        assert key_used(file, run) == made
