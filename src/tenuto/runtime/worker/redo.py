"""Deciding again: what a decision that came to nothing did to its run's state is undone first."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from tenuto.domain.budgets.escrow import Short
from tenuto.domain.runs import inputs as io
from tenuto.domain.runs.fold import fold_body
from tenuto.domain.runs.history import digest_of_history, restore
from tenuto.domain.runs.state import RunState
from tenuto.runtime.worker.actor import Actor
from tenuto.runtime.worker.background import Background
from tenuto.runtime.worker.inbox import Inbox
from tenuto.runtime.worker.resources import Resources

log = logging.getLogger("tenuto.worker")


class Exit(Protocol):
    """The ways out for a run whose decision cannot be made again."""

    def quarantine(self, actor: Actor, why: str) -> None:
        """Stop the run for a person."""
        ...

    def hand_on(self, actor: Actor) -> None:
        """Let a run that was dropped meanwhile be created without an owner."""
        ...


class Redo:
    """Restores the states of one worker's runs. A run whose state cannot be had is stopped for a person."""

    def __init__(self, owner: Exit, resources: Resources, inbox: Inbox, background: Background) -> None:
        """Serve the owner of the runs."""
        self._owner = owner
        self._store = resources.store
        self._values = resources.values
        self._definitions = resources.definitions
        self._inbox = inbox
        self._background = background

    def with_values(self, actor: Actor, inputs: list[io.Input], digests: tuple[str, ...]) -> None:
        """Load values a decision needs, and decide again."""
        self._begin(actor, self._load, inputs, digests)

    def with_messages(self, actor: Actor, inputs: list[io.Input]) -> None:
        """Read the messages a decision should have known, and decide again."""
        self._begin(actor, self._read, inputs)

    def with_refusals(self, actor: Actor, inputs: list[io.Input], shorts: tuple[Short, ...]) -> None:
        """Decide again, knowing which calls there is no room for."""
        # What was refused a moment ago stays so, or two calls could take turns in being refused for ever.
        again = [item for item in inputs if shorts or not isinstance(item, io.Warned)]
        self._begin(actor, self._anew, [*(io.Refused(short) for short in shorts), *again])

    def _begin(self, actor: Actor, work: Callable[..., Awaitable[None]], *given: Any) -> None:
        actor.in_flight = True
        self._background.spawn(self._or_halt(actor, work, *given))

    async def _or_halt(self, actor: Actor, work: Callable[..., Awaitable[None]], *given: Any) -> None:
        try:
            await work(actor, *given)
        except Exception as exc:
            log.exception("run %s cannot be rebuilt", actor.st.id, extra={"run": actor.st.id})
            self._owner.quarantine(actor, repr(exc))

    async def _load(self, actor: Actor, inputs: list[io.Input], digests: tuple[str, ...]) -> None:
        if not await self._values.fetch(self._store, digests):
            self._owner.quarantine(actor, f"stored values are gone: {', '.join(digests)}")
            return
        await self._restore(actor)
        self._again(actor, inputs)

    async def _read(self, actor: Actor, inputs: list[io.Input]) -> None:
        await self._restore(actor)
        self._again(actor, [*inputs, *await self._inbox.messages(actor)])

    async def _anew(self, actor: Actor, inputs: list[io.Input]) -> None:
        await self._restore(actor)
        self._again(actor, inputs)

    async def _restore(self, actor: Actor) -> None:
        if actor.new is None:
            history = (await self._store.load([actor.st.id]))[0].sound()
            epoch = actor.st.epoch
            first = await self._definitions.plan(actor.st.ns, digest_of_history(history.snapshot, history.records))
            actor.st, actor.plan = restore(actor.st.id, history.snapshot, history.records, lambda _: first)
            actor.st.epoch = epoch
        else:
            actor.st = RunState(id=actor.st.id)
            actor.plan = fold_body(actor.st, actor.plan, actor.new.body)
            actor.st.seq, actor.st.epoch = 1, 1

    def _again(self, actor: Actor, inputs: list[io.Input]) -> None:
        actor.in_flight = False
        if actor.dropped:
            self._owner.hand_on(actor)
        actor.inputs[:0] = inputs
        actor.touch()
