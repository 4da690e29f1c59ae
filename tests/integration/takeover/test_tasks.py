"""Attempts offered to every worker, when the worker that took one dies."""

from __future__ import annotations

from uuid import uuid4

from msgspec import Raw

from tenuto.domain.runs.events import RunCreated
from tenuto.ports.store import Store, TaskRow, WorkerRow
from tenuto.runtime.worker.deliver import creation
from tenuto.wiring import open_store


async def offer(store: Store) -> TaskRow:
    run = str(uuid4())
    commit = creation(run, RunCreated(ns="default", workflow="w", digest="0" * 64, input=Raw(b"null")), 1).commit()
    task = TaskRow(id=f"{run}/a/1", ns="default", run_id=run, step="a", attempt=1, handler="h", body=b"{}")
    commit.tasks = [task]
    assert [answer.outcome for answer in await store.commit([commit])] == ["ok"]
    return task


async def test_a_task_names_the_executor_that_died_with_it(url: str):
    store = open_store(url)
    await store.open()
    try:
        task = await offer(store)
        for name in ("a", "b"):
            await store.register(WorkerRow(id=name), 60_000)
        assert [(row.id, row.worker) for row in await store.take_tasks("a", 8, ["h"])] == [(task.id, None)]
        assert await store.take_tasks("b", 8, ["h"]) == []
        await store.adopt("b", "a")
        assert [(row.id, row.worker) for row in await store.take_tasks("b", 8, ["h"])] == [(task.id, "a")]
        assert not await store.drop_task(task.id, "a")
        assert await store.drop_task(task.id, "b")
    finally:
        await store.close()
