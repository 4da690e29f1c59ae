"""The values a decision may read: stored blobs at hand, decoded once, within a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Raw

from tenuto.domain.base.values import digest_of, unpack
from tenuto.domain.graph.limits import SHIPPED, Most
from tenuto.domain.graph.plan import PlanNode
from tenuto.domain.overlays.terms import Surroundings
from tenuto.domain.runs.events import Reused
from tenuto.domain.runs.inputs import NeedValues
from tenuto.domain.runs.state import Step
from tenuto.ports.store import Store

CACHE_BYTES = 64 * 1024 * 1024


class Values:
    """Decoded blobs shared by all runs of a worker; the least recently used leave first."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        """Keep up to `limit` bytes of stored JSON."""
        self._limit = limit
        self._size = 0
        self._known: OrderedDict[str, tuple[Any, int]] = OrderedDict()

    def put(self, digest: str, body: bytes) -> None:
        """Remember a blob."""
        if digest in self._known:
            return
        self._known[digest] = (unpack(body), len(body))
        self._size += len(body)
        while self._size > self._limit and len(self._known) > 1:
            _, (_, size) = self._known.popitem(last=False)
            self._size -= size

    def get(self, digest: str) -> Any:
        """Return a blob's value.

        Raises:
            NeedValues: It is not at hand.
        """
        found = self._known.get(digest)
        if found is None:
            raise NeedValues((digest,))
        self._known.move_to_end(digest)
        return found[0]

    async def fetch(self, store: Store, digests: tuple[str, ...]) -> bool:
        """Read blobs from the store; return whether all of them exist."""
        missing = [digest for digest in digests if digest not in self._known]
        found = await store.get_blobs(missing) if missing else {}
        for digest, body in found.items():
            self.put(digest, body)
        return len(found) == len(missing)


class RunEnv:
    """What the decisions of one run may read."""

    __slots__ = ("_remote", "_surroundings", "_values", "most", "predicates", "reuse")

    def __init__(
        self, values: Values, predicates: Mapping[str, Callable[..., Any]],
        remote: Callable[[PlanNode, Step], bool], surroundings: Callable[[], Surroundings],
        reuse: Mapping[str, Reused] | None = None, *, most: Most = SHIPPED,
    ) -> None:
        """Share a worker's values and predicates.

        Args:
            remote: Says which attempts become tasks.
            surroundings: Gives what a patch of the graph is looked at with.
            most: What a run may do before a person is asked.
        """
        self._surroundings = surroundings
        self._remote = remote
        self._values = values
        self.predicates = predicates
        self.reuse: Mapping[str, Reused] = reuse or {}
        self.most = most

    def surroundings(self) -> Surroundings:
        """Return what a patch of the graph is looked at with."""
        return self._surroundings()

    def remote(self, node: PlanNode, step: Step) -> bool:
        """Return whether an attempt is to be executed by any worker, in a process of its own."""
        return self._remote(node, step)

    def hold(self, digest: str, body: bytes) -> None:
        """Have a value at hand that a decision stores."""
        self._values.put(digest, body)

    def load(self, value: Raw) -> Any:
        """Return a value as Python objects.

        Raises:
            NeedValues: It is stored under a digest that is not at hand.
        """
        digest = digest_of(value)
        return unpack(value) if digest is None else self._values.get(digest)
