"""The values views show: inputs rendered from the journal, large values resolved within a bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from msgspec import Raw

from tenuto.domain.base.values import digest_of, unpack
from tenuto.domain.graph.limits import Most
from tenuto.domain.graph.plan import Plan, PlanNode
from tenuto.domain.overlays.terms import Surroundings, unchecked
from tenuto.domain.runs.data import step_input
from tenuto.domain.runs.events import Reused
from tenuto.domain.runs.inputs import NeedValues
from tenuto.domain.runs.state import RunState, Step
from tenuto.errors import TenutoError
from tenuto.ports.store import Store

BLOBS_AT_ONCE = 64
SHOWN_BYTES = 1024 * 1024


class ShownEnv:
    """What rendering the inputs of steps for display may read; each value is decoded once."""

    def __init__(self) -> None:
        """Start without stored values."""
        self.predicates: Mapping[str, Callable[..., Any]] = {}
        self.reuse: Mapping[str, Reused] = {}
        self.most = Most()
        self._blobs: dict[str, Any] = {}
        self._decoded: dict[int, tuple[Raw, Any]] = {}
        self.wanted: set[str] = set()

    def surroundings(self) -> Surroundings:
        """Return the shipped ones: nothing is patched here."""
        return unchecked()

    def remote(self, node: PlanNode, step: Step) -> bool:
        """Return false: nothing is executed here."""
        return False

    def hold(self, digest: str, body: bytes) -> None:
        """Have a value at hand."""
        self._blobs[digest] = unpack(body)

    def load(self, value: Raw) -> Any:
        """Return a value as Python objects.

        Raises:
            NeedValues: It is stored under a digest that is not at hand; the digest is kept in `wanted`.
        """
        known = self._decoded.get(id(value))
        if known is not None:
            return known[1]
        digest = digest_of(value)
        if digest is None:
            found = unpack(value)
        elif digest in self._blobs:
            found = self._blobs[digest]
        else:
            self.wanted.add(digest)
            raise NeedValues((digest,))
        self._decoded[id(value)] = (value, found)
        return found

    async def fetch(self, store: Store) -> bool:
        """Load wanted values, up to a number; return whether there was any."""
        digests = [digest for digest in self.wanted if digest not in self._blobs][:BLOBS_AT_ONCE]
        found = await store.get_blobs(digests) if digests else {}
        self._blobs.update((digest, unpack(body)) for digest, body in found.items())
        return bool(found)


async def inputs_of(store: Store, st: RunState, plan: Plan, keys: list[str]) -> Callable[[str], Any]:
    """Return a function that gives the input of each of some steps; `None` where it cannot be rendered."""
    env = ShownEnv()
    known = {key: _render(st, plan, env, key) for key in keys}
    if env.wanted and await env.fetch(store):
        known = {key: _render(st, plan, env, key) if value is None else value for key, value in known.items()}
    return known.get


def _render(st: RunState, plan: Plan, env: ShownEnv, key: str) -> Any:
    step = st.steps.get(key)
    if step is None or step.status == "skipped":
        return None
    try:
        return step_input(st, plan, env, key)
    except (NeedValues, TenutoError, KeyError, IndexError, TypeError):
        return None


async def resolved(store: Store, value: Any) -> Any:
    """Return a decoded journal value with a reference at its top replaced by what it points at, unless it is large."""
    reference = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    if next(iter(reference), None) != "$blob":
        return cast("Any", value)
    if reference.get("size", 0) > SHOWN_BYTES:
        return reference
    found = await store.get_blobs([reference["$blob"]])
    return unpack(found[reference["$blob"]]) if found else reference
