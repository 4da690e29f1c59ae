"""Asking optimizers: those that come with Tenuto and those that were added, each within its bounds, none for another's fault."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from typing import Literal

import msgspec

from tenuto.domain.base.nearest import did_you_mean
from tenuto.errors import InvalidSettings, OptimizerMissing, Unavailable
from tenuto.ports.optimizers import Answer, Builtin, OptimizerStopped, Sandbox, Task
from tenuto.ports.plugins import OptimizerRow
from tenuto.ports.store import Store
from tenuto.runtime.optimizer.options import ALL, Optimizing

AskedState = Literal["answered", "stopped", "disabled", "quarantined"]


class OptimizersOff(Unavailable):
    """Optimizers are switched off here, or what runs them is not installed."""

    code = "optimizer.off"
    retryable = False


class Asked(msgspec.Struct, kw_only=True):
    """What came of asking one optimizer.

    Attributes:
        digest: Of the module of a plug-in; empty for those that come with Tenuto.
        why: Which bound it met; see `OptimizerStopped`.
    """

    name: str
    digest: str = ""
    state: AskedState = "answered"
    why: str = ""
    message: str = ""
    answer: Answer = Answer()


class Panel:
    """The optimizers of an installation."""

    def __init__(self, options: Optimizing | None = None) -> None:
        """Open nothing yet."""
        self.options = options or Optimizing()
        self._sandbox: Sandbox | None = None

    @property
    def sandbox(self) -> Sandbox:
        """What runs modules.

        Raises:
            OptimizersOff: They are switched off, or nothing here can run them.
            InvalidSettings: What runs them is not installed.
        """
        if not self.options.enabled:
            raise OptimizersOff("optimizers are switched off here (optimizers.enabled)")
        if self._sandbox is None:
            if self.options.open is None:
                raise OptimizersOff("this process was started without a sandbox for optimizers")
            self._sandbox = self.options.open()
        return self._sandbox

    @cached_property
    def builtin(self) -> dict[str, Builtin]:
        """The optimizers that come with Tenuto and are asked, by name.

        Raises:
            InvalidSettings: One is named that does not come with it.
        """
        known = {one.name: one for one in self.options.builtin()}
        chosen = self.options.chosen
        for name in chosen:
            if name not in known and name != ALL:
                raise InvalidSettings(
                    f"optimizers.builtin names {name!r}, which does not come with Tenuto{did_you_mean(name, list(known))}; "
                    f"allowed: {ALL}, {', '.join(known)}"
                )
        return {name: one for name, one in known.items() if ALL in chosen or name in chosen}

    def close(self) -> None:
        """Let go of what runs modules."""
        close: Callable[[], None] | None = getattr(self._sandbox, "close", None)
        if close is not None:
            close()

    async def ask(self, store: Store, ns: str, task: Task, names: Sequence[str] = ()) -> list[Asked]:
        """Return what each optimizer says, those that come with Tenuto first; whoever is stopped says why.

        Args:
            names: Only these; empty is all of them.

        Raises:
            OptimizerMissing: There is none of one of these names; says which is near.
            OptimizersOff: They are switched off, or nothing here can run them.
        """
        sandbox, plugins = self.sandbox, await store.optimizers(ns)
        known = [*self.builtin, *(row.name for row in plugins)]
        for name in names:
            if name not in known:
                raise missing(name, known)
        asked = [self._shipped(sandbox, one, task) for name, one in self.builtin.items() if not names or name in names]
        asked += [self._plugin(sandbox, store, row, task) for row in plugins if not names or row.name in names]
        return list(await asyncio.gather(*asked))

    async def _plugin(self, sandbox: Sandbox, store: Store, row: OptimizerRow, task: Task) -> Asked:
        if row.quarantined_at:
            message = f"it failed {row.failures} times in a row and is not asked any more: {row.error}"
            return Asked(name=row.name, digest=row.digest, state="quarantined", message=message)
        if not row.enabled:
            return Asked(name=row.name, digest=row.digest, state="disabled", message="somebody disabled it")

        async def module() -> bytes:
            found = await store.optimizer_module(row.ns, row.name)
            if found is None:
                raise OptimizerStopped("module", "it was removed meanwhile")
            return found

        asked = await self._asked(sandbox, row.name, task, module)
        asked.digest = row.digest
        return asked

    async def _shipped(self, sandbox: Sandbox, one: Builtin, task: Task) -> Asked:
        async def module() -> bytes:
            return one.module

        return await self._asked(sandbox, one.name, task, module)

    async def _asked(self, sandbox: Sandbox, name: str, task: Task, module: Callable[[], Awaitable[bytes]]) -> Asked:
        told = msgspec.structs.replace(task, settings=self.options.given.get(name, {}))
        try:
            return Asked(name=name, answer=await sandbox.run(await module(), told, self.options.bounds))
        except OptimizerStopped as stopped:
            return Asked(name=name, state="stopped", why=stopped.why, message=str(stopped))


def missing(name: str, known: Sequence[str]) -> OptimizerMissing:
    """Return what says that there is no such optimizer."""
    return OptimizerMissing(f"there is no optimizer {name!r}{did_you_mean(name, known)}", optimizer=name)
