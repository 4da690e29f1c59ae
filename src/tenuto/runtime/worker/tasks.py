"""Executing attempts of anybody's runs in processes of this worker; results travel as messages."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

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
from tenuto.runtime.worker.values import RunEnv

if TYPE_CHECKING:
    from tenuto.runtime.worker.worker import Worker

log = logging.getLogger("tenuto.worker")
AGAIN_S = 1.0

_body = msgspec.json.Decoder(TaskBody).decode


class Tasks:
    """The tasks this worker executes. An executor that dies leaves its task to another, which reports the loss."""

    def __init__(self, worker: Worker) -> None:
        """Execute for a worker."""
        self._w = worker
        self._env = RunEnv(worker.values, {}, worker.is_remote)
        self.running: dict[str, tuple[TaskRow, asyncio.Task[None] | None]] = {}
        self._ends: dict[str, msg.TaskEnded] = {}

    async def take(self) -> None:
        """Take as many waiting tasks as there are free processes."""
        pool = self._w.pool
        if pool is None or pool.free <= 0:
            return
        names = sorted(name for name, handler in self._w.catalog.handlers.items() if handler.target)
        for row in await self._w.store.take_tasks(self._w.id, pool.free, names):
            self._w.spawn(self._execute(row))

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
            self._w.nudge()

    async def _report_at_last(self, row: TaskRow, ended: msg.TaskEnded) -> None:
        """Report an outcome until the store has taken it: while we live, nobody else takes the task."""
        self._ends[row.id], owner = ended, self._w.id
        while self._w.id == owner:
            try:
                await self._report(row, ended)
                break
            except Exception:
                log.exception("what became of task %s is not reported yet", row.id)
                await asyncio.sleep(AGAIN_S)
        self._ends.pop(row.id, None)

    async def _finish(self, row: TaskRow) -> None:
        if row.worker not in (None, self._w.id):
            ended = msg.TaskEnded(step=row.step, n=row.attempt, worker=row.worker or "", failure=LOST)
        else:
            ended = await self._run(row)
        await self._report_at_last(row, ended)
        actor = self._w.actors.get(row.run_id)
        if actor is not None:
            self._w.read_inbox(actor)

    async def _report(self, row: TaskRow, ended: msg.TaskEnded) -> None:
        key = f"task/{row.step}/{row.attempt}"
        await self._w.store.send(row.run_id, key, msg.encode_message(ended))
        await self._w.store.drop_task(row.id, self._w.id)

    def _ended(self, row: TaskRow, **rest: Any) -> msg.TaskEnded:
        return msg.TaskEnded(step=row.step, n=row.attempt, worker=self._w.id, **rest)

    async def _run(self, row: TaskRow) -> msg.TaskEnded:
        worker = self._w
        began = worker.clock.now()

        def ended(**rest: Any) -> msg.TaskEnded:
            took = worker.clock.now() - began
            return self._ended(row, began=began, took_ms=took, **rest)

        try:
            body, handler = _body(row.body), worker.catalog.handler(row.handler)
            assert handler is not None and worker.pool is not None
            timeout = body.timeout_s or handler.timeout_s
            found = await ask_hook(worker.ask_hook, body.hook, body.key) if body.hook else ("retry", None)
            result = found[1]
            if found[0] == "retry":
                value = await self._load(body.input)
                result = await worker.pool.call(handler.target, value, key=body.key, timeout_s=timeout)
            out, blob = pack(result)
            if blob is not None:
                await worker.store.put_blobs([(blob_digest(blob), blob)])
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
                if not await self._w.values.fetch(self._w.store, need.digests):
                    raise
