"""What runs leave behind goes, and what is still named stays."""

from __future__ import annotations

import asyncio

import pytest

from tenuto.errors import Gone
from tenuto.runtime import retention
from tenuto.runtime.projector import Projector
from tenuto.runtime.services.requests import ListSteps
from tenuto.wiring import Runtime
from tests.unit.services.harness import CALC, node

LATER = 2**50
BIG = {"name": "big", "nodes": [node("a"), node("b", input={"from": "${nodes.a.output}"})], "edges": [{"from": "a", "to": "b"}]}


async def big_run(runtime: Runtime, text: str) -> str:
    await runtime.engine.workflows.publish(BIG)
    run = (await runtime.engine.runs.start("big", {"text": text * 10_000})).id
    await runtime.engine.runs.result(run, timeout_s=10)
    return run


async def test_values_of_runs_stay_until_their_runs_are_gone(runtime: Runtime):
    store = runtime.store
    kept, gone = await big_run(runtime, "k"), await big_run(runtime, "g")
    before = await store.list_blobs()
    assert len(before) > 2
    for _ in range(3):
        assert await retention.sweep(store, LATER) == 0
    assert await store.list_blobs() == before
    await runtime.engine.runs.delete(gone)
    assert await retention.sweep(store, LATER) == 0, "seen unused for the first time"
    assert await retention.sweep(store, await store.now() - retention.DAY_MS) == 0, "but not for long"
    assert await retention.sweep(store, LATER) > 0
    assert "k" * 10_000 in str((await runtime.engine.runs.get(kept)).output)
    assert 0 < len(await store.list_blobs()) < len(before)


async def test_a_value_on_its_way_stays(runtime: Runtime, monkeypatch: pytest.MonkeyPatch):
    """Stored before the message or record that names it, and swept in between, it is there when it is read."""
    store = runtime.store
    await store.put_blobs([("sha256:" + "a" * 64, b"v")])
    monkeypatch.setattr(retention, "CANDIDATES", 1)
    assert await retention.sweep(store, LATER) == 0
    await store.put_blobs([("sha256:" + "a" * 64, b"v")])
    assert await retention.sweep(store, LATER) == 0
    assert await retention.sweep(store, LATER) == 1


async def test_a_projection_is_rebuilt_from_journals_when_groups_are_gone(runtime: Runtime):
    await runtime.engine.workflows.publish(CALC)
    for n in range(4):
        await runtime.engine.runs.result((await runtime.engine.runs.start("calc", {"n": n})).id, timeout_s=10)
    store, definitions = runtime.store, runtime.engine.context.definitions
    projector = Projector(store, definitions)
    await projector.drain()

    async def rows() -> list[object]:
        return sorted((await runtime.engine.steps.list(ListSteps(), limit=100)).items, key=lambda row: (row.run, row.id))

    expected = await rows()
    assert len(expected) == 8
    await store.prune_tail(0)
    assert await store.prune_tail(0) > 0
    await projector.rebuild()
    assert await rows() == expected
    assert await projector.lag() == 0
    await store.reset_projection("steps")
    await Projector(store, definitions).drain()
    assert await rows() == expected, "a projector that begins behind the gap fills it"
    with pytest.raises(Gone):
        async for _ in runtime.engine.history.stream_all(cursors={}):
            pass


async def test_pruning_tidies_up_and_keeps_young_keys(runtime: Runtime):
    store = runtime.store
    await runtime.engine.workflows.publish(CALC)
    first = await runtime.engine.runs.start("calc", {"n": 1}, idempotency_key="once")
    await runtime.engine.runs.result(first.id, timeout_s=10)
    assert await retention.forget_keys(store, LATER, await store.now()) == 0
    assert await retention.forget_keys(store, LATER, LATER) == 1
    assert (await runtime.engine.runs.prune(before=LATER)).deleted == 1
    assert (await runtime.engine.runs.prune(before=LATER)).deleted == 0


async def test_tidying_goes_on_until_cancelled_and_only_where_it_leads(runtime: Runtime):
    await runtime.engine.workflows.publish(CALC)
    run = (await runtime.engine.runs.start("calc", {"n": 1})).id
    await runtime.engine.runs.result(run, timeout_s=10)
    runtime.clock.adjust(await runtime.store.now() + 10 * retention.DAY_MS)

    async def tidied(leads: bool) -> bool:
        keeping = asyncio.create_task(
            retention.keep_small(runtime.store, runtime.engine.context.shelf, runtime.clock, "default", days=1, leads=lambda: leads, every_s=0)
        )
        for _ in range(20):
            await asyncio.sleep(0)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        return await runtime.store.get_run(run) is None

    assert not await tidied(False)
    assert await tidied(True)
