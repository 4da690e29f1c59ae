"""Optimizers that are added while everything runs: kept in the store, so that every process asks them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable
from hashlib import sha256

from tenuto.domain.runs.views import instant
from tenuto.errors import Conflict, Invalid
from tenuto.ports.optimizers import OptimizerStopped
from tenuto.ports.plugins import OptimizerRow
from tenuto.runtime.optimizer.panel import missing
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.optimizer_views import OptimizerView

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")


class PluginRefused(Invalid):
    """The module cannot be an optimizer."""

    code = "optimizer.refused"


class PluginTooLarge(Invalid):
    """The module is larger than plug-ins may be."""

    code = "optimizer.too_large"


class Plugins:
    """Every use case of keeping optimizers, for one namespace."""

    def __init__(self, context: Context) -> None:
        """Use the store and the optimizers of an engine."""
        self._c = context

    async def add(self, name: str, module: AsyncIterable[bytes], *, by: str = "") -> OptimizerView:
        """Keep a module as an optimizer, once it is known that it can be one; every process asks it from now on.

        The same again changes nothing; another module replaces the former one of its name.

        Raises:
            Invalid: It cannot have that name.
            PluginTooLarge: It has more bytes than a plug-in may.
            PluginRefused: It can be no optimizer, and why.
            OptimizersOff: They are switched off, or nothing here can run them.
        """
        if not _NAME.fullmatch(name):
            raise Invalid(f"{name!r} is no name of an optimizer: 1 to 64 small letters, digits, '_' or '-', a letter first",
                          code="optimizer.name")
        if name in self._c.panel.builtin:
            raise Conflict(f"{name!r} is an optimizer that comes with Tenuto; choose another name", code="optimizer.builtin")
        sandbox, most = self._c.panel.sandbox, self._c.panel.options.max_bytes
        held = bytearray()
        async for piece in module:
            held += piece
            if len(held) > most:
                raise PluginTooLarge(f"the module is over {most:,} bytes, the limit (optimizers.max_bytes)")
        content = bytes(held)
        try:
            await sandbox.check(content)
        except OptimizerStopped as stopped:
            raise PluginRefused(f"this cannot be an optimizer: {stopped}", why=stopped.why) from None
        row = OptimizerRow(
            ns=self._c.ns, name=name, digest="sha256:" + sha256(content).hexdigest(), size=len(content), by=by
        )
        return _view(await self._c.store.put_optimizer(row, content))

    async def list(self) -> list[OptimizerView]:
        """Return all optimizers, those that come with Tenuto first."""
        builtin = [
            OptimizerView(
                name=one.name, kind="builtin", status="enabled", description=one.description, digest=f"sha256:{one.digest}",
                size=len(one.module),
            )
            for one in self._c.panel.builtin.values()
        ]
        return [*builtin, *(_view(row) for row in await self._c.store.optimizers(self._c.ns))]

    async def get(self, name: str) -> OptimizerView:
        """Return one optimizer.

        Raises:
            OptimizerMissing: There is none of that name; says which is near.
        """
        known = await self.list()
        for view in known:
            if view.name == name:
                return view
        raise missing(name, [view.name for view in known])

    async def remove(self, name: str) -> None:
        """Forget a plug-in; what it has proposed stays.

        Raises:
            OptimizerMissing: There is none of that name.
            Conflict: It comes with Tenuto.
        """
        await self._plugin(name)
        await self._c.store.drop_optimizer(self._c.ns, name)

    async def enable(self, name: str, *, enabled: bool = True) -> OptimizerView:
        """Let a plug-in be asked again, its failures forgotten and its quarantine over; or let it be asked no more.

        Raises:
            OptimizerMissing: There is none of that name.
            Conflict: It comes with Tenuto.
        """
        await self._plugin(name)
        await self._c.store.enable_optimizer(self._c.ns, name, enabled)
        return await self.get(name)

    async def _plugin(self, name: str) -> None:
        found = await self.get(name)
        if found.kind == "builtin":
            raise Conflict(f"{name!r} comes with Tenuto; the setting optimizers.builtin says which of those are asked",
                           code="optimizer.builtin")


def _view(row: OptimizerRow) -> OptimizerView:
    status = "quarantined" if row.quarantined_at else "enabled" if row.enabled else "disabled"
    return OptimizerView(
        name=row.name, kind="plugin", status=status, digest=row.digest, size=row.size, failures=row.failures,
        error=row.error, by=row.by, added_at=instant(row.added_at), quarantined_at=instant(row.quarantined_at),
    )
