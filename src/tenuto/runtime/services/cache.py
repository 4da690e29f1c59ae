"""What the cache has done and keeps, and letting it forget."""

from __future__ import annotations

from tenuto.domain.runs.views import View
from tenuto.errors import Invalid, Unavailable
from tenuto.ports.cache import CacheAway, CacheCount, CacheEntries
from tenuto.runtime.services.context import Context

_KEY = 71


class CacheNode(View):
    """What the cache had to do with the steps of one node, or of all of them.

    Attributes:
        hits: Steps that took a kept result.
        joined: Steps that took a result another step computed meanwhile.
        misses: Steps that looked for a result and computed it.
        unread: Steps that computed without looking, by their policy.
        stored: Of those that computed, steps whose result was kept; results of groups are not counted here.
        saved_ms: What hits and joined steps would have taken, with `saved_usd_micros`.
        entries: Results kept now, and their `bytes`.
    """

    workflow: str = ""
    node: str = ""
    hits: int = 0
    joined: int = 0
    misses: int = 0
    unread: int = 0
    stored: int = 0
    saved_ms: int = 0
    saved_usd_micros: int = 0
    entries: int = 0
    bytes: int = 0


class CacheStats(View):
    """What the cache has done for the runs that are kept, and what it keeps now.

    Attributes:
        trouble: What is wrong with the server of the cache; empty while it answers.
    """

    totals: CacheNode
    nodes: list[CacheNode] = []
    trouble: str = ""


class Invalidated(View):
    """How many results were forgotten."""

    entries: int


class Cache:
    """Kept results of one namespace."""

    def __init__(self, context: Context) -> None:
        """Use the store and the cache of an engine."""
        self._c = context

    @property
    def _entries(self) -> CacheEntries:
        return self._c.cache or self._c.store

    async def stats(self, *, workflow: str = "", node: str = "") -> CacheStats:
        """Return counts by workflow and node; those of steps may lag as the table of steps does."""
        found: dict[tuple[str, str], CacheNode] = {}

        def of(name: str, step: str) -> CacheNode:
            return found.setdefault((name, step), CacheNode(workflow=name, node=step))

        for count in await self._c.store.cache_counts(self._c.ns):
            _add(of(count.workflow, count.node), count)
        for size in await self._entries.cache_sizes(self._c.ns):
            entry = of(size.workflow, size.node)
            entry.entries, entry.bytes = size.entries, size.bytes
        nodes = [
            one for place, one in sorted(found.items())
            if (not workflow or place[0] == workflow) and (not node or place[1] == node)
        ]
        totals = CacheNode()
        for one in nodes:
            for name in _SUMMED:
                setattr(totals, name, getattr(totals, name) + getattr(one, name))
        return CacheStats(totals=totals, nodes=nodes, trouble=self._entries.health())

    async def invalidate(
        self, *, key: str = "", workflow: str = "", node: str = "", everything: bool = False
    ) -> Invalidated:  # fmt: skip
        """Forget results by key, workflow and node; what is being computed now is not kept either.

        Args:
            key: What it is kept under, as the journal says.
            workflow: All results that steps of this workflow computed.
            node: All results that steps of this node computed; of any workflow, unless one is given.
            everything: All results of the namespace; needed where nothing else is given.

        Raises:
            Invalid: Nothing is said, or the key is none.
            Unavailable: The cache does not answer; some results may be left.
        """
        if not (key or workflow or node or everything):
            raise Invalid("nothing says what to forget; give a key, a workflow, a node, or all", code="cache.unbounded")
        if key and not (len(key) == _KEY and key.startswith("sha256:")):
            raise Invalid(f"{key!r} is no key; keys read sha256: and 64 hexadecimal digits", code="cache.key")
        try:
            gone = await self._entries.cache_drop(self._c.ns, key=key, workflow=workflow, node=node)
        except CacheAway as error:
            raise Unavailable(f"not all may be forgotten: {error}; do it again once it answers") from error
        return Invalidated(entries=gone)


_SUMMED = ("hits", "joined", "misses", "unread", "stored", "saved_ms", "saved_usd_micros", "entries", "bytes")
_HOWS = {"hit": "hits", "joined": "joined", "miss": "misses", "unread": "unread"}


def _add(node: CacheNode, count: CacheCount) -> None:
    name = _HOWS[count.how]
    setattr(node, name, getattr(node, name) + count.steps)
    node.stored += count.stored
    node.saved_ms += count.saved_ms
    node.saved_usd_micros += count.saved_usd_micros
