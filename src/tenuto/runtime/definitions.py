"""Compiled workflows by digest: read once from the store, compiled once, shared by everybody in the process."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from tenuto.domain.graph.compile import compile_cached
from tenuto.domain.graph.model import Definition
from tenuto.domain.graph.plan import Plan
from tenuto.errors import WorkflowMissing
from tenuto.ports.store import Store

_decode = msgspec.json.Decoder(Definition).decode


class Definitions:
    """A bounded cache of plans; versions are content-addressed, so nothing in it ever goes stale."""

    def __init__(self, store: Store, size: int = 1024) -> None:
        """Read misses from a store and keep the `size` plans used last."""
        self._store = store
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._size = size

    def cached(self, digest: str) -> Plan | None:
        """Return a plan that is at hand."""
        return self._plans.get(digest)

    def keep(self, digest: str, definition: Definition) -> Plan:
        """Compile a definition the caller has just stored."""
        plan = self._plans.get(digest)
        if plan is None:
            plan = self._plans[digest] = compile_cached(digest, definition)
            if len(self._plans) > self._size:
                self._plans.popitem(last=False)
        else:
            self._plans.move_to_end(digest)
        return plan

    async def plan(self, ns: str, digest: str) -> Plan:
        """Return the plan of a version.

        Raises:
            WorkflowMissing: The store has no such version.
        """
        plan = self._plans.get(digest)
        if plan is None:
            # The graph of a patched run is no version of its workflow; it is stored with the record that made it.
            body = await self._store.get_definition(ns, digest) or (await self._store.get_blobs([digest])).get(digest)
            if body is None:
                raise WorkflowMissing(f"no workflow version {digest!r} is stored", digest=digest)
            plan = self.keep(digest, _decode(body))
        return plan
