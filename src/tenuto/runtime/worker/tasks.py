"""Executing attempts of anybody's runs in processes of this worker; results travel as messages."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from tenuto.domain.base.values import blob_digest, pack
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.events import Failure
from tenuto.domain.runs.failure import INTERRUPTED, LOST
from tenuto.domain.runs.inputs import NeedValues
from tenuto.ports.pool import PoolFailed
from tenuto.ports.store import TaskRow
from tenuto.runtime.worker.failures import ask_hook, describe
from tenuto.runtime.worker.rows import TaskBody
from tenuto.runtime.worker.runs import Runs
from tenuto.runtime.worker.values import RunEnv

log = logging.getLogger("tenuto.worker")
AGAIN_S = 1.0

_body = msgspec.json.Decoder(TaskBody).decode


class Tasks:
    """The tasks this worker executes. An executor that dies leaves its task to another, which reports the loss."""

    def __init__(self, runs: Runs) -> None:
        """Execute on the worker that owns these runs."""
        self._runs = runs
        self._resources = runs.resources
        self._store = runs.resources.store
        self._lease = runs.lease
        self._env = RunEnv(runs.resources.values, {}, runs.resources.is_remote, runs.resources.surroundings)
        self.running: dict[str, tuple[TaskRow, asyncio.Task[None] | None]] = {}
        self._ends: dict[str, msg.TaskEnded] = {}

    async def take(self) -> None:
        """Take as many waiting tasks as there are free processes."""
        pool = self._resources.pool
        if pool is None or pool.free <= 0:
            return
        names = sorted(name for name, handler in self._resources.catalog.handlers.items() if handler.target)
        for row in await self._store.take_tasks(self._lease.id, pool.free, names):
            self._runs.background.spawn(self._execute(row))

    async def hand_back(self) -> None:
        """End what still runs and tell the owners that it was interrupted, which counts as no failure."""
        left = list(self.running.values())
        tasks = [task for _, task in left if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for row, _ in left:
            ended = self._ends.pop(row.id, None) or self._ended(row, failure=INTERRUPTED)
            try:
                await self._report(row, ended)
            except Exception:
                log.exception("task %s is left to another executor", row.id)

    async def _execute(self, row: TaskRow) -> None:
        self.running[row.id] = (row, asyncio.current_task())
        try:
            await self._finish(row)
        finally:
            self.running.pop(row.id, None)
            self._runs.nudge.set()

    async def _report_at_last(self, row: TaskRow, ended: msg.TaskEnded) -> None:
        """Report an outcome until the store has taken it: while we live, nobody else takes the task."""
        self._ends[row.id], owner = ended, self._lease.id
        while self._lease.id == owner:
            try:
                await self._report(row, ended)
                break
            except Exception:
                log.exception("what became of task %s is not reported yet", row.id)
                await asyncio.sleep(AGAIN_S)
        self._ends.pop(row.id, None)

    async def _finish(self, row: TaskRow) -> None:
        if row.worker not in (None, self._lease.id):
            ended = msg.TaskEnded(step=row.step, n=row.attempt, worker=row.worker or "", failure=LOST)
        else:
            ended = await self._run(row)
        await self._report_at_last(row, ended)
        actor = self._runs.actors.get(row.run_id)
        if actor is not None:
            self._runs.inbox.read(actor)

    async def _report(self, row: TaskRow, ended: msg.TaskEnded) -> None:
        key = f"task/{row.step}/{row.attempt}"
        await self._store.send(row.run_id, key, msg.encode_message(ended))
        await self._store.drop_task(row.id, self._lease.id)

    def _ended(self, row: TaskRow, **rest: Any) -> msg.TaskEnded:
        return msg.TaskEnded(step=row.step, n=row.attempt, worker=self._lease.id, **rest)

    async def _run(self, row: TaskRow) -> msg.TaskEnded:
        resources = self._resources
        began = resources.clock.now()

        def ended(**rest: Any) -> msg.TaskEnded:
            took = resources.clock.now() - began
            return self._ended(row, began=began, took_ms=took, **rest)

        try:
            body, handler = _body(row.body), resources.catalog.handler(row.handler)
            assert handler is not None and resources.pool is not None
            timeout = body.timeout_s or handler.timeout_s
            found = await ask_hook(resources.ask_hook, body.hook, body.key) if body.hook else ("retry", None)
            result = found[1]
            if found[0] == "retry":
                value = await self._load(body.input)
                result = await resources.pool.call(handler.target, value, key=body.key, timeout_s=timeout)
            out, blob = pack(result)
            if blob is not None:
                await resources.store.put_blobs([(blob_digest(blob), blob)], ns=row.ns)
        except PoolFailed as exc:
            return ended(failure=exc.failure)
        except Exception as exc:
            failure: Failure = describe(exc)
            return ended(failure=failure)
        return ended(out=out, blob=blob is not None)

    async def _load(self, value: msgspec.Raw) -> Any:
        while True:
            try:
                return self._env.load(value)
            except NeedValues as need:
                if not await self._resources.values.fetch(self._store, need.digests):
                    raise
