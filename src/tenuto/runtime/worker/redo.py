"""Deciding again: what a decision that came to nothing did to its run's state is undone first."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from tenuto.domain.graph.plan import Plan
from tenuto.domain.runs import inputs as io
from tenuto.domain.runs.fold import fold_body
from tenuto.domain.runs.history import restore
from tenuto.domain.runs.state import RunState

if TYPE_CHECKING:
    from tenuto.runtime.worker.actor import Actor
    from tenuto.runtime.worker.worker import Worker

log = logging.getLogger("tenuto.worker")


class Redo:
    """Restores the states of one worker's runs. A run whose state cannot be had is stopped for a person."""

    def __init__(self, worker: Worker) -> None:
        """Serve a worker."""
        self._w = worker

    def with_values(self, actor: Actor, inputs: list[io.Input], digests: tuple[str, ...]) -> None:
        """Load values a decision needs, and decide again."""
        self._begin(actor, self._load, inputs, digests)

    def with_messages(self, actor: Actor, inputs: list[io.Input]) -> None:
        """Read the messages a decision should have known, and decide again."""
        self._begin(actor, self._read, inputs)

    def _begin(self, actor: Actor, work: Callable[..., Awaitable[None]], *given: Any) -> None:
        actor.in_flight = True
        self._w.spawn(self._or_halt(actor, work, *given))

    async def _or_halt(self, actor: Actor, work: Callable[..., Awaitable[None]], *given: Any) -> None:
        try:
            await work(actor, *given)
        except Exception as exc:
            log.exception("run %s cannot be rebuilt", actor.st.id, extra={"run": actor.st.id})
            self._w.quarantine(actor, repr(exc))

    async def _load(self, actor: Actor, inputs: list[io.Input], digests: tuple[str, ...]) -> None:
        if not await self._w.values.fetch(self._w.store, digests):
            self._w.quarantine(actor, f"stored values are gone: {', '.join(digests)}")
            return
        await self._restore(actor)
        self._again(actor, inputs)

    async def _read(self, actor: Actor, inputs: list[io.Input]) -> None:
        await self._restore(actor)
        self._again(actor, [*inputs, *await self._w.messages(actor)])

    async def _restore(self, actor: Actor) -> None:
        if actor.new is None:
            history = (await self._w.store.load([actor.st.id]))[0]
            epoch = actor.st.epoch
            plan: Plan = actor.plan
            actor.st = restore(actor.st.id, history.snapshot, history.records, lambda _: plan)
            actor.st.epoch = epoch
        else:
            actor.st = RunState(id=actor.st.id)
            fold_body(actor.st, actor.plan, actor.new.body)
            actor.st.seq, actor.st.epoch = 1, 1

    def _again(self, actor: Actor, inputs: list[io.Input]) -> None:
        actor.in_flight = False
        if actor.dropped:
            self._w.hand_on(actor)
        actor.inputs[:0] = inputs
        actor.touch()
